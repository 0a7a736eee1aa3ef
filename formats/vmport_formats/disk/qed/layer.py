"""QED content: L1 table, L2 tables, clusters.

Source: qemu's ``docs/interop/qed_spec.rst``, "Tables", "Consistency checking": each cluster is
referenced once and only once.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from vmport_formats.disk.block_layer import BlockLayer
from vmport_formats.disk.layer import Found, Run
from vmport_formats.disk.occupancy import Occupancy
from vmport_formats.disk.qed.info import read_header, read_info
from vmport_formats.disk.tables import EntryKind, FlatTable, TableReader, TwoLevelTable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.layer import Opener
    from vmport_formats.disk.tables import Stretch
    from vmport_formats.source import ByteSource

_ABSENT: Final = 0
_ZERO: Final = 1
_MARKS: Final = {_ABSENT: Found.ABSENT, _ZERO: Found.ZERO}


def open_layer(source: ByteSource, opener: Opener) -> BlockLayer:
    """The content of a QED image.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: as `info.read_info`.
    """
    header = read_header(source)
    info = read_info(source)
    cluster, table = header.cluster_size, header.table_size * header.cluster_size
    occupancy = Occupancy(header.header_size * cluster, cluster)
    l1 = header.l1_table_offset
    occupancy.take([(l1, l1 + table)])
    place = partial(_place, cluster=cluster)
    upper = EntryKind(
        "L1 table entry",
        code="qed.l1-entry",
        width=8,
        order="little",
        marks=frozenset({_ABSENT}),
        step=table,
        place=partial(place, length=table),
    )
    lower = EntryKind(
        "L2 table entry",
        code="qed.l2-entry",
        width=8,
        order="little",
        marks=frozenset(_MARKS),
        step=cluster,
        place=partial(place, length=cluster),
    )
    tables = TwoLevelTable(
        FlatTable(TableReader(source, upper, occupancy), l1, table // 8),
        TableReader(source, lower, occupancy),
        lower_size=table // 8,
        lower_step=table,
    )

    def found(stretch: Stretch) -> Iterator[Run]:
        length = stretch.entries * cluster
        if stretch.value in _MARKS:
            yield Run(length, _MARKS[stretch.value])
        else:
            yield Run(length, Found.STORED, source, stretch.value)

    return BlockLayer(info, cluster, tables, found)


def _place(value: int, *, cluster: int, length: int) -> tuple[int, int, bool]:
    if value % cluster:
        raise ValueError(
            f"points to {value:#x}; must be a multiple of the cluster size of {cluster}"
        )
    return value, length, True
