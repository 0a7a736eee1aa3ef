"""What a VHDX file says of itself, once its log is replayed in memory.

Source: Microsoft, [MS-VHDX].
"""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING, Final

from vmport_formats.disk.model import Concern, DiskFormat, ImageInfo
from vmport_formats.disk.vhdx.headers import Headers, read_creator, read_headers
from vmport_formats.disk.vhdx.layout import FILE_SIGNATURE, guid
from vmport_formats.disk.vhdx.log import Log, Replayed, read_log
from vmport_formats.disk.vhdx.metadata import Metadata, read_metadata
from vmport_formats.disk.vhdx.regions import Region, read_regions
from vmport_formats.errors import CorruptInput, TruncatedInput
from vmport_formats.units import MIB, Bytes

if TYPE_CHECKING:
    from vmport_formats.source import ByteSource

# Blocks whose data lies in the file, wholly or, above a parent, in part (section 2.5.1.1).
_PRESENT: Final = frozenset({6, 7})
_STATE_MASK: Final = 0b111
_SECTORS_PER_CHUNK: Final = 1 << 23  # whose bitmap fills one block of 1 MiB
# Beyond this, the block table is not read for blocks outside the file: 1 TiB in blocks of 1 MiB.
_MAX_SCANNED_ENTRIES: Final = 1 << 20
_SCAN: Final = 1 << 13  # entries at a time


def matches(source: ByteSource) -> bool:
    """Whether it begins with the VHDX file type identifier."""
    return source.read_at(0, len(FILE_SIGNATURE)) == FILE_SIGNATURE


def read_info(source: ByteSource) -> ImageInfo:
    """The metadata of the VHDX in `source`.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: with codes ``vhdx.*``.
    """
    creator = read_creator(source)
    headers, concerns = read_headers(source)
    header = headers.current.header
    log = read_log(source, header) if headers.dirty else None
    replayed = source if log is None else Replayed(source, log)
    log_region = Region("log", header.log_offset, header.log_length)
    regions, more = read_regions(replayed, log=log_region)
    metadata = read_metadata(replayed, regions.metadata)
    _check_block_table(replayed, regions.block_table, metadata)
    if log is not None:
        concerns.append(_log_concern(log))
    return ImageInfo(
        DiskFormat.VHDX,
        variant=_variant(metadata),
        virtual_size=Bytes(metadata.virtual_disk_size),
        file_size=Bytes(source.size),
        cluster_size=Bytes(metadata.block_size),
        references=metadata.references,
        dirty=headers.dirty,
        corrupt=log is not None and log.complete and not log.entries,
        concerns=(*concerns, *more),
        details=_details(creator, headers, log, metadata),
    )


def _variant(metadata: Metadata) -> str:
    if metadata.has_parent:
        return "differencing"
    return "fixed" if metadata.leave_blocks_allocated else "dynamic"


def _log_concern(log: Log) -> Concern:
    if log.entries:
        text = (
            f"was not closed cleanly: its log holds {len(log.patches)} changes to be replayed; "
            "a program that ignores it reads wrong data"
        )
    elif log.complete:
        text = "was not closed cleanly, and its log holds nothing that can be replayed"
    else:
        text = "was not closed cleanly, and its log is too long to be looked into"
    return Concern("vhdx.dirty-log", text)


def chunk_ratio(metadata: Metadata) -> int:
    """How many payload blocks precede each bitmap block in the block table (section 2.5)."""
    return _SECTORS_PER_CHUNK * metadata.logical_sector_size // metadata.block_size


def block_table_entries(metadata: Metadata) -> int:
    """How many entries the block table must have: payload blocks and bitmap blocks."""
    ratio = chunk_ratio(metadata)
    payload = -(-metadata.virtual_disk_size // metadata.block_size)
    if metadata.has_parent:
        return -(-payload // ratio) * (ratio + 1)
    return payload + max(payload - 1, 0) // ratio


def _check_block_table(source: ByteSource, region: Region, metadata: Metadata) -> None:
    entries = block_table_entries(metadata)
    if 8 * entries > region.length:
        raise CorruptInput(
            source.name,
            at=region.offset,
            code="vhdx.block-table",
            problem=f"block table has room for {region.length // 8} entries; "
            f"this disk needs {entries}",
        )
    if entries > _MAX_SCANNED_ENTRIES:
        return
    for first in range(0, entries, _SCAN):
        count = min(_SCAN, entries - first)
        table = array("Q", source.read_at(region.offset + 8 * first, 8 * count))
        if sys.byteorder == "big":
            table.byteswap()
        present = [entry for entry in table if entry & _STATE_MASK in _PRESENT]
        if not present or (
            min(present) >= MIB and max(present) // MIB * MIB + metadata.block_size <= source.size
        ):
            continue
        for number, entry in enumerate(table, first):
            if entry & _STATE_MASK in _PRESENT:
                _check_block(source, region, metadata, number, entry)


def _check_block(
    source: ByteSource, region: Region, metadata: Metadata, number: int, entry: int
) -> None:
    """Of the last block only what belongs to the disk must be in the file."""
    chunk, place = divmod(number, chunk_ratio(metadata) + 1)
    if place == chunk_ratio(metadata):  # a bitmap block
        needed = MIB if metadata.has_parent else 0
    else:
        block = chunk * chunk_ratio(metadata) + place
        left = metadata.virtual_disk_size - block * metadata.block_size
        needed = min(metadata.block_size, max(left, 0))
    offset = entry // MIB * MIB
    at = region.offset + 8 * number
    if needed and offset < MIB:
        raise CorruptInput(
            source.name,
            at=at,
            code="vhdx.block-offset",
            problem=f"block table entry {number} places a block at {offset:#x}, within the headers",
        )
    if needed and offset + needed > source.size:
        raise TruncatedInput(
            source.name,
            at=at,
            code="vhdx.block-outside",
            problem=f"block table entry {number} places {needed} bytes at {offset:#x}, "
            f"but the file ends at {source.size:#x}",
            hint="the file is cut short; copy it again",
        )


def _details(
    creator: str, headers: Headers, log: Log | None, metadata: Metadata
) -> dict[str, object]:
    header = headers.current.header
    details: dict[str, object] = {
        "creator": creator,
        "virtual-disk-id": str(metadata.virtual_disk_id),
        "logical-sector-size": metadata.logical_sector_size,
        "physical-sector-size": metadata.physical_sector_size,
        "leave-blocks-allocated": metadata.leave_blocks_allocated,
        "current-header": headers.current.at,
        "headers": [item.as_details() for item in headers.candidates],
        "file-write-guid": str(guid(header.file_write_guid)),
        "data-write-guid": str(guid(header.data_write_guid)),
        "log-offset": header.log_offset,
        "log-length": header.log_length,
    }
    if log is not None:
        details["log"] = {
            "log-guid": str(guid(header.log_guid)),
            "examined": log.complete,
            "entries": len(log.entries),
            "changes": len(log.patches),
        }
    if metadata.has_parent:
        details["parent-locator"] = metadata.parent_locator
    return details
