"""The qcow2 header: its fields, the rule of each, and the places of the tables it points to."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.errors import CorruptInput, TruncatedInput, UnsupportedFeature
from vmport_formats.source import read_exactly
from vmport_formats.units import MAX_SIZE, MIB

if TYPE_CHECKING:
    from vmport_formats.source import ByteSource

MAGIC: Final = b"QFI\xfb"
_OUTSIDE: Final = "qcow2.header-outside"

V2: Final = Struct(">4sIQIIQIIQQIIQ")
"""What every version has."""
V3: Final = Struct(">QQQII")
"""What version 3 adds, up to `header_length`."""
_V3_AT = V2.size
_V3_END = V2.size + V3.size
_COMPRESSION_AT = _V3_END

CLUSTER_BITS: Final = range(9, 22)
"""512 bytes by the specification, to 2 MiB by qemu's limit."""
MAX_L1_TABLE: Final = 32 * MIB
MAX_REFCOUNT_TABLE: Final = 8 * MIB
MAX_SNAPSHOTS: Final = 65536
MAX_BACKING_NAME: Final = 1023
_SNAPSHOT_ENTRY: Final = 40
"""Bytes of the shortest entry of the snapshot table."""


class Incompatible(IntFlag):
    """Features without which the image cannot be understood; any other bit stops us."""

    DIRTY = 1 << 0
    CORRUPT = 1 << 1
    DATA_FILE = 1 << 2
    COMPRESSION = 1 << 3
    EXTENDED_L2 = 1 << 4


KNOWN_INCOMPATIBLE: Final = sum(Incompatible)
_COMPRESSED: Final = int(Incompatible.COMPRESSION)


class Compatible(IntFlag):
    """Features that a reader may ignore."""

    LAZY_REFCOUNTS = 1 << 0


class Autoclear(IntFlag):
    """Features that a writer which does not know them must switch off."""

    BITMAPS = 1 << 0
    RAW_DATA_FILE = 1 << 1


_FIELDS: Final = {
    Incompatible: "incompatible",
    Compatible: "compatible",
    Autoclear: "autoclear",
}
"""Of a `Header`: where the features of each kind are."""


class Encryption(IntEnum):
    """How guest data is encrypted; metadata never is."""

    NONE = 0
    AES = 1
    LUKS = 2


_ENCRYPTIONS: Final = frozenset(Encryption)


class Compression(IntEnum):
    """How compressed clusters are compressed: one way for the whole image."""

    ZLIB = 0
    ZSTD = 1


_COMPRESSIONS: Final = frozenset(Compression)


class Header(NamedTuple):
    """A header all of whose own fields keep their rules; the tables are only placed, not read."""

    version: int
    cluster_bits: int
    size: int
    """Virtual disk size in bytes."""
    backing_file_offset: int
    """0 without a backing file."""
    backing_file_size: int
    encryption: Encryption
    l1_size: int
    """Entries of 8 bytes."""
    l1_table_offset: int
    refcount_table_offset: int
    refcount_table_clusters: int
    nb_snapshots: int
    snapshots_offset: int
    incompatible: int
    """All bits, unknown ones too: these can be named only once the extensions are read."""
    compatible: int
    autoclear: int
    refcount_order: int
    header_length: int
    compression: Compression

    @property
    def cluster_size(self) -> int:
        """Bytes."""
        return 1 << self.cluster_bits

    @property
    def refcount_bits(self) -> int:
        """Width of a reference count."""
        return 1 << self.refcount_order

    @property
    def extensions_end(self) -> int:
        """Where the area of the header extensions ends at the latest."""
        return self.backing_file_offset or self.cluster_size

    def has(self, feature: Incompatible | Compatible | Autoclear) -> bool:
        """Whether the image uses `feature`."""
        bits: int = getattr(self, _FIELDS[type(feature)])
        return bool(bits & int(feature))  # `&` with a flag would make a new flag


