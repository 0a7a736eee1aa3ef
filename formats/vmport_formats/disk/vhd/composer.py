"""Composes a VHD: fixed, as Azure wants it, or dynamic.

Sources: Microsoft's VHD specification 1.0; for what counts as a disk's size, the behaviour of qemu.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from vmport_formats.disk.ascending import AscendingTable, GrainOrder
from vmport_formats.disk.composer import Composer, Write
from vmport_formats.disk.identity import derived_uuid
from vmport_formats.disk.vhd.geometry import LARGEST, geometry_reaching, geometry_within
from vmport_formats.disk.vhd.layout import (
    COOKIE,
    EPOCH,
    FOOTER_LENGTH,
    HEADER_COOKIE,
    HEADER_LENGTH,
    MAX_SECTORS,
    DiskType,
    DynamicHeader,
    Footer,
    pack_footer,
    pack_header,
)
from vmport_formats.units import MIB, SECTOR, Bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from vmport_formats.disk.composer import Data
    from vmport_formats.disk.vhd.geometry import Geometry

GRAIN: Final = 1 << 16
BLOCK: Final = 2 * MIB
"""The only size that every reader knows."""
MAX_SIZE: Final = Bytes(MAX_SECTORS * SECTOR)
"""2040 GiB, though a fixed disk has no table: qemu opens no larger one."""

_VERSION: Final = 0x0001_0000
_FEATURES: Final = 2  # the bit that is always set
_NOWHERE: Final = 0xFFFF_FFFF_FFFF_FFFF
_LATEST: Final = EPOCH + 0xFFFF_FFFF
# "The current size counts, not the geometry": of all names that qemu before 10 knows to mean that,
# the one that claims no product of someone else's.  Other readers do not look at it.
_CREATOR: Final = b"qem2"
_CREATOR_VERSION: Final = 0x0005_0003
_CREATOR_HOST_OS: Final = b"Wi2k"

_HEADER_AT: Final = FOOTER_LENGTH
_TABLE_AT: Final = _HEADER_AT + HEADER_LENGTH
_ENTRIES_A_SECTOR: Final = SECTOR // 4
# A block is there as a whole: what was not written in it is stored as zeros.
_BITMAP: Final = b"\xff" * (BLOCK // SECTOR // 8)


class Subformat(StrEnum):
    """The kinds that can be composed, by qemu's names."""

    DYNAMIC = "dynamic"
    FIXED = "fixed"


@dataclass(frozen=True, slots=True)
class VhdOptions:
    """How a VHD is to be.

    Raises:
        ValueError: on creation, if they do not go together or are out of range.
    """

    subformat: Subformat = Subformat.DYNAMIC
    force_size: bool = True
    """Keep the size of the disk; otherwise it grows to what a geometry can count, as in Virtual PC.

    Above 127 GiB no geometry counts, and the size is kept.
    """
    whole_mebibytes: bool = False
    """Let the disk grow to a whole number of MiB, as Azure wants."""
    unique_id: UUID | None = None
    """Tells the disk from others, and a child finds its parent by it.

    None: it follows from the size and the options, so disks of one size share it.
    """
    created: int = EPOCH
    """Seconds since 1970; the file says when it was made."""

    def __post_init__(self) -> None:
        Subformat(self.subformat)
        if self.whole_mebibytes and not self.force_size:
            raise ValueError("no geometry counts whole MiB; whole_mebibytes needs force_size")
        if not EPOCH <= self.created <= _LATEST:
            raise ValueError(f"created is {self.created}; must be {EPOCH} to {_LATEST}")


