"""The region table of a VHDX: where in the file its block table and its metadata lie."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.disk.model import Concern
from vmport_formats.disk.vhdx.layout import (
    BAT_REGION,
    MAX_TABLE_ENTRIES,
    METADATA_REGION,
    REGION_ENTRY,
    REGION_TABLE_OFFSETS,
    TABLE_HEADER,
    TABLE_LENGTH,
    TableHeader,
    checksum_of,
)
from vmport_formats.errors import CorruptInput, TruncatedInput, UnsupportedFeature
from vmport_formats.guids import of_little_endian
from vmport_formats.source import read_exactly
from vmport_formats.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vmport_formats.source import ByteSource

_NAMES: Final = {BAT_REGION: "block table", METADATA_REGION: "metadata"}


class Region(NamedTuple):
    """A part of the file, set aside for one purpose."""

    name: str
    offset: int  # bytes
    length: int

    @property
    def end(self) -> int:
        """The offset of the first byte after it."""
        return self.offset + self.length


class Regions(NamedTuple):
    """The two regions that every VHDX has, its log, and what else there may be."""

    block_table: Region
    metadata: Region
    all: tuple[Region, ...]
    """In no order; the log may be of no length."""


def read_regions(source: ByteSource, *, log: Region) -> tuple[Regions, list[Concern]]:
    """The regions, from the first of the two tables (section 2.2.3) that is sound.

    Raises:
        CorruptInput: neither table is sound, or an entry breaks a rule (``vhdx.region*``).
        TruncatedInput: the file ends before a table or a region.
        UnsupportedFeature: a region that must be known is not (``vhdx.region-unknown``).
    """
    tables = [
        (
            at,
            read_exactly(
                source, at, TABLE_LENGTH, what="the region table", code="vhdx.region-table"
            ),
        )
        for at in REGION_TABLE_OFFSETS
    ]
    (_, first), (_, second) = tables
    problem = _problem(first)
    problems = [problem, problem if second == first else _problem(second)]
    concerns = []
    match problems:
        case [None, None]:
            at, data = tables[0]
            if second != first:
                concerns.append(
                    Concern(
                        "vhdx.region-tables-differ", "the two copies of the region table differ"
                    )
                )
        case [str(), str()]:
            raise CorruptInput(
                source.name,
                at=tables[0][0],
                code="vhdx.region-table",
                problem=f"neither copy of the region table is sound: of the first, {problems[0]}; "
                f"of the second, {problems[1]}",
            )
        case _:
            bad = 0 if problems[0] is not None else 1
            at, data = tables[1 - bad]
            concerns.append(
                Concern(
                    "vhdx.region-table-damaged",
                    f"the region table at {tables[bad][0]:#x} is damaged ({problems[bad]}); "
                    "its copy was used",
                )
            )
    return _parse(source, data, at=at, log=log), concerns


def _problem(data: bytes) -> str | None:
    header = TableHeader._make(TABLE_HEADER.unpack_from(data))
    if header.signature != b"regi":
        return f"it begins with {header.signature!r}, not b'regi'"
    found = checksum_of(data)
    if found != header.checksum:
        return f"its checksum is {header.checksum:#010x}, its bytes give {found:#010x}"
    return None


def _parse(source: ByteSource, data: bytes, *, at: int, log: Region) -> Regions:
    count = TableHeader._make(TABLE_HEADER.unpack_from(data)).entry_count
    if count > MAX_TABLE_ENTRIES:
        raise CorruptInput(
            source.name,
            at=at + 8,
            code="vhdx.region-count",
            problem=f"region table has {count} entries; at most {MAX_TABLE_ENTRIES} fit",
        )
    known: dict[bytes, Region] = {}
    regions = [log]
    end = TABLE_HEADER.size + count * REGION_ENTRY.size
    entries = REGION_ENTRY.iter_unpack(data[TABLE_HEADER.size : end])
    for number, (kind, offset, length, required) in enumerate(entries):
        entry_at = TABLE_HEADER.size + number * REGION_ENTRY.size
        region = Region(_NAMES.get(kind) or of_little_endian(kind), offset, length)
        _check(source, region, at=at + entry_at)
        if kind in known:
            raise CorruptInput(
                source.name,
                at=at + entry_at,
                code="vhdx.region-duplicate",
                problem=f"region {region.name} is listed twice",
            )
        if kind not in _NAMES and required & 1:
            raise UnsupportedFeature(
                source.name,
                at=at + entry_at,
                code="vhdx.region-unknown",
                problem=f"region {region.name} must be understood by readers, and is not known",
            )
        known[kind] = region
        regions.append(region)
    _check_overlap(source, regions, at=at)
    if missing := [name for kind, name in _NAMES.items() if kind not in known]:
        raise CorruptInput(
            source.name,
            at=at,
            code="vhdx.region-missing",
            problem=f"region table lists no {' and no '.join(missing)}",
        )
    return Regions(known[BAT_REGION], known[METADATA_REGION], tuple(regions))


def _check(source: ByteSource, region: Region, *, at: int) -> None:
    if region.offset < MIB or region.offset % MIB or region.length % MIB or not region.length:
        raise CorruptInput(
            source.name,
            at=at,
            code="vhdx.region-offset",
            problem=f"region {region.name} is {region.length:#x} bytes at {region.offset:#x}; "
            "both must be multiples of 1 MiB, at least one",
        )
    if region.end > source.size:
        raise TruncatedInput(
            source.name,
            at=region.offset,
            code="vhdx.region-outside",
            problem=f"region {region.name} needs {region.length} bytes here, "
            f"but the file ends at {source.size:#x}",
            hint="the file is cut short; copy it again",
        )


def _check_overlap(source: ByteSource, regions: Iterable[Region], *, at: int) -> None:
    ordered = sorted(
        (region for region in regions if region.length), key=lambda region: region.offset
    )
    for before, after in pairwise(ordered):
        if before.end > after.offset:
            raise CorruptInput(
                source.name,
                at=at,
                code="vhdx.region-overlap",
                problem=f"regions {before.name} and {after.name} overlap at {after.offset:#x}",
            )
