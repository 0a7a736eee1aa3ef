"""Composes a VHDX, dynamic or fixed, as Windows lays it out: log, metadata, block table, blocks.

Source: Microsoft, [MS-VHDX].  A block of zeros is marked as such, which is what Windows does, too:
of one that is merely not present, a disk without a parent could make anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final
from uuid import UUID

from vmport_formats.disk.ascending import AscendingTable, GrainOrder
from vmport_formats.disk.composer import Write
from vmport_formats.disk.identity import derived_uuid
from vmport_formats.disk.vhdx.block_table import ENTRY, State, chunk_ratio, entry_count
from vmport_formats.disk.vhdx.layout import (
    BAT_REGION,
    FILE_PARAMETERS,
    FILE_PARAMETERS_ITEM,
    FILE_SIGNATURE,
    HEADER,
    HEADER_LENGTH,
    HEADER_OFFSETS,
    LOGICAL_SECTOR_SIZE,
    METADATA_ENTRY,
    METADATA_REGION,
    METADATA_TABLE_HEADER,
    NIL,
    PHYSICAL_SECTOR_SIZE,
    REGION_ENTRY,
    REGION_TABLE_OFFSETS,
    TABLE_HEADER,
    TABLE_LENGTH,
    VIRTUAL_DISK_ID,
    VIRTUAL_DISK_SIZE,
    Header,
    ItemFlag,
    MetadataEntry,
    MetadataTableHeader,
    ParameterFlag,
    RegionEntry,
    TableHeader,
    sealed,
)
from vmport_formats.disk.vhdx.metadata import MAX_BLOCK, MAX_DISK, MIN_BLOCK, Metadata
from vmport_formats.guids import little_endian
from vmport_formats.units import GIB, MIB, SECTOR, Bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.composer import Data

GRAIN: Final = 1 << 16
MAX_SIZE: Final = Bytes(MAX_DISK)
_LONGEST_LOG: Final = (1 << 32) - MIB

_CREATOR: Final = "vmport".encode("utf-16-le")
_PHYSICAL_SECTOR: Final = 4096
"""What Windows says by itself."""
_LOG_AT: Final = MIB
_METADATA_LENGTH: Final = MIB
_BLOCK_SIZES: Final = ((32 << 40, 64 * MIB), (100 * GIB, 32 * MIB), (GIB, 16 * MIB))
"""By what the disk is larger than; the choice of qemu."""


class Subformat(StrEnum):
    """The kinds that can be composed, by qemu's names."""

    DYNAMIC = "dynamic"
    FIXED = "fixed"


@dataclass(frozen=True, slots=True)
class VhdxOptions:
    """How a VHDX is to be.

    Raises:
        ValueError: on creation, if one is out of range.
    """

    subformat: Subformat = Subformat.DYNAMIC
    """In a fixed one all blocks have their place from the start; those of zeros are holes."""
    block_size: int = 0
    """Bytes, a power of two from 1 to 256 MiB; 0: `suggested_block_size`."""
    log_size: int = MIB
    """Bytes, whole MiB.  The log is empty: whoever writes to the disk fills it."""
    disk_id: UUID | None = None
    """Tells the disk from others.

    None: it follows from the size and the options, so disks of one size share it.
    """

    def __post_init__(self) -> None:
        Subformat(self.subformat)
        size = self.block_size
        if size and (not MIN_BLOCK <= size <= MAX_BLOCK or size & (size - 1)):
            raise ValueError(f"block_size is {size}; must be a power of two, 1 MiB to 256 MiB")
        if self.log_size % MIB or not MIB <= self.log_size <= _LONGEST_LOG:
            raise ValueError(f"log_size is {self.log_size}; must be whole MiB, 1 to 4095")
        if self.disk_id == UUID(int=0):
            raise ValueError("an id of zeros is none")


def suggested_block_size(size: int) -> int:
    """Bytes of a block of a disk of `size` bytes, where nobody says: 8 to 64 MiB, as qemu does.

    Windows takes 32 MiB whatever the disk.
    """
    return next((block for above, block in _BLOCK_SIZES if size > above), 8 * MIB)


