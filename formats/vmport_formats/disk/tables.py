"""Tables that place the blocks of a disk: decoded in batches, each entry checked once.

A table is an array of numbers in the image file.  A number is either a mark (not there, zeros) or
tells where in the file a block or a further table is.  Reading one costs what it says: a batch of
one mark is recognised as such, holes of the file are not read, and entries that go up together
are one `Stretch`.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from dataclasses import dataclass
from sys import byteorder
from threading import Lock
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol

from vmport_formats.errors import CorruptInput, TruncatedInput
from vmport_formats.source import read_exactly
from vmport_formats.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vmport_formats.disk.occupancy import Occupancy
    from vmport_formats.source import ByteSource

_BATCH: Final = 8192
"""Entries that are decoded at a time."""
_CACHE: Final = MIB
"""Bytes of decoded entries that are kept, of each kind of table."""


class Stretch(NamedTuple):
    """Entries in a row that are the same mark, or else go up by the step of their kind."""

    start: int
    """Index of the first."""
    entries: int
    """How many they are."""
    value: int
    """Of the first."""


class Place(NamedTuple):
    """What an entry points to."""

    at: int
    """Host offset."""
    length: int
    """In bytes."""
    alone: bool = True
    """Nothing else may be there; false for compressed data, which can share a sector."""


@dataclass(frozen=True, slots=True)
class EntryKind:
    """The entries of a kind of table."""

    name: str
    """As messages call one: ``block map entry``."""
    code: str
    """Of errors about one."""
    width: Literal[4, 8]
    """Bytes of one."""
    order: Literal["little", "big"]
    marks: frozenset[int]
    """Values that place nothing."""
    step: int
    """From an entry to the next, where what they place follows each other in the file."""
    place: Callable[[int], Place]
    """Where a value, which is no mark, points.

    Raises ValueError, with words that follow "this entry", where it cannot point.
    """
    single: int = 0
    """Bits that keep an entry from being one of a stretch."""


class EntryTable(Protocol):
    """What a disk's blocks can be looked up in."""

    def stretches(self, first: int, last: int) -> Iterator[Stretch]:
        """What is said of the blocks from `first` up to, but without, `last`; in order, no gaps.

        Raises:
            CorruptInput: an entry breaks a rule, or points where something else lies.
            TruncatedInput: it points behind the end of the file.
        """
        ...


class TableReader:
    """Reads tables of one kind in an image; safe in several threads at once."""

    def __init__(self, source: ByteSource, kind: EntryKind, occupancy: Occupancy) -> None:
        """`occupancy` is of the file, and what the header places is marked in it."""
        self._source = source
        self._kind = kind
        self._occupancy = occupancy
        self._batches: OrderedDict[int, array[int]] = OrderedDict()
        self._kept = 0
        self._checked: set[int] = set()
        self._lock = Lock()

    def stretches(self, at: int, size: int, first: int, last: int) -> Iterator[Stretch]:
        """As `EntryTable.stretches`, of the table with `size` entries at host offset `at`."""
        width = self._kind.width
        index = first
        while index < last:
            if 0 in self._kind.marks and last - index > _BATCH:
                hole = _hole(self._source, at + width * index, width * (last - index)) // width
                if hole:
                    yield Stretch(index, hole, 0)
                    index += hole
                    continue
            start = index - index % _BATCH
            batch = self._batch(at + width * start, min(_BATCH, size - start))
            stop = min(last, start + _BATCH)
            if isinstance(batch, int):
                yield Stretch(index, stop - index, batch)
            else:
                for found in self._split(batch, index - start, stop - start):
                    yield Stretch(found.start + start, found.entries, found.value)
            index = stop

    def _split(self, entries: array[int], index: int, end: int) -> Iterator[Stretch]:
        kind = self._kind
        while index < end:
            value = entries[index]
            if value & kind.single:
                count = 1
            else:
                count = _reach(entries, index, end, 0 if value in kind.marks else kind.step)
            yield Stretch(index, count, value)
            index += count

    def _batch(self, at: int, count: int) -> array[int] | int:
        """`count` entries from `at` on, not to be changed; of a batch of one mark, that mark."""
        with self._lock:
            if (known := self._batches.get(at)) is not None:
                self._batches.move_to_end(at)
                return known
            batch = self._decode(at, count)
            if not isinstance(batch, int):
                if at not in self._checked:
                    self._check(batch, at)
                    self._checked.add(at)
                self._kept += len(batch) * batch.itemsize
                self._batches[at] = batch
                while self._kept > _CACHE:
                    _, oldest = self._batches.popitem(last=False)
                    self._kept -= len(oldest) * oldest.itemsize
            return batch

    def _decode(self, at: int, count: int) -> array[int] | int:
        width = self._kind.width
        data = read_exactly(self._source, at, width * count, what="a table", code=self._kind.code)
        first = data[:width]
        if data[-width:] == first and data == first * count:
            value = int.from_bytes(first, self._kind.order)
            if value in self._kind.marks:
                return value
        return decoded(data, width, self._kind.order)

    def _check(self, entries: array[int], at: int) -> None:
        """That each entry, the first of which is at `at`, points where it may."""
        kind = self._kind
        ranges: list[tuple[int, int]] = []
        places: list[tuple[int, int]] = []
        for index, count, value in self._split(entries, 0, len(entries)):
            if value in kind.marks:
                continue
            where = at + kind.width * index
            try:
                start, length, alone = kind.place(value)
            except ValueError as error:
                raise self._wrong(where, str(error)) from None
            end = start + count * length
            if start < self._occupancy.start:
                raise self._wrong(
                    where,
                    f"points to {start:#x}; must be {self._occupancy.start:#x} or more, behind "
                    "the header",
                )
            if end > self._source.size:
                fitting = max(0, self._source.size - start) // length
                raise self._outside(where + kind.width * fitting, start + fitting * length, length)
            if alone:
                ranges.append((start, end))
                places.append((where, length))
        if clash := self._occupancy.take(ranges):
            where, length = places[clash.number]
            index = (clash.at - ranges[clash.number][0]) // length
            raise self._wrong(
                where + kind.width * index,
                f"points to {ranges[clash.number][0] + index * length:#x}, where something else "
                "lies: a table or another block",
            )

    def _wrong(self, at: int, problem: str) -> CorruptInput:
        return CorruptInput(
            self._source.name,
            at=at,
            code=self._kind.code,
            problem=f"this {self._kind.name} {problem}",
        )

    def _outside(self, at: int, start: int, length: int) -> TruncatedInput:
        return TruncatedInput(
            self._source.name,
            at=at,
            code=self._kind.code,
            problem=f"this {self._kind.name} points to {length} bytes at {start:#x}, but the file "
            f"ends at {self._source.size:#x}",
            hint="the file is cut short; copy it again",
        )


