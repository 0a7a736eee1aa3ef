"""Where the grains of a sparse extent are: the way through its grain directory and grain tables."""

from __future__ import annotations

from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from vmport_formats.disk.layer import Found, Run, Unit, cut
from vmport_formats.disk.numbers import reach
from vmport_formats.disk.occupancy import Occupancy
from vmport_formats.disk.vmdk.packing import Unpacking, most_packed
from vmport_formats.disk.vmdk.words import Pages, Words
from vmport_formats.errors import CorruptInput, TruncatedInput
from vmport_formats.units import SECTOR

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterator, Sequence

    from vmport_formats.disk.vmdk.pointers import Pointers
    from vmport_formats.source import ByteSource


class Taken(NamedTuple):
    """A part of the file that has its own use, so that no table or grain can be there."""

    start: int
    end: int
    what: str


class Shape(NamedTuple):
    """The measures of an extent, in bytes."""

    size: int
    """Of what it holds of the disk."""
    grain: int
    directory: int
    """Where the grain directory is."""
    begin: int = 0
    """Where on the disk the extent begins."""


class Grains:
    """The content of one sparse extent; each pointer is checked before it is believed."""

    def __init__(
        self,
        source: ByteSource,
        shape: Shape,
        pointers: Pointers,
        taken: Sequence[Taken],
        pages: Pages,
        *,
        marked: bool = False,
    ) -> None:
        """`pages` are those of the disk.  `marked`: compressed grains have a marker each."""
        self._source = source
        self._size, self._grain, self._directory, self._begin = shape
        self._pointers = pointers
        self._taken = tuple(item for item in taken if item.start < item.end)
        self._marked = marked
        self._words = Words(source, pointers.width, pages)
        # In use by a grain; by a slot of its size each, whatever the alignment is of all of them.
        self._used = Occupancy(0, shape.grain)
        self._checked: dict[int, int] = {}
        """Where a grain table is, and its number, once `_used` knows what it places."""
        self._lock = Lock()

    def runs(self, offset: int, end: int) -> Iterator[Run]:
        """The runs from `offset` to `end`, both counted from the extent's begin.

        Raises:
            CorruptInput: an entry breaks a rule, or points where no table or grain can be.
            TruncatedInput: it points behind the end of the file.
        """
        first = offset // self._grain
        runs = self._runs(first, -(-end // self._grain))
        return cut(runs, first * self._grain, offset, end)

    def _runs(self, first: int, last: int) -> Iterator[Run]:
        """The runs of whole grains."""
        entries, width = self._pointers.table_entries, self._pointers.width
        number = first // entries
        at = self._directory + width * number
        for length, words in self._words.parts(at, -(-last // entries) - number):
            index = 0
            while index < length:
                table, count = None, length - index
                if words is not None:
                    table, count = self._tables(words, index, at + width * index)
                begin = (number + index) * entries
                start = max(first, begin)
                stop = min(last, begin + count * entries)
                if table is None:
                    yield Run((stop - start) * self._grain, Found.ABSENT)
                else:
                    tables = Taken(table, table + count * entries * width, "its own grain table")
                    at_entry = table + width * (start - begin)
                    yield from self._table_runs(start, stop - start, at_entry, tables)
                index += count
            number += length
            at += width * length

    def _tables(self, words: array[int], index: int, place: int) -> tuple[int | None, int]:
        """Where the table of a directory entry is, and how many from there on follow each other."""
        try:
            at = self._pointers.table(words[index])
        except ValueError as error:
            raise self._corrupt(place, "directory", str(error)) from error
        if at is None:
            return None, reach(words, index, len(words), 0)
        size = self._pointers.table_entries * self._pointers.width
        step = self._pointers.table_step
        count = reach(words, index, len(words), step) if step else 1
        free = _free(self._taken, at)
        if free < size:
            raise self._corrupt(place, "directory", self._inside(at, at + size, self._taken))
        if at + size > self._source.size:
            raise self._outside(place, "table", at)
        count = min(count, free // size, (self._source.size - at) // size)
        try:
            self._pointers.table(words[index + count - 1])
        except ValueError:
            count = 1  # it will be told when it is its turn
        return at, count

    def _table_runs(self, number: int, count: int, at: int, tables: Taken) -> Iterator[Run]:
        """The runs of `count` grains from `number` on, whose entries lie from offset `at` on."""
        taken = (*self._taken, tables)
        for length, words in self._words.parts(at, count):
            if words is None:
                yield Run(length * self._grain, Found.ABSENT)
            else:
                if not self._pointers.packed:  # what is compressed says itself whose it is
                    self._check_tables(number, at, length)
                yield from self._entry_runs(words, number, at, taken)
            number += length
            at += length * self._pointers.width

    def _entry_runs(
        self, words: array[int], number: int, at: int, taken: Sequence[Taken]
    ) -> Iterator[Run]:
        index = 0
        while index < len(words):
            place = at + index * self._pointers.width
            try:
                found, host = self._pointers.grain(words[index])
            except ValueError as error:
                raise self._corrupt(place, "table", str(error)) from error
            if found is Found.STORED:
                count = reach(words, index, len(words), self._pointers.grain_step)
                if not self._is_whole(words[index + count - 1], host, count):
                    count = 1
                count = self._stored(host, count, number + index, place, taken)
                yield Run(count * self._grain, found, self._source, host)
            elif found is Found.PACKED:
                count = 1
                following = words[index + 1] if index + 1 < len(words) else 0
                yield self._packed(host, following * SECTOR, number + index, place, taken)
            else:
                count = reach(words, index, len(words), 0)
                yield Run(count * self._grain, found)
            index += count

    def _is_whole(self, last: int, at: int, count: int) -> bool:
        """Whether `count` entries that go up from one for offset `at` on mean so many grains.

        Where only a part of an entry is a number, that can overflow into the rest of it.
        """
        with suppress(ValueError):
            return self._pointers.grain(last) == (Found.STORED, at + (count - 1) * self._grain)
        return False

    def _check_tables(self, number: int, at: int, count: int) -> None:
        """That what some tables place is in use by nothing else, and neither are they.

        The entries of `count` grains from `number` on, which lie from offset `at` on, are in them.
        """
        entries, width = self._pointers.table_entries, self._pointers.width
        first = number // entries
        at -= (number - first * entries) * width
        for table in range(first, (number + count - 1) // entries + 1):
            with self._lock:
                known = self._checked.get(at)
                if known is None:
                    self._check_table(table, at)
                    self._checked[at] = table
            if known not in {None, table}:
                place = self._directory + table * width
                problem = f"points to {at:#x}, which is the grain table of entry {known}"
                raise self._corrupt(place, "directory", problem)
            at += entries * width

    def _check_table(self, table: int, at: int) -> None:
        """A grain at the end of the disk that is not whole can share its slot, and is left out."""
        ranges = []
        places = []
        entries = self._pointers.table_entries
        grains = self._size // self._grain - table * entries
        for length, words in self._words.parts(at, min(entries, grains)):
            index = 0
            while words is not None and index < length:
                count = 1
                with suppress(ValueError):  # this is told when it is read
                    found, host = self._pointers.grain(words[index])
                    stored = found is Found.STORED
                    count = reach(
                        words, index, len(words), self._pointers.grain_step if stored else 0
                    )
                    if stored:
                        slot = host - host % self._grain
                        ranges.append((slot, slot + count * self._grain))
                        places.append(at + index * self._pointers.width)
                index += count
            at += length * self._pointers.width
        if clash := self._used.take(ranges):
            index = (clash.at - ranges[clash.number][0]) // self._grain
            place = places[clash.number] + index * self._pointers.width
            raise self._corrupt(place, "table", "points to what another one points to as well")

    def _stored(self, at: int, count: int, number: int, place: int, taken: Sequence[Taken]) -> int:
        """How many of `count` grains from offset `at` on can be there: at least one, or an error.

        `number` is the first one's on the disk.  The last of the disk need not be whole.
        """
        needed = min(count * self._grain, self._size - number * self._grain)
        free = _free(taken, at)
        room = min(free, self._source.size - at)
        if needed <= room:
            return count
        if count := max(0, room) // self._grain:
            return count
        needed = min(needed, self._grain)
        if free < needed:
            raise self._corrupt(place, "table", self._inside(at, at + needed, taken))
        raise self._outside(place, "grain", at)

    def _packed(
        self, at: int, following: int, number: int, place: int, taken: Sequence[Taken]
    ) -> Run:
        """A compressed grain at offset `at`, behind which the next one is at `following`, if so."""
        free = _free(taken, at)
        if free <= 0:
            raise self._corrupt(place, "table", self._inside(at, at + 1, taken))
        if at >= self._source.size:
            raise self._outside(place, "grain", at)
        room = min(free, most_packed(self._grain))
        if at < following < at + room:
            room = following - at
        start = number * self._grain
        unit = Unit(
            self._begin + start,
            min(self._grain, self._size - start),
            self._source,
            at,
            room,
            Unpacking(start // SECTOR, self._grain, self._marked),
            "vmdk.compressed-grain",
        )
        return Run(self._grain, Found.PACKED, unit=unit)

    def _inside(self, start: int, end: int, taken: Sequence[Taken]) -> str:
        what = next(item.what for item in taken if item.start < end and start < item.end)
        return f"points to {start:#x}, into {what}"

    def _outside(self, place: int, what: str, at: int) -> TruncatedInput:
        return TruncatedInput(
            self._source.name,
            at=place,
            code=f"vmdk.{what}-outside",
            problem=f"a {'grain table' if what == 'table' else 'grain'} lies at {at:#x}, "
            f"but the file ends at {self._source.size:#x}",
            hint="the file is cut short; copy it again",
        )

    def _corrupt(self, place: int, what: str, problem: str) -> CorruptInput:
        return CorruptInput(
            self._source.name,
            at=place,
            code=f"vmdk.grain-{what}-entry",
            problem=f"this entry of a grain {what} {problem}",
        )


def _free(taken: Sequence[Taken], at: int) -> int:
    """How many bytes from `at` on are not taken: none in the midst of what is."""
    free = 1 << 63
    for item in taken:
        if at < item.end and item.start - at < free:
            free = item.start - at
    return free
