"""Composes a qcow2 image: its clusters as they come, each table as soon as it is complete.

The file begins with the header and the L1 table, of which only the places are known at first.
Then come clusters, L2 tables and refcount blocks in the order in which they are complete, and the
refcount table at the end.  Compressed clusters lie byte to byte, as qemu has them: one begins where
the one before ends, as long as nothing else has come between that it would have to go around.

Source: qemu's ``docs/interop/qcow2.rst``.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final

from vmport_formats.disk.composer import Write, zeros_to_write
from vmport_formats.disk.numbers import encoded, progression
from vmport_formats.disk.packing import (
    Effort,
    narrow_deflate_fast,
    narrow_deflate_small,
    zstd_fast,
    zstd_small,
)
from vmport_formats.disk.qcow2.allocation import Allocation
from vmport_formats.disk.qcow2.entries import ALL_ZEROS, COMPRESSED, COPIED
from vmport_formats.disk.qcow2.first_cluster import Tables, first_cluster
from vmport_formats.disk.qcow2.header import Compression
from vmport_formats.disk.qcow2.options import Preallocation
from vmport_formats.units import KIB, SECTOR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vmport_formats.disk.composer import Data
    from vmport_formats.disk.qcow2.options import Qcow2Options

_GRAIN: Final = 64 * KIB
"""What is looked for zeros at the most, so that a large cluster is not stored for a little data."""
_SUBCLUSTERS: Final = 32
_PACKS: Final = {
    (Compression.ZLIB, Effort.FAST): narrow_deflate_fast,
    (Compression.ZLIB, Effort.SMALL): narrow_deflate_small,
    (Compression.ZSTD, Effort.FAST): zstd_fast,
    (Compression.ZSTD, Effort.SMALL): zstd_small,
}


class Qcow2Composer:
    """A `Composer` of one qcow2 file without encryption, snapshots, bitmaps or external data.

    With a backing file it is an `OverlayComposer`.
    """

    def __init__(self, virtual_size: int, options: Qcow2Options) -> None:
        """A disk of `virtual_size` bytes, which the image rounds up to whole sectors, as qemu does.

        Raises:
            ValueError: the format, with these options, has no place for so large a disk.
        """
        self._options = options
        self.virtual_size = -(-virtual_size // SECTOR) * SECTOR
        """See `Composer.virtual_size`."""
        self._size = options.cluster_size
        self._bits = options.cluster_bits
        self._whole = options.compress is not None or options.backing_file is not None
        self._l1_size = options.l1_size(self.virtual_size)
        self._l1 = array("Q")
        self._space = Allocation(self._size, options.refcount_bits)
        self._next = 0
        """Disk offset where what comes next may begin."""

        self._words = 2 if options.extended_l2 else 1
        """Of 8 bytes, that an L2 entry has."""
        self._table = -1
        """Number of the L2 table that is being filled."""
        self._begin = 0
        """Index of the first entry in `_entries`."""
        self._entries = array("Q")
        self._cluster = -1
        """Number of the last cluster, of the disk, that is stored as it is."""
        self._at = 0
        """Its host offset."""
        self._tail = 0
        """Host offset behind the last compressed cluster, to which the next can be joined."""

    @property
    def grain(self) -> int:
        """See `Composer.grain`."""
        return self._size if self._whole else min(self._size, _GRAIN)

    @property
    def pack(self) -> Callable[[Data], bytes | None] | None:
        """See `Composer.pack`."""
        if self._options.compress is None:
            return None
        compressed = _PACKS[self._options.compression_type, self._options.compress]
        size = self._size

        def pack(data: Data) -> bytes | None:
            packed = compressed(data)
            return packed if len(packed) < size else None

        return pack

    @property
    def length(self) -> int:
        """See `Composer.length`."""
        return self._space.end * self._size

    def begin(self) -> Iterator[Write]:
        """See `Composer.begin`: nothing is known yet, but the places of the header and L1 table."""
        self._space.take(1 + -(-8 * self._l1_size // self._size))
        yield from ()

    def add(self, offset: int, data: Data) -> Iterator[Write]:
        """See `Composer.add`."""
        view = memoryview(data)
        before = self._next
        end = self._advance(offset, len(view))
        yield from self._allocate(before, offset)
        done = 0
        while offset < end:
            cluster = offset // self._size
            if cluster == self._cluster:
                stop = min(end, (cluster + 1) * self._size)
                if self._options.extended_l2:
                    self._entries[-1] |= self._subclusters(offset, stop)
            else:
                yield from self._enter(cluster)
                stop = min(end, self._table_end)
                self._store(offset, stop)
            place = self._at + offset - self._cluster * self._size
            yield Write(place, view[done : done + stop - offset])
            done += stop - offset
            offset = stop

    def add_packed(self, offset: int, packed: bytes) -> Iterator[Write]:
        """See `Composer.add_packed`."""
        self._advance(offset, self._size)
        yield from self._enter(offset // self._size)
        size = len(packed)
        if not 0 < size < self._size:
            raise ValueError(f"{size} bytes of a compressed cluster; must be less than a cluster")
        at = self._place_packed(size)
        sectors = (at + size - 1) // SECTOR - at // SECTOR
        entry = COMPRESSED | sectors << (70 - self._bits) | at
        self._append(offset // self._size, array("Q", [entry, 0][: self._words]))
        yield Write(at, packed)

    def add_zeros(self, offset: int, length: int) -> Iterator[Write]:
        """See `OverlayComposer.add_zeros`."""
        end = self._advance(offset, length)
        while offset < end:
            cluster = offset // self._size
            yield from self._enter(cluster)
            stop = min(end, self._table_end)
            count = -(-(stop - offset) // self._size)
            if self._options.version == 2:  # it has no mark for them, but the file can have a hole
                self._store(offset, stop)
            elif self._options.extended_l2:
                marks = array("Q", [0, _mask(0, _SUBCLUSTERS) << _SUBCLUSTERS])
                self._append(cluster, marks * count)
            else:
                self._append(cluster, array("Q", [ALL_ZEROS]) * count)
            offset = stop

    def finish(self) -> Iterator[Write]:
        """See `Composer.finish`."""
        yield from self._allocate(self._next, self.virtual_size)
        yield from self._leave()
        yield from self._space.finish()
        if self._l1:
            yield Write(self._size, encoded(self._l1, "big"))
        tables = Tables(
            l1_at=self._size if self._l1_size else 0,
            l1_size=self._l1_size,
            refcount_at=self._space.table_at,
            refcount_clusters=self._space.table_clusters,
        )
        yield Write(0, first_cluster(self._options, self.virtual_size, tables))

    def _advance(self, offset: int, length: int) -> int:
        """Where this part of the disk ends, which is in order and in whole grains."""
        end = offset + length
        if offset % self.grain or (length % self.grain and end != self.virtual_size):
            raise ValueError(f"{length} bytes at {offset}; must be whole grains of {self.grain}")
        if offset < self._next or length <= 0:
            raise ValueError(f"{length} bytes at {offset}; up to {self._next} all came before")
        if end - self.grain >= self.virtual_size:
            raise ValueError(f"{length} bytes at {offset}; the disk ends at {self.virtual_size}")
        self._next = end
        return end

    def _allocate(self, offset: int, end: int) -> Iterator[Write]:
        """With preallocation, a place for what holds no data."""
        wanted = self._options.preallocation
        while offset < end and wanted is not Preallocation.OFF:
            cluster = offset // self._size
            if cluster == self._cluster:  # data has a part of it
                stop = min(end, (cluster + 1) * self._size)
                if self._options.extended_l2:
                    self._entries[-1] |= self._subclusters(offset, stop)
                at = self._at + offset - cluster * self._size
            else:
                yield from self._enter(cluster)
                stop = min(end, self._table_end)
                self._store(offset, stop)
                at = self._at - (self._cluster - cluster) * self._size
                at += offset - cluster * self._size
            if wanted is Preallocation.FULL:
                yield from zeros_to_write(at, at + stop - offset)
            offset = stop

    @property
    def _table_end(self) -> int:
        """Disk offset of the end of what the L2 table is for."""
        return (self._table + 1) * self._options.per_table * self._size

    def _enter(self, cluster: int) -> Iterator[Write]:
        """Have the L2 table at hand that a cluster of the disk is in."""
        table = cluster // self._options.per_table
        if table != self._table:
            yield from self._leave()
            self._table = table
        yield from self._space.complete()

    def _leave(self) -> Iterator[Write]:
        """The L2 table that nothing can come to any more."""
        if self._entries:
            at = self._space.take(1)
            self._l1.frombytes(bytes(8 * (self._table - len(self._l1))))
            self._l1.append(at | COPIED)
            start = at + self._begin * self._options.entry_size
            yield Write(start, encoded(self._entries, "big"))
        self._entries = array("Q")

    def _append(self, cluster: int, words: array[int]) -> None:
        """Entries of clusters from one on, which is in the table at hand."""
        index = cluster % self._options.per_table
        if not self._entries:
            self._begin = index
        gap = self._words * (index - self._begin) - len(self._entries)
        if gap:
            self._entries.frombytes(bytes(8 * gap))
        self._entries.extend(words)

    def _store(self, offset: int, stop: int) -> None:
        """Give clusters, in a row, to a part of the disk that one L2 table is for."""
        first, last = offset // self._size, (stop - 1) // self._size
        count = last - first + 1
        at = self._space.take(count)
        start = at | COPIED
        words = progression(start, count, self._size)
        if self._options.extended_l2:
            bitmaps = array("Q", [_mask(0, _SUBCLUSTERS)]) * count
            bitmaps[0] &= self._subclusters(offset, (first + 1) * self._size)
            bitmaps[-1] &= self._subclusters(last * self._size, stop)
            entries, words = words, array("Q", bytes(16 * count))
            words[0::2], words[1::2] = entries, bitmaps
        self._append(first, words)
        self._cluster, self._at = last, at + (count - 1) * self._size

    def _subclusters(self, offset: int, stop: int) -> int:
        """The bits of those between two offsets of one cluster."""
        subcluster = self._size // _SUBCLUSTERS
        base = offset // self._size * self._size
        return _mask((offset - base) // subcluster, -(-(stop - base) // subcluster))

    def _place_packed(self, size: int) -> int:
        """The host offset for so many bytes: behind those before, or in a new cluster."""
        at = self._tail
        cluster = at // self._size
        room = -at % self._size
        # What is left of a cluster is given up where its count is written, or cannot grow.
        if room and cluster >= self._space.first and self._space.count(cluster) < self._space.most:
            joined = size <= room
            if not joined and cluster + 1 == self._space.end:
                self._space.take(1)
                joined = True
            if joined:
                self._space.share(cluster)
                self._tail = at + size
                return at
        at = self._space.take(1)
        self._tail = at + size
        return at


def _mask(first: int, end: int) -> int:
    """The bits from `first` up to, but without, `end`."""
    return (1 << end) - (1 << first)
