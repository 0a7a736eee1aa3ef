"""How far into its file the grains of a sparse extent lead: one that ends before was cut short.

qemu reads what lies behind the end of the file as zeros, so a cut disk would lose data silently.
"""

from __future__ import annotations

import sys
from array import array
from struct import Struct
from typing import TYPE_CHECKING, Final

from vmport_formats.errors import TruncatedInput
from vmport_formats.units import SECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.vmdk.sparse import SparseHeader
    from vmport_formats.source import ByteSource

# Before each compressed grain: its place on the disk, and how many bytes follow.
_GRAIN_MARKER: Final = Struct("<QI")
_MARKERS: Final = 1 << 17  # in the header's flags: there are such

# What is looked at, so that a hostile file costs little: grain tables (those of 1 TiB, in grains of
# 64 KiB and tables of 512), entries of the directory, which may be empty, and tables that lead to
# the last grains in the file, of which a sound disk has few.
_MAX_TABLES: Final = 1 << 15
_MAX_DIRECTORY: Final = 1 << 20
_MAX_LAST_TABLES: Final = 1 << 8
_SCAN: Final = 1 << 14  # entries of the directory at a time


def check_reach(source: ByteSource, header: SparseHeader) -> None:
    """Check that the file holds every grain table and every grain, as far as they belong to it.

    Raises:
        TruncatedInput: codes ``vmdk.table-outside`` and ``vmdk.grain-outside``.
    """
    length = header.num_gtes_per_gt
    last_tables = 0
    for number, sector in _tables(source, header):
        table = _entries(source.read_at(sector * SECTOR, 4 * length))
        if len(table) < length:
            raise _outside(source, header.gd_offset * SECTOR + 4 * number, "table", sector)
        if _may_end(max(table), header, source.size):
            continue
        last_tables += 1
        if last_tables > _MAX_LAST_TABLES:
            return
        for entry, grain in enumerate(table):
            if grain <= 1 or _may_end(grain, header, source.size):  # 0: not there, 1: zeros
                continue
            place = (number * length + entry) * header.grain_size
            if _end(source, header, grain, place) > source.size:
                raise _outside(source, sector * SECTOR + 4 * entry, "grain", grain)


def _may_end(grain: int, header: SparseHeader, size: int) -> bool:
    """Whether a grain at sector `grain` is in the file, however long it is."""
    return (grain + header.grain_size + 1) * SECTOR <= size


def _tables(source: ByteSource, header: SparseHeader) -> Iterator[tuple[int, int]]:
    """Number and first sector of the grain tables that there are, each sector once."""
    count = -(-header.capacity // (header.grain_size * header.num_gtes_per_gt))
    count = min(count, _MAX_DIRECTORY)
    seen: set[int] = set()
    for first in range(0, count, _SCAN):
        at = header.gd_offset * SECTOR + 4 * first
        directory = _entries(source.read_at(at, 4 * min(_SCAN, count - first)))
        if not any(directory):
            continue
        for number, sector in enumerate(directory, first):
            if sector and sector not in seen:
                if len(seen) == _MAX_TABLES:
                    return
                seen.add(sector)
                yield number, sector


def _entries(data: bytes) -> array[int]:
    entries = array("I", data[: len(data) // 4 * 4])
    if sys.byteorder == "big":
        entries.byteswap()
    return entries


def _end(source: ByteSource, header: SparseHeader, grain: int, place: int) -> int:
    """Where a grain ends in the file; `place` is its sector on the disk, which may end within."""
    start = grain * SECTOR
    if not header.compress_algorithm:
        return start + min(header.grain_size, max(header.capacity - place, 0)) * SECTOR
    if not header.flags & _MARKERS:
        return start + 1  # nothing says how long it is
    marker = source.read_at(start, _GRAIN_MARKER.size)
    if len(marker) < _GRAIN_MARKER.size:
        return source.size + 1
    return start + _GRAIN_MARKER.size + int(_GRAIN_MARKER.unpack(marker)[1])


def _outside(source: ByteSource, at: int, what: str, sector: int) -> TruncatedInput:
    return TruncatedInput(
        source.name,
        at=at,
        code=f"vmdk.{what}-outside",
        problem=f"a {'grain table' if what == 'table' else 'grain'} lies at {sector * SECTOR:#x}, "
        f"but the file ends at {source.size:#x}",
        hint="the file is cut short; copy it again",
    )
