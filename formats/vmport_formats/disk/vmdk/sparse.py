"""The header of a hosted sparse extent: ``KDMV``, of monolithicSparse and streamOptimized disks.

Source: VMware, "Virtual Disk Format 5.0", sections "Hosted Sparse Extents" and "Stream-Optimized
Compressed Sparse Extents".  All numbers are little-endian, offsets and sizes in sectors.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.disk.model import Concern
from vmport_formats.disk.vmdk.descriptor import MAX_DESCRIPTOR
from vmport_formats.errors import CorruptInput, TruncatedInput, UnsupportedFeature
from vmport_formats.source import read_exactly
from vmport_formats.units import MAX_SIZE, SECTOR

if TYPE_CHECKING:
    from vmport_formats.source import ByteSource

MAGIC: Final = b"KDMV"
AT_END: Final = (1 << 64) - 1
"""The grain directory's offset in the header of a stream, whose footer has the true one."""
_MAX_VERSION: Final = 3
_MIN_GRAIN, _MAX_GRAIN = 8, 1 << 21  # sectors: 4 KiB, and 1 GiB as in qemu
_MAX_TABLE: Final = 512  # entries
NEWLINES: Final = b"\n \r\n"
_MARKER: Final = Struct("<QII")  # value, size, type; padded to a sector
GRAIN_MARKER: Final = Struct("<QI")
"""Before a compressed grain: its first sector in the extent, and how many bytes follow."""


class Flag(IntFlag):
    """Of the 32 bits, readers may pass over those of the lower half that they do not know."""

    NEWLINE_DETECTION = 1 << 0
    REDUNDANT_GRAIN_DIRECTORY = 1 << 1
    ZEROED_GRAINS = 1 << 2
    COMPRESSED_GRAINS = 1 << 16
    MARKERS = 1 << 17


class Marker(IntEnum):
    """What a marker that is not a grain's says of what follows it."""

    END_OF_STREAM = 0
    GRAIN_TABLE = 1
    GRAIN_DIRECTORY = 2
    FOOTER = 3

    def of(self, sectors: int) -> bytes:
        """The marker's sector, before so many `sectors` of metadata."""
        return _MARKER.pack(sectors, 0, self).ljust(SECTOR, b"\0")


# As a number: the complement of an enum has only the bits that it defines.
_KNOWN_INCOMPATIBLE: Final = int(Flag.COMPRESSED_GRAINS | Flag.MARKERS)
_INCOMPATIBLE: Final = 0xFFFF_0000


class SparseHeader(NamedTuple):
    """``SparseExtentHeader``, less its padding."""

    magic: bytes
    version: int  # 1 to 3
    flags: int
    capacity: int  # of the disk
    grain_size: int  # a power of two
    descriptor_offset: int  # 0: no descriptor
    descriptor_size: int
    num_gtes_per_gt: int  # entries in a grain table
    rgd_offset: int  # of the redundant grain directory
    gd_offset: int
    overhead: int  # what precedes the first grain
    unclean_shutdown: int
    newline_characters: bytes
    compress_algorithm: int  # 0: none, 1: deflate

    def has(self, flag: Flag) -> bool:
        """Whether `flag` is set."""
        return bool(self.flags & int(flag))  # `&` with a flag would make a new flag

    def sector(self) -> bytes:
        """As it is in a file."""
        return _HEADER.pack(*self).ljust(SECTOR, b"\0")


_HEADER: Final = Struct("<4sIIQQQQIQQQB4sH")
_PLACES: Final = {
    "version": 4,
    "flags": 8,
    "capacity": 12,
    "grain-size": 20,
    "descriptor-offset": 28,
    "descriptor-size": 36,
    "num-gtes-per-gt": 44,
    "rgd-offset": 48,
    "gd-offset": 56,
    "overhead": 64,
    "newline": 73,
    "compress-algorithm": 77,
}