def vhd_composer(size: int, options: VhdOptions = VhdOptions()) -> Composer:
    """The composer for a disk of `size` bytes, which are rounded up to sectors.

    Raises:
        ValueError: the size is negative, or above `MAX_SIZE`.
    """
    if size < 0:
        raise ValueError(f"a disk cannot have {size} bytes")
    unit = MIB if options.whole_mebibytes else SECTOR
    sectors = -(-size // unit) * unit // SECTOR
    if options.force_size:
        geometry = geometry_within(sectors)
    else:
        geometry = geometry_reaching(sectors)
        if geometry != LARGEST:
            sectors = geometry.total
    if sectors > MAX_SECTORS:
        raise ValueError(f"a disk of {size} bytes; a VHD holds at most {MAX_SIZE}")
    if options.subformat == Subformat.FIXED:
        return _FixedComposer(sectors * SECTOR, geometry, options)
    return _DynamicComposer(sectors * SECTOR, geometry, options)


class _Base:
    """What both kinds have."""

    grain = GRAIN
    pack = None

    def __init__(
        self, size: int, geometry: Geometry, options: VhdOptions, disk_type: DiskType
    ) -> None:
        self.virtual_size = size
        self._order = GrainOrder(size, GRAIN)
        unique_id = options.unique_id or derived_uuid("vhd", size, *_facts(options))
        self._footer = pack_footer(
            Footer(
                cookie=COOKIE,
                features=_FEATURES,
                version=_VERSION,
                data_offset=_NOWHERE if disk_type is DiskType.FIXED else _HEADER_AT,
                time_stamp=options.created - EPOCH,
                creator_application=_CREATOR,
                creator_version=_CREATOR_VERSION,
                creator_host_os=_CREATOR_HOST_OS,
                original_size=size,
                current_size=size,
                cylinders=geometry.cylinders,
                heads=geometry.heads,
                sectors=geometry.sectors,
                disk_type=disk_type,
                checksum=0,
                unique_id=unique_id.bytes,
                saved_state=0,
            )
        )

    def add_packed(self, offset: int, packed: bytes) -> Iterator[Write]:
        """Not possible.

        Raises:
            ValueError: always.
        """
        raise ValueError("a VHD is not compressed")


class _FixedComposer(_Base):
    """The bytes of the disk, then a footer."""

    def __init__(self, size: int, geometry: Geometry, options: VhdOptions) -> None:
        super().__init__(size, geometry, options, DiskType.FIXED)
        self.length = size + FOOTER_LENGTH

    def begin(self) -> Iterator[Write]:
        """See `composer.Composer`."""
        yield from ()

    def add(self, offset: int, data: Data) -> Iterator[Write]:
        """See `composer.Composer`."""
        view = self._order.take_clipped(offset, data)
        if view:
            yield Write(offset, view)

    def finish(self) -> Iterator[Write]:
        """See `composer.Composer`."""
        yield Write(self.virtual_size, self._footer)


class _DynamicComposer(_Base):
    """A copy of the footer, a header, a block table, blocks in the disk's order, a footer."""

    def __init__(self, size: int, geometry: Geometry, options: VhdOptions) -> None:
        super().__init__(size, geometry, options, DiskType.DYNAMIC)
        self._entries = -(-size // BLOCK)
        room = -(-self._entries // _ENTRIES_A_SECTOR) * _ENTRIES_A_SECTOR
        self._table = AscendingTable(_TABLE_AT, room, "big")
        self._end = _TABLE_AT + 4 * room
        self._block = -1
        self._data = 0  # where that of the last block is

    @property
    def length(self) -> int:
        """See `composer.Composer`."""
        return self._end + FOOTER_LENGTH

    def begin(self) -> Iterator[Write]:
        """See `composer.Composer`."""
        header = DynamicHeader(
            cookie=HEADER_COOKIE,
            data_offset=_NOWHERE,
            table_offset=_TABLE_AT,
            header_version=_VERSION,
            max_table_entries=self._entries,
            block_size=BLOCK,
            checksum=0,
            parent_unique_id=bytes(16),
            parent_time_stamp=0,
            reserved=0,
            parent_unicode_name=b"",
        )
        yield Write(0, self._footer)
        yield Write(_HEADER_AT, pack_header(header))

    def add(self, offset: int, data: Data) -> Iterator[Write]:
        """See `composer.Composer`."""
        view = self._order.take(offset, data)
        done = 0
        while done < len(view):
            block, inside = divmod(offset + done, BLOCK)
            if block != self._block:
                yield from self._table.put(block, 1, self._end // SECTOR)
                yield Write(self._end, _BITMAP)
                self._block = block
                self._data = self._end + len(_BITMAP)
                self._end = self._data + BLOCK
            part = view[done : done + BLOCK - inside]
            yield Write(self._data + inside, part)
            done += len(part)

    def finish(self) -> Iterator[Write]:
        """See `composer.Composer`."""
        yield from self._table.finish()
        yield Write(self._end, self._footer)


def _facts(options: VhdOptions) -> tuple[object, ...]:
    """Those from which an id follows."""
    return options.subformat, options.force_size, options.whole_mebibytes, options.created
