"""qcow metadata: the header, and the backing file.

Layout: qemu ``block/qcow.c`` has the only description there is.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.disk.model import DiskFormat, ImageInfo
from vmport_formats.errors import CorruptInput, TruncatedInput, UnsupportedFeature
from vmport_formats.references import Reference, ReferenceKind
from vmport_formats.source import read_exactly
from vmport_formats.units import MAX_SIZE, SECTOR, Bytes

if TYPE_CHECKING:
    from vmport_formats.source import ByteSource

_MAGIC: Final = b"QFI\xfb\0\0\0\1"
_HEADER = Struct(">8sQIIQBBHIQ")
_MAX_BACKING_NAME: Final = 1023


class Header(NamedTuple):
    """As stored, big-endian."""

    magic: bytes
    backing_file_offset: int
    backing_file_size: int
    mtime: int
    size: int
    cluster_bits: int
    l2_bits: int
    padding: int
    crypt_method: int
    l1_table_offset: int

    @property
    def cluster_size(self) -> int:
        """Bytes."""
        return 1 << self.cluster_bits

    @property
    def l1_size(self) -> int:
        """Entries of the L1 table."""
        return -(-self.size >> self.cluster_bits + self.l2_bits)


def matches(source: ByteSource) -> bool:
    """Whether the file begins with the magic number and version 1."""
    return source.read_at(0, len(_MAGIC)) == _MAGIC


def read_info(source: ByteSource) -> ImageInfo:
    """The metadata of a qcow image of version 1.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: codes ``qcow.FIELD``.
    """
    header = read_header(source)
    return ImageInfo(
        DiskFormat.QCOW,
        variant="v1",
        virtual_size=Bytes(header.size // SECTOR * SECTOR),
        file_size=Bytes(source.size),
        cluster_size=Bytes(header.cluster_size),
        references=_references(source, header),
        encrypted=header.crypt_method != 0,
    )


def read_header(source: ByteSource) -> Header:
    """The header, each field within its limits.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: codes ``qcow.FIELD``.
    """
    if not matches(source):
        raise CorruptInput(
            source.name, at=0, code="qcow.magic", problem="does not begin with qcow's magic number"
        )
    header = Header(
        *_HEADER.unpack(
            read_exactly(
                source, 0, _HEADER.size, what="the qcow header", code="qcow.header-outside"
            )
        )
    )
    _check(source, header)
    return header


def _check(source: ByteSource, header: Header) -> None:
    def wrong(at: int, field: str, problem: str) -> CorruptInput:
        return CorruptInput(source.name, at=at, code=f"qcow.{field}", problem=problem)

    if not 2 <= header.size <= MAX_SIZE:
        raise wrong(24, "size", f"virtual size of {header.size} bytes; must be 2 to 2^63-1")
    if not 9 <= header.cluster_bits <= 16:
        raise wrong(32, "cluster-bits", f"cluster_bits is {header.cluster_bits}; must be 9 to 16")
    if not 6 <= header.l2_bits <= 13:
        raise wrong(33, "l2-bits", f"l2_bits is {header.l2_bits}; must be 6 to 13")
    if header.crypt_method > 1:
        raise UnsupportedFeature(
            source.name,
            at=36,
            code="qcow.crypt-method",
            problem=f"encryption method {header.crypt_method}; 0 (none) and 1 (AES) are known",
        )
    l1_end = header.l1_table_offset + 8 * header.l1_size
    if header.l1_table_offset < _HEADER.size:
        raise wrong(
            40, "l1-table", f"the L1 table is at {header.l1_table_offset:#x}, in the header"
        )
    if l1_end > source.size:
        raise TruncatedInput(
            source.name,
            at=40,
            code="qcow.l1-table",
            problem=f"the L1 table ends at {l1_end:#x}, but the file at {source.size:#x}",
            hint="the file is cut short; copy it again",
        )


def _references(source: ByteSource, header: Header) -> tuple[Reference, ...]:
    if not header.backing_file_offset or not header.backing_file_size:
        return ()
    if header.backing_file_size > _MAX_BACKING_NAME:
        raise CorruptInput(
            source.name,
            at=16,
            code="qcow.backing-file-size",
            problem=f"the backing file's name has {header.backing_file_size} bytes; at most "
            f"{_MAX_BACKING_NAME}",
        )
    stored = read_exactly(
        source,
        header.backing_file_offset,
        header.backing_file_size,
        what="the backing file's name",
        code="qcow.backing-file-outside",
    )
    name = stored.partition(b"\0")[0].decode("utf-8", "surrogateescape")
    return (Reference(ReferenceKind.BACKING, name),) if name else ()
