"""Clusters that an L1 or L2 entry says to be the only one to use, and where two say so of one.

That is what the flag COPIED means.  Tables are looked at in parts, as they are read, so of two
entries that contradict each other the one that is met second is found out.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Final

from vmport_formats.disk.numbers import reach
from vmport_formats.disk.occupancy import Occupancy
from vmport_formats.disk.qcow2.entries import COMPRESSED, COPIED, OFFSET

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterator, Sequence

    from vmport_formats.disk.qcow2.entries import Taken

_AT_MOST: Final = 1 << 20
"""Contradictions that are remembered."""


class Claims:
    """What was claimed in one file so far; safe in several threads at once."""

    def __init__(self, cluster_size: int, file_size: int, taken: Sequence[Taken]) -> None:
        """`taken` is in use from the start."""
        self._size = cluster_size
        self._end = file_size
        self._used = Occupancy(0, cluster_size)
        for item in taken:
            self._used.take([(item.start, item.end)])
        self._noted: set[int] = set()
        self._contradictions: set[int] = set()
        self._lock = Lock()

    def note(self, entries: array[int], where: int, width: int) -> None:
        """Take what `entries` claim; they lie at offset `where`, `width` bytes apart."""
        with self._lock:
            if where in self._noted:
                return
            self._noted.add(where)
            claimed = list(self._claimed(entries))
            ranges = [(at, at + count * self._size) for _, count, at in claimed]
            if self._used.take(ranges) is None:
                return
            for index, count, at in claimed:
                for number in range(count):
                    start = at + number * self._size
                    clash = self._used.take([(start, start + self._size)])
                    if clash is not None and len(self._contradictions) < _AT_MOST:
                        self._contradictions.add(where + width * (index + number))

    def contradicted(self, where: int, width: int, count: int) -> int | None:
        """Which of `count` entries from offset `where` on claims what is not its own."""
        if not self._contradictions:
            return None
        places = range(where, where + width * count, width)
        return next((i for i, place in enumerate(places) if place in self._contradictions), None)

    def _claimed(self, entries: array[int]) -> Iterator[tuple[int, int, int]]:
        """Index, number and first offset of entries that claim clusters in a row.

        What breaks a rule by itself is left out: it is found out when it is needed.
        """
        index = 0
        while index < len(entries):
            entry = entries[index]
            at = entry & OFFSET
            count = 1
            if not entry:
                count = reach(entries, index, len(entries), 0)
            elif entry & COPIED and not entry & COMPRESSED and at and not at % self._size:
                count = reach(entries, index, len(entries), self._size)
                inside = min(count, -(-(self._end - at) // self._size))
                if inside > 0:
                    yield index, inside, at
            index += count
