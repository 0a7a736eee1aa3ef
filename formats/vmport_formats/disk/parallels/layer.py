"""Parallels content: clusters, placed by a block table.

Source: qemu's ``docs/interop/parallels.rst``, "BAT", which has the rules that an entry must keep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.disk.block_layer import BlockLayer
from vmport_formats.disk.layer import Found, Run
from vmport_formats.disk.occupancy import Occupancy
from vmport_formats.disk.parallels.info import BAT, read_header, read_info
from vmport_formats.disk.tables import EntryKind, FlatTable, TableReader
from vmport_formats.units import SECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.layer import Opener
    from vmport_formats.disk.tables import Stretch
    from vmport_formats.source import ByteSource

_ABSENT: Final = 0


def open_layer(source: ByteSource, opener: Opener) -> BlockLayer:
    """The content of a Parallels image.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: as `info.read_info`.
    """
    header = read_header(source)
    info = read_info(source)
    cluster, unit = header.cluster_size, header.unit
    data = header.data_offset * SECTOR or BAT + 4 * header.bat_entries
    data = -(-data // unit) * unit

    def place(value: int) -> tuple[int, int, bool]:
        at = value * unit
        if (at - data) % cluster and at > data:
            raise ValueError(
                f"points to {at:#x}; must be a multiple of the cluster size of {cluster} behind "
                f"the start of the data at {data:#x}"
            )
        return at, cluster, True

    kind = EntryKind(
        "block table entry",
        code="parallels.block-table",
        width=4,
        order="little",
        marks=frozenset({_ABSENT}),
        step=cluster // unit,
        place=place,
    )
    occupancy = Occupancy(data, cluster)
    if (extension := header.extension_offset * SECTOR) >= data:
        occupancy.take([(extension, extension + cluster)])
    reader = TableReader(source, kind, occupancy)

    def found(stretch: Stretch) -> Iterator[Run]:
        length = stretch.entries * cluster
        if stretch.value == _ABSENT:
            yield Run(length, Found.ABSENT)
        else:
            yield Run(length, Found.STORED, source, stretch.value * unit)

    return BlockLayer(info, cluster, FlatTable(reader, BAT, header.bat_entries), found)
