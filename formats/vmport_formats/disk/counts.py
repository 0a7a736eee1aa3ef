"""How often each cluster of an image file is used: a byte a cluster, more only where it must be."""

from __future__ import annotations

from array import array
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    Numbers = bytes | bytearray | array[int]

_SEGMENT: Final = 4096
"""Clusters that are kept together."""
_MOST_SEGMENTS: Final = 1 << 16
"""256 MiB, for 2^28 clusters in a row: 16 TiB of 64 KiB each."""
_BYTE: Final = 255


class TooMany(Exception):
    """There are more clusters in use than can be counted."""


class Counts:
    """Counters for clusters 0, 1, ...; all begin at 0."""

    def __init__(self) -> None:
        self._segments: dict[int, bytearray | array[int]] = {}

    def add(self, first: int, last: int, times: int = 1) -> None:
        """Count clusters from `first` up to, but without, `last`.

        Raises:
            TooMany: they are too many, or too far apart.
        """
        while first < last:
            number, start = divmod(first, _SEGMENT)
            stop = min(_SEGMENT, start + last - first)
            segment = self._segments.get(number)
            if segment is None:
                if len(self._segments) >= _MOST_SEGMENTS:
                    raise TooMany
                segment = self._segments[number] = bytearray(_SEGMENT)
            if isinstance(segment, bytearray):
                part = segment[start:stop]
                if max(part) + times <= _BYTE:
                    segment[start:stop] = part.translate(_plus(times))
                    first += stop - start
                    continue
                segment = self._segments[number] = array("Q", iter(segment))
            for index in range(start, stop):
                segment[index] += times
            first += stop - start

    def of(self, first: int, last: int) -> Numbers:
        """The counters from `first` up to `last`, as bytes where all of them fit."""
        parts = []
        while first < last:
            number, start = divmod(first, _SEGMENT)
            stop = min(_SEGMENT, start + last - first)
            segment = self._segments.get(number)
            parts.append(bytes(stop - start) if segment is None else segment[start:stop])
            first += stop - start
        if all(not isinstance(part, array) for part in parts):
            return b"".join(parts)
        whole = array("Q")
        for part in parts:
            whole.extend(part)
        return whole

    def __getitem__(self, cluster: int) -> int:
        number, index = divmod(cluster, _SEGMENT)
        segment = self._segments.get(number)
        return 0 if segment is None else segment[index]

    def used(self) -> Iterator[tuple[int, int]]:
        """Ranges outside of which nothing was counted, in order."""
        for number in sorted(self._segments):
            yield number * _SEGMENT, (number + 1) * _SEGMENT


@cache
def _plus(times: int) -> bytes:
    return bytes(min(_BYTE, value + times) for value in range(256))
