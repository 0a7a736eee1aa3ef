"""Grain tables while an extent is written: one at a time, for what is behind the data is done."""

from __future__ import annotations

import sys
from array import array
from typing import Final, NamedTuple

from vmport_formats.errors import OutputError
from vmport_formats.units import KIB, SECTOR, Sectors, format_size

GRAIN: Final = 64 * KIB
"""Bytes of a grain; ESX takes no other size."""
GRAIN_SECTORS: Final = GRAIN // SECTOR
TABLE_ENTRIES: Final = 512
"""Grains of a table; VMware takes no other number."""
TABLE_SECTORS: Final = Sectors(4 * TABLE_ENTRIES // SECTOR)
DESCRIPTOR_AT: Final = Sectors(1)
DESCRIPTOR_SECTORS: Final = Sectors(20)
_REACH: Final = GRAIN * TABLE_ENTRIES
"""Bytes of the disk that a table is for."""
_NOTHING: Final = bytes(4 * TABLE_ENTRIES)
_LAST: Final = (1 << 32) - 1


def capacity_of(size: int, *, whole_grains: bool) -> Sectors:
    """The sectors of a disk of `size` bytes.

    Raises:
        ValueError: a VMDK has at least one sector.
    """
    if size < 1:
        raise ValueError(f"a VMDK has at least one sector, not {size} bytes")
    unit = GRAIN if whole_grains else SECTOR
    return Sectors(-(-size // unit) * unit // SECTOR)


class Table(NamedTuple):
    """A grain table with something in it, which no later data can change."""

    number: int
    data: bytes


class GrainTables:
    """Where the grains are, as they come; holds one table."""

    def __init__(self, grains: int) -> None:
        self._grains = grains
        self._next = 0
        self._number = 0
        self._entries = array("I", _NOTHING)
        self._empty = True

    @property
    def count(self) -> int:
        """How many tables a disk of this size has."""
        return -(-self._grains // TABLE_ENTRIES)

    def put(self, offset: int, length: int, sector: int) -> list[Table]:
        """The grains at `offset` of the disk lie one behind the other from `sector` on.

        Returns:
            the tables that are complete.

        Raises:
            ValueError: these are no whole grains of the disk, or not behind all that came before.
            OutputError: the file is larger than entries can express.
        """
        first, end = self._take(offset, length, sector)
        complete = []
        while first < end:
            if table := self.before(first * GRAIN):
                complete.append(table)
            self._number, index = divmod(first, TABLE_ENTRIES)
            some = min(end - first, TABLE_ENTRIES - index)
            following = sector + some * GRAIN_SECTORS
            self._entries[index : index + some] = array(
                "I", range(sector, following, GRAIN_SECTORS)
            )
            self._empty = False
            first, sector = first + some, following
        return complete

    def put_one(self, offset: int, sector: int) -> None:
        """The grain at `offset` of the disk lies at `sector`; `before` was called for it.

        Raises:
            ValueError, OutputError: as `put`.
        """
        grain, _ = self._take(offset, GRAIN, sector)
        self._number, index = divmod(grain, TABLE_ENTRIES)
        self._entries[index] = sector
        self._empty = False

    def before(self, offset: int) -> Table | None:
        """The table that is complete when the next grain is the one at `offset` of the disk."""
        return None if offset // _REACH == self._number else self.last()

    def last(self) -> Table | None:
        """The table that is being filled, if anything is in it."""
        if self._empty:
            return None
        entries, self._entries = self._entries, array("I", _NOTHING)
        self._empty = True
        return Table(self._number, little(entries))

    def _take(self, offset: int, length: int, sector: int) -> tuple[int, int]:
        """The grains from one up to another, when they are whole, in order, and can be placed."""
        first, end = offset // GRAIN, (offset + length) // GRAIN
        if (offset | length) % GRAIN or not self._next <= first or end > self._grains:
            raise ValueError(
                f"{length} bytes at {offset}, where grain {self._next} of {self._grains} is due"
            )
        if sector + (end - first) * GRAIN_SECTORS > _LAST:
            raise _too_large()
        self._next = end
        return first, end


def little(entries: array[int]) -> bytes:
    """Entries of a table or directory as they are in a file; they may be swapped in place."""
    if sys.byteorder == "big":
        entries.byteswap()
    return entries.tobytes()


def check_fits(sectors: int) -> None:
    """That all the sectors of a file can be named in 32 bits.

    Raises:
        OutputError: they cannot.
    """
    if sectors > _LAST:
        raise _too_large()


def _too_large() -> OutputError:
    return OutputError(
        None,
        code="vmdk.file-full",
        problem="the disk has more data than one VMDK file can hold, which ends at "
        f"{format_size((_LAST + 1) * SECTOR)}",
        hint="a VMDK of several files (-o subformat=twoGbMaxExtentSparse), qcow2 and VHDX have "
        "room for it",
    )
