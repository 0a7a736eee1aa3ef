"""One map for every format: which bytes of the virtual disk lie where."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class ExtentKind(StrEnum):
    """How the bytes of an extent are found."""

    DATA = "data"
    """Stored as they are, or encrypted, in `Extent.host_file`."""
    COMPRESSED = "compressed"
    """Stored compressed; there is no host offset for a single byte."""
    ZERO = "zero"
    """An image of the chain, or a hole of its file, states that they are zeros."""
    HOLE = "hole"
    """No image of the chain holds them; they read as zeros."""

    @property
    def reads_zero(self) -> bool:
        """Whether every byte is known to be zero without looking."""
        return self in (ExtentKind.ZERO, ExtentKind.HOLE)


@dataclass(frozen=True, slots=True)
class Extent:
    """A stretch of the virtual disk whose bytes are all found the same way."""

    offset: int
    """On the virtual disk, in bytes."""
    length: int
    """In bytes, at least 1."""
    kind: ExtentKind
    depth: int
    """Which image of the chain decides: 0 is the one that was opened, 1 its backing file."""
    host_file: str | None = None
    host_offset: int | None = None
    """Of the first byte in `host_file`; None for what is compressed, encrypted, in a log or has no
    place.  Zeros have one where the file has a hole, or room for data to come."""

    @property
    def end(self) -> int:
        """The first offset behind it."""
        return self.offset + self.length


def merge(extents: Iterable[Extent]) -> Iterator[Extent]:
    """The same map in as few extents as possible."""
    last: Extent | None = None
    length = 0
    for extent in extents:
        if last is not None and _continues(last, length, extent):
            length += extent.length
        else:
            if last is not None:
                yield replace(last, length=length)
            last, length = extent, extent.length
    if last is not None:
        yield replace(last, length=length)


def _continues(first: Extent, length: int, second: Extent) -> bool:
    """Whether `second` goes on with what `first` is, for `length` bytes so far."""
    if (first.kind, first.depth, first.host_file) != (second.kind, second.depth, second.host_file):
        return False
    if first.host_offset is None or second.host_offset is None:
        return first.host_offset is second.host_offset
    return first.host_offset + length == second.host_offset
