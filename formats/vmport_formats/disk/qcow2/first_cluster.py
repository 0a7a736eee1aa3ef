"""The first cluster of a qcow2 image that is made: header, extensions, the backing file's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.disk.qcow2.extensions import FEATURE_NAME, PREFIX, ExtensionType
from vmport_formats.disk.qcow2.header import (
    MAGIC,
    V2,
    V3,
    Compatible,
    Compression,
    Incompatible,
)
from vmport_formats.disk.qcow2.options import name_bytes

if TYPE_CHECKING:
    from vmport_formats.disk.qcow2.options import Qcow2Options

_COMPRESSION_FIELD: Final = 8
"""Bytes of compression_type, and of what fills it up."""
_INCOMPATIBLE, _COMPATIBLE = 0, 1
_NAMES: Final = {
    Incompatible.COMPRESSION: "compression type",
    Incompatible.EXTENDED_L2: "extended L2 entries",
    Compatible.LAZY_REFCOUNTS: "lazy refcounts",
}
"""As qemu calls them: what an older one tells its user that it lacks."""


class Tables(NamedTuple):
    """Where the tables are that the header points to."""

    l1_at: int
    """Host offset; 0 without an entry."""
    l1_size: int
    """Entries."""
    refcount_at: int
    refcount_clusters: int


def first_cluster(options: Qcow2Options, virtual_size: int, tables: Tables) -> bytes:
    """What the file begins with, up to the last byte that says something."""
    incompatible = Incompatible.EXTENDED_L2 if options.extended_l2 else Incompatible(0)
    if options.compression_type is not Compression.ZLIB:
        incompatible |= Incompatible.COMPRESSION
    compatible = Compatible.LAZY_REFCOUNTS if options.lazy_refcounts else Compatible(0)
    version_3 = b""
    if options.version == 3:
        length = V2.size + V3.size + _COMPRESSION_FIELD
        order = options.refcount_bits.bit_length() - 1
        version_3 = V3.pack(incompatible, compatible, 0, order, length)
        version_3 += bytes([options.compression_type]).ljust(_COMPRESSION_FIELD, b"\0")

    extensions = b""
    if options.backing_format is not None:
        extensions += _extension(ExtensionType.BACKING_FORMAT, name_bytes(options.backing_format))
    names = [
        FEATURE_NAME.pack(kind, bit.bit_length() - 1, _NAMES[bit].encode())
        for kind, bits in ((_INCOMPATIBLE, incompatible), (_COMPATIBLE, compatible))
        for bit in bits
    ]
    if names:
        extensions += _extension(ExtensionType.FEATURE_NAMES, b"".join(names))
    extensions += _extension(ExtensionType.END, b"")

    name = name_bytes(options.backing_file or "")
    return (
        V2.pack(
            MAGIC,
            options.version,
            V2.size + len(version_3) + len(extensions) if name else 0,
            len(name),
            options.cluster_bits,
            virtual_size,
            0,  # not encrypted
            tables.l1_size,
            tables.l1_at,
            tables.refcount_at,
            tables.refcount_clusters,
            0,  # no snapshots
            0,
        )
        + version_3
        + extensions
        + name
    )


def _extension(kind: ExtensionType, data: bytes) -> bytes:
    return PREFIX.pack(kind, len(data)) + data.ljust(-(-len(data) // 8) * 8, b"\0")
