"""A file as it will be once changes are made to it that are known, but not made."""

from __future__ import annotations

from bisect import bisect_right
from heapq import heappop, heappush
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vmport_formats.source import ByteSource


class Patch(NamedTuple):
    """One change of a file."""

    file_offset: int
    length: int
    data: bytes | None
    """None: zeros."""

    @property
    def end(self) -> int:
        """The first offset behind it."""
        return self.file_offset + self.length


class Part(NamedTuple):
    """A stretch of a patched file that lies wholly in one patch, or in none."""

    start: int
    end: int
    patch: Patch | None


class PatchedSource:
    """A `source.ByteSource`: another one, with patches laid over it."""

    __slots__ = ("_parts", "_starts", "base", "name", "size")

    def __init__(self, base: ByteSource, patches: Sequence[Patch], size: int) -> None:
        """Later patches lie over earlier ones; what is in neither, up to `size`, is zeros."""
        self.base = base
        """The file as it is."""
        self.name = base.name
        self.size = size
        self._parts = list(_uppermost(patches))
        self._starts = [part.start for part in self._parts]

    def parts(self, offset: int, end: int) -> Iterator[Part]:
        """The stretches of a range, in order, without gaps."""
        number = max(0, bisect_right(self._starts, offset) - 1)
        while offset < end:
            part = self._parts[number] if number < len(self._parts) else None
            if part is not None and part.end <= offset:
                number += 1
            elif part is not None and part.start <= offset:
                stop = min(part.end, end)
                yield Part(offset, stop, part.patch)
                offset = stop
            else:
                stop = end if part is None else min(part.start, end)
                yield Part(offset, stop, None)
                offset = stop

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer only at the end."""
        if offset < 0 or length <= 0 or offset >= self.size:
            return b""
        data = bytearray(min(length, self.size - offset))
        self.read_into(offset, memoryview(data))
        return bytes(data)

    def read_into(self, offset: int, target: memoryview) -> int:
        """Fill `target` from `offset`; fewer bytes than it holds only at the end."""
        wanted = max(0, min(len(target), self.size - offset)) if offset >= 0 else 0
        for start, end, patch in self.parts(offset, offset + wanted):
            piece = target[start - offset : end - offset]
            done = 0
            if patch is None:
                done = self.base.read_into(start, piece)
            elif patch.data is not None:
                done = len(piece)
                piece[:] = patch.data[start - patch.file_offset : end - patch.file_offset]
            piece[done:] = bytes(len(piece) - done)
        return wanted

    def data_ranges(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """The parts (start, end) of a range that may hold other bytes than zeros, in order."""
        for start, end, patch in self.parts(offset, min(offset + length, self.size)):
            if patch is None:
                yield from self.base.data_ranges(start, end - start)
            elif patch.data is not None:
                yield start, end


def _uppermost(patches: Sequence[Patch]) -> Iterator[Part]:
    """What can be seen of patches that lie over each other, in the order of the file."""
    coming = sorted(range(len(patches)), key=lambda number: patches[number].file_offset)
    coming.reverse()
    edges = sorted({edge for patch in patches for edge in (patch.file_offset, patch.end)})
    here: list[int] = []  # a heap of those that have begun, the latest on top
    last: Part | None = None
    for start, end in pairwise(edges):
        while coming and patches[coming[-1]].file_offset <= start:
            heappush(here, -coming.pop())
        while here and patches[-here[0]].end <= start:
            heappop(here)
        patch = patches[-here[0]] if here else None
        if last is not None and last.patch is patch:
            last = last._replace(end=end)
            continue
        if last is not None and last.patch is not None:
            yield last
        last = Part(start, end, patch)
    if last is not None and last.patch is not None:
        yield last