class SparseExtent(NamedTuple):
    """A sparse extent, its fields checked."""

    header: SparseHeader
    """The header that counts: of a stream, its footer."""
    descriptor_offset: int
    """Of the embedded descriptor, in bytes; 0 when there is none."""
    descriptor_length: int
    concerns: tuple[Concern, ...]

    @property
    def compressed(self) -> bool:
        """Whether grains are deflated."""
        return bool(self.header.compress_algorithm)

    @property
    def is_vessel(self) -> bool:
        """Whether it holds no data, but a descriptor that names the files with the data."""
        return self.header.capacity == 0 and self.descriptor_offset != 0

    def details(self) -> dict[str, object]:
        """The fields of the header, JSON-ready."""
        header = self.header
        return {
            "version": header.version,
            "flags": header.flags,
            "num-gtes-per-gt": header.num_gtes_per_gt,
            "overhead": header.overhead * SECTOR,
            "compressed": self.compressed,
        }


def read_sparse(source: ByteSource) -> SparseExtent:
    """The sparse extent in `source`.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: with codes ``vmdk.*``.
    """
    first = _read_header(source)
    _check_text_mode(source, first)
    header, at, concerns = first, 0, []
    if first.gd_offset == AT_END:
        header, at = _read_footer(source)
        concerns += _disagreement(first, header)
    concerns += _oddities(header)
    _check_features(source, header, at)
    _check_descriptor(source, first)
    extent = SparseExtent(
        header,
        first.descriptor_offset * SECTOR,
        first.descriptor_size * SECTOR if first.descriptor_offset else 0,
        tuple(concerns),
    )
    if not extent.is_vessel:
        _check_geometry(source, header, at)
        _check_directories(source, header, at)
    return extent


def _read_header(source: ByteSource) -> SparseHeader:
    data = read_exactly(
        source, 0, SECTOR, what="the sparse extent header", code="vmdk.header-outside"
    )
    return SparseHeader._make(_HEADER.unpack_from(data))