def read_header(source: ByteSource) -> Header:
    """The header, checked in the order of its fields.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: codes ``qcow2.FIELD``.
    """
    if source.read_at(0, 4) != MAGIC:
        raise CorruptInput(
            source.name, at=0, code="qcow2.magic", problem="does not begin with the magic QFI\\xfb"
        )
    (
        _magic,
        version,
        backing_file_offset,
        backing_file_size,
        cluster_bits,
        size,
        crypt_method,
        l1_size,
        l1_table_offset,
        refcount_table_offset,
        refcount_table_clusters,
        nb_snapshots,
        snapshots_offset,
    ) = V2.unpack(read_exactly(source, 0, V2.size, what="the qcow2 header", code=_OUTSIDE))
    if version not in (2, 3):
        raise UnsupportedFeature(
            source.name,
            at=4,
            code="qcow2.version",
            problem=f"qcow2 version {version}; versions 2 and 3 are known",
        )
    if cluster_bits not in CLUSTER_BITS:
        raise CorruptInput(
            source.name,
            at=20,
            code="qcow2.cluster-bits",
            problem=f"cluster_bits is {cluster_bits}; must be 9 to 21",
        )
    if size > MAX_SIZE:
        raise CorruptInput(
            source.name,
            at=24,
            code="qcow2.size",
            problem=f"virtual size of {size} bytes; at most 2^63-1",
        )
    if crypt_method not in _ENCRYPTIONS:
        raise UnsupportedFeature(
            source.name,
            at=32,
            code="qcow2.crypt-method",
            problem=f"encryption method {crypt_method}; 0 (none), 1 (AES) and 2 (LUKS) are known",
        )
    incompatible = compatible = autoclear = 0
    refcount_order, header_length = 4, V2.size
    compression = Compression.ZLIB
    if version == 3:
        v3 = read_exactly(source, _V3_AT, V3.size, what="the qcow2 version 3 header", code=_OUTSIDE)
        incompatible, compatible, autoclear, refcount_order, header_length = V3.unpack(v3)
        _check_version_3(source, cluster_bits, refcount_order, header_length)
        compression = _compression(source, incompatible, header_length)
    header = Header(
        version=version,
        cluster_bits=cluster_bits,
        size=size,
        backing_file_offset=backing_file_offset,
        backing_file_size=backing_file_size,
        encryption=Encryption(crypt_method),
        l1_size=l1_size,
        l1_table_offset=l1_table_offset,
        refcount_table_offset=refcount_table_offset,
        refcount_table_clusters=refcount_table_clusters,
        nb_snapshots=nb_snapshots,
        snapshots_offset=snapshots_offset,
        incompatible=incompatible,
        compatible=compatible,
        autoclear=autoclear,
        refcount_order=refcount_order,
        header_length=header_length,
        compression=compression,
    )
    _check_backing_name(source, header)
    return header


def _check_version_3(
    source: ByteSource, cluster_bits: int, refcount_order: int, header_length: int
) -> None:
    if refcount_order > 6:
        raise CorruptInput(
            source.name,
            at=96,
            code="qcow2.refcount-order",
            problem=f"refcount_order is {refcount_order}; must be 0 to 6",
        )
    if not _V3_END <= header_length <= 1 << cluster_bits or header_length % 8:
        raise CorruptInput(
            source.name,
            at=100,
            code="qcow2.header-length",
            problem=f"header_length is {header_length}; must be {_V3_END} to the cluster size of "
            f"{1 << cluster_bits}, and a multiple of 8",
        )


def _compression(source: ByteSource, incompatible: int, header_length: int) -> Compression:
    stored = 0
    if header_length > _COMPRESSION_AT:
        stored = read_exactly(source, _COMPRESSION_AT, 1, what="compression_type", code=_OUTSIDE)[0]
    if stored not in _COMPRESSIONS:
        raise UnsupportedFeature(
            source.name,
            at=_COMPRESSION_AT,
            code="qcow2.compression-type",
            problem=f"compression type {stored}; 0 (zlib) and 1 (zstd) are known",
        )
    if bool(stored) != bool(incompatible & _COMPRESSED):
        raise CorruptInput(
            source.name,
            at=_COMPRESSION_AT,
            code="qcow2.compression-type",
            problem=f"compression type {stored} and the compression feature bit contradict each "
            "other",
        )
    return Compression(stored)


