"""Checks a VHD: its footer and the copy of it, and where its block table places blocks.

Source: Microsoft's VHD specification 1.0, "Hard Disk Footer Format", "Block Allocation Table and
Data Blocks".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.disk.check import Statistics
from vmport_formats.disk.placements import Beyond, Kind, Placements, entries
from vmport_formats.disk.vhd.footers import find_back, find_front
from vmport_formats.disk.vhd.info import read_vhd
from vmport_formats.disk.vhd.layout import (
    FOOTER_LENGTH,
    HEADER_LENGTH,
    UNUSED_ENTRY,
    footer_checksum,
    unpack_footer,
)
from vmport_formats.units import SECTOR

if TYPE_CHECKING:
    from vmport_formats.disk.check import Faults
    from vmport_formats.disk.layer import Opener
    from vmport_formats.disk.vhd.footers import FoundFooter
    from vmport_formats.source import ByteSource

_ENTRY: Final = 4
_LOCATORS: Final = 576
"""Where they are in the header, each of so many bytes:"""
_LOCATOR: Final = 24
_CHECKSUM: Final = 64
"""Where it is in a footer."""


def check(source: ByteSource, opener: Opener, faults: Faults, *, deep: bool) -> Statistics:
    """See `disk.check.Checker`.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: as `info.read_info`.
    """
    vhd = read_vhd(source, whole=False)
    front, back = find_front(source), find_back(source)
    _check_sum("the footer", back, faults)
    if vhd.dynamic is None:
        return Statistics()
    _check_sum("the copy of the footer", front, faults)
    _check_pair(source, front, back, faults)
    dynamic, header = vhd.dynamic, vhd.dynamic.header
    found = Placements(source, faults)
    found.reserve(0, FOOTER_LENGTH, "the copy of the footer")
    found.reserve(dynamic.at, HEADER_LENGTH, "the header")
    found.reserve(header.table_offset, _ENTRY * header.max_table_entries, "the block table")
    for number, locator in enumerate(dynamic.locators):
        if any(locator.platform_code):
            if locator.data_offset + locator.data_length > source.size:
                faults.error(
                    "vhd.parent-locator",
                    dynamic.at + _LOCATORS + _LOCATOR * number,
                    f"a name of the parent lies at {locator.data_offset:#x}, {locator.data_length} "
                    f"bytes long, but the file ends at {source.size:#x}",
                )
            found.reserve(locator.data_offset, locator.data_length, "a name of the parent")
    if back is not None:
        found.reserve(back.at, back.length, "the footer")
    stride = dynamic.bitmap_size + header.block_size
    kind = Kind("block table entry", "vhd.block-table-entry", _ENTRY, stride)
    stretches = entries(
        source,
        header.table_offset,
        header.max_table_entries,
        width=4,
        order="big",
        marks={UNUSED_ENTRY},
        step=stride // SECTOR,
        beyond=Beyond(-(-source.size // SECTOR), faults),
    )
    for first, count, sector in stretches:
        found.place(kind, header.table_offset + _ENTRY * first, sector * SECTOR, count)
        faults.done((first + count) / header.max_table_entries)
    found.check_overlaps()
    return Statistics(
        total=header.max_table_entries,
        allocated=found.blocks,
        fragmented=found.fragmented,
        image_end=found.end,
    )


def _check_sum(what: str, footer: FoundFooter | None, faults: Faults) -> None:
    if footer is not None and not footer.sound:
        text = (
            f"the checksum of {what} is {unpack_footer(footer.raw).checksum:#010x}; its bytes give "
            f"{footer_checksum(footer.raw):#010x}"
        )
        faults.error("vhd.footer-checksum", footer.at + _CHECKSUM, text)


def _check_pair(
    source: ByteSource, front: FoundFooter | None, back: FoundFooter | None, faults: Faults
) -> None:
    if back is None:
        text = "has no footer at its end, only the copy at its start"
        faults.error("vhd.footer-missing", source.size, text)
    elif front is None:
        faults.error("vhd.footer-copy", 0, "has no copy of its footer at the start")
    elif front.sound and back.sound:
        pairs = zip(front.raw, back.raw[: back.length], strict=False)
        different = [index for index, (one, other) in enumerate(pairs) if one != other]
        if different:
            text = "the footer and its copy at the start differ from here on"
            faults.error("vhd.footer-mismatch", different[0], text)