class VhdxComposer:
    """A `composer.Composer`."""

    grain = GRAIN
    pack = None

    def __init__(self, size: int, options: VhdxOptions = VhdxOptions()) -> None:
        """`size` is that of the disk in bytes; it is rounded up to sectors.

        Raises:
            ValueError: it is negative, or above `MAX_SIZE`.
        """
        if size < 0:
            raise ValueError(f"a disk cannot have {size} bytes")
        if size > MAX_SIZE:
            raise ValueError(f"a disk of {size} bytes; a VHDX holds at most {MAX_SIZE}")
        self.virtual_size = -(-size // SECTOR) * SECTOR
        self._fixed = options.subformat == Subformat.FIXED
        self._block_size = options.block_size or suggested_block_size(self.virtual_size)
        facts = self.virtual_size, options.subformat, self._block_size, options.log_size
        self._id = options.disk_id or derived_uuid("vhdx", *facts)
        self._metadata = Metadata(
            block_size=self._block_size,
            leave_blocks_allocated=self._fixed,
            has_parent=False,
            virtual_disk_size=self.virtual_size,
            virtual_disk_id=str(self._id),
            logical_sector_size=SECTOR,
            physical_sector_size=_PHYSICAL_SECTOR,
            parent_locator={},
        )
        self._log_size = options.log_size
        self._metadata_at = _LOG_AT + options.log_size
        self._table_at = self._metadata_at + _METADATA_LENGTH
        self._ratio = chunk_ratio(self._metadata)
        entries = entry_count(self._metadata)
        # Of a disk of no bytes qemu counts the blocks before the first as 2^32-1.
        room = entries or 0xFFFF_FFFF // self._ratio
        self._table_length = -(-ENTRY * room // MIB) * MIB
        self._data_at = self._table_at + self._table_length
        # Behind each chunk's entries is that of a bitmap, which only a disk with a parent has.
        self._table = AscendingTable(
            self._table_at,
            entries,
            "little",
            width=ENTRY,
            unused=State.ZERO.to_bytes(ENTRY, "little") * self._ratio + bytes(ENTRY),
        )
        self._order = GrainOrder(self.virtual_size, GRAIN)
        self._block = -1  # the last one of the disk that has a place
        self._placed = 0  # how many have

    @property
    def length(self) -> int:
        """See `composer.Composer`."""
        return self._data_at + self._placed * self._block_size

    def begin(self) -> Iterator[Write]:
        """See `composer.Composer`.  A file that nobody finishes has no headers, and is none."""
        if self._fixed:
            yield from self._place_until(-(-self.virtual_size // self._block_size))

    def add(self, offset: int, data: Data) -> Iterator[Write]:
        """See `composer.Composer`."""
        view = self._order.take(offset, data)
        if not view:
            return
        if self._fixed:
            yield Write(self._data_at + offset, view)
            return
        # As all blocks of this data get their places in turn, it is in one piece in the file, too.
        first, inside = divmod(offset, self._block_size)
        place = self._placed - (first == self._block)
        self._block = max(self._block, first - 1)
        yield from self._place_until(-(-(offset + len(view)) // self._block_size))
        yield Write(self._data_at + place * self._block_size + inside, view)

    def add_packed(self, offset: int, packed: bytes) -> Iterator[Write]:
        """Not possible.

        Raises:
            ValueError: always.
        """
        raise ValueError("a VHDX is not compressed")

    def finish(self) -> Iterator[Write]:
        """See `composer.Composer`."""
        yield from self._table.finish()
        yield from _metadata_region(self._metadata, at=self._metadata_at)
        regions = sealed(self._region_table())
        for at in REGION_TABLE_OFFSETS:
            yield Write(at, regions)
        for number, at in enumerate(HEADER_OFFSETS, 1):
            yield Write(at, sealed(self._header(number)))
        yield Write(0, FILE_SIGNATURE + _CREATOR)

    def _place_until(self, end: int) -> Iterator[Write]:
        """Gives all blocks behind the last one that has a place one in turn, up to block `end`."""
        first = self._block + 1
        while first < end:
            chunk = first // self._ratio
            count = min(end, (chunk + 1) * self._ratio) - first
            at = self._data_at + self._placed * self._block_size
            value = at | State.FULLY_PRESENT
            yield from self._table.put(first + chunk, count, value, self._block_size)
            self._placed += count
            first += count
        self._block = first - 1

    def _header(self, sequence_number: int) -> bytes:
        header = Header(
            signature=b"head",
            checksum=0,
            sequence_number=sequence_number,
            file_write_guid=derived_uuid("vhdx-written", self._id).bytes_le,
            data_write_guid=derived_uuid("vhdx-changed", self._id).bytes_le,
            log_guid=NIL,
            log_version=0,
            version=1,
            log_length=self._log_size,
            log_offset=_LOG_AT,
        )
        return HEADER.pack(*header).ljust(HEADER_LENGTH, b"\0")

    def _region_table(self) -> bytes:
        entries = (
            RegionEntry(BAT_REGION, self._table_at, self._table_length, required=1),
            RegionEntry(METADATA_REGION, self._metadata_at, _METADATA_LENGTH, required=1),
        )
        header = TableHeader(b"regi", checksum=0, entry_count=len(entries), reserved=0)
        parts = TABLE_HEADER.pack(*header), *(REGION_ENTRY.pack(*entry) for entry in entries)
        return b"".join(parts).ljust(TABLE_LENGTH, b"\0")


def _metadata_region(metadata: Metadata, *, at: int) -> Iterator[Write]:
    """The table at host offset `at`, and the items behind it (section 2.6.2)."""
    flags = ParameterFlag.LEAVE_BLOCKS_ALLOCATED if metadata.leave_blocks_allocated else 0
    of_file, of_disk = ItemFlag.IS_REQUIRED, ItemFlag.IS_REQUIRED | ItemFlag.IS_VIRTUAL_DISK
    items = (
        (FILE_PARAMETERS, of_file, FILE_PARAMETERS_ITEM.pack(metadata.block_size, flags)),
        (VIRTUAL_DISK_SIZE, of_disk, metadata.virtual_disk_size.to_bytes(8, "little")),
        (LOGICAL_SECTOR_SIZE, of_disk, metadata.logical_sector_size.to_bytes(4, "little")),
        (PHYSICAL_SECTOR_SIZE, of_disk, metadata.physical_sector_size.to_bytes(4, "little")),
        (VIRTUAL_DISK_ID, of_disk, little_endian(metadata.virtual_disk_id)),
    )
    header = MetadataTableHeader(b"metadata", reserved=0, entry_count=len(items))
    table, content = [METADATA_TABLE_HEADER.pack(*header)], b""
    for kind, flag, item in items:
        entry = MetadataEntry(kind, TABLE_LENGTH + len(content), len(item), flag, reserved=0)
        table.append(METADATA_ENTRY.pack(*entry))
        content += item
    yield Write(at, b"".join(table))
    yield Write(at + TABLE_LENGTH, content)
