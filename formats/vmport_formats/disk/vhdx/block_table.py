"""The block table (BAT) of a VHDX: how long it must be, and whether its blocks lie in the file."""

from __future__ import annotations

import sys
from array import array
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from vmport_formats.disk.vhdx.regions import Region
from vmport_formats.errors import CorruptInput, TruncatedInput
from vmport_formats.units import MIB

if TYPE_CHECKING:
    from vmport_formats.disk.vhdx.metadata import Metadata
    from vmport_formats.disk.vhdx.regions import Regions
    from vmport_formats.source import ByteSource

ENTRY: Final = 8  # bytes
STATE_MASK: Final = 0b111
_RESERVED_MASK: Final = 0xF_FFF8
_OFFSET_MASK: Final = 0xFFFF_FFFF_FFF0_0000


class State(IntEnum):
    """Of a payload block (section 2.5.1.1); of a bitmap block, only the first and `FULLY_PRESENT`.

    Only that of the first is the parent's, in a differencing disk.
    """

    NOT_PRESENT = 0
    UNDEFINED = 1
    ZERO = 2
    UNMAPPED = 3
    RESERVED = 4
    UNMAPPED_V0 = 5
    """As `UNMAPPED`, in the specification's version 0.95; qemu knows it, too."""
    FULLY_PRESENT = 6
    PARTIALLY_PRESENT = 7


_PRESENT: Final = frozenset({State.FULLY_PRESENT, State.PARTIALLY_PRESENT})
_SECTORS_PER_CHUNK: Final = 1 << 23  # whose bitmap fills one block of 1 MiB
# A longer table is not read for misplaced blocks: this is 1 TiB in blocks of 1 MiB.
_MAX_SCANNED_ENTRIES: Final = 1 << 20
_SCAN: Final = 1 << 10  # entries at a time


def offset_in(entry: int) -> int:
    """The host offset in an entry.

    Raises ValueError, with words that follow "this entry", where it sets bits that are reserved.
    """
    if reserved := entry & _RESERVED_MASK:
        raise ValueError(f"sets bits that are reserved: {reserved:#x}")
    return entry & _OFFSET_MASK


def chunk_ratio(metadata: Metadata) -> int:
    """How many payload blocks precede each bitmap block in the table (section 2.5)."""
    return _SECTORS_PER_CHUNK * metadata.logical_sector_size // metadata.block_size


def entry_count(metadata: Metadata) -> int:
    """How many entries the table must have: for payload blocks and bitmap blocks."""
    ratio = chunk_ratio(metadata)
    payload = -(-metadata.virtual_disk_size // metadata.block_size)
    if metadata.has_parent:
        return -(-payload // ratio) * (ratio + 1)
    return payload + max(payload - 1, 0) // ratio


def check_block_table(
    source: ByteSource, regions: Regions, metadata: Metadata, *, blocks: bool = True
) -> None:
    """Check that the table covers the disk, and, if `blocks`, where it places them.

    Raises:
        CorruptInput: it is too short, or a block lies in the headers or in a region.
        TruncatedInput: a block lies beyond the end of the file.
    """
    region, entries = regions.block_table, entry_count(metadata)
    if 8 * entries > region.length:
        raise CorruptInput(
            source.name,
            at=region.offset,
            code="vhdx.block-table",
            problem=f"block table has room for {region.length // 8} entries; "
            f"this disk needs {entries}",
        )
    if not blocks or entries > _MAX_SCANNED_ENTRIES:
        return
    # An entry is the block's offset, a multiple of 1 MiB, with its state in the lowest bits.
    taken = [
        (other.offset - metadata.block_size + MIB, other.end, other)
        for other in regions.all
        if other.length
    ]
    for first in range(0, entries, _SCAN):
        count = min(_SCAN, entries - first)
        data = source.read_at(region.offset + ENTRY * first, ENTRY * count)
        mark = data[:ENTRY]
        if mark and mark[0] & STATE_MASK not in _PRESENT and data == mark * count:
            continue
        table = array("Q", data)
        if sys.byteorder == "big":
            table.byteswap()
        present = [entry for entry in table if entry & STATE_MASK in _PRESENT]
        if not present:
            continue
        inside = max(present) // MIB * MIB + metadata.block_size <= source.size
        apart = not any(low <= entry < end for entry in present for low, end, _ in taken)
        if inside and apart and min(present) >= MIB:
            continue
        for number, entry in enumerate(table, first):
            if entry & STATE_MASK in _PRESENT:
                _check_block(source, regions, metadata, number, entry // MIB * MIB)


def _check_block(
    source: ByteSource, regions: Regions, metadata: Metadata, number: int, offset: int
) -> None:
    """Of the last block only what belongs to the disk must be in the file."""
    chunk, place = divmod(number, chunk_ratio(metadata) + 1)
    if place == chunk_ratio(metadata):  # a bitmap block
        needed = MIB if metadata.has_parent else 0
    else:
        block = chunk * chunk_ratio(metadata) + place
        left = metadata.virtual_disk_size - block * metadata.block_size
        needed = min(metadata.block_size, max(left, 0))
    if not needed:
        return
    at = regions.block_table.offset + 8 * number
    headers = Region("headers", 0, MIB)
    for region in (headers, *regions.all):
        if offset < region.end and region.offset < offset + needed:
            raise CorruptInput(
                source.name,
                at=at,
                code="vhdx.block-offset",
                problem=f"block table entry {number} places a block at {offset:#x}, "
                f"over the {region.name}",
            )
    if offset + needed > source.size:
        raise TruncatedInput(
            source.name,
            at=at,
            code="vhdx.block-outside",
            problem=f"block table entry {number} places {needed} bytes at {offset:#x}, "
            f"but the file ends at {source.size:#x}",
            hint="the file is cut short; copy it again",
        )
