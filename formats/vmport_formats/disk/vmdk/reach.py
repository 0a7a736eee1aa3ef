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

_GRAIN_MARKER: Final = Struct("<QI")
"""Before each compressed grain: its place on the disk, and how many bytes follow."""

_MAX_TABLES: Final = 1 << 15
"""Grain tables that are looked at: those of 1 TiB, in grains of 64 KiB and tables of 512."""


def check_reach(source: ByteSource, header: SparseHeader) -> None:
    """That the file holds every grain table and every grain, as far as it is part of the disk.

    Raises:
        TruncatedInput: codes ``vmdk.table-outside`` and ``vmdk.grain-outside``.
    """
    length = header.num_gtes_per_gt
    for number, sector in _tables(source, header):
        table = _entries(source.read_at(sector * SECTOR, 4 * length))
        if len(table) < length:
            raise _outside(source, header.gd_offset * SECTOR + 4 * number, "table", sector)
        if (max(table) + header.grain_size) * SECTOR <= source.size:
            continue
        for entry, grain in enumerate(table):
            if grain > 1:  # 0: not there, 1: zeros
                place = (number * length + entry) * header.grain_size
                if _end(source, header, grain, place) > source.size:
                    raise _outside(source, sector * SECTOR + 4 * entry, "grain", grain)


def _tables(source: ByteSource, header: SparseHeader) -> Iterator[tuple[int, int]]:
    """Number and first sector of the grain tables that there are, each sector once."""
    count = -(-header.capacity // (header.grain_size * header.num_gtes_per_gt))
    directory = _entries(source.read_at(header.gd_offset * SECTOR, 4 * count))
    seen: set[int] = set()
    for number, sector in enumerate(directory):
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
    marker = source.read_at(start, _GRAIN_MARKER.size)
    if len(marker) < _GRAIN_MARKER.size:
        return source.size + 1
    return start + _GRAIN_MARKER.size + int(_GRAIN_MARKER.unpack(marker)[1])


def _outside(source: ByteSource, at: int, what: str, sector: int) -> TruncatedInput:
    return TruncatedInput(
        source.name,
        at=at,
        code=f"vmdk.{what}-outside",
        problem=f"a grain{' table' if what == 'table' else ''} lies at {sector * SECTOR:#x}, "
        f"but the file ends at {source.size:#x}",
        hint="the file is cut short; copy it again",
    )
