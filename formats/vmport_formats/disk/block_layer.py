"""The content of an image whose disk lies in blocks of one size, each placed by a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmport_formats.disk.layer import cut, joined

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vmport_formats.disk.layer import Run
    from vmport_formats.disk.model import ImageInfo
    from vmport_formats.disk.tables import EntryTable, Stretch


class BlockLayer:
    """A `layer.Layer`."""

    def __init__(
        self,
        info: ImageInfo,
        block_size: int,
        table: EntryTable,
        found: Callable[[Stretch], Iterator[Run]],
    ) -> None:
        """`found` says where the blocks of a stretch are, in runs that cover just these."""
        self.info = info
        self.size = int(info.virtual_size)
        self._block_size = block_size
        self._table = table
        self._found = found

    def runs(self, offset: int, length: int) -> Iterator[Run]:
        """See `layer.Layer.runs`."""
        first = offset // self._block_size
        end = offset + length
        stretches = self._table.stretches(first, -(-end // self._block_size))
        runs = (run for stretch in stretches for run in self._found(stretch))
        return joined(cut(runs, first * self._block_size, offset, end))
