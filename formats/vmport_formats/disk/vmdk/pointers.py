"""How each kind of sparse extent writes where its grain tables and its grains are.

Sources: VMware, "Virtual Disk Format 5.0", "Grain Directories and Grain Tables in Sparse Extents",
"ESX Server Sparse Extents"; for seSparse, what qemu knows of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

from vmport_formats.disk.layer import Found
from vmport_formats.disk.vmdk.esx import COWD_TABLE, SESPARSE_TABLE
from vmport_formats.units import SECTOR

if TYPE_CHECKING:
    from vmport_formats.disk.vmdk.esx import Layout

_ZEROED: Final = 1
"""The entry for a grain of zeros, where the header says that there are such."""


class Pointers(Protocol):
    """The entries of one extent; offsets are in bytes from the beginning of its file."""

    @property
    def width(self) -> Literal[4, 8]:
        """Bytes of an entry, which is little-endian."""
        ...

    @property
    def packed(self) -> bool:
        """Whether grains are compressed."""
        ...

    @property
    def table_entries(self) -> int:
        """Entries in a grain table."""
        ...

    @property
    def table_step(self) -> int:
        """How much larger the entry of a table is that follows another; 0 where none does."""
        ...

    @property
    def grain_step(self) -> int:
        """How much larger the entry of a grain is that follows another."""
        ...

    def table(self, entry: int) -> int | None:
        """Where an entry of the directory says that a table is; None for none.

        Raises:
            ValueError: it cannot say so.
        """
        ...

    def grain(self, entry: int) -> tuple[Found, int]:
        """How an entry of a table says that a grain is found, and where.

        Raises:
            ValueError: it cannot say so.
        """
        ...

    def table_limit(self, size: int) -> int:
        """From here on, no entry is of a table in a file of `size` bytes."""
        ...

    def grain_limit(self, size: int) -> int:
        """From here on, no entry is of a grain in a file of `size` bytes."""
        ...


@dataclass(frozen=True, slots=True)
class SectorPointers:
    """Numbers of sectors, as ``KDMV`` and ``COWD`` have them."""

    table_entries: int
    grain_step: int
    """Sectors of a grain."""
    zeroed: bool
    """Whether there is an entry for a grain of zeros."""
    packed: bool
    width: Literal[4] = 4

    @property
    def table_step(self) -> int:
        """See `Pointers`; tables that end within a sector leave a gap."""
        size = self.table_entries * self.width
        return 0 if size % SECTOR else size // SECTOR

    def table(self, entry: int) -> int | None:
        """See `Pointers`."""
        return entry * SECTOR if entry else None

    def grain(self, entry: int) -> tuple[Found, int]:
        """See `Pointers`."""
        # Any number of a sector can be; what else lies there, the caller knows.
        if not entry:
            return Found.ABSENT, 0
        if entry == _ZEROED and self.zeroed:
            return Found.ZERO, 0
        return Found.PACKED if self.packed else Found.STORED, entry * SECTOR

    def table_limit(self, size: int) -> int:
        """See `Pointers`."""
        return max(_ZEROED + 1, -(-size // SECTOR))

    grain_limit = table_limit


def cowd_pointers(grain_size: int) -> SectorPointers:
    """Of a COWD with grains of `grain_size` bytes."""
    return SectorPointers(COWD_TABLE, grain_size // SECTOR, zeroed=False, packed=False)


_KIND: Final = 60
"""The bits of an seSparse entry from here on tell what it is."""
_ABSENT, _UNMAPPED, _ZERO, _STORED = range(4)
_TABLE: Final = 0x1000_0000
"""The upper half of the directory entry of a table that is there."""
_LOW_BITS: Final = 48


@dataclass(frozen=True, slots=True)
class SeSparsePointers:
    """Indices into an area of tables and one of grains; that of a grain is rotated by 12 bits."""

    layout: Layout
    grain_size: int
    packed: bool = False
    width: Literal[8] = 8
    table_entries: int = SESPARSE_TABLE
    table_step: int = 1
    grain_step: int = 1 << _LOW_BITS

    def table(self, entry: int) -> int | None:
        """See `Pointers`."""
        if not entry:
            return None
        if entry >> 32 != _TABLE:
            raise ValueError(f"is {entry:#x}, which is neither 0 nor {_TABLE:#x} and an index")
        index = entry & 0xFFFF_FFFF
        if index >= self._tables:
            raise ValueError(f"is for grain table {index}; there is room for {self._tables}")
        return self.layout.tables + index * self.table_entries * self.width

    @property
    def _tables(self) -> int:
        """How many there is room for."""
        size = self.layout.tables_end - self.layout.tables
        return size // (self.table_entries * self.width)

    def table_limit(self, size: int) -> int:
        """See `Pointers`."""
        return (_TABLE << 32) + self._tables

    def grain_limit(self, size: int) -> int:
        """See `Pointers`."""
        return _STORED + 1 << _KIND

    def grain(self, entry: int) -> tuple[Found, int]:
        """See `Pointers`."""
        match entry >> _KIND:
            case 0 if not entry:
                return Found.ABSENT, 0
            case 1 | 2:  # what the guest has discarded reads as zeros too
                return Found.ZERO, 0
            case 3:
                low, high = entry & ((1 << _LOW_BITS) - 1), entry >> _LOW_BITS & 0xFFF
                return Found.STORED, self.layout.grains + (low << 12 | high) * self.grain_size
        raise ValueError(f"is {entry:#x}, which is no kind that is known")
