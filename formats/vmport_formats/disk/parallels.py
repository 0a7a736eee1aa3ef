"""Parallels expandable images (.hdd).  Specification: qemu ``docs/interop/parallels``."""

from __future__ import annotations

import sys
from array import array
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.disk.model import DiskFormat, ImageInfo
from vmport_formats.errors import CorruptInput, TruncatedInput, UnsupportedFeature
from vmport_formats.source import read_exactly
from vmport_formats.units import MAX_SIZE, MIB, SECTOR, Bytes

if TYPE_CHECKING:
    from vmport_formats.source import ByteSource

_V1: Final = b"WithoutFreeSpace"
_V2: Final = b"WithouFreSpacExt"
_HEADER = Struct("<16sIIIIIQIIIQ")
_EXTENSION: Final = bytes.fromhex("87eadc23ef4c23ab")
"""How a format extension begins: 0xab234cef23dcea87."""
_IN_USE: Final = 0x746F6E59
_FORMAT_VERSION: Final = 2
_MAX_TRACKS: Final = (2**31 - 1) // 513
"""Sectors of a cluster, as in qemu."""
_SCANNED: Final = 16 * MIB
"""How much of the block table is looked at for the last cluster: 4 TiB of disk at 1 MiB each."""


class _Header(NamedTuple):
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


def matches(source: ByteSource) -> bool:
    """Whether the file begins with one of the two magic texts."""
    return source.read_at(0, 16) in (_V1, _V2)


def read_info(source: ByteSource) -> ImageInfo:
    """The metadata of a Parallels image.

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
    header = _Header(
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
    old = header.magic == _V1
    # The older kind keeps 32 bits of the size; what is in the other half means nothing.
    sectors = header.sectors & 0xFFFF_FFFF if old else header.sectors
    _check(source, header, sectors)
    _check_reach(source, header, unit=1 if old else header.tracks)
    return ImageInfo(
        DiskFormat.PARALLELS,
        variant="v1" if old else "v2",
        virtual_size=Bytes(sectors * SECTOR),
        file_size=Bytes(source.size),
        cluster_size=Bytes(header.tracks * SECTOR),
        dirty=header.in_use == _IN_USE,
        details={
            "magic": header.magic.decode("ascii"),
            "format-extension": header.extension_offset != 0,
        },
    )


def _check(source: ByteSource, header: _Header, sectors: int) -> None:
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


def _check_reach(source: ByteSource, header: _Header, *, unit: int) -> None:
    """That the file holds the clusters of its block table; `unit` is an entry's, in sectors."""
    length = min(4 * header.bat_entries, _SCANNED)
    entries = array("I", read_exactly(source, _HEADER.size, length, what="the block table"))
    if sys.byteorder == "big":
        entries.byteswap()
    last = max(entries, default=0)
    if last and (end := (last * unit + header.tracks) * SECTOR) > source.size:
        raise TruncatedInput(
            source.name,
            at=_HEADER.size + 4 * entries.index(last),
            code="parallels.file-size",
            problem=f"a cluster ends at {end:#x}, but the file at {source.size:#x}",
            hint="the file is cut short; copy it again",
        )
