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

_ENTRY: Final = 4
_UNUSED: Final = b"\xff" * _ENTRY
_KEPT: Final = 1 << 14
"""Entries."""
_BATCH: Final = MIB // _ENTRY
"""Unused entries that one write has."""


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
    """A table of 32-bit entries, filled in from its start to its end; all ones where unused."""

    def __init__(self, at: int, entries: int, order: Literal["little", "big"]) -> None:
        """It has so many `entries` and lies at host offset `at`."""
        self._at = at
        self._entries = entries
        self._swapped = order != sys.byteorder
        self._first = 0
        self._kept = array("I")  # the entries from `_first` on; all before have been written

    def put(self, index: int, count: int, value: int) -> Iterator[Write]:
        """Sets `count` entries from `index` on, to `value` and the numbers that follow it.

        Those before `index` that were not set are unused.
        """
        yield from self._leave_unused(index)
        end = value + count
        while value < end:
            part = range(value, min(end, value + _KEPT - len(self._kept)))
            self._kept.extend(part)
            value = part.stop
            if len(self._kept) == _KEPT:
                yield self._written()

    def finish(self) -> Iterator[Write]:
        """What is left of the table."""
        yield from self._leave_unused(self._entries)
        if self._kept:
            yield self._written()

    def _leave_unused(self, until: int) -> Iterator[Write]:
        gap = until - self._first - len(self._kept)
        if gap < _KEPT - len(self._kept):
            self._kept.frombytes(_UNUSED * gap)
            return
        if self._kept:
            yield self._written()
        batch = memoryview(_UNUSED * min(_BATCH, until - self._first))
        while self._first < until:
            count = min(_BATCH, until - self._first)
            yield Write(self._at + _ENTRY * self._first, batch[: _ENTRY * count])
            self._first += count

    def _written(self) -> Write:
        """A write of what is kept, which then is kept no more."""
        kept, at = self._kept, self._at + _ENTRY * self._first
        self._first += len(kept)
        self._kept = array("I")
        if self._swapped:
            kept.byteswap()
        return Write(at, kept.tobytes())
