"""Checks a QED image: each cluster is referenced once and only once.

Source: qemu's ``docs/interop/qed_spec.rst``, "Consistency checking".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.disk.check import Statistics
from vmport_formats.disk.placements import Beyond, Kind, Placements, entries
from vmport_formats.disk.qed.info import read_header

if TYPE_CHECKING:
    from vmport_formats.disk.check import Faults
    from vmport_formats.disk.layer import Opener
    from vmport_formats.source import ByteSource

_ENTRY: Final = 8


def check(source: ByteSource, opener: Opener, faults: Faults, *, deep: bool) -> Statistics:
    """See `disk.check.Checker`.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: as `info.read_header`.
    """
    header = read_header(source)
    cluster = header.cluster_size
    table = header.table_size * cluster
    begin = header.header_size * cluster
    found = Placements(source, faults)
    found.reserve(0, begin, "the header")
    found.reserve(header.l1_table_offset, table, "the L1 table")
    upper = Kind("L1 table entry", "qed.l1-entry", _ENTRY, table)
    lower = Kind("L2 table entry", "qed.l2-entry", _ENTRY, cluster)
    seen: set[int] = set()
    beyond = Beyond(source.size, faults)
    tables = entries(
        source,
        header.l1_table_offset,
        table // _ENTRY,
        width=8,
        order="little",
        marks={0},
        step=0,
        beyond=beyond,
    )
    for first, _, at in tables:
        faults.done(first * _ENTRY / table)
        place = header.l1_table_offset + _ENTRY * first
        if at % cluster:
            faults.error(upper.code, place, _unaligned(upper, at, cluster))
        elif found.place(upper, place, at, block=False) and at not in seen:
            seen.add(at)
            clusters = entries(
                source,
                at,
                table // _ENTRY,
                width=8,
                order="little",
                marks={0, 1},
                step=cluster,
                beyond=beyond,
            )
            for number, count, value in clusters:
                place = at + _ENTRY * number
                if value % cluster:
                    faults.error(lower.code, place, _unaligned(lower, value, cluster), count)
                else:
                    found.place(lower, place, value, count)
    found.check_overlaps()
    found.check_gaps(begin, source.size // cluster * cluster, cluster, "qed.leak", "cluster")
    return Statistics(
        total=-(-header.image_size // cluster),
        allocated=found.blocks,
        fragmented=found.fragmented,
        image_end=found.end,
    )


def _unaligned(kind: Kind, at: int, cluster: int) -> str:
    return f"this {kind.name} points to {at:#x}; must be a multiple of {cluster}"
