"""How far into its file the grains of a sparse extent lead: one that ends before was cut short.

qemu reads what lies behind the end of the file as zeros, so a cut disk would lose data silently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.disk.numbers import reach
from vmport_formats.disk.vmdk.sparse import GRAIN_MARKER
from vmport_formats.disk.vmdk.words import Pages, Words
from vmport_formats.errors import TruncatedInput
from vmport_formats.units import SECTOR

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterator

    from vmport_formats.disk.vmdk.sparse import SparseHeader
    from vmport_formats.source import ByteSource

_MARKERS: Final = 1 << 17  # in the header's flags: there are such

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
    words = Words(source, 4, Pages())
    length = header.num_gtes_per_gt
    last = _last_to_fit(header, source.size)
    looked_at = last_parts = 0
    for number, sector, count in _spans(words, header):
        _check_tables(source, header, number, sector, count)
        entry = number * length
        at = sector * SECTOR
        for size, part in words.parts(at, count * length):
            if part is not None and max(part) > last:
                last_parts += 1
                _check_grains(source, header, part, at, entry)
            looked_at += size if part is not None else 0
            if looked_at > _MAX_ENTRIES or last_parts > _MAX_LAST_PARTS:
                return
            entry += size
            at += 4 * size


def _check_tables(
    source: ByteSource, header: SparseHeader, number: int, sector: int, count: int
) -> None:
    """That the file holds `count` tables that follow each other from `sector` on."""
    size = 4 * header.num_gtes_per_gt
    if sector * SECTOR + count * size > source.size:
        fitting = max(0, source.size - sector * SECTOR) // size
        place = header.gd_offset * SECTOR + 4 * (number + fitting)
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
            raise _outside(source, at + 4 * index, "grain", grain)


def _spans(words: Words, header: SparseHeader) -> Iterator[tuple[int, int, int]]:
    """Grain tables that follow each other in directory and file: number, sector, how many."""
    count = -(-header.capacity // (header.grain_size * header.num_gtes_per_gt))
    size = 4 * header.num_gtes_per_gt
    step = 0 if size % SECTOR else size // SECTOR
    number = spans = 0
    for length, part in words.parts(header.gd_offset * SECTOR, min(count, _MAX_DIRECTORY)):
        index = 0
        while part is not None and index < length:
            sector = part[index]
            if not sector:
                index += reach(part, index, len(part), 0)
                continue
            following = reach(part, index, len(part), step) if step else 1
            yield number + index, sector, following
            spans += 1
            if spans == _MAX_SPANS:
                return
            index += following
        number += length


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
