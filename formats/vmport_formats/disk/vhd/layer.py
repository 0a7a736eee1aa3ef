"""VHD content: blocks, each behind a bitmap of its sectors, placed by a block table.

Source: Microsoft's VHD specification 1.0, "Block Allocation Table and Data Blocks", "Mapping a Disk
Sector to a Sector in the Block", "Implementing a Differencing Hard Disk".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.disk.bitmaps import bit_runs_at, stored_runs
from vmport_formats.disk.layer import Found, Run, cut, joined
from vmport_formats.disk.occupancy import block_occupancy
from vmport_formats.disk.tables import EntryKind, FlatTable, TableReader
from vmport_formats.disk.vhd.info import read_vhd
from vmport_formats.disk.vhd.layout import FOOTER_LENGTH, HEADER_LENGTH, UNUSED_ENTRY
from vmport_formats.disk.vhd.parent import check_parent
from vmport_formats.units import SECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.layer import Layer, Opener
    from vmport_formats.disk.model import Concern, ImageInfo
    from vmport_formats.disk.vhd.info import Dynamic, Vhd
    from vmport_formats.source import ByteSource

_ENTRY: Final = 4  # bytes


class FixedLayer:
    """A fixed disk: its bytes, in front of the footer.  A `layer.Layer`."""

    def __init__(self, source: ByteSource, info: ImageInfo) -> None:
        self.info = info
        self.size = int(info.virtual_size)
        self._source = source

    def runs(self, offset: int, length: int) -> Iterator[Run]:
        """See `layer.Layer.runs`."""
        yield Run(length, Found.STORED, self._source, offset)


class DynamicLayer:
    """A dynamic disk.  A `layer.Layer`.

    Its bitmaps are not looked at: they tell which sectors were written to, and all others of a
    block that is there must be stored as zeros.
    """

    def __init__(self, source: ByteSource, vhd: Vhd, dynamic: Dynamic) -> None:
        self.info = vhd.info
        self.size = int(vhd.info.virtual_size)
        self._source = source
        self._block_size = dynamic.header.block_size
        self._bitmap_size = dynamic.bitmap_size
        self._stride = self._bitmap_size + self._block_size
        self._table = self._open_table(vhd, dynamic)

    def _open_table(self, vhd: Vhd, dynamic: Dynamic) -> FlatTable:
        kind = EntryKind(
            "block table entry",
            code="vhd.block-table-entry",
            width=4,
            order="big",
            marks=frozenset({UNUSED_ENTRY}),
            step=self._stride // SECTOR,
            place=lambda sector: (sector * SECTOR, self._stride, True),
        )
        end = self._source.size  # where no block is either
        taken = ((start, min(stop, end)) for start, stop in _taken(vhd, dynamic) if start < end)
        occupancy = block_occupancy(self._stride, SECTOR, taken)
        reader = TableReader(self._source, kind, occupancy)
        return FlatTable(reader, dynamic.header.table_offset, dynamic.header.max_table_entries)

    def runs(self, offset: int, length: int) -> Iterator[Run]:
        """See `layer.Layer.runs`."""
        return joined(self._runs(offset, offset + length))

    def _runs(self, offset: int, end: int) -> Iterator[Run]:
        size = self._block_size
        for first, entries, sector in self._table.stretches(offset // size, -(-end // size)):
            start = first * size
            stop = min(end, start + entries * size)
            if sector == UNUSED_ENTRY:
                yield Run(stop - offset, Found.ABSENT)
                offset = stop
            while offset < stop:
                number, inside = divmod(offset - start, size)
                length = min(size - inside, stop - offset)
                yield from self._block(sector * SECTOR + number * self._stride, inside, length)
                offset += length

    def _block(self, at: int, offset: int, length: int) -> Iterator[Run]:
        """A range of the block at `at`."""
        yield Run(length, Found.STORED, self._source, at + self._bitmap_size + offset)


class DifferencingLayer(DynamicLayer):
    """A differencing disk: what its bitmaps do not have is its parent's.  A `layer.Child` too."""

    def __init__(self, source: ByteSource, vhd: Vhd, dynamic: Dynamic) -> None:
        super().__init__(source, vhd, dynamic)
        self.parents = vhd.info.references
        self._dynamic = dynamic

    def _block(self, at: int, offset: int, length: int) -> Iterator[Run]:
        first, last = offset // SECTOR, -(-(offset + length) // SECTOR)
        bits = bit_runs_at(self._source, at, first, last, first="msb")
        start = first * SECTOR
        runs = stored_runs(self._source, at + self._bitmap_size + start, bits, sector=SECTOR)
        return cut(runs, start, offset, offset + length)

    def check_parent(self, parent: ImageInfo, source: ByteSource) -> tuple[Concern, ...]:
        """See `layer.Child.check_parent`."""
        return check_parent(self._source.name, self._dynamic, parent, source)


def open_layer(source: ByteSource, opener: Opener) -> Layer:
    """The content of a VHD.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: as `info.read_info`.
    """
    vhd = read_vhd(source)
    if vhd.dynamic is None:
        return FixedLayer(source, vhd.info)
    kind = DifferencingLayer if vhd.info.references else DynamicLayer
    return kind(source, vhd, vhd.dynamic)


def _taken(vhd: Vhd, dynamic: Dynamic) -> Iterator[tuple[int, int]]:
    """What of the file is no block, as pairs of a start and an end."""
    yield 0, FOOTER_LENGTH
    yield dynamic.at, dynamic.at + HEADER_LENGTH
    table = dynamic.header.table_offset
    yield table, table + _ENTRY * dynamic.header.max_table_entries
    for locator in dynamic.locators:
        if any(locator.platform_code) and locator.data_length:
            yield locator.data_offset, locator.data_offset + locator.data_length
    yield vhd.footer.at, vhd.footer.at + vhd.footer.length
