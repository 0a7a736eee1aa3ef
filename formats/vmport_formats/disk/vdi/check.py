"""Checks a VDI: its block map, and the number of blocks that its header states.

Source: VirtualBox's ``VDICore.h``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.disk.check import Statistics
from vmport_formats.disk.placements import Beyond, Kind, Placements, entries
from vmport_formats.disk.vdi.info import read_layout

if TYPE_CHECKING:
    from vmport_formats.disk.check import Faults
    from vmport_formats.disk.layer import Opener
    from vmport_formats.source import ByteSource

_MARKS: Final = frozenset({0xFFFF_FFFF, 0xFFFF_FFFE})
_ENTRY: Final = 4


def check(source: ByteSource, opener: Opener, faults: Faults, *, deep: bool) -> Statistics:
    """See `disk.check.Checker`.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: as `info.read_layout`.
    """
    layout = read_layout(source, whole=False)
    header = layout.header
    table, stride = header.blocks_offset, layout.stride
    kind = Kind("block map entry", "vdi.block-map-entry", _ENTRY, stride)
    found = Placements(source, faults)
    found.reserve(0, header.data_offset, "the header or the block map")
    in_use = 0
    stretches = entries(
        source,
        table,
        header.blocks,
        width=4,
        order="little",
        marks=_MARKS,
        step=1,
        beyond=Beyond(header.blocks, faults),
    )
    for first, count, value in stretches:
        faults.done((first + count) / header.blocks)
        place = table + _ENTRY * first
        inside = min(count, max(0, header.blocks - value))
        if inside < count:
            text = (
                f"this block map entry is for block {value + inside} of the file, which can have "
                f"{header.blocks}"
            )
            faults.error(kind.code, place + _ENTRY * inside, text, count - inside)
        if inside:
            found.place(kind, place, header.data_offset + value * stride, inside)
            in_use += inside
    found.check_overlaps()
    if in_use != header.blocks_allocated:
        text = f"{header.blocks_allocated} blocks are allocated, says the header; {in_use} are"
        faults.error("vdi.blocks-allocated", layout.at("blocks_allocated"), text)
    return Statistics(
        total=header.blocks,
        allocated=found.blocks,
        fragmented=found.fragmented,
        image_end=found.end,
    )
