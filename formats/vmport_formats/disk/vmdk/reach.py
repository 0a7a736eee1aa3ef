"""How far into its file the grains of a sparse extent lead: one that ends before was cut short.

qemu reads what lies behind the end of the file as zeros, so a cut disk would lose data silently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.disk.numbers import decoded, reach
from vmport_formats.disk.vmdk.sparse import GRAIN_MARKER
from vmport_formats.errors import TruncatedInput
from vmport_formats.units import KIB, SECTOR
from vmport_formats.zeros import without_trailing_zeros

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterator

    from vmport_formats.disk.vmdk.sparse import SparseHeader
    from vmport_formats.source import ByteSource

_MARKERS: Final = 1 << 17  # in the header's flags: there are such
_ENTRY: Final = 4  # bytes
_PART: Final = 16 * KIB
"""Bytes of tables that are read at a time."""

# What is looked at, so that a hostile file costs little; holes of the file are free.  Entries of
# grain tables (those of 1 TiB in grains of 64 KiB), tables, entries of the directory, and parts of
# tables that lead to the last grains in the file, of which a sound disk has few.
_MAX_ENTRIES: Final = 1 << 24
_MAX_SPANS: Final = 1 << 15
_MAX_DIRECTORY: Final = 1 << 20
_MAX_LAST_PARTS: Final = 1 << 5


def check_reach(source: ByteSource, header: SparseHeader) -> None:
    """Check that the file holds every grain table and every grain, as far as they belong to it.

    Raises:
        TruncatedInput: codes ``vmdk.table-outside`` and ``vmdk.grain-outside``.
    """
    length = header.num_gtes_per_gt
    last = _last_to_fit(header, source.size)
    looked_at = last_parts = 0
    for number, sector, count in _spans(source, header):
        _check_tables(source, header, number, sector, count)
        for first, size, part in _parts(source, sector * SECTOR, count * length):
            if part and max(part) > last:
                last_parts += 1
                at = sector * SECTOR + _ENTRY * first
                _check_grains(source, header, part, at, number * length + first)
            looked_at += size
            if looked_at > _MAX_ENTRIES or last_parts > _MAX_LAST_PARTS:
                return


def _check_tables(
    source: ByteSource, header: SparseHeader, number: int, sector: int, count: int
) -> None:
    """That the file holds `count` tables that follow each other from `sector` on."""
    size = _ENTRY * header.num_gtes_per_gt
    if sector * SECTOR + count * size > source.size:
        fitting = max(0, source.size - sector * SECTOR) // size
        place = header.gd_offset * SECTOR + _ENTRY * (number + fitting)
        raise _outside(source, place, "table", sector + fitting * size // SECTOR)


def _check_grains(
    source: ByteSource, header: SparseHeader, part: array[int], at: int, entry: int
) -> None:
    """That the file holds the grains of a part of a table; its first number is for `entry`."""
    last = _last_to_fit(header, source.size)
    # Entry 0 is a grain that is not there, and 1 one of zeros.
    for index in [index for index, grain in enumerate(part) if grain > last and grain > 1]:
        grain = part[index]
        if _end(source, header, grain, (entry + index) * header.grain_size) > source.size:
            raise _outside(source, at + _ENTRY * index, "grain", grain)


def _spans(source: ByteSource, header: SparseHeader) -> Iterator[tuple[int, int, int]]:
    """Grain tables that follow each other in directory and file: number, sector, how many."""
    count = -(-header.capacity // (header.grain_size * header.num_gtes_per_gt))
    size = _ENTRY * header.num_gtes_per_gt
    step = 0 if size % SECTOR else size // SECTOR
    spans = 0
    for first, _, part in _parts(source, header.gd_offset * SECTOR, min(count, _MAX_DIRECTORY)):
        index = 0
        while index < len(part):
            sector = part[index]
            if not sector:
                index += reach(part, index, len(part), 0)
                continue
            following = reach(part, index, len(part), step) if step else 1
            yield first + index, sector, following
            spans += 1
            if spans == _MAX_SPANS:
                return
            index += following


def _parts(source: ByteSource, at: int, count: int) -> Iterator[tuple[int, int, array[int]]]:
    """`count` entries from offset `at` on, which the file holds, in parts without its holes.

    Of each the index of the first, how many they are, and those up to the last that is not 0.
    """
    end = at + _ENTRY * count
    # What is read at once is not worth the question where its holes are.
    whole = end - at <= _PART
    for start, stop in [(at, end)] if whole else source.data_ranges(at, end - at):
        for here in range(start - (start - at) % _ENTRY, stop, _PART):
            length = min(_PART, stop - here)
            length += -length % _ENTRY
            data = without_trailing_zeros(source.read_at(here, length))
            yield (here - at) // _ENTRY, length // _ENTRY, _entries(data)


def _entries(data: bytes) -> array[int]:
    """The entries in `data`, which may lack zeros at its end."""
    return decoded(data + bytes(-len(data) % _ENTRY), 4, "little")


def _last_to_fit(header: SparseHeader, size: int) -> int:
    """The last sector at which a grain can begin and be in the file, however long it is.

    A compressed one can be longer, by a marker and what deflate adds to what it cannot compress.
    """
    return size // SECTOR - header.grain_size - bool(header.compress_algorithm)


def _end(source: ByteSource, header: SparseHeader, grain: int, place: int) -> int:
    """Where a grain ends in the file; `place` is its sector on the disk, which may end within."""
    start = grain * SECTOR
    if not header.compress_algorithm:
        return start + min(header.grain_size, max(header.capacity - place, 0)) * SECTOR
    if not header.flags & _MARKERS:
        return start + 1  # nothing says how long it is
    marker = source.read_at(start, GRAIN_MARKER.size)
    if len(marker) < GRAIN_MARKER.size:
        return source.size + 1
    return start + GRAIN_MARKER.size + int(GRAIN_MARKER.unpack(marker)[1])


def _outside(source: ByteSource, at: int, what: str, sector: int) -> TruncatedInput:
    return TruncatedInput(
        source.name,
        at=at,
        code=f"vmdk.{what}-outside",
        problem=f"a {'grain table' if what == 'table' else 'grain'} lies at {sector * SECTOR:#x}, "
        f"but the file ends at {source.size:#x}",
        hint="the file is cut short; copy it again",
    )
