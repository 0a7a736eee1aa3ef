"""Where a qcow2 file keeps its persistent bitmaps: the table of each, and the table's entries.

Source: qemu's ``docs/interop/qcow2.rst``, "Bitmaps".
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.disk.placements import Beyond, entries
from vmport_formats.disk.qcow2.entries import OFFSET
from vmport_formats.disk.qcow2.tables import read_bitmaps
from vmport_formats.source import read_exactly

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.check import Faults
    from vmport_formats.disk.qcow2.extensions import BitmapsPointer
    from vmport_formats.disk.qcow2.header import Header
    from vmport_formats.source import ByteSource

_ENTRY = Struct(">QIIBBHI")
_RESERVED: Final = 0xFF00_0000_0000_01FE
_ALL_ONES: Final = 1


class BitmapTable(NamedTuple):
    """The table of one bitmap."""

    place: int
    """Of its directory entry."""
    at: int
    size: int
    """Entries of 8 bytes."""

    def entries(
        self, source: ByteSource, cluster_size: int, faults: Faults
    ) -> Iterator[tuple[int, int, str | None]]:
        """Of each that is not 0, its place, where it points (0: nowhere), and what is wrong.

        Those behind the end of the file do not come when `faults` has heard of enough.
        """
        size = source.size
        found = entries(
            source,
            self.at,
            self.size,
            width=8,
            order="big",
            marks={0},
            step=0,
            # Larger ones set bits that are reserved, or say that all bits are set and yet point.
            beyond=Beyond(max(_ALL_ONES + 1, size), faults),
        )
        for index, _, entry in found:
            yield (self.at + 8 * index, *_pointed(entry, size, cluster_size))


def _pointed(entry: int, size: int, cluster_size: int) -> tuple[int, str | None]:
    at = entry & OFFSET
    if entry & _RESERVED:
        return 0, f"sets bits that are reserved: {entry & _RESERVED:#x}"
    if at and entry & _ALL_ONES:
        return 0, f"says that all bits are set, and yet points to {at:#x}"
    if at % cluster_size:
        return 0, f"points to {at:#x}, inside a cluster"
    if at >= size:
        return 0, f"points to {at:#x}, but the file ends at {size:#x}"
    return at, None


def bitmap_tables(source: ByteSource, header: Header, pointer: BitmapsPointer) -> list[BitmapTable]:
    """The tables of all bitmaps.

    Raises:
        CorruptInput: as `tables.read_bitmaps`.
    """
    read_bitmaps(source, header, pointer)  # keeps its rules, so that it can be walked
    base = pointer.directory_offset
    directory = read_exactly(source, base, pointer.directory_size, what="the bitmap directory")
    found, offset = [], 0
    for _ in range(pointer.number):
        at, size, _, _, _, name, extra = _ENTRY.unpack_from(directory, offset)
        found.append(BitmapTable(base + offset, at, size))
        offset = -(-(offset + _ENTRY.size + extra + name) // 8) * 8
    return found
