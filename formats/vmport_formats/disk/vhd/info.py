"""What a VHD file says of itself: footers found and checked, size, blocks and parent.

Sources: Microsoft's VHD specification 1.0; for the size of a disk, the behaviour of qemu 10.
"""

from __future__ import annotations

import sys
import time
from array import array
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.disk.model import Concern, DiskFormat, ImageInfo
from vmport_formats.disk.vhd.footers import choose_footer, find_back, find_front
from vmport_formats.disk.vhd.layout import (
    EPOCH,
    HEADER_COOKIE,
    HEADER_LENGTH,
    MAX_SECTORS,
    UNUSED_ENTRY,
    DiskType,
    DynamicHeader,
    Footer,
    ParentLocator,
    header_checksum,
    unpack_footer,
    unpack_header,
    unpack_locators,
)
from vmport_formats.errors import CorruptInput, TruncatedInput, UnsupportedFeature
from vmport_formats.guids import of_network_order
from vmport_formats.source import read_exactly
from vmport_formats.units import SECTOR, Bytes, Sectors, format_size, sectors_to_bytes

if TYPE_CHECKING:
    from vmport_formats.disk.vhd.footers import FoundFooter
    from vmport_formats.references import Reference
    from vmport_formats.source import ByteSource

# Disks made by these have the size that their geometry counts; current_size is rounded up and
# includes sectors that no guest ever saw.  So does qemu 10; before, it trusted the geometry of
# every creator but those in _SIZED_BY_FOOTER.
_SIZED_BY_GEOMETRY: Final = frozenset({b"vpc ", b"qemu"})
_SIZED_BY_FOOTER: Final = frozenset({b"win ", b"qem2", b"d2v ", b"tap\0", b"CTXS"})

# qemu keeps the table as an int of bytes.
_MAX_TABLE_ENTRIES: Final = 0x7FFF_FFFF // 4
# Beyond this, a table is not read for blocks that lie outside the file: 2 TiB in blocks of 2 MiB.
_MAX_SCANNED_ENTRIES: Final = 1 << 20
_SCAN: Final = 1 << 14  # entries at a time
_UNUSED: Final = UNUSED_ENTRY.to_bytes(4, "big")


def matches(source: ByteSource) -> bool:
    """Whether there is a footer at the end, or its copy at the start."""
    return find_back(source) is not None or find_front(source) is not None


class Vhd(NamedTuple):
    """A VHD file, all of it but its content."""

    info: ImageInfo
    footer: FoundFooter
    dynamic: Dynamic | None
    """None: it is a fixed disk."""


