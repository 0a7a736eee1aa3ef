"""What composers rely on whose data comes in ascending order: the order, and a table that follows.

A table with an entry for each block of the disk would be 64 MiB for 16 TiB in blocks of 1 MiB.  As
later data cannot change the entries of earlier blocks, only the last few thousand are kept.
"""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING, Final, Literal

from vmport_formats.disk.composer import Write
from vmport_formats.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.composer import Data

_CODES: Final = {4: "I", 8: "Q"}
_KEPT: Final = 1 << 14
"""Entries."""
_BATCH: Final = MIB
"""Bytes of unused entries that one write has, about."""


class GrainOrder:
    """Takes whole grains of a disk in ascending order, and nothing else."""

    def __init__(self, size: int, grain: int) -> None:
        self._size = size
        self._grain = grain
        self._next = 0

    def take(self, offset: int, data: Data) -> memoryview:
        """A view of `data`, whose place on the disk is `offset`.

        Raises:
            ValueError: these are no whole grains, they do not come behind all that came before, or
                they lie behind the end of the disk.
        """
        view = memoryview(data)
        end = offset + len(view)
        if offset % self._grain or end % self._grain:
            raise ValueError(f"{offset} to {end} are no whole grains of {self._grain} bytes")
        if offset < self._next:
            raise ValueError(f"{offset} comes before {self._next}, where the last data ended")
        if end - self._grain >= self._size and view:
            raise ValueError(f"{end} is a grain or more behind the end of the disk, {self._size}")
        self._next = end
        return view

    def take_clipped(self, offset: int, data: Data) -> memoryview:
        """As `take`, without what fills up the last grain of the disk.

        Raises:
            ValueError: as `take`.
        """
        return self.take(offset, data)[: max(0, self._size - offset)]


class AscendingTable:
    """A table of numbers, filled in from its start to its end."""

    def __init__(
        self,
        at: int,
        entries: int,
        order: Literal["little", "big"],
        *,
        width: Literal[4, 8] = 4,
        unused: bytes = b"\xff\xff\xff\xff",
    ) -> None:
        """It has so many `entries` of `width` bytes and lies at host offset `at`.

        `unused` is what those hold that are not set: one or more, as they are in the file.  Of
        several, the first is that of the table's first entry, and they repeat.
        """
        self._at = at
        self._entries = entries
        self._width = width
        self._swapped = order != sys.byteorder
        self._unused = unused
        self._period = len(unused) // width
        self._first = 0
        self._kept = bytearray()  # the entries from `_first` on; all before have been written

    def put(self, index: int, count: int, value: int, step: int = 1) -> Iterator[Write]:
        """Sets `count` entries from `index` on: to `value`, and to as much as `step` more each.

        Those before `index` that were not set are unused.
        """
        yield from self._leave_unused(index)
        end = value + count * step
        while value < end:
            room = _KEPT - len(self._kept) // self._width
            part = array(_CODES[self._width], range(value, min(end, value + room * step), step))
            value += len(part) * step
            room -= len(part)
            if self._swapped:
                part.byteswap()
            self._kept += memoryview(part).cast("B")
            if not room:
                yield self._written()

    def finish(self) -> Iterator[Write]:
        """What is left of the table."""
        yield from self._leave_unused(self._entries)
        if self._kept:
            yield self._written()

    def _leave_unused(self, until: int) -> Iterator[Write]:
        held = len(self._kept) // self._width
        gap = until - self._first - held
        if gap < _KEPT - held:
            self._kept += self._stretch(self._first + held, gap)
            return
        if self._kept:
            yield self._written()
        # As each has whole periods, all but the last hold the same.
        most = max(1, _BATCH // len(self._unused)) * self._period
        batch = self._stretch(self._first, min(most, until - self._first))
        while self._first < until:
            count = min(most, until - self._first)
            yield Write(self._at + self._width * self._first, batch[: self._width * count])
            self._first += count

    def _stretch(self, first: int, count: int) -> memoryview:
        """`count` unused entries from `first` on."""
        skipped = first % self._period
        copies = -(-(skipped + count) // self._period)
        pattern = memoryview(self._unused * copies)  # a single one is not copied
        return pattern[self._width * skipped : self._width * (skipped + count)]

    def _written(self) -> Write:
        """A write of what is kept, which then is kept no more."""
        kept, at = self._kept, self._at + self._width * self._first
        self._first += len(kept) // self._width
        self._kept = bytearray()
        return Write(at, kept)
