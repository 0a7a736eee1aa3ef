"""Bochs metadata: the header."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.disk.model import DiskFormat, ImageInfo
from vmport_formats.errors import CorruptInput, TruncatedInput, UnsupportedFeature
from vmport_formats.source import read_exactly
from vmport_formats.units import MAX_SIZE, SECTOR, Bytes

if TYPE_CHECKING:
    from vmport_formats.source import ByteSource

_MAGIC: Final = b"Bochs Virtual HD Image\0"
_HEADER_LENGTH: Final = 512
_HEADER = Struct("<32s16s16sIIIII")
_DISK = Struct("<Q")
_DISK_AT: Final = {0x1_0000: _HEADER.size, 0x2_0000: _HEADER.size + 4}
"""By version, where the disk's size is."""
_MAX_CATALOG: Final = 1 << 20
_MAX_EXTENT: Final = 1 << 23


class Header(NamedTuple):
    """As stored, little-endian; the disk's size follows, at a place that depends on the version."""

    magic: bytes
    type: bytes
    subtype: bytes
    version: int
    header_length: int
    catalog_entries: int
    bitmap_length: int
    """Bytes of the bitmap before each extent."""
    extent_length: int
    """Bytes."""


def matches(source: ByteSource) -> bool:
    """Whether the file begins with the magic text."""
    return source.read_at(0, len(_MAGIC)) == _MAGIC


def read_info(source: ByteSource) -> ImageInfo:
    """The metadata of a Bochs image of the kind "Growing"; "Undoable" and "Volatile" are overlays.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: codes ``bochs.FIELD``.
    """
    header, size = read_header(source)
    return ImageInfo(
        DiskFormat.BOCHS,
        variant="growing",
        virtual_size=Bytes(size // SECTOR * SECTOR),
        file_size=Bytes(source.size),
        cluster_size=Bytes(header.extent_length),
        details={"version": header.version >> 16},
    )


def read_header(source: ByteSource) -> tuple[Header, int]:
    """The header, each field within its limits, and the disk's size in bytes.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: codes ``bochs.FIELD``.
    """
    if not matches(source):
        raise CorruptInput(
            source.name, at=0, code="bochs.magic", problem=f"does not begin with {_MAGIC[:-1]!r}"
        )
    data = read_exactly(
        source, 0, _HEADER_LENGTH, what="the Bochs header", code="bochs.header-outside"
    )
    header = Header(*_HEADER.unpack_from(data))
    kind = _text(header.type), _text(header.subtype)
    if kind != ("Redolog", "Growing") or header.version not in _DISK_AT:
        raise UnsupportedFeature(
            source.name,
            at=32,
            code="bochs.type",
            problem=f"type {kind[0]!r}, subtype {kind[1]!r}, version {header.version:#x}; Redolog, "
            "Growing, 0x10000 or 0x20000 are known",
        )
    (size,) = _DISK.unpack_from(data, _DISK_AT[header.version])
    _check(source, header, size)
    return header, size


def _check(source: ByteSource, header: Header, size: int) -> None:
    def wrong(at: int, field: str, problem: str) -> CorruptInput:
        return CorruptInput(source.name, at=at, code=f"bochs.{field}", problem=problem)

    extent = header.extent_length
    if not SECTOR <= extent <= _MAX_EXTENT or extent & (extent - 1):
        raise wrong(
            80,
            "extent",
            f"an extent has {extent} bytes; must be a power of 2, 512 to {_MAX_EXTENT}",
        )
    if not extent // SECTOR <= 8 * header.bitmap_length <= 8 * _MAX_EXTENT:
        raise wrong(
            76,
            "bitmap",
            f"a bitmap has {header.bitmap_length} bytes; {extent // SECTOR} sectors need "
            f"{-(-extent // SECTOR // 8)}, and at most {_MAX_EXTENT} are read",
        )
    if header.catalog_entries > _MAX_CATALOG:
        raise wrong(
            72,
            "catalog",
            f"the catalog has {header.catalog_entries} entries; at most {_MAX_CATALOG}",
        )
    if size > MAX_SIZE:
        raise wrong(
            _DISK_AT[header.version], "disk", f"virtual size of {size} bytes; at most 2^63-1"
        )
    if header.catalog_entries * extent < size // SECTOR * SECTOR:
        raise wrong(
            72,
            "catalog",
            f"the catalog has {header.catalog_entries} entries; {size} bytes of disk need "
            f"{-(-size // extent)}",
        )
    if header.header_length < _HEADER_LENGTH:
        raise wrong(68, "header", f"the header has {header.header_length} bytes; must be 512")
    end = header.header_length + 4 * header.catalog_entries
    if end > source.size:
        raise TruncatedInput(
            source.name,
            at=72,
            code="bochs.catalog",
            problem=f"the catalog ends at {end:#x}, but the file at {source.size:#x}",
            hint="the file is cut short; copy it again",
        )


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("ascii", "backslashreplace")
