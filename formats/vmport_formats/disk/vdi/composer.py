"""Composes a VDI, dynamic or static, as VirtualBox lays it out since version 4.

Source: VirtualBox's ``VDICore.h``.  Block map and blocks begin at whole MiB, so the data of the
disk is aligned in the file, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

from vmport_formats.disk.ascending import AscendingTable, GrainOrder
from vmport_formats.disk.composer import Write
from vmport_formats.disk.identity import derived_uuid
from vmport_formats.disk.vdi.info import Header, ImageType, pack_header
from vmport_formats.units import MIB, SECTOR, Bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.composer import Data

GRAIN: Final = 1 << 16
BLOCK: Final = MIB
"""The only size that qemu knows."""
MAX_SIZE: Final = Bytes((0xFFF0_0000 - MIB) // 4 * BLOCK)
"""A little less than 1 PiB: behind a larger map, the 32-bit offset of the data would not reach."""

_TEXT: Final = b"<<< VirtualBox Disk Image by vmport >>>\n"
_HEADER_SIZE: Final = 400
_MAP_AT: Final = MIB
_NIL: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class VdiOptions:
    """How a VDI is to be.

    Raises:
        ValueError: on creation, if an id is all zeros, which VirtualBox does not open.
    """

    static: bool = False
    """All blocks have their place from the start; those of zeros are holes of the file."""
    uuid: UUID | None = None
    """Tells the disk from others; VirtualBox takes no two of the same.

    None: it follows from the size and the options, so disks of one size share it.
    """
    modification_uuid: UUID | None = None
    """Tells what the disk holds from what it held before a change; None: it follows from `uuid`."""

    def __post_init__(self) -> None:
        if _NIL in (self.uuid, self.modification_uuid):
            raise ValueError("an id of zeros is none")


class VdiComposer:
    """A `composer.Composer`."""

    grain = GRAIN
    pack = None

    def __init__(self, size: int, options: VdiOptions = VdiOptions()) -> None:
        """`size` is that of the disk in bytes; it is rounded up to sectors.

        Raises:
            ValueError: it is negative, or above `MAX_SIZE`.
        """
        if size < 0:
            raise ValueError(f"a disk cannot have {size} bytes")
        if size > MAX_SIZE:
            raise ValueError(f"a disk of {size} bytes; a VDI holds at most {MAX_SIZE}")
        self.virtual_size = -(-size // SECTOR) * SECTOR
        self._static = options.static
        self._uuid = options.uuid or derived_uuid("vdi", self.virtual_size, options.static)
        self._modification = options.modification_uuid or derived_uuid("vdi-changed", self._uuid)
        self._blocks = -(-size // BLOCK)
        self._data_at = -(-(_MAP_AT + 4 * self._blocks) // MIB) * MIB
        self._map = AscendingTable(_MAP_AT, self._blocks, "little")
        self._order = GrainOrder(self.virtual_size, GRAIN)
        self._block = -1  # the last one of the disk that has a place
        self._placed = 0  # how many have

    @property
    def length(self) -> int:
        """See `composer.Composer`."""
        return self._data_at + self._placed * BLOCK

    def begin(self) -> Iterator[Write]:
        """See `composer.Composer`.  How many blocks there are is known at the end, so it is little.

        A file that nobody finishes has no header, and is none.
        """
        if self._static:
            self._placed = self._blocks
            yield from self._map.put(0, self._blocks, 0)

    def add(self, offset: int, data: Data) -> Iterator[Write]:
        """See `composer.Composer`."""
        view = self._order.take(offset, data)
        if not view:
            return
        if self._static:
            yield Write(self._data_at + offset, view)
            return
        # As all blocks of this data get their places in turn, it is in one piece in the file, too.
        first, inside = divmod(offset, BLOCK)
        end = -(-(offset + len(view)) // BLOCK)
        place = self._placed - (first == self._block)
        new = max(first, self._block + 1)
        yield from self._map.put(new, end - new, self._placed)
        self._placed += end - new
        self._block = end - 1
        yield Write(self._data_at + place * BLOCK + inside, view)

    def add_packed(self, offset: int, packed: bytes) -> Iterator[Write]:
        """Not possible.

        Raises:
            ValueError: always.
        """
        raise ValueError("a VDI is not compressed")

    def finish(self) -> Iterator[Write]:
        """See `composer.Composer`."""
        yield from self._map.finish()
        header = Header(
            header_size=_HEADER_SIZE,
            image_type=ImageType.FIXED if self._static else ImageType.DYNAMIC,
            flags=0,
            comment=b"",
            blocks_offset=_MAP_AT,
            data_offset=self._data_at,
            cylinders=0,
            heads=0,
            sectors=0,
            sector_size=SECTOR,
            unused=0,
            disk_size=self.virtual_size,
            block_size=BLOCK,
            block_extra=0,
            blocks=self._blocks,
            blocks_allocated=self._placed,
            uuid_create=self._uuid.bytes_le,
            uuid_modify=self._modification.bytes_le,
            uuid_linkage=_NIL.bytes_le,
            uuid_parent_modify=_NIL.bytes_le,
        )
        yield Write(0, pack_header(_TEXT, header))
