"""What the entries of a qcow2 file's L2 tables point to, for a check: the rules that they keep.

Source: qemu's ``docs/interop/qcow2.rst``, "Cluster mapping".
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.disk.codecs import inflate_raw, unzstd
from vmport_formats.disk.fetch import unpack
from vmport_formats.disk.layer import Unit
from vmport_formats.disk.numbers import decoded, reach
from vmport_formats.disk.qcow2.entries import ALL_ZEROS, COMPRESSED, COPIED, OFFSET
from vmport_formats.disk.qcow2.header import Compression, Incompatible
from vmport_formats.errors import CorruptInput
from vmport_formats.units import SECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.check import Faults
    from vmport_formats.disk.counts import Numbers
    from vmport_formats.disk.qcow2.header import Header
    from vmport_formats.disk.qcow2.refcounts import StoredRefcounts
    from vmport_formats.source import ByteSource

_RESERVED: Final = 0x3F00_0000_0000_01FE
_STORED: Final = (1 << 32) - 1
"""The half of a bitmap with the subclusters that are stored."""


class Use(NamedTuple):
    """A part of the file that something points to."""

    at: int
    length: int
    what: str
    """What points there."""
    place: int
    """Where that is."""
    step: int = 0
    """From one such entry to the next, each of which is for one cluster; 0: it is just one."""
    times: int = 1
    only: bool = False
    """It is metadata, so nothing else may be there."""


class Table(NamedTuple):
    """An L2 table, which several L1 tables can share."""

    at: int
    place: int
    """Of the entry that was met first."""
    times: int
    active: bool
    """Whether the present disk uses it."""
    guest: int
    """Offset on the disk of what it is for."""


class L2Uses:
    """Walks L2 tables, and counts what the present disk has in them."""

    def __init__(self, source: ByteSource, header: Header, stored: StoredRefcounts) -> None:
        self._source = source
        self._header = header
        self._size = header.cluster_size
        self._stored = stored
        self._extended = header.has(Incompatible.EXTENDED_L2)
        self._width = 16 if self._extended else 8
        self.covered = self._size // self._width * self._size
        """Bytes of the disk that a table is for."""
        self._has_data_file = header.has(Incompatible.DATA_FILE)
        no_flag = self._extended or header.version == 2
        self._reserved = _RESERVED | (ALL_ZEROS if no_flag else 0)
        self._offset_bits = 62 - (header.cluster_bits - 8)
        self.allocated = self.compressed = self.fragmented = 0

    def begin(self) -> None:
        """Count anew."""
        self.allocated = self.compressed = self.fragmented = 0

    def of(self, table: Table, faults: Faults, *, deep: bool) -> Iterator[Use]:
        """Of the entries of `table`; with `deep`, what is compressed is unpacked."""
        end = min(table.at + self._size, self._source.size)
        if next(self._source.data_ranges(table.at, end - table.at), None) is None:
            return  # a hole of the file, so zeros
        data = self._source.read_at(table.at, self._size).ljust(self._size, b"\0")
        words = decoded(data, 8, "big")
        entries = words[0::2] if self._extended else words
        bitmaps = words[1::2] if self._extended else None
        index, following = 0, 0
        whole = bitmaps is None and not self._has_data_file
        while index < len(entries):
            if whole and faults.full:
                entries[index:] = self._in_file(entries[index:], table, faults)
                whole = False
            entry = entries[index]
            bitmap = bitmaps[index] if bitmaps else 0
            place = table.at + self._width * index
            count = 1
            if not entry and not bitmap:
                count = reach(entries, index, len(entries), 0)
                if bitmaps:
                    count = min(count, reach(bitmaps, index, len(bitmaps), 0))
            elif entry & COMPRESSED:
                guest = table.guest + index * self._size
                yield from self._packed(
                    entry, bitmap, place, table, faults, guest if deep else None
                )
            else:
                count = self._alike(entries, bitmaps, index)
                at = entry & OFFSET
                if not faults.deaf:
                    self._check_entry(entry, bitmap, place, count, faults)
                if at or (self._has_data_file and entry & COPIED):
                    if table.active:
                        self.allocated += count
                        self.fragmented += bool(following and at != following)
                        following = at + count * self._size
                    yield from self._placed(entry, place, count, table, faults)
            index += count

    def _in_file(self, entries: array[int], table: Table, faults: Faults) -> array[int]:
        """The same with those that point behind the end of the file counted, and 0 for them."""
        size = self._source.size
        end = max(size, self._stored.reach * self._size)
        at_packed, end_packed = (1 << self._offset_bits) - 1, size + self._size

        def lost(entry: int) -> bool:
            if entry & COMPRESSED:
                return entry & at_packed >= end_packed
            return entry & OFFSET >= end

        gone = list(filter(lost, entries))
        if not gone:
            return entries
        for entry in gone:
            if entry & COMPRESSED:
                faults.count(2 if entry & COPIED else 1)
                self.compressed += table.active
                continue
            wrong = bool(entry & self._reserved) + bool((entry & OFFSET) % self._size)
            faults.count(1 + wrong + (table.active and bool(entry & COPIED)))
        if table.active:
            self.allocated += len(gone)
            self.fragmented += len(gone)
        return array(entries.typecode, [0 if lost(entry) else entry for entry in entries])

    def _alike(self, entries: array[int], bitmaps: array[int] | None, index: int) -> int:
        """How many entries go on as this one does: the next cluster of the file, or none."""
        at = entries[index] & OFFSET
        if at % self._size:
            return 1
        count = reach(entries, index, len(entries), self._size if at else 0)
        return min(count, reach(bitmaps, index, len(bitmaps), 0)) if bitmaps else count

    def _check_entry(self, entry: int, bitmap: int, place: int, count: int, faults: Faults) -> None:
        """The rules that entries keep whatever they point to."""
        code, at = "qcow2.l2-entry", entry & OFFSET
        if entry & self._reserved:
            text = f"this L2 table entry sets bits that are reserved: {entry & self._reserved:#x}"
            faults.error(code, place, text, count)
        if bitmap >> 32 & bitmap & _STORED:
            text = "subclusters of this L2 table entry are both stored and zeros"
            faults.error(code, place, text, count)
        is_placed = at or (self._has_data_file and entry & COPIED)
        if not is_placed and bitmap & _STORED:
            text = "subclusters of this L2 table entry are stored, but it does not say where"
            faults.error(code, place, text, count)
        if entry == COPIED and not is_placed and not bitmap & _STORED:
            text = "this L2 table entry marks a cluster as stored, but does not say where"
            faults.error(code, place, text, count)
        if at % self._size:
            faults.error(code, place, f"this L2 table entry points to {at:#x}, inside a cluster")

    def _placed(
        self, entry: int, place: int, count: int, table: Table, faults: Faults
    ) -> Iterator[Use]:
        at, size = entry & OFFSET, self._source.size
        inside = count
        if not self._has_data_file:
            inside = min(count, max(0, -(-(size - at) // self._size)))
            if inside < count and faults.full:
                faults.count(count - inside)
            elif inside < count:
                text = (
                    f"this L2 table entry points to {at + inside * self._size:#x}, but the file "
                    f"ends at {size:#x}"
                )
                faults.error("qcow2.l2-entry", place + self._width * inside, text, count - inside)
            if inside:
                what = "the L2 table entry"
                step = 0 if at % self._size else self._width
                yield Use(at, inside * self._size, what, place, step, table.times)
        if table.active and not faults.deaf:
            self._check_copied(entry, place, count, faults)

    def _check_copied(self, entry: int, place: int, count: int, faults: Faults) -> None:
        flagged = bool(entry & COPIED)
        at = entry & OFFSET
        if self._has_data_file:
            if not flagged:
                faults.error("qcow2.copied", place, copied("L2", entry, at, 1), count)
            return
        first = at // self._size
        for start, numbers in self._stored.ranges(first, first + count):
            if numbers is None or _all_fit(numbers, ones=flagged):
                continue
            if faults.full:
                ones = numbers.count(1)
                faults.count(len(numbers) - ones if flagged else ones)
                continue
            for index, stored in enumerate(numbers):
                if (stored == 1) != flagged:
                    number = start - first + index
                    where = place + self._width * number
                    text = copied("L2", entry, at + number * self._size, stored)
                    faults.error("qcow2.copied", where, text)

    def _packed(
        self,
        entry: int,
        bitmap: int,
        place: int,
        table: Table,
        faults: Faults,
        guest: int | None,
    ) -> Iterator[Use]:
        """A compressed cluster, which is unpacked if `guest`, its place on the disk, is given."""
        code, wrong = "qcow2.l2-entry", ""
        if entry & COPIED:
            text = "this L2 table entry is of a compressed cluster, and says that it is used once"
            faults.error(code, place, text)
            entry &= ~COPIED
        if self._has_data_file:
            wrong = "has its data in another file"
        elif bitmap:
            wrong = "has a bitmap of subclusters"
        if wrong:
            faults.error(code, place, f"this compressed cluster {wrong}")
            return
        at = entry & ((1 << self._offset_bits) - 1)
        sectors = (entry >> self._offset_bits & ((1 << self._header.cluster_bits - 8) - 1)) + 1
        length = sectors * SECTOR - at % SECTOR
        if table.active:
            self.allocated += 1
            self.compressed += 1
            self.fragmented += 1
        if at + length - self._source.size >= self._size:
            if faults.full:
                faults.count(1)
                return
            text = (
                f"this L2 table entry points to {length} compressed bytes at {at:#x}, but the file "
                f"ends at {self._source.size:#x}"
            )
            faults.error(code, place, text)
            return
        yield Use(at, length, "the L2 table entry", place, times=table.times)
        if guest is not None:
            inflate = unzstd if self._header.compression is Compression.ZSTD else inflate_raw
            length = min(length, self._source.size - at)
            code = "qcow2.compressed-cluster"
            try:
                unpack(Unit(guest, self._size, self._source, at, length, inflate, code))
            except CorruptInput as error:
                faults.error(code, place, error.problem)


def copied(level: str, entry: int, at: int, stored: int) -> str:
    """What is wrong with a flag that says something else than a count."""
    says = "says" if entry & COPIED else "does not say"
    return (
        f"this {level} table entry {says} that it alone uses the cluster at {at:#x}, whose "
        f"reference count is {stored}"
    )


def _all_fit(numbers: Numbers, *, ones: bool) -> bool:
    """Whether all are 1, or none is."""
    return numbers.count(1) == (len(numbers) if ones else 0)
