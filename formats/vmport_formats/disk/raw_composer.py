"""Composes a raw image: each byte of the disk is where it is on the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.disk.ascending import GrainOrder
from vmport_formats.disk.composer import Write, zeros_to_write

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.composer import Data

GRAIN: Final = 1 << 16


class RawComposer:
    """A `composer.Composer`; the file is as long as the disk, to the byte."""

    pack = None

    def __init__(self, size: int, *, grain: int = GRAIN, full: bool = False) -> None:
        """`size` is that of the disk in bytes; grains of zeros become holes, so small ones save.

        `full`: they do not; zeros are written.

        Raises:
            ValueError: the size is negative, or the grain no power of two.
        """
        if size < 0:
            raise ValueError(f"a disk cannot have {size} bytes")
        if grain < 1 or grain & (grain - 1):
            raise ValueError(f"a grain of {grain} bytes is no power of two")
        self.grain = grain
        self.virtual_size = self.length = size
        self._order = GrainOrder(size, grain)
        self._full = full
        self._written = 0

    def begin(self) -> Iterator[Write]:
        """See `composer.Composer`."""
        yield from ()

    def add(self, offset: int, data: Data) -> Iterator[Write]:
        """See `composer.Composer`."""
        view = self._order.take_clipped(offset, data)
        if view:
            yield from self._fill(offset)
            self._written = offset + len(view)
            yield Write(offset, view)

    def add_packed(self, offset: int, packed: bytes) -> Iterator[Write]:
        """Not possible.

        Raises:
            ValueError: always.
        """
        raise ValueError("a raw image is not compressed")

    def finish(self) -> Iterator[Write]:
        """See `composer.Composer`."""
        yield from self._fill(self.length)

    def _fill(self, offset: int) -> Iterator[Write]:
        if self._full:
            yield from zeros_to_write(self._written, offset)