def _read_footer(source: ByteSource) -> tuple[SparseHeader, int]:
    """The footer is the last sector but one, between its marker and that of the stream's end."""
    end = -(-source.size // SECTOR) * SECTOR
    at = end - 2 * SECTOR
    data = source.read_at(at - SECTOR, 3 * SECTOR).ljust(3 * SECTOR, b"\0")
    header = SparseHeader._make(_HEADER.unpack_from(data, SECTOR))
    _, size, kind = _MARKER.unpack_from(data)
    end_marker = _MARKER.unpack_from(data, 2 * SECTOR)
    if (
        at < 2 * SECTOR
        or header.magic != MAGIC
        or (size, kind) != (0, Marker.FOOTER)
        or end_marker != (0, 0, Marker.END_OF_STREAM)
    ):
        raise TruncatedInput(
            source.name,
            at=max(at, 0),
            code="vmdk.footer",
            problem="is a stream, which must end with a footer, and has none",
            hint="the file is cut short; copy it again",
        )
    if header.gd_offset == AT_END:
        raise CorruptInput(
            source.name,
            at=at + _PLACES["gd-offset"],
            code="vmdk.gd-offset",
            problem="the footer does not say where the grain directory is",
        )
    return header, at


def _disagreement(first: SparseHeader, footer: SparseHeader) -> list[Concern]:
    names = ("version", "flags", "capacity", "grain_size", "num_gtes_per_gt", "compress_algorithm")
    fields = [name for name in names if getattr(first, name) != getattr(footer, name)]
    if not fields:
        return []
    pairs = ", ".join(
        f"{name.replace('_', '-')} {getattr(first, name)} and {getattr(footer, name)}"
        for name in fields
    )
    return [Concern("vmdk.footer-mismatch", f"its header and its footer disagree: {pairs}")]


def _check_text_mode(source: ByteSource, header: SparseHeader) -> None:
    """The four characters are there to show what a transfer as text does to line ends."""
    found = header.newline_characters
    if header.has(Flag.NEWLINE_DETECTION) and any(found) and found != NEWLINES:
        raise CorruptInput(
            source.name,
            at=_PLACES["newline"],
            code="vmdk.newline",
            problem=f"the characters that show line ends are {found!r}, not {NEWLINES!r}",
            hint="the file was copied as text, which damaged it; copy it again as binary",
        )


def _check_features(source: ByteSource, header: SparseHeader, at: int) -> None:
    if not 1 <= header.version <= _MAX_VERSION:
        raise UnsupportedFeature(
            source.name,
            at=at + _PLACES["version"],
            code="vmdk.version",
            problem=f"format version is {header.version}; known are 1 to {_MAX_VERSION}",
        )
    if unknown := header.flags & _INCOMPATIBLE & ~_KNOWN_INCOMPATIBLE:
        raise UnsupportedFeature(
            source.name,
            at=at + _PLACES["flags"],
            code="vmdk.flags",
            problem=f"flags {unknown:#x} must be understood by readers, and are not known",
        )
    if header.compress_algorithm > 1:
        raise UnsupportedFeature(
            source.name,
            at=at + _PLACES["compress-algorithm"],
            code="vmdk.compress-algorithm",
            problem=f"compression algorithm is {header.compress_algorithm}; "
            "known are 0 (none) and 1 (deflate)",
        )


def _check_descriptor(source: ByteSource, header: SparseHeader) -> None:
    if not header.descriptor_offset:
        return
    length = header.descriptor_size * SECTOR
    if not 0 < length <= MAX_DESCRIPTOR:
        raise CorruptInput(
            source.name,
            at=_PLACES["descriptor-size"],
            code="vmdk.descriptor-size",
            problem=f"descriptor is {header.descriptor_size} sectors long; "
            f"must be 1 to {MAX_DESCRIPTOR // SECTOR}",
        )
    if header.descriptor_offset * SECTOR + length > source.size:
        raise TruncatedInput(
            source.name,
            at=_PLACES["descriptor-offset"],
            code="vmdk.descriptor-offset",
            problem=f"descriptor lies at {header.descriptor_offset * SECTOR:#x}, "
            f"{length} bytes long, but the file ends at {source.size:#x}",
            hint="the file is cut short; copy it again",
        )


def _check_geometry(source: ByteSource, header: SparseHeader, at: int) -> None:
    if header.capacity * SECTOR > MAX_SIZE:
        raise CorruptInput(
            source.name,
            at=at + _PLACES["capacity"],
            code="vmdk.capacity",
            problem=f"capacity is {header.capacity} sectors; at most 2^63-1 bytes are possible",
        )
    size = header.grain_size
    if not _MIN_GRAIN <= size <= _MAX_GRAIN or size & (size - 1):
        raise CorruptInput(
            source.name,
            at=at + _PLACES["grain-size"],
            code="vmdk.grain-size",
            problem=f"grain size is {size} sectors; "
            f"must be a power of two, {_MIN_GRAIN} to {_MAX_GRAIN}",
        )
    if not 1 <= header.num_gtes_per_gt <= _MAX_TABLE:
        raise CorruptInput(
            source.name,
            at=at + _PLACES["num-gtes-per-gt"],
            code="vmdk.num-gtes-per-gt",
            problem=f"grain tables have {header.num_gtes_per_gt} entries; "
            f"must be 1 to {_MAX_TABLE}",
        )


def _check_directories(source: ByteSource, header: SparseHeader, at: int) -> None:
    tables = -(-header.capacity // (header.grain_size * header.num_gtes_per_gt))
    places = [("gd-offset", "grain directory", header.gd_offset)]
    if header.has(Flag.REDUNDANT_GRAIN_DIRECTORY):
        places.append(("rgd-offset", "redundant grain directory", header.rgd_offset))
    for field, name, sector in places:
        if not sector and header.capacity:
            raise CorruptInput(
                source.name,
                at=at + _PLACES[field],
                code=f"vmdk.{field}",
                problem=f"{name} lies at 0, in the header",
            )
        if sector * SECTOR + 4 * tables > source.size:
            raise TruncatedInput(
                source.name,
                at=at + _PLACES[field],
                code=f"vmdk.{field}",
                problem=f"{name} lies at {sector * SECTOR:#x}, {4 * tables} bytes long, "
                f"but the file ends at {source.size:#x}",
                hint="the file is cut short; copy it again",
            )
    if header.overhead * SECTOR > -(-source.size // SECTOR) * SECTOR:
        raise TruncatedInput(
            source.name,
            at=at + _PLACES["overhead"],
            code="vmdk.overhead",
            problem=f"metadata takes {header.overhead * SECTOR} bytes, "
            f"but the file ends at {source.size:#x}",
            hint="the file is cut short; copy it again",
        )


def _oddities(header: SparseHeader) -> list[Concern]:
    if header.has(Flag.COMPRESSED_GRAINS) == bool(header.compress_algorithm):
        return []
    return [
        Concern(
            "vmdk.compression-ambiguous",
            "its flags and its compression algorithm disagree on whether grains are compressed",
        )
    ]
