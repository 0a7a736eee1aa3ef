"""What tables place in an image file: whether it is inside, and apart from all else.

For checks, which look at everything: unlike `tables`, a fault does not stop it, and of two things
in one place both are known.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from vmport_formats.disk.numbers import decoded, reach
from vmport_formats.disk.tables import Stretch
from vmport_formats.errors import UnsupportedFeature

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterator

    from vmport_formats.disk.check import Faults
    from vmport_formats.source import ByteSource

_BATCH: Final = 1 << 14
_MOST: Final = 1 << 24
"""Placed stretches that are kept: some 1 GiB with what sorting them takes."""


class Beyond(NamedTuple):
    """Entries that are an error, whatever else they say; a broken table can be full of them."""

    limit: int
    """Those from here on, as numbers: they point behind the end of the file, for instance."""
    faults: Faults
    mask: int = -1
    """The bits of them that are compared."""
    more: Callable[[int], int] | None = None
    """How many further rules one of them breaks."""

    def without(self, numbers: array[int], marks: Container[int], mark: int) -> array[int]:
        """The same with such entries counted, and a mark in their place."""
        limit, mask = self.limit, self.mask
        lost = [entry for entry in numbers if entry & mask >= limit and entry not in marks]
        if not lost:
            return numbers
        self.faults.count(len(lost))
        if self.more is not None:
            self.faults.count(sum(map(self.more, lost)))
        kept = [mark if entry & mask >= limit else entry for entry in numbers]
        return array(numbers.typecode, kept)


def entries(
    source: ByteSource,
    at: int,
    size: int,
    *,
    width: Literal[4, 8],
    order: Literal["little", "big"],
    marks: Collection[int],
    step: int,
    beyond: Beyond | None = None,
) -> Iterator[Stretch]:
    """What the table of `size` entries at `at` places: entries that are no marks.

    Those that go up by `step` are together.  Holes of the file, where 0 is a mark, cost nothing.
    What is `beyond` comes, too, until so many errors are known that no further one is told.
    """
    end = min(at + width * size, source.size)
    size = max(0, end - at) // width
    mark = next(iter(marks))
    index = 0
    while index < size:
        if 0 in marks:
            start = at + width * index
            begin, _ = next(source.data_ranges(start, end - start), (end, end))
            if hole := (begin - start) // width:
                index += hole
                continue
        count = min(_BATCH, size - index)
        data = source.read_at(at + width * index, width * count)
        first = data[:width]
        if int.from_bytes(first, order) in marks and data == first * count:
            index += count
            continue
        numbers = decoded(data, width, order)
        whole = beyond
        number = 0
        while number < count:
            if whole is not None and whole.faults.full:
                numbers[number:] = whole.without(numbers[number:], marks, mark)
                whole = None
            value = numbers[number]
            if value in marks:
                number += reach(numbers, number, count, 0)
                continue
            length, following = 1, number + 1
            if step and following < count and numbers[following] == value + step:
                length = reach(numbers, number, count, step)
            yield Stretch(index + number, length, value)
            number += length
        index += count


class Kind(NamedTuple):
    """The things that a kind of entry places."""

    name: str
    """Of one such entry: ``block map entry``."""
    code: str
    step: int
    """Bytes from one entry to the next."""
    length: int
    """Bytes of what each places; as many as can be where that differs."""


class Placements:
    """Everything that was found to have its place in a file."""

    def __init__(self, source: ByteSource, faults: Faults) -> None:
        self._source = source
        self._faults = faults
        self._starts = array("Q")
        self._ends = array("Q")
        self._places = array("Q")
        self._kinds = array("H")
        self._known: list[Kind | str] = []
        self._numbers: dict[Kind | str, int] = {}
        """Of what is known."""
        self._latest: Kind | str | None = None
        self._number = 0
        self.blocks = 0
        """That entries place inside the file."""
        self.fragmented = 0
        """Of them, those that do not follow the one before."""
        self._last = 0

    @property
    def end(self) -> int:
        """Where the last thing ends."""
        return max(self._ends, default=0)

    def reserve(self, at: int, length: int, what: str) -> None:
        """Something that the header places; what lies outside the file is in nobody's way."""
        end = min(at + length, self._source.size)
        if at < end:
            self._add(at, end, 0, what)

    def place(
        self,
        kind: Kind,
        place: int,
        at: int,
        count: int = 1,
        *,
        length: int | None = None,
        short: int = 0,
        block: bool = True,
    ) -> int:
        """What `count` entries from `place` on put from `at` on; how many of them are in the file.

        `length` is that of what a single entry places, where the kind leaves it open; `short` bytes
        of the last need not be there.  `block`: it is a part of the disk, and no table.
        """
        size = self._source.size
        inside = count
        if length is None:
            length = kind.length
        if at + count * length - short > size:
            inside = min(count, max(0, size - at) // length)
            if self._faults.full:
                self._faults.count(count - inside)
            else:
                start = at + inside * length
                text = f"this {kind.name} points to {start:#x}, but the file ends at {size:#x}"
                where = place + kind.step * inside
                self._faults.error(kind.code, where, text, count - inside)
        if not inside:
            return 0
        end = at + inside * length - (short if inside == count else 0)
        self._add(at, max(at + 1, end), place, kind)
        if block:
            self.blocks += inside
            self.fragmented += bool(self._last and self._last != at)
            self._last = end
        return inside

    def _add(self, start: int, end: int, place: int, kind: Kind | str) -> None:
        if len(self._starts) >= _MOST:
            raise UnsupportedFeature(
                self._source.name,
                code="check.size",
                problem=f"more than {_MOST} parts of it lie apart, too many to be checked",
            )
        if kind is not self._latest:
            self._latest = kind
            self._number = self._numbers.setdefault(kind, len(self._known))
            if self._number == len(self._known):
                self._known.append(kind)
        self._starts.append(start)
        self._ends.append(end)
        self._places.append(place)
        self._kinds.append(self._number)

    def check_overlaps(self) -> None:
        """Tell of all that lies where something else does."""
        starts, ends = self._starts, self._ends
        holder, top = -1, 0
        for item in sorted(range(len(starts)), key=starts.__getitem__):
            if starts[item] < top:
                self._tell(holder, item)
            if ends[item] > top:
                holder, top = item, ends[item]

    def _tell(self, one: int, other: int) -> None:
        # To be blamed is what stands further behind in the tables.
        if self._places[one] > self._places[other]:
            one, other = other, one
        kind = self._known[self._kinds[other]]
        start = max(self._starts[one], self._starts[other])
        end = min(self._ends[one], self._ends[other])
        if isinstance(kind, str):
            text = f"{kind} lies at {start:#x}, and so does {self._known[self._kinds[one]]}"
            self._faults.error("check.overlap", start, text)
            return
        first = (start - self._starts[other]) // kind.length
        last = -(-(end - self._starts[other]) // kind.length)
        if self._faults.full:
            self._faults.count(last - first)
            return
        at = self._starts[other] + first * kind.length
        text = f"this {kind.name} points to {at:#x}, where {self._holder(one, start)} lies already"
        self._faults.error(kind.code, self._places[other] + kind.step * first, text, last - first)

    def _holder(self, item: int, at: int) -> str:
        kind = self._known[self._kinds[item]]
        if isinstance(kind, str):
            return kind
        number = (at - self._starts[item]) // kind.length
        return f"what the {kind.name} at {self._places[item] + kind.step * number:#x} places"

    def check_gaps(self, begin: int, end: int, unit: int, code: str, what: str) -> None:
        """Tell of room between two offsets, in whole units from `begin` on, that nothing has."""
        order = sorted(range(len(self._starts)), key=self._starts.__getitem__)
        for item in [*order, -1]:
            start = end if item < 0 else min(end, self._starts[item])
            if count := max(0, start - begin) // unit:
                text = (
                    f"nothing points to this {what}"
                    if count == 1
                    else f"nothing points to {count} {what}s from here on"
                )
                self._faults.leak(code, begin, text, count)
            if item >= 0:
                begin = max(begin, begin + -(-(self._ends[item] - begin) // unit) * unit)
