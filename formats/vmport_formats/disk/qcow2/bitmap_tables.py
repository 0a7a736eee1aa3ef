"""Where a qcow2 file keeps its persistent bitmaps: the table of each, and the table's entries.

Source: qemu's ``docs/interop/qcow2.rst``, "Bitmaps".
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.disk.numbers import decoded, reach
from vmport_formats.disk.qcow2.entries import OFFSET
from vmport_formats.disk.qcow2.tables import read_bitmaps
from vmport_formats.source import read_exactly

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.qcow2.extensions import BitmapsPointer
    from vmport_formats.disk.qcow2.header import Header
    from vmport_formats.source import ByteSource

_ENTRY = Struct(">QIIBBHI")
_RESERVED: Final = 0xFF00_0000_0000_01FE
_ALL_ONES: Final = 1
_BATCH: Final = 1 << 16


class BitmapTable(NamedTuple):
    """The table of one bitmap."""

    place: int
    """Of its directory entry."""
    at: int
    size: int
    """Entries of 8 bytes."""

    def entries(
        self, source: ByteSource, cluster_size: int
    ) -> Iterator[tuple[int, int, str | None]]:
        """Of each that is not 0, its place, where it points (0: nowhere), and what is wrong."""
        for first in range(0, self.size, _BATCH):
            start = self.at + 8 * first
            if start >= source.size:
                return
            data = source.read_at(start, 8 * min(_BATCH, self.size - first))
            entries = decoded(data[: len(data) // 8 * 8], 8, "big")
            index = 0
            while index < len(entries):
                entry = entries[index]
                if entry:
                    yield (start + 8 * index, *_pointed(entry, source.size, cluster_size))
                    index += 1
                else:
                    index += reach(entries, index, len(entries), 0)


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
