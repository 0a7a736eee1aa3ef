"""Checks a DMG: where its block tables place chunks, and its checksums.

The trailer has one over those of the block tables, and mostly one over all that is stored; each
table has one over its data, unpacked, which is looked at in a deep check, and where nothing else
tells whether the data is sound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from zlib import crc32

from vmport_formats.crc32 import crc32_with_zeros
from vmport_formats.disk.check import Statistics
from vmport_formats.disk.dmg.block_tables import read_tables
from vmport_formats.disk.dmg.checksums import VALUE_AT, crc32_of_all
from vmport_formats.disk.dmg.info import DATA_CHECKSUM_AT, MASTER_CHECKSUM_AT, read_trailer
from vmport_formats.disk.dmg.layer import check_kinds, gap, overlap, run_of
from vmport_formats.disk.fetch import unpack
from vmport_formats.disk.layer import Found
from vmport_formats.errors import CorruptInput
from vmport_formats.units import MIB

if TYPE_CHECKING:
    from vmport_formats.disk.check import Faults
    from vmport_formats.disk.dmg.block_tables import BlockTable
    from vmport_formats.disk.dmg.checksums import Checksum
    from vmport_formats.disk.dmg.info import Trailer
    from vmport_formats.disk.layer import Opener, Run
    from vmport_formats.source import ByteSource

_PIECE: Final = MIB
"""Bytes that are read at a time."""
_STORED_OF_DEEP: Final = 1 / 4
"""The share of the time that takes what is stored, where it is unpacked, too."""


def check(source: ByteSource, opener: Opener, faults: Faults, *, deep: bool) -> Statistics:
    """See `disk.check.Checker`.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: as `layer.open_layer`, but that two chunks
            are for the same sectors is a fault as any other.
    """
    trailer = read_trailer(source)
    tables = read_tables(source, trailer)
    for table in tables:
        check_kinds(source, table.chunks)
    data_checksum = trailer.data_checksum
    deep = deep or not (data_checksum.is_there and data_checksum.is_known)
    faults.phase(0, _STORED_OF_DEEP if deep else 1)
    _check_master(source, trailer, tables, faults)
    _check_data_fork(source, trailer, faults)
    packed = _check_chunks(source, trailer, tables, faults)
    if deep:
        faults.phase(_STORED_OF_DEEP, 1)
        for table in tables:
            _check_table(source, trailer, table, faults)
    return Statistics(compressed=packed)


def _check_master(
    source: ByteSource, trailer: Trailer, tables: list[BlockTable], faults: Faults
) -> None:
    at = trailer.at + MASTER_CHECKSUM_AT
    if _can_be_checked("the checksums of the block tables", trailer.master_checksum, at, faults):
        found = crc32_of_all(table.checksum for table in tables)
        what = "all block tables, from their own checksums,"
        _compare(what, "dmg.master-checksum", trailer.master_checksum, found, at + VALUE_AT, faults)


def _check_data_fork(source: ByteSource, trailer: Trailer, faults: Faults) -> None:
    at = trailer.at + DATA_CHECKSUM_AT
    if not _can_be_checked("the data fork", trailer.data_checksum, at, faults):
        return
    found = 0
    end = trailer.data_offset + trailer.data_length
    for start in range(trailer.data_offset, end, _PIECE):
        found = crc32(source.read_at(start, min(_PIECE, end - start)), found)
        faults.done((start - trailer.data_offset) / trailer.data_length)
    _compare(
        "the data fork, as it is stored,",
        "dmg.data-checksum",
        trailer.data_checksum,
        found,
        at + VALUE_AT,
        faults,
    )


def _check_chunks(
    source: ByteSource, trailer: Trailer, tables: list[BlockTable], faults: Faults
) -> int:
    """What the tables say of the disk and of the file; how many chunks are packed."""
    packed = 0
    spans = []
    for table in tables:
        for chunk in zip(*table.chunks, strict=True):
            _, start, count, _, _ = chunk
            spans.append((start, start + count))
            try:
                packed += run_of(source, trailer.at, *chunk).found is Found.PACKED
            except CorruptInput as error:
                faults.take(error)
    spans.sort()
    reached = 0
    for start, end in [*spans, (trailer.sectors, trailer.sectors)]:
        if start > reached:
            faults.take(gap(source, reached))
        elif start < reached and end > start:
            faults.take(overlap(source, start))
        reached = max(reached, end)
    return packed


def _check_table(source: ByteSource, trailer: Trailer, table: BlockTable, faults: Faults) -> None:
    """The data of a table, unpacked, against its checksum."""
    total, readable = 0, True
    for chunk in zip(*table.chunks, strict=True):
        faults.done(chunk[1] / trailer.sectors)
        try:
            total = _with(run_of(source, trailer.at, *chunk), total)
        except CorruptInput as error:
            readable = False
            if error.code != "dmg.chunk":  # else told already
                faults.take(error)
    what = f"block table {table.number}"
    if readable and _can_be_checked(what, table.checksum, table.at, faults):
        what += f", for sectors {table.first} to {table.first + table.sectors},"
        _compare(what, "dmg.table-checksum", table.checksum, total, table.at, faults)


def _with(run: Run, total: int) -> int:
    """The checksum of what `total` is of, and this run behind it."""
    if run.unit is not None:
        return crc32(unpack(run.unit), total)
    if run.found is Found.ZERO:
        return crc32_with_zeros(total, run.length)
    if run.source is not None:
        for start in range(0, run.length, _PIECE):
            size = min(_PIECE, run.length - start)
            total = crc32(run.source.read_at(run.at + start, size), total)
    return total  # free space does not count


def _can_be_checked(what: str, checksum: Checksum, at: int, faults: Faults) -> bool:
    if checksum.is_there and not checksum.is_known:
        text = (
            f"the checksum of {what} is of kind {checksum.kind} and {checksum.bits} bits long; "
            "only CRC-32 is known, so it was not checked"
        )
        faults.warn("dmg.checksum-kind", at, text)
    return checksum.is_there and checksum.is_known


def _compare(what: str, code: str, checksum: Checksum, found: int, at: int, faults: Faults) -> None:
    if found != checksum.crc32:
        text = f"the checksum of {what} is {checksum.crc32:#010x}; its bytes give {found:#010x}"
        faults.error(code, at, text)
