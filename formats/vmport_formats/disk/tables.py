"""Tables that place the blocks of a disk: decoded in batches, each entry checked once.

A table is an array of numbers in the image file.  A number is either a mark (not there, zeros) or
tells where in the file a block or a further table is.  Reading one costs what it says: a batch of
one mark is recognised as such, holes of the file are not read, and entries that go up together
are one `Stretch`.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol

from vmport_formats.disk.numbers import decoded, reach
from vmport_formats.errors import CorruptInput, TruncatedInput
from vmport_formats.source import read_exactly
from vmport_formats.units import MIB

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Iterator

    from vmport_formats.disk.occupancy import BlockOccupancy, Occupancy
    from vmport_formats.source import ByteSource

_BATCH: Final = 4096
"""Entries that are decoded at a time."""
_MOST_AHEAD: Final = 16
"""Batches that are looked at together, where those before were of one mark."""
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
    place: Callable[[int], tuple[int, int, bool] | None]
    """Where a value, which is no mark, points: a `Place`, or a plain tuple, which is faster.

    None where it points nowhere after all.  Raises ValueError, with words that follow "this entry",
    where it cannot point.
    """
    single: int = 0
    """Bits that keep an entry from being one of a stretch."""
    group: int = 0
    """After so many entries comes one of another kind, which is passed over; 0 for none."""
    short: int = 0
    """How many bytes of what the last entry places need not be in the file."""

    def position(self, index: int) -> int:
        """Which number an entry has in its table when those of the other kind are counted, too."""
        return index + index // self.group if self.group else index

    def index(self, position: int) -> int:
        """How many entries of this kind come before a number in the table."""
        if not self.group:
            return position
        groups, rest = divmod(position, self.group + 1)
        return groups * self.group + min(rest, self.group)


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

    def __init__(
        self, source: ByteSource, kind: EntryKind, occupancy: Occupancy | BlockOccupancy
    ) -> None:
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
        kind = self._kind
        index = known = first
        ahead = 1
        while index < last:
            if 0 in kind.marks and index >= known and last - index > _BATCH:
                # Up to `known`, the table is not in a hole of the file.
                begin, end = _data(self._source, self._where(at, index), self._where(at, last))
                known = max(index + 1, kind.index((end - at) // kind.width))
                if hole := kind.index((begin - at) // kind.width) - index:
                    yield Stretch(index, hole, 0)
                    index += hole
                    continue
            start = index - index % _BATCH
            stop = min(last, start + ahead * _BATCH)
            if ahead > 1 and (mark := self._only_mark(self._read(at, index, stop))) is not None:
                yield Stretch(index, stop - index, mark)
                index = stop
                ahead = min(2 * ahead, _MOST_AHEAD)
                continue
            batch = self._batch(at, start, size)
            stop = min(last, start + _BATCH)
            ahead = 1
            if isinstance(batch, int):
                yield Stretch(index, stop - index, batch)
                ahead = 2
            else:
                for first_entry, count, value in self._split(batch, index - start, stop - start):
                    yield Stretch(start + first_entry, count, value)
            index = stop

    def _split(self, entries: array[int], index: int, end: int) -> Iterator[tuple[int, int, int]]:
        """What makes up stretches."""
        marks, single, step = self._kind.marks, self._kind.single, self._kind.step
        while index < end:
            value = entries[index]
            up = 0 if value in marks else step
            count = 1
            following = index + 1
            if following < end and entries[following] == value + up and not value & single:
                count = reach(entries, index, end, up)
            yield index, count, value
            index += count

    def _where(self, at: int, index: int) -> int:
        """The host offset of an entry."""
        return at + self._kind.width * self._kind.position(index)

    def _batch(self, at: int, start: int, size: int) -> array[int] | int:
        """The entries of the batch from `start` on, not to be changed; of one mark, that mark."""
        key = self._where(at, start)
        with self._lock:
            if (known := self._batches.get(key)) is not None:
                self._batches.move_to_end(key)
                return known
            batch = self._decode(at, start, min(size, start + _BATCH))
            if not isinstance(batch, int):
                if key not in self._checked:
                    self._check(batch, at, start, size)
                    self._checked.add(key)
                self._kept += len(batch) * batch.itemsize
                self._batches[key] = batch
                while self._kept > _CACHE:
                    _, oldest = self._batches.popitem(last=False)
                    self._kept -= len(oldest) * oldest.itemsize
            return batch

    def _decode(self, at: int, start: int, stop: int) -> array[int] | int:
        kind = self._kind
        data = self._read(at, start, stop)
        if (mark := self._only_mark(data)) is not None:
            return mark
        entries = decoded(data, kind.width, kind.order)
        if kind.group:
            del entries[kind.group - start % kind.group :: kind.group + 1]
        return entries

    def _read(self, at: int, start: int, stop: int) -> bytes:
        """The bytes of the entries from `start` to `stop`, and of others between them."""
        begin = self._where(at, start)
        length = self._where(at, stop - 1) + self._kind.width - begin
        return read_exactly(self._source, begin, length, what="a table", code=self._kind.code)

    def _only_mark(self, data: bytes) -> int | None:
        """What all entries in `data` are, if it is one mark."""
        width = self._kind.width
        first = data[:width]
        value = int.from_bytes(first, self._kind.order)
        return value if value in self._kind.marks and data == first * (len(data) // width) else None

    def _check(self, entries: array[int], at: int, first: int, size: int) -> None:
        """That each of these entries, which begin with entry `first`, points where it may."""
        kind = self._kind
        marks, place, last = kind.marks, kind.place, size - first
        begin, file_end = self._occupancy.start, self._source.size
        ranges: list[tuple[int, int]] = []
        places: list[tuple[int, int]] = []
        for index, count, value in self._split(entries, 0, len(entries)):
            if value in marks:
                continue
            try:
                placed = place(value)
            except ValueError as error:
                raise self._wrong(self._where(at, first + index), str(error)) from None
            if placed is None:
                continue
            start, length, alone = placed
            end = start + count * length
            if index + count == last:
                end -= kind.short
            if start < begin:
                raise self._wrong(
                    self._where(at, first + index),
                    f"points to {start:#x}; must be {begin:#x} or more, behind the header",
                )
            if end > file_end:
                fitting = max(0, file_end - start) // length
                start += fitting * length
                where = self._where(at, first + index + fitting)
                raise self._outside(where, start, min(length, end - start))
            if alone:
                ranges.append((start, end))
                places.append((index, length))
        if clash := self._occupancy.take(ranges):
            index, length = places[clash.number]
            start, _ = ranges[clash.number]
            number = (clash.at - start) // length
            raise self._wrong(
                self._where(at, first + index + number),
                f"points to {start + number * length:#x}, where something else lies: a table or "
                "another block",
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


class FlatTable(NamedTuple):
    """One table for the whole disk."""

    reader: TableReader
    at: int
    size: int
    """Entries."""

    def stretches(self, first: int, last: int) -> Iterator[Stretch]:
        """See `EntryTable.stretches`."""
        return self.reader.stretches(self.at, self.size, first, last)


class TwoLevelTable(NamedTuple):
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
        begin, _ = _data(source, at + width * index, at + width * count)
        if hole := (begin - at) // width - index:
            index += hole
            continue
        length = min(_MOST_AHEAD * _BATCH, count - index)
        data = read_exactly(source, at + width * index, width * length, what="a table")
        if data != bytes(len(data)):
            numbers = decoded(data, width, order)
            if (value := max(numbers)) > best[1]:
                best = index + numbers.index(value), value
        index += length
    return best


def _data(source: ByteSource, start: int, end: int) -> tuple[int, int]:
    """Where between two offsets the file has data for the first time, and up to where.

    An empty range at the end, or at the end of the file, if it has none.
    """
    end = max(start, min(end, source.size))
    return next(source.data_ranges(start, end - start), (end, end))
