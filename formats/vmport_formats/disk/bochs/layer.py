"""Bochs content: extents, placed by a catalog; each has a bitmap of the sectors that it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.disk.bitmaps import bit_runs
from vmport_formats.disk.block_layer import BlockLayer
from vmport_formats.disk.bochs.info import read_header, read_info
from vmport_formats.disk.layer import Found, Run
from vmport_formats.disk.occupancy import Occupancy
from vmport_formats.disk.tables import EntryKind, FlatTable, TableReader
from vmport_formats.units import SECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.layer import Opener
    from vmport_formats.disk.tables import Stretch
    from vmport_formats.source import ByteSource

_ABSENT: Final = 0xFFFF_FFFF


def open_layer(source: ByteSource, opener: Opener) -> BlockLayer:
    """The content of a Bochs image of the kind "Growing".

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: as `info.read_info`.
    """
    header, _ = read_header(source)
    info = read_info(source)
    extent = header.extent_length
    bitmap = -(-header.bitmap_length // SECTOR) * SECTOR
    data = header.header_length + 4 * header.catalog_entries
    kind = EntryKind(
        "catalog entry",
        code="bochs.catalog",
        width=4,
        order="little",
        marks=frozenset({_ABSENT}),
        step=1,
        place=lambda value: (data + value * (bitmap + extent), bitmap + extent, True),
    )
    reader = TableReader(source, kind, Occupancy(data, bitmap + extent))

    def found(stretch: Stretch) -> Iterator[Run]:
        if stretch.value == _ABSENT:
            yield Run(stretch.entries * extent, Found.ABSENT)
            return
        for number in range(stretch.entries):
            at = data + (stretch.value + number) * (bitmap + extent)
            stored = source.read_at(at, -(-extent // SECTOR // 8))
            at += bitmap
            for is_there, sectors in bit_runs(stored, extent // SECTOR, first="lsb"):
                length = sectors * SECTOR
                yield (
                    Run(length, Found.STORED, source, at) if is_there else Run(length, Found.ABSENT)
                )
                at += length

    table = FlatTable(reader, header.header_length, header.catalog_entries)
    return BlockLayer(info, extent, table, found)
