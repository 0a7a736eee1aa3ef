"""Which parts of an image file are in use: nothing may lie where something else lies already."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_SEGMENT: Final = 1 << 11
"""Units that one number keeps, a bit for each."""
_MOST_SEGMENTS: Final = 1 << 16
"""Some 30 MiB for 2^27 units, which is 8 TiB of 64 KiB clusters, or 128 TiB of 1 MiB blocks."""


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