def _check_backing_name(source: ByteSource, header: Header) -> None:
    """The name lies behind the header, inside the first cluster, and is at most 1023 bytes."""
    start, length = header.backing_file_offset, header.backing_file_size
    if start == 0:
        return
    if not header.header_length <= start <= header.cluster_size:
        raise CorruptInput(
            source.name,
            at=8,
            code="qcow2.backing-file-offset",
            problem=f"the backing file's name is at {start:#x}; must be between the end of the "
            f"header ({header.header_length:#x}) and of the first cluster "
            f"({header.cluster_size:#x})",
        )
    limit = min(MAX_BACKING_NAME, header.cluster_size - start)
    if length > limit:
        raise CorruptInput(
            source.name,
            at=16,
            code="qcow2.backing-file-size",
            problem=f"the backing file's name has {length} bytes; at most {limit} fit here",
        )


def check_tables(source: ByteSource, header: Header) -> None:
    """Place and size of the refcount, snapshot and L1 tables: aligned, bounded, inside the file.

    qemu reads a table behind the end of the file as zeros, so a cut image looks empty to it.

    Raises:
        CorruptInput, TruncatedInput: codes ``qcow2.refcount-table``, ``qcow2.snapshot-table``,
            ``qcow2.l1-table``.
    """
    if header.has(Incompatible.EXTENDED_L2) and header.cluster_bits < 14:
        raise CorruptInput(
            source.name,
            at=20,
            code="qcow2.cluster-bits",
            problem=f"cluster_bits is {header.cluster_bits}; must be at least 14 with extended "
            "L2 entries",
        )
    if header.refcount_table_clusters == 0:
        raise CorruptInput(
            source.name, at=56, code="qcow2.refcount-table", problem="it has no refcount table"
        )
    _check_table(
        source,
        header,
        at=48,
        code="qcow2.refcount-table",
        what="the refcount table",
        offset=header.refcount_table_offset,
        length=header.refcount_table_clusters * header.cluster_size,
        limit=MAX_REFCOUNT_TABLE,
    )
    if header.nb_snapshots > MAX_SNAPSHOTS:
        raise CorruptInput(
            source.name,
            at=60,
            code="qcow2.snapshot-table",
            problem=f"{header.nb_snapshots} snapshots; at most {MAX_SNAPSHOTS}",
        )
    if header.nb_snapshots or header.snapshots_offset % header.cluster_size:
        _check_table(
            source,
            header,
            at=64,
            code="qcow2.snapshot-table",
            what="the snapshot table",
            offset=header.snapshots_offset,
            length=header.nb_snapshots * _SNAPSHOT_ENTRY,
            limit=MAX_SNAPSHOTS * _SNAPSHOT_ENTRY,
        )
    needed = l1_entries(header, header.size)
    if header.l1_size < needed:
        raise CorruptInput(
            source.name,
            at=36,
            code="qcow2.l1-table",
            problem=f"the L1 table has {header.l1_size} entries; {header.size} bytes of disk need "
            f"{needed}",
        )
    if header.l1_size:
        _check_table(
            source,
            header,
            at=40,
            code="qcow2.l1-table",
            what="the L1 table",
            offset=header.l1_table_offset,
            length=header.l1_size * 8,
            limit=MAX_L1_TABLE,
        )


def l1_entries(header: Header, size: int) -> int:
    """How many L1 entries a disk of `size` bytes needs."""
    entry = 16 if header.has(Incompatible.EXTENDED_L2) else 8
    covered = header.cluster_size * (header.cluster_size // entry)
    return -(-size // covered)


def _check_table(
    source: ByteSource,
    header: Header,
    *,
    at: int,
    code: str,
    what: str,
    offset: int,
    length: int,
    limit: int,
) -> None:
    if length > limit:
        raise CorruptInput(
            source.name, at=at, code=code, problem=f"{what} has {length} bytes; at most {limit}"
        )
    if offset == 0 or offset % header.cluster_size or offset > MAX_SIZE:
        raise CorruptInput(
            source.name,
            at=at,
            code=code,
            problem=f"{what} is at {offset:#x}; must be a multiple of the cluster size of "
            f"{header.cluster_size}, behind the header",
        )
    if offset + length > source.size:
        raise TruncatedInput(
            source.name,
            at=at,
            code=code,
            problem=f"{what} ends at {offset + length:#x}, but the file at {source.size:#x}",
            hint="the file is cut short; copy it again",
        )