class Dynamic(NamedTuple):
    """What a dynamic or differencing disk has besides a footer."""

    at: int
    """Host offset of the header."""
    header: DynamicHeader
    data: bytes
    """The header as it is in the file."""

    @property
    def locators(self) -> tuple[ParentLocator, ...]:
        """Its parent locators, used or not."""
        return unpack_locators(self.data)

    @property
    def bitmap_size(self) -> int:
        """Bytes of the bitmap that precedes each block: a bit a sector, padded to whole sectors."""
        return -(-self.header.block_size // (SECTOR * 8 * SECTOR)) * SECTOR


def read_info(source: ByteSource) -> ImageInfo:
    """The metadata of the VHD in `source`.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: with codes ``vhd.*``.
    """
    return read_vhd(source).info


def read_vhd(source: ByteSource, *, whole: bool = True) -> Vhd:
    """The footer and, unless it is a fixed disk, the header of the VHD in `source`.

    The footer at the end counts, as the specification wants it; the copy at the start stands in
    when that is missing or damaged.  That the file holds every block is a part of it unless not
    `whole`, for who looks at each of them.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: as `read_info`.
    """
    found, concerns = choose_footer(source)
    footer = unpack_footer(found.raw)
    disk_type = _check_footer(source, footer, at=found.at)
    virtual_size = _virtual_size(source, footer, at=found.at)
    dynamic: Dynamic | None = None
    references: tuple[Reference, ...] = ()
    details = _footer_details(footer)
    if disk_type is DiskType.FIXED:
        concerns += _check_fixed(source, footer, virtual_size, found)
    else:
        dynamic = _read_dynamic(source, footer, virtual_size, whole=whole)
        details["table-offset"] = dynamic.header.table_offset
        details["max-table-entries"] = dynamic.header.max_table_entries
    if dynamic is not None and disk_type is DiskType.DIFFERENCING:
        references, more = _read_parent(source, dynamic)
        details |= more
    concerns += _size_concern(footer)
    info = ImageInfo(
        DiskFormat.VHD,
        variant=disk_type.name.lower(),
        virtual_size=virtual_size,
        file_size=Bytes(source.size),
        cluster_size=None if dynamic is None else Bytes(dynamic.header.block_size),
        references=references,
        concerns=tuple(concerns),
        details=details,
    )
    return Vhd(info, found, dynamic)


def _check_footer(source: ByteSource, footer: Footer, *, at: int) -> DiskType:
    if footer.version >> 16 != 1:
        raise UnsupportedFeature(
            source.name,
            at=at + 12,
            code="vhd.version",
            problem=f"format version is {footer.version >> 16}.{footer.version & 0xFFFF}; "
            "only 1 is known",
        )
    try:
        return DiskType(footer.disk_type)
    except ValueError:
        raise UnsupportedFeature(
            source.name,
            at=at + 60,
            code="vhd.disk-type",
            problem=f"disk type is {footer.disk_type}; known are 2 (fixed), 3 (dynamic) and "
            "4 (differencing)",
        ) from None


def _virtual_size(source: ByteSource, footer: Footer, *, at: int) -> Bytes:
    sectors = _sectors(footer)
    if sectors > MAX_SECTORS:
        raise CorruptInput(
            source.name,
            at=at + 48,
            code="vhd.current-size",
            problem=f"disk size is {format_size(sectors_to_bytes(sectors))}; "
            f"at most {format_size(sectors_to_bytes(Sectors(MAX_SECTORS)))} are possible",
        )
    return sectors_to_bytes(sectors)


def _sectors(footer: Footer) -> Sectors:
    """How long the disk is; a geometry of nothing is no size."""
    by_geometry = footer.creator_application in _SIZED_BY_GEOMETRY
    if by_geometry and footer.geometry_sectors and not footer.has_largest_geometry:
        return Sectors(footer.geometry_sectors)
    return Sectors(footer.current_size // SECTOR)


def _size_concern(footer: Footer) -> list[Concern]:
    """Whether some qemu takes the disk for another size: up to 9, one from Azure's makers."""
    ours = _sectors(footer)
    geometry = footer.geometry_sectors
    if footer.has_largest_geometry or geometry == ours:
        return []
    if footer.creator_application in _SIZED_BY_GEOMETRY:
        who = "qemu"
    elif footer.creator_application in _SIZED_BY_FOOTER:
        return []
    else:
        who = "qemu before version 10"
    return [
        Concern(
            "vhd.size-ambiguous",
            f"its size is {ours * SECTOR} bytes, but {who} takes it for {geometry * SECTOR}, "
            "from its geometry",
        )
    ]


def _check_fixed(
    source: ByteSource, footer: Footer, virtual_size: int, found: FoundFooter
) -> list[Concern]:
    """A fixed disk is its bytes, then the footer."""
    if virtual_size > found.at:
        raise TruncatedInput(
            source.name,
            at=found.at,
            code="vhd.fixed-size",
            problem=f"a fixed disk of {virtual_size} bytes, but only {found.at} precede its footer",
            hint="the file is cut short; copy it again",
        )
    if found.at == footer.current_size:
        return []
    return [
        Concern(
            "vhd.fixed-size",
            f"a fixed disk of {footer.current_size} bytes, but {found.at} precede its footer",
        )
    ]


def _read_dynamic(source: ByteSource, footer: Footer, virtual_size: int, *, whole: bool) -> Dynamic:
    at = footer.data_offset
    data = read_exactly(
        source, at, HEADER_LENGTH, what="the dynamic disk header", code="vhd.header-outside"
    )
    dynamic = Dynamic(at, unpack_header(data), data)
    _check_header(source, dynamic.header, header_checksum(data), at=at)
    _check_table(source, dynamic, virtual_size)
    if whole and dynamic.header.max_table_entries <= _MAX_SCANNED_ENTRIES:
        _check_blocks(source, dynamic.header, dynamic.bitmap_size)
    return dynamic


def _read_parent(
    source: ByteSource, dynamic: Dynamic
) -> tuple[tuple[Reference, ...], dict[str, object]]:
    from vmport_formats.disk.vhd import parent

    header = dynamic.header
    in_use = parent.read_locators(source, dynamic.locators, at=dynamic.at)
    return parent.parent_references(header, in_use), {
        "parent-unique-id": of_network_order(header.parent_unique_id),
        "parent-time-stamp": _time(header.parent_time_stamp),
        "parent-unicode-name": parent.parent_name(header),
        "parent-locators": [item.as_details() for item in in_use],
    }


def _check_header(source: ByteSource, header: DynamicHeader, checksum: int, *, at: int) -> None:
    if header.cookie != HEADER_COOKIE:
        raise CorruptInput(
            source.name,
            at=at,
            code="vhd.header-magic",
            problem=f"the dynamic disk header begins with {header.cookie!r}, not {HEADER_COOKIE!r}",
        )
    if header.checksum != checksum:
        raise CorruptInput(
            source.name,
            at=at + 36,
            code="vhd.header-checksum",
            problem=f"dynamic disk header checksum is {header.checksum:#010x}; "
            f"its bytes sum to {checksum:#010x}",
        )
    if header.header_version >> 16 != 1:
        raise UnsupportedFeature(
            source.name,
            at=at + 24,
            code="vhd.header-version",
            problem=f"dynamic disk header version is {header.header_version:#010x}; "
            "only 0x00010000 is known",
        )
    size = header.block_size
    if size < SECTOR or size & (size - 1):
        raise CorruptInput(
            source.name,
            at=at + 32,
            code="vhd.block-size",
            problem=f"block size is {size}; must be a power of two, at least {SECTOR}",
        )


def _check_table(source: ByteSource, dynamic: Dynamic, virtual_size: int) -> None:
    at, header = dynamic.at, dynamic.header
    entries, block_size = header.max_table_entries, header.block_size
    limit = min(_MAX_TABLE_ENTRIES, MAX_SECTORS * SECTOR // block_size)
    if entries > limit:
        raise CorruptInput(
            source.name,
            at=at + 28,
            code="vhd.max-table-entries",
            problem=f"block table has {entries} entries; "
            f"at most {limit} are possible with blocks of {format_size(block_size)}",
        )
    if entries * block_size < virtual_size:
        raise CorruptInput(
            source.name,
            at=at + 28,
            code="vhd.max-table-entries",
            problem=f"block table has {entries} entries, too few for a disk of {virtual_size} "
            f"bytes in blocks of {format_size(block_size)}",
        )
    end = header.table_offset + 4 * entries
    if end > source.size:
        raise TruncatedInput(
            source.name,
            at=header.table_offset,
            code="vhd.table",
            problem=f"block table needs {4 * entries} bytes here, "
            f"but the file ends at {source.size:#x}",
            hint="the file is cut short; copy it again",
        )


def _check_blocks(source: ByteSource, header: DynamicHeader, bitmap: int) -> None:
    """Each block begins with a bitmap of its sectors."""
    for first in range(0, header.max_table_entries, _SCAN):
        count = min(_SCAN, header.max_table_entries - first)
        data = source.read_at(header.table_offset + 4 * first, 4 * count)
        if data == _UNUSED * count:
            continue
        table = array("I", data)
        if sys.byteorder == "little":
            table.byteswap()
        last = max(entry for entry in table if entry != UNUSED_ENTRY) * SECTOR
        if last + bitmap + header.block_size > source.size:
            entry = first + table.index(last // SECTOR)
            raise TruncatedInput(
                source.name,
                at=header.table_offset + 4 * entry,
                code="vhd.block-outside",
                problem=f"block {entry} lies at {last:#x} and is {header.block_size} bytes long, "
                f"but the file ends at {source.size:#x}",
                hint="the file is cut short; copy it again",
            )


def _footer_details(footer: Footer) -> dict[str, object]:
    major, minor = divmod(footer.creator_version, 1 << 16)
    return {
        "current-size": footer.current_size,
        "chs-size": footer.geometry_sectors * SECTOR,
        "original-size": footer.original_size,
        "disk-geometry": {
            "cylinders": footer.cylinders,
            "heads": footer.heads,
            "sectors-per-track": footer.sectors,
        },
        "creator-application": _code(footer.creator_application),
        "creator-version": f"{major}.{minor}",
        "creator-host-os": _code(footer.creator_host_os),
        "time-stamp": _time(footer.time_stamp),
        "unique-id": of_network_order(footer.unique_id),
        "saved-state": bool(footer.saved_state),
    }


def _code(value: bytes) -> str:
    """A four-letter code, as it is: ``vpc `` keeps its blank, NULs go."""
    return value.rstrip(b"\0").decode("latin-1")


def _time(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(EPOCH + seconds))
