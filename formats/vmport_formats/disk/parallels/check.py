"""Checks a Parallels image: where its block table places clusters.

Source: qemu's ``docs/interop/parallels.rst``, "BAT".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.disk.check import Statistics
from vmport_formats.disk.parallels.info import BAT, read_header
from vmport_formats.disk.placements import Beyond, Kind, Placements, entries
from vmport_formats.units import SECTOR

if TYPE_CHECKING:
    from vmport_formats.disk.check import Faults
    from vmport_formats.disk.layer import Opener
    from vmport_formats.source import ByteSource

_ENTRY: Final = 4


def check(source: ByteSource, opener: Opener, faults: Faults, *, deep: bool) -> Statistics:
    """See `disk.check.Checker`.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: as `info.read_header`.
    """
    header = read_header(source)
    cluster, unit = header.cluster_size, header.unit
    data = header.data_offset * SECTOR or BAT + _ENTRY * header.bat_entries
    data = -(-data // unit) * unit
    kind = Kind("block table entry", "parallels.block-table", _ENTRY, cluster)
    found = Placements(source, faults)
    found.reserve(0, data, "the header or the block table")
    if extension := header.extension_offset * SECTOR:
        found.reserve(extension, cluster, "the format extension")

    def misplaced(entry: int) -> bool:
        return entry * unit > data and (entry * unit - data) % cluster > 0

    stretches = entries(
        source,
        BAT,
        header.bat_entries,
        width=4,
        order="little",
        marks={0},
        step=cluster // unit,
        beyond=Beyond(max(1, -(-source.size // unit)), faults, more=misplaced),
    )
    for first, count, value in stretches:
        faults.done((first + count) / header.bat_entries)
        place, at = BAT + _ENTRY * first, value * unit
        if misplaced(value):
            text = (
                f"this block table entry points to {at:#x}; must be a multiple of the cluster size "
                f"of {cluster} behind the start of the data at {data:#x}"
            )
            faults.error(kind.code, place, text, count)
        found.place(kind, place, at, count)
    found.check_overlaps()
    found.check_gaps(
        data, -(-source.size // cluster) * cluster, cluster, "parallels.leak", "cluster"
    )
    return Statistics(
        total=header.bat_entries,
        allocated=found.blocks,
        fragmented=found.fragmented,
        image_end=found.end,
    )
