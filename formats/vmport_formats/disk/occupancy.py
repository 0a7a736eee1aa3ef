"""Which parts of an image file are in use: nothing may lie where something else lies already."""

from __future__ import annotations

from array import array
from threading import Lock
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_SEGMENT: Final = 1 << 11
"""Units that one number keeps, a bit for each."""
_MOST_SEGMENTS: Final = 1 << 16
"""Some 30 MiB for 2^27 units, which is 8 TiB of 64 KiB clusters, or 128 TiB of 1 MiB blocks."""
_BUCKETS: Final = 1 << 12
"""Lengths of a block that are kept together, a number for each."""
_MOST_GROUPS: Final = 1 << 11
"""32 MiB, for 2^23 blocks in a row."""
_FEW_UNITS: Final = 32
"""So many bits are as much as a number."""


class Clash(NamedTuple):
    """A range that is, at least in part, in use already."""

    number: int
    """Which of the ranges that were to be taken, counted from 0."""
    at: int
    """Where in it the first offset is that is in use."""


class Occupancy:
    """What is in use of a file from `start` on, in units of `unit` bytes.

    Safe in several threads at once.  It keeps so much and no more: of a file with more than 2^27
    units in use, or with few that lie far apart, some may be used twice unnoticed.
    """

    def __init__(self, start: int, unit: int) -> None:
        self.start = start
        self._unit = unit
        self._segments: dict[int, int] = {}
        self._lock = Lock()

    def take(self, ranges: Sequence[tuple[int, int]]) -> Clash | None:
        """Mark ranges (start, end), none of which begins before `start`, as in use.

        Either all are marked, or none is: where one is in use already, by now or by an earlier one
        of the same call, that is returned.
        """
        with self._lock:
            changed: dict[int, int] = {}
            for number, (start, end) in enumerate(ranges):
                unit = (start - self.start) // self._unit
                last = -(-(end - self.start) // self._unit)
                while unit < last:
                    segment, bit = divmod(unit, _SEGMENT)
                    width = min(last - unit, _SEGMENT - bit)
                    mask = ((1 << width) - 1) << bit
                    used = changed.get(segment)
                    if used is None:
                        used = self._segments.get(segment, 0)
                    if hit := used & mask:
                        first = segment * _SEGMENT + (hit & -hit).bit_length() - 1
                        return Clash(number, max(start, self.start + first * self._unit))
                    changed[segment] = used | mask
                    unit += width
            for segment, used in changed.items():
                if segment in self._segments or len(self._segments) < _MOST_SEGMENTS:
                    self._segments[segment] = used
        return None


class BlockOccupancy:
    """What is in use of a file by blocks of `length` bytes, which begin at any multiple of `unit`.

    Two blocks that begin within the same `length` bytes overlap, so for each of these it is enough
    to know where in it a block begins.  Nothing goes unnoticed among 2^23 blocks in a row: of VHDs,
    whose offsets are of 32 bits in sectors, all is known if its blocks have 256 KiB or more.  Safe
    in several threads at once.
    """

    start = 0

    def __init__(self, length: int, unit: int) -> None:
        self._length = length
        self._unit = unit
        self._reserved: list[tuple[int, int]] = []
        self._groups: dict[int, array[int]] = {}
        self._lock = Lock()

    def reserve(self, start: int, end: int) -> None:
        """Mark a range in which no block may be."""
        if start < end:
            self._reserved.append((start, end))

    def take(self, ranges: Sequence[tuple[int, int]]) -> Clash | None:
        """Mark ranges (start, end), each of whole blocks, as in use.

        Either all are marked, or none is: where one is in use already, by now or by an earlier one
        of the same call, that is returned.
        """
        with self._lock:
            for number, (start, end) in enumerate(ranges):
                clash = self._clash(start, end)
                if clash is not None:
                    for before in ranges[:number]:
                        self._put(*before, 0)
                    return Clash(number, clash)
                self._put(start, end, start % self._length // self._unit + 1)
        return None

    def _clash(self, start: int, end: int) -> int | None:
        """The first offset in a range that is in use."""
        found = [
            max(start, first) for first, last in self._reserved if first < end and start < last
        ]
        bucket, count = start // self._length, (end - start) // self._length
        mine = start % self._length // self._unit + 1
        if self._at(bucket - 1) > mine:  # a block that begins before reaches into it
            found.append(start)
        elif (hit := self._first(bucket, count)) is not None:
            found.append(max(start, self._begin(hit)))
        elif 0 < self._at(bucket + count) < mine:
            found.append(self._begin(bucket + count))
        return min(found, default=None)

    def _begin(self, bucket: int) -> int:
        """The offset of the block that begins in a bucket."""
        return bucket * self._length + (self._at(bucket) - 1) * self._unit

    def _at(self, bucket: int) -> int:
        group = self._groups.get(bucket // _BUCKETS)
        return 0 if group is None else group[bucket % _BUCKETS]

    def _first(self, bucket: int, count: int) -> int | None:
        """The first of `count` buckets in which a block begins."""
        for group, first, last in _within(bucket, count):
            numbers = self._groups.get(group)
            if numbers is not None and any(numbers[first:last]):
                return group * _BUCKETS + next(n for n in range(first, last) if numbers[n])
        return None

    def _put(self, start: int, end: int, value: int) -> None:
        for group, first, last in _within(start // self._length, (end - start) // self._length):
            if group not in self._groups and len(self._groups) < _MOST_GROUPS:
                self._groups[group] = array("I", bytes(4 * _BUCKETS))
            if group in self._groups:
                self._groups[group][first:last] = array("I", (value,)) * (last - first)


def _within(bucket: int, count: int) -> Iterator[tuple[int, int, int]]:
    """Groups, and from where up to where in each, that `count` buckets are."""
    while count > 0:
        group, first = divmod(bucket, _BUCKETS)
        last = min(_BUCKETS, first + count)
        yield group, first, last
        bucket += last - first
        count -= last - first


def block_occupancy(
    length: int, unit: int, reserved: Iterable[tuple[int, int]]
) -> Occupancy | BlockOccupancy:
    """What is in use of a file by blocks of `length` bytes; `reserved` are ranges without any."""
    if length // unit <= _FEW_UNITS:
        occupancy = Occupancy(0, unit)
        for place in reserved:
            occupancy.take([place])
        return occupancy
    blocks = BlockOccupancy(length, unit)
    for start, end in reserved:
        blocks.reserve(start, end)
    return blocks
