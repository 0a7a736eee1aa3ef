"""What a VHDX file says of itself, once its log is replayed in memory.

Source: Microsoft, [MS-VHDX].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vmport_formats.disk.model import Concern, DiskFormat, ImageInfo
from vmport_formats.disk.vhdx.block_table import check_block_table
from vmport_formats.disk.vhdx.headers import Headers, read_creator, read_headers
from vmport_formats.disk.vhdx.layout import FILE_SIGNATURE
from vmport_formats.disk.vhdx.metadata import Metadata, read_metadata
from vmport_formats.disk.vhdx.regions import Region, Regions, read_regions
from vmport_formats.guids import of_little_endian
from vmport_formats.units import Bytes

if TYPE_CHECKING:
    from vmport_formats.disk.vhdx.layout import Header
    from vmport_formats.disk.vhdx.log import Log
    from vmport_formats.source import ByteSource


def matches(source: ByteSource) -> bool:
    """Whether it begins with the VHDX file type identifier."""
    return source.read_at(0, len(FILE_SIGNATURE)) == FILE_SIGNATURE


class Vhdx(NamedTuple):
    """A VHDX file, all of it but its content."""

    info: ImageInfo
    source: ByteSource
    """The file, its log replayed in memory when it has one to be replayed."""
    log: Log | None
    """None: it was closed cleanly."""
    regions: Regions
    metadata: Metadata


def read_info(source: ByteSource) -> ImageInfo:
    """The metadata of the VHDX in `source`.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: with codes ``vhdx.*``.
    """
    return read_vhdx(source).info


def read_vhdx(source: ByteSource, *, whole: bool = True) -> Vhdx:
    """The metadata of the VHDX in `source`, and where its parts are.

    That the file holds every block, apart from those parts, is checked unless not `whole`, for who
    looks at each of them.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: as `read_info`.
    """
    creator = read_creator(source)
    headers, concerns = read_headers(source)
    header = headers.current.header
    log, content = _replayed(source, header) if headers.dirty else (None, source)
    log_region = Region("log", header.log_offset, header.log_length)
    regions, more = read_regions(content, log=log_region)
    metadata = read_metadata(content, regions.metadata)
    check_block_table(content, regions, metadata, blocks=whole)
    if log is not None:
        concerns.append(_log_concern(log))
    info = ImageInfo(
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
    return Vhdx(info, content, log, regions, metadata)


def _replayed(source: ByteSource, header: Header) -> tuple[Log, ByteSource]:
    """The log, and the file as it is once that is replayed."""
    from vmport_formats.disk.vhdx.log import read_log, replayed  # few files have one

    log = read_log(source, header)
    return log, replayed(source, log)


def _variant(metadata: Metadata) -> str:
    if metadata.has_parent:
        return "differencing"
    return "fixed" if metadata.leave_blocks_allocated else "dynamic"


def _log_concern(log: Log) -> Concern:
    if log.entries:
        number = len(log.patches)
        text = (
            f"was not closed cleanly: its log holds {number} change{'s' * (number != 1)} "
            "to be replayed; a program that ignores it reads wrong data"
        )
    elif log.complete:
        text = "was not closed cleanly, and its log holds nothing that can be replayed"
    else:
        text = "was not closed cleanly, and its log is too long to be looked into"
    return Concern("vhdx.dirty-log", text)


def _details(
    creator: str, headers: Headers, log: Log | None, metadata: Metadata
) -> dict[str, object]:
    header = headers.current.header
    details: dict[str, object] = {
        "creator": creator,
        "virtual-disk-id": metadata.virtual_disk_id,
        "logical-sector-size": metadata.logical_sector_size,
        "physical-sector-size": metadata.physical_sector_size,
        "leave-blocks-allocated": metadata.leave_blocks_allocated,
        "current-header": headers.current.at,
        "headers": [item.as_details() for item in headers.candidates],
        "file-write-guid": of_little_endian(header.file_write_guid),
        "data-write-guid": of_little_endian(header.data_write_guid),
        "log-offset": header.log_offset,
        "log-length": header.log_length,
    }
    if log is not None:
        details["log"] = {
            "log-guid": of_little_endian(header.log_guid),
            "examined": log.complete,
            "entries": len(log.entries),
            "changes": len(log.patches),
        }
    if metadata.has_parent:
        details["parent-locator"] = metadata.parent_locator
    return details