@dataclass(frozen=True, slots=True)
class FlatTable:
    """One table for the whole disk."""

    reader: TableReader
    at: int
    size: int
    """Entries."""

    def stretches(self, first: int, last: int) -> Iterator[Stretch]:
        """See `EntryTable.stretches`."""
        return self.reader.stretches(self.at, self.size, first, last)


@dataclass(frozen=True, slots=True)
class TwoLevelTable:
    """A table of tables; an entry of the upper one is 0 where there is no lower one."""

    upper: FlatTable
    lower: TableReader
    lower_size: int
    """Entries of each lower table."""
    lower_step: int
    """Host bytes from a lower table to one that follows it."""

    def stretches(self, first: int, last: int) -> Iterator[Stretch]:
        """See `EntryTable.stretches`; where there is no lower table, its entries are 0."""
        size = self.lower_size
        for upper, count, value in self.upper.stretches(first // size, -(-last // size)):
            if not value:
                start = max(first, upper * size)
                yield Stretch(start, min(last, (upper + count) * size) - start, 0)
                continue
            for number in range(count):
                base = (upper + number) * size
                found = self.lower.stretches(
                    value + number * self.lower_step,
                    size,
                    max(0, first - base),
                    min(size, last - base),
                )
                for index, length, entry in found:
                    yield Stretch(base + index, length, entry)


def decoded(data: bytes, width: Literal[4, 8], order: Literal["little", "big"]) -> array[int]:
    """The numbers of `width` bytes in `data`."""
    numbers = array("I" if width == 4 else "Q", data)
    if byteorder != order:
        numbers.byteswap()
    return numbers


def largest(
    source: ByteSource,
    at: int,
    count: int,
    width: Literal[4, 8],
    order: Literal["little", "big"],
) -> tuple[int, int]:
    """Index and value of the largest of `count` numbers at host offset `at`; (0, 0) for none.

    What is zero, or a hole of the file, costs next to nothing.

    Raises:
        TruncatedInput: the file ends before.
    """
    best = 0, 0
    index = 0
    while index < count:
        if hole := _hole(source, at + width * index, width * (count - index)) // width:
            index += hole
            continue
        length = min(_BATCH, count - index)
        data = read_exactly(source, at + width * index, width * length, what="a table")
        if data.count(0) != len(data):
            numbers = decoded(data, width, order)
            if (value := max(numbers)) > best[1]:
                best = index + numbers.index(value), value
        index += length
    return best


def _hole(source: ByteSource, at: int, length: int) -> int:
    """How many bytes from `at` on are a hole of the file."""
    inside = max(0, min(length, source.size - at))
    start, _ = next(source.data_ranges(at, inside), (at + inside, 0))
    return start - at


def _reach(entries: array[int], index: int, end: int, step: int) -> int:
    """How many entries from `index` on, itself included, go up by `step`.

    As long as they do, twice as many are compared each time.
    """
    first = entries[index]
    top = 1 << 8 * entries.itemsize
    count = ahead = 1
    while index + count < end:
        here, value = index + count, first + count * step
        if entries[here] != value:
            break
        ahead = min(ahead, end - here)
        if step:
            ahead = min(ahead, -(-(top - value) // step))
        numbers = range(value, value + ahead * step, step) if step else (value,) * ahead
        if entries[here : here + ahead] == array(entries.typecode, numbers):
            count += ahead
            ahead *= 2
        else:
            ahead //= 2
    return count
