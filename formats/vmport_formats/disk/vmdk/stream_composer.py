"""Composes a streamOptimized VMDK, as ESXi takes it: compressed grains, each with its marker.

    header | descriptor | grains, table | grains, table | ... | directory | footer | end of stream

What comes later is further behind, so that the file can be sent while it is made.  A table follows
the grains that it places; one of no grains is not there, and its entry in the directory is 0.

Sources: VMware, "Virtual Disk Format 5.0", "Stream-Optimized Compressed Sparse Extents"; ESXi
refuses version 1 ("sparse VMDK version too old").
"""

from __future__ import annotations

import zlib
from array import array
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final

from vmport_formats.disk.composer import Write
from vmport_formats.disk.packing import Effort, zlib_fast, zlib_small
from vmport_formats.disk.vmdk.description import AdapterType, Description
from vmport_formats.disk.vmdk.sparse import (
    AT_END,
    GRAIN_MARKER,
    MAGIC,
    NEWLINES,
    Flag,
    Marker,
    SparseHeader,
)
from vmport_formats.disk.vmdk.written_tables import (
    DESCRIPTOR_AT,
    DESCRIPTOR_SECTORS,
    GRAIN,
    GRAIN_SECTORS,
    TABLE_ENTRIES,
    TABLE_SECTORS,
    GrainTables,
    Table,
    capacity_of,
    check_fits,
    little,
)
from vmport_formats.units import SECTOR, Bytes, sectors_to_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vmport_formats.disk.composer import Data

_COMPRESSIONS: Final[dict[Effort, Callable[[Data], bytes]]] = {
    Effort.FAST: zlib_fast,
    Effort.SMALL: zlib_small,
}
_OVERHEAD: Final = GRAIN_SECTORS
_PADDING: Final = bytes(SECTOR)
_DIRECTORY_PART: Final = 1 << 16
"""Entries of the directory that are written at a time."""


@dataclass(frozen=True, slots=True)
class StreamOptions(Description):
    """How a streamOptimized VMDK is written: by default, as ESXi wants it."""

    adapter_type: str = AdapterType.LSILOGIC
    whole_grains: bool = True
    compression: Effort = Effort.FAST

    def __post_init__(self) -> None:
        """Raises ValueError for a value that cannot be written."""
        Description.__post_init__(self)
        if self.compression not in _COMPRESSIONS:
            raise ValueError(f"compression is one of {', '.join(_COMPRESSIONS)}")


class StreamComposer:
    """See `composer.Composer`; what it writes goes up in the file, and nothing is written twice."""

    grain: Final = int(GRAIN)

    def __init__(self, size: int, options: StreamOptions | None = None) -> None:
        """Of a disk of `size` bytes, rounded up to a grain, or to a sector where `options` say so.

        Raises:
            ValueError: there is no disk of this size.
        """
        self._options = options or StreamOptions()
        self._capacity = capacity_of(size, whole_grains=self._options.whole_grains)
        self._deflate = _COMPRESSIONS[self._options.compression]
        self._tables = GrainTables(-(-self._capacity // GRAIN_SECTORS))
        self._numbers = array("Q")
        self._places = array("I")
        self._end = int(_OVERHEAD)

    @property
    def virtual_size(self) -> Bytes:
        """Of the disk as it is written."""
        return sectors_to_bytes(self._capacity)

    @property
    def length(self) -> int:
        """See `Composer`."""
        return self._end * SECTOR

    def pack(self, data: Data) -> bytes:
        """See `Composer`; what cannot be compressed is a stream too, which is a little longer."""
        packed = self._deflate(data)
        return packed if len(packed) < GRAIN else zlib.compress(data, 0)

    def begin(self) -> Iterator[Write]:
        """See `Composer`."""
        yield Write(0, self._header(AT_END))
        text = self._options.text("streamOptimized", self._capacity)
        yield Write(DESCRIPTOR_AT * SECTOR, text)

    def add(self, offset: int, data: Data) -> Iterator[Write]:
        """See `Composer`: there is no grain that is not packed, so they are packed here."""
        if len(data) % GRAIN:
            raise ValueError(f"{len(data)} bytes at {offset} are no whole grains")
        view = memoryview(data)
        for place in range(0, len(data), GRAIN):
            yield from self.add_packed(offset + place, self.pack(view[place : place + GRAIN]))

    def add_packed(self, offset: int, packed: bytes) -> Iterator[Write]:
        """See `Composer`.

        Raises:
            OutputError: the file is larger than its tables can express.
        """
        writes = []
        if table := self._tables.before(offset):
            writes.append(self._table(table))
        self._tables.put_one(offset, self._end)
        writes.append(self._append(GRAIN_MARKER.pack(offset // SECTOR, len(packed)), packed))
        return iter(writes)

    def finish(self) -> Iterator[Write]:
        """See `Composer`."""
        if table := self._tables.last():
            yield self._table(table)
        sectors = -(-4 * self._tables.count // SECTOR)
        yield self._append(Marker.GRAIN_DIRECTORY.of(sectors))
        at = self._end
        yield from self._directory(at * SECTOR)
        self._end += sectors
        check_fits(self._end)
        yield self._append(Marker.FOOTER.of(1), self._header(at))
        yield self._append(Marker.END_OF_STREAM.of(0))

    def _header(self, directory: int) -> bytes:
        zeroed = Flag.ZEROED_GRAINS if self._options.zeroed_grain else 0
        return SparseHeader(
            MAGIC,
            version=3,
            flags=Flag.NEWLINE_DETECTION | Flag.COMPRESSED_GRAINS | Flag.MARKERS | zeroed,
            capacity=self._capacity,
            grain_size=GRAIN_SECTORS,
            descriptor_offset=DESCRIPTOR_AT,
            descriptor_size=DESCRIPTOR_SECTORS,
            num_gtes_per_gt=TABLE_ENTRIES,
            rgd_offset=0,
            gd_offset=directory,
            overhead=_OVERHEAD,
            unclean_shutdown=0,
            newline_characters=NEWLINES,
            compress_algorithm=1,
        ).sector()

    def _directory(self, at: int) -> Iterator[Write]:
        """Its parts that have an entry, which are as many as there is data for."""
        for _, group in groupby(range(len(self._numbers)), self._part_of):
            indices = list(group)
            start = self._numbers[indices[0]]
            part = array("I", bytes(4 * (self._numbers[indices[-1]] + 1 - start)))
            for index in indices:
                part[self._numbers[index] - start] = self._places[index]
            yield Write(at + 4 * start, little(part))

    def _part_of(self, index: int) -> int:
        return self._numbers[index] // _DIRECTORY_PART

    def _table(self, table: Table) -> Write:
        check_fits(self._end + 1 + TABLE_SECTORS)
        self._numbers.append(table.number)
        self._places.append(self._end + 1)  # behind its marker
        return self._append(Marker.GRAIN_TABLE.of(TABLE_SECTORS), table.data)

    def _append(self, head: bytes, rest: bytes = b"") -> Write:
        """These bytes at the end of the file, filled up to a sector."""
        at = self._end * SECTOR
        length = len(head) + len(rest)
        self._end += -(-length // SECTOR)
        return Write(at, b"".join((head, rest, _PADDING[: -length % SECTOR])))
