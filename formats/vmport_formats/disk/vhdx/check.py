"""Checks a VHDX: headers, region tables, log, and where its block table places blocks and bitmaps.

Source: [MS-VHDX] sections 2.2 to 2.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.disk.check import Statistics
from vmport_formats.disk.placements import Kind, Placements, entries
from vmport_formats.disk.tables import Stretch
from vmport_formats.disk.vhdx.bitmaps import BITMAP_SIZE
from vmport_formats.disk.vhdx.block_table import (
    ENTRY,
    STATE_MASK,
    State,
    chunk_ratio,
    entry_count,
    offset_in,
)
from vmport_formats.disk.vhdx.headers import read_headers
from vmport_formats.disk.vhdx.info import read_vhdx
from vmport_formats.disk.vhdx.layout import REGION_TABLE_OFFSETS, TABLE_LENGTH, checksum_of
from vmport_formats.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.check import Faults
    from vmport_formats.disk.layer import Opener
    from vmport_formats.disk.vhdx.info import Vhdx
    from vmport_formats.source import ByteSource

_UNPLACED: Final = frozenset({0, 1, 2, 3, 5})
"""Whole entries: the states without a place."""
_RESERVED: Final = int(State.RESERVED)
_FULLY: Final = int(State.FULLY_PRESENT)
_PARTIALLY: Final = int(State.PARTIALLY_PRESENT)


def check(source: ByteSource, opener: Opener, faults: Faults, *, deep: bool) -> Statistics:
    """See `disk.check.Checker`.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: as `info.read_info`.
    """
    vhdx = read_vhdx(source, whole=False)
    headers, _ = read_headers(source)
    for candidate in headers.candidates:
        # Who is interrupted while writing one leaves the other: that is what there are two for.
        if candidate.problem is not None:
            text = f"this header is damaged, and the other one counts: {candidate.problem}"
            faults.warn("vhdx.header-damaged", candidate.at, text)
    _check_region_tables(vhdx.source, faults)
    if vhdx.log is not None and vhdx.log.complete and not vhdx.log.entries:
        text = "the log that is to be replayed holds nothing that can be"
        faults.error("vhdx.dirty-log", headers.current.header.log_offset, text)
    return _check_blocks(vhdx, faults)


def _check_region_tables(source: ByteSource, faults: Faults) -> None:
    tables = [source.read_at(at, TABLE_LENGTH) for at in REGION_TABLE_OFFSETS]
    sound = []
    for at, table in zip(REGION_TABLE_OFFSETS, tables, strict=True):
        stored = int.from_bytes(table[4:8], "little")
        found = checksum_of(table)
        sound.append(table[:4] == b"regi" and stored == found)
        if table[:4] != b"regi":
            text = f"this region table begins with {table[:4]!r}, not b'regi'"
            faults.error("vhdx.region-table-damaged", at, text)
        elif stored != found:
            text = (
                f"the checksum of this region table is {stored:#010x}; its bytes give {found:#010x}"
            )
            faults.error("vhdx.region-table-damaged", at + 4, text)
    if all(sound) and tables[0] != tables[1]:
        text = "the two region tables differ"
        faults.error("vhdx.region-tables-differ", REGION_TABLE_OFFSETS[1], text)


def _check_blocks(vhdx: Vhdx, faults: Faults) -> Statistics:
    source, metadata = vhdx.source, vhdx.metadata
    table, size = vhdx.regions.block_table.offset, metadata.block_size
    ratio = chunk_ratio(metadata)
    found = Placements(source, faults)
    found.reserve(0, MIB, "the headers")
    for region in vhdx.regions.all:
        found.reserve(region.offset, region.length, f"the region of the {region.name}")
    block = Kind("block table entry", "vhdx.block-table-entry", ENTRY, size)
    bitmap = Kind("entry of a bitmap", "vhdx.bitmap-entry", ENTRY, BITMAP_SIZE)
    blocks = -(-metadata.virtual_disk_size // size)
    count = entry_count(metadata)
    partly: set[int] = set()
    with_bitmap: set[int] = set()
    stretches = entries(source, table, count, width=8, order="little", marks=_UNPLACED, step=size)
    for number, together, value in _within_chunks(stretches, ratio, size):
        faults.done(number / count)
        place = table + ENTRY * number
        chunk, index = divmod(number, ratio + 1)
        state = value & STATE_MASK
        is_bitmap = index == ratio
        kind = bitmap if is_bitmap else block
        if state == _RESERVED or (is_bitmap and state not in {0, _FULLY}):
            text = f"this {kind.name} is in state {state}, which is none that it can have"
            faults.error(kind.code, place, text, together)
        elif state == _PARTIALLY and not metadata.has_parent:
            text = f"this {kind.name} is in state {state}, which only a disk with a parent can have"
            faults.error(kind.code, place, text, together)
        if state not in {_FULLY, _PARTIALLY} or (is_bitmap and not metadata.has_parent):
            continue
        try:
            at = offset_in(value)
        except ValueError as error:
            faults.error(kind.code, place, f"this {kind.name} {error}", together)
            continue
        if is_bitmap:
            with_bitmap.add(chunk)
            found.place(bitmap, place, at, block=False)
            continue
        if state == _PARTIALLY:
            partly.add(chunk)
        last = chunk * ratio + index + together == blocks
        short = -metadata.virtual_disk_size % size if last else 0
        found.place(block, place, at, together, short=short)
    if metadata.has_parent:
        for chunk in sorted(partly - with_bitmap):
            place = table + ENTRY * ((chunk + 1) * ratio + chunk)
            text = "there is no bitmap, and yet a block of which only a part is stored"
            faults.error(bitmap.code, place, text)
    found.check_overlaps()
    return Statistics(
        total=blocks, allocated=found.blocks, fragmented=found.fragmented, image_end=found.end
    )


def _within_chunks(stretches: Iterator[Stretch], ratio: int, step: int) -> Iterator[Stretch]:
    """The same, where no stretch is of blocks and of bitmaps at once."""
    for start, count, value in stretches:
        done = 0
        while done < count:
            left = ratio - (start + done) % (ratio + 1)
            part = min(count - done, max(1, left))
            yield Stretch(start + done, part, value + done * step)
            done += part
