"""Parallels metadata: the header, and whether the file holds all that it should."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.disk.model import DiskFormat, ImageInfo
from vmport_formats.disk.tables import largest
from vmport_formats.errors import CorruptInput, TruncatedInput, UnsupportedFeature
from vmport_formats.source import read_exactly
from vmport_formats.units import MAX_SIZE, MIB, SECTOR, Bytes

if TYPE_CHECKING:
    from vmport_formats.source import ByteSource

_V1: Final = b"WithoutFreeSpace"
_V2: Final = b"WithouFreSpacExt"
_HEADER = Struct("<16sIIIIIQIIIQ")
BAT: Final = _HEADER.size
"""Where the block table is."""
_EXTENSION: Final = bytes.fromhex("87eadc23ef4c23ab")
"""How a format extension begins: 0xab234cef23dcea87."""
_IN_USE: Final = 0x746F6E59
_FORMAT_VERSION: Final = 2
_MAX_TRACKS: Final = (2**31 - 1) // 513
"""Sectors of a cluster, as in qemu."""
_SCANNED: Final = 16 * MIB
"""How much of the block table is looked at for the last cluster: 4 TiB of disk at 1 MiB each."""


class Header(NamedTuple):
    """As stored, little-endian."""

    magic: bytes
    version: int
    heads: int
    cylinders: int
    tracks: int
    """Sectors of a cluster."""
    bat_entries: int
    sectors: int
    in_use: int
    data_offset: int
    """In sectors; 0 in old images."""
    flags: int
    extension_offset: int
    """In sectors; 0 without a format extension."""

    @property
    def old(self) -> bool:
        """Whether it is of the older of the two kinds."""
        return self.magic == _V1

    @property
    def disk_sectors(self) -> int:
        """The disk's size; the older kind keeps 32 bits, and the other half means nothing."""
        return self.sectors & 0xFFFF_FFFF if self.old else self.sectors

    @property
    def cluster_size(self) -> int:
        """Bytes."""
        return self.tracks * SECTOR

    @property
    def unit(self) -> int:
        """Bytes that block table entries count in."""
        return SECTOR if self.old else self.cluster_size


def matches(source: ByteSource) -> bool:
    """Whether the file begins with one of the two magic texts."""
    return source.read_at(0, 16) in (_V1, _V2)


def read_info(source: ByteSource) -> ImageInfo:
    """The metadata of a Parallels image.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: codes ``parallels.FIELD``.
    """
    header = read_header(source)
    _check_reach(source, header)
    return ImageInfo(
        DiskFormat.PARALLELS,
        variant="v1" if header.old else "v2",
        virtual_size=Bytes(header.disk_sectors * SECTOR),
        file_size=Bytes(source.size),
        cluster_size=Bytes(header.cluster_size),
        dirty=header.in_use == _IN_USE,
        details={
            "magic": header.magic.decode("ascii"),
            "format-extension": header.extension_offset != 0,
        },
    )


def read_header(source: ByteSource) -> Header:
    """The header, each field within its limits.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: codes ``parallels.FIELD``.
    """
    if not matches(source):
        raise CorruptInput(
            source.name,
            at=0,
            code="parallels.magic",
            problem="does not begin with WithoutFreeSpace or WithouFreSpacExt",
        )
    header = Header(
        *_HEADER.unpack(
            read_exactly(
                source,
                0,
                _HEADER.size,
                what="the Parallels header",
                code="parallels.header-outside",
            )
        )
    )
    _check(source, header)
    return header


def _check(source: ByteSource, header: Header) -> None:
    sectors = header.disk_sectors

    def wrong(at: int, field: str, problem: str) -> CorruptInput:
        return CorruptInput(source.name, at=at, code=f"parallels.{field}", problem=problem)

    if header.version != _FORMAT_VERSION:
        raise UnsupportedFeature(
            source.name,
            at=16,
            code="parallels.version",
            problem=f"format version {header.version}; 2 is known",
        )
    if not 1 <= header.tracks <= _MAX_TRACKS:
        raise wrong(
            28, "tracks", f"{header.tracks} sectors in a cluster; must be 1 to {_MAX_TRACKS}"
        )
    if sectors * SECTOR > MAX_SIZE:
        raise wrong(36, "sectors", f"virtual size of {sectors} sectors; at most 2^63-1 bytes")
    if header.bat_entries * header.tracks < sectors:
        raise wrong(
            32,
            "bat-entries",
            f"the block table has {header.bat_entries} entries; {sectors} sectors need "
            f"{-(-sectors // header.tracks)}",
        )
    end = _HEADER.size + 4 * header.bat_entries
    if end > source.size:
        raise TruncatedInput(
            source.name,
            at=32,
            code="parallels.bat-entries",
            problem=f"the block table ends at {end:#x}, but the file at {source.size:#x}",
            hint="the file is cut short; copy it again",
        )
    if header.data_offset and header.data_offset * SECTOR < end:
        raise wrong(
            48, "data-offset", f"the data starts at sector {header.data_offset}, in the block table"
        )
    extension = header.extension_offset * SECTOR
    if extension and source.read_at(extension, len(_EXTENSION)) != _EXTENSION:
        raise wrong(
            56, "extension-offset", f"there is no format extension at {extension:#x}, as it says"
        )


def _check_reach(source: ByteSource, header: Header) -> None:
    """That the file holds the clusters of its block table, as far as `_SCANNED` bytes of it tell.

    The rest is checked when it is used.
    """
    count = min(header.bat_entries, _SCANNED // 4)
    index, last = largest(source, BAT, count, 4, "little")
    if last and (end := last * header.unit + header.cluster_size) > source.size:
        raise TruncatedInput(
            source.name,
            at=BAT + 4 * index,
            code="parallels.file-size",
            problem=f"a cluster ends at {end:#x}, but the file at {source.size:#x}",
            hint="the file is cut short; copy it again",
        )
