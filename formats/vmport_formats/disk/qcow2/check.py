"""Checks a qcow2 file: what its tables point to, and the reference counts that follow from that.

The counts of errors and leaks are those of ``qemu-img check``, with these exceptions: a broken
table that several snapshots share counts once; so does a cluster with more uses than a count can
hold; an L1 entry that points to the header is told as that, and the header not taken for a table;
entries that readers refuse for what flags they set count, even where qemu-img passes over them.

Source: qemu's ``docs/interop/qcow2.rst``, "Host cluster management", "Cluster mapping".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.disk.check import Faults, Statistics
from vmport_formats.disk.codecs import inflate_raw, unzstd
from vmport_formats.disk.counts import Counts, TooMany
from vmport_formats.disk.fetch import unpack
from vmport_formats.disk.layer import Unit
from vmport_formats.disk.qcow2.bitmap_tables import bitmap_tables
from vmport_formats.disk.qcow2.entries import ALL_ZEROS, COMPRESSED, COPIED, OFFSET
from vmport_formats.disk.qcow2.extensions import read_extensions
from vmport_formats.disk.qcow2.header import (
    MAX_L1_TABLE,
    Compression,
    Incompatible,
    check_tables,
    read_header,
)
from vmport_formats.disk.qcow2.refcounts import RESERVED, StoredRefcounts
from vmport_formats.disk.qcow2.tables import read_snapshots
from vmport_formats.disk.tables import decoded, reach
from vmport_formats.errors import CorruptInput, UnsupportedFeature
from vmport_formats.units import SECTOR

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterator

    from vmport_formats.disk.counts import Numbers
    from vmport_formats.disk.layer import Opener
    from vmport_formats.disk.qcow2.extensions import Extensions
    from vmport_formats.disk.qcow2.header import Header
    from vmport_formats.disk.qcow2.tables import SnapshotEntry
    from vmport_formats.source import ByteSource

_L1_RESERVED: Final = 0x7F00_0000_0000_01FF
_L2_RESERVED: Final = 0x3F00_0000_0000_01FE
_STORED: Final = (1 << 32) - 1
"""The half of a bitmap with the subclusters that are stored."""
_EXPLAINED: Final = 256
"""Clusters for which is told what uses them."""
_ALONE: Final = 8
"""More clusters in a row with the same wrong count are told as one fault."""
_USERS: Final = 4
"""Of one cluster, that are named."""


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


class _Table(NamedTuple):
    """An L2 table, which several L1 tables can share."""

    at: int
    place: int
    """Of the entry that was met first."""
    times: int
    active: bool
    """Whether the present disk uses it."""
    guest: int
    """Offset on the disk of what it is for."""


def check(source: ByteSource, opener: Opener, faults: Faults, *, deep: bool) -> Statistics:
    """See `disk.check.Checker`.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: as `info.read_info`.
    """
    header = read_header(source)
    extensions = read_extensions(source, header)
    check_tables(source, header)
    try:
        return _Check(source, header, extensions).run(faults, deep=deep)
    except TooMany:
        raise UnsupportedFeature(
            source.name,
            code="qcow2.check-size",
            problem="its clusters lie too far apart, or are too many, to count them in memory",
        ) from None


class _Check:
    """The check of one file."""

    def __init__(self, source: ByteSource, header: Header, extensions: Extensions) -> None:
        self._source = source
        self._header = header
        self._extensions = extensions
        self._size = header.cluster_size
        self._stored = StoredRefcounts(source, header)
        self._extended = header.has(Incompatible.EXTENDED_L2)
        self._width = 16 if self._extended else 8
        self._covered = self._size // self._width * self._size
        self._has_data_file = header.has(Incompatible.DATA_FILE)
        no_flag = self._extended or header.version == 2
        self._reserved = _L2_RESERVED | (ALL_ZEROS if no_flag else 0)
        self._offset_bits = 62 - (header.cluster_bits - 8)
        self._allocated = self._compressed = self._fragmented = 0

    def run(self, faults: Faults, *, deep: bool) -> Statistics:
        """Look at everything, and then at the counts."""
        counts = Counts()
        metadata: list[Use] = []
        for use in self._uses(faults, deep=deep):
            self._count(counts, use)
            if use.only:
                metadata.append(use)
        statistics = self._allocated, self._compressed, self._fragmented
        self._check_blocks(counts, faults)
        end, wrong = self._compare(counts, faults)
        wrong += self._overlaps(counts, metadata)
        self._explain(wrong, counts, faults)
        return Statistics(
            total=-(-(self._header.size // SECTOR * SECTOR) // self._size),
            allocated=statistics[0],
            compressed=statistics[1],
            fragmented=statistics[2],
            image_end=end * self._size,
        )

    # --- What points where ----------------------------------------------------------------------

    def _uses(self, faults: Faults, *, deep: bool) -> Iterator[Use]:
        """All uses of the file but those of refcount blocks; faults are noted on the way."""
        header = self._header
        self._allocated = self._compressed = self._fragmented = 0
        yield Use(0, self._size, "the header", 0, only=True)
        snapshots = self._snapshots(faults)
        if snapshots:
            last = snapshots[-1]
            length = last.end - header.snapshots_offset
            yield Use(header.snapshots_offset, length, "the snapshot table", 64, only=True)
        length = header.refcount_table_clusters * self._size
        yield Use(header.refcount_table_offset, length, "the refcount table", 48, only=True)
        if luks := self._extensions.encryption_header:
            yield Use(luks.offset, luks.length, "the LUKS header", 32, only=True)
        yield from self._bitmaps(faults)
        tables: dict[int, _Table] = {}
        yield from self._l1(header.l1_table_offset, header.l1_size, 40, tables, faults, active=True)
        for snapshot in snapshots:
            yield from self._snapshot(snapshot.entry, tables, faults)
        for number, table in enumerate(tables.values()):
            faults.done(number / len(tables))
            what = "the L1 table entry"
            yield Use(table.at, self._size, what, table.place, times=table.times)
            yield from self._l2(table, faults, deep=deep)

    def _snapshots(self, faults: Faults) -> list[_Placed]:
        header = self._header
        if not header.nb_snapshots:
            return []
        if self._has_data_file:
            faults.error("qcow2.snapshot-table", 60, "has snapshots, but its data in another file")
        try:
            entries = read_snapshots(self._source, header)
        except CorruptInput as error:
            faults.stop(error)
            return []
        return [_Placed(entry, _end_of(self._source, entry)) for entry in entries]

    def _snapshot(
        self, entry: SnapshotEntry, tables: dict[int, _Table], faults: Faults
    ) -> Iterator[Use]:
        name = f"the L1 table of snapshot {entry.snapshot.id}"
        if entry.l1_table_offset % self._size:
            problem = f"{name} is at {entry.l1_table_offset:#x}, inside a cluster"
            faults.error("qcow2.snapshot-table", entry.at, problem)
        elif entry.l1_size * 8 > MAX_L1_TABLE:
            problem = f"{name} has {entry.l1_size} entries; at most {MAX_L1_TABLE // 8}"
            faults.error("qcow2.snapshot-table", entry.at, problem)
        else:
            yield from self._l1(
                entry.l1_table_offset, entry.l1_size, entry.at, tables, faults, active=False
            )

    def _l1(
        self,
        at: int,
        size: int,
        place: int,
        tables: dict[int, _Table],
        faults: Faults,
        *,
        active: bool,
    ) -> Iterator[Use]:
        """An L1 table, whose own uses are put into `tables`."""
        if not size:
            return
        what = "the L1 table" if active else "the L1 table of a snapshot"
        yield Use(at, 8 * size, what, place, only=True)
        if at >= self._source.size:
            text = f"{what} lies at {at:#x}, but the file ends at {self._source.size:#x}"
            faults.error("qcow2.l1-table", place, text)
            return
        data = self._source.read_at(at, 8 * size)
        entries = decoded(data[: len(data) // 8 * 8], 8, "big")
        index = 0
        while index < len(entries):
            entry = entries[index]
            if not entry:
                index += reach(entries, index, len(entries), 0)
                continue
            where = at + 8 * index
            offset = self._l1_entry(entry, where, faults, active=active)
            if offset and (known := tables.get(offset)):
                tables[offset] = known._replace(times=known.times + 1)
            elif offset:
                guest = index * self._covered
                tables[offset] = _Table(offset, where, 1, active, guest)
            index += 1

    def _l1_entry(self, entry: int, where: int, faults: Faults, *, active: bool) -> int:
        """Where it points; faults are noted."""
        offset = entry & OFFSET
        if entry & _L1_RESERVED:
            text = f"this L1 table entry sets bits that are reserved: {entry & _L1_RESERVED:#x}"
            faults.error("qcow2.l1-entry", where, text)
        if not offset:
            faults.error("qcow2.l1-entry", where, "this L1 table entry points to the header")
            return 0
        if offset % self._size:
            text = f"this L1 table entry points to {offset:#x}, inside a cluster"
            faults.error("qcow2.l1-entry", where, text)
        if offset >= self._source.size:
            text = (
                f"this L1 table entry points to {offset:#x}, but the file ends at "
                f"{self._source.size:#x}"
            )
            faults.error("qcow2.l1-entry", where, text)
        if active:
            stored = self._stored.at(offset // self._size)
            if stored is not None and (stored == 1) != bool(entry & COPIED):
                faults.error("qcow2.copied", where, _copied("L1", entry, offset, stored))
        return offset if offset < self._source.size else 0

    def _l2(self, table: _Table, faults: Faults, *, deep: bool) -> Iterator[Use]:
        end = min(table.at + self._size, self._source.size)
        if next(self._source.data_ranges(table.at, end - table.at), None) is None:
            return  # a hole of the file, so zeros
        data = self._source.read_at(table.at, self._size).ljust(self._size, b"\0")
        words = decoded(data, 8, "big")
        entries = words[0::2] if self._extended else words
        bitmaps = words[1::2] if self._extended else None
        index, following = 0, 0
        while index < len(entries):
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
                self._check_entry(entry, bitmap, place, count, faults)
                if at or (self._has_data_file and entry & COPIED):
                    if table.active:
                        self._allocated += count
                        self._fragmented += bool(following and at != following)
                        following = at + count * self._size
                    yield from self._placed(entry, place, count, table, faults)
            index += count

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
        self, entry: int, place: int, count: int, table: _Table, faults: Faults
    ) -> Iterator[Use]:
        at, size = entry & OFFSET, self._source.size
        inside = count
        if not self._has_data_file:
            inside = min(count, max(0, -(-(size - at) // self._size)))
            if inside < count:
                text = (
                    f"this L2 table entry points to {at + inside * self._size:#x}, but the file "
                    f"ends at {size:#x}"
                )
                faults.error("qcow2.l2-entry", place + self._width * inside, text, count - inside)
            if inside:
                what = "the L2 table entry"
                step = 0 if at % self._size else self._width
                yield Use(at, inside * self._size, what, place, step, table.times)
        if table.active:
            self._check_copied(entry, place, count, faults)

    def _check_copied(self, entry: int, place: int, count: int, faults: Faults) -> None:
        flagged = bool(entry & COPIED)
        at = entry & OFFSET
        if self._has_data_file:
            if not flagged:
                faults.error("qcow2.copied", place, _copied("L2", entry, at, 1), count)
            return
        first = at // self._size
        for start, numbers in self._stored.ranges(first, first + count):
            if numbers is None or _all_fit(numbers, ones=flagged):
                continue
            for index, stored in enumerate(numbers):
                if (stored == 1) != flagged:
                    number = start - first + index
                    where = place + self._width * number
                    text = _copied("L2", entry, at + number * self._size, stored)
                    faults.error("qcow2.copied", where, text)

    def _packed(
        self,
        entry: int,
        bitmap: int,
        place: int,
        table: _Table,
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
            self._allocated += 1
            self._compressed += 1
            self._fragmented += 1
        if at + length - self._source.size >= self._size:
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

    def _bitmaps(self, faults: Faults) -> Iterator[Use]:
        pointer = self._extensions.bitmaps
        if pointer is None:
            return
        at = pointer.directory_offset
        yield Use(at, pointer.directory_size, "the bitmap directory", at, only=True)
        try:
            tables = bitmap_tables(self._source, self._header, pointer)
        except CorruptInput as error:
            faults.take(error)
            return
        for bitmap in tables:
            what = "the bitmap directory entry"
            yield Use(bitmap.at, 8 * bitmap.size, what, bitmap.place, only=True)
            if bitmap.at >= self._source.size:
                text = f"a bitmap's table lies at {bitmap.at:#x}, behind the end of the file"
                faults.error("qcow2.bitmaps", bitmap.place, text)
                continue
            for place, offset, problem in bitmap.entries(self._source, self._size):
                if problem is not None:
                    faults.error("qcow2.bitmaps", place, f"this bitmap table entry {problem}")
                elif offset:
                    yield Use(offset, self._size, "the bitmap table entry", place)

    # --- The counts -----------------------------------------------------------------------------

    def _count(self, counts: Counts, use: Use) -> None:
        """Count what of a use is in the file; the last cluster may be there in part."""
        end = min(use.at + use.length, -(-self._source.size // self._size) * self._size)
        counts.add(use.at // self._size, -(-end // self._size), use.times)

    def _check_blocks(self, counts: Counts, faults: Faults) -> None:
        code = "qcow2.refcount-table"
        for index, entry in self._stored.entries():
            place = self._stored.table_at + 8 * index
            at = entry & ~RESERVED
            if entry & RESERVED:
                problem = f"sets bits that are reserved: {entry & RESERVED:#x}"
            elif at % self._size:
                problem = f"points to {at:#x}, inside a cluster"
            elif at >= self._source.size:
                problem = f"points to {at:#x}, but the file ends at {self._source.size:#x}"
            else:
                counts.add(at // self._size, at // self._size + 1)
                if (used := counts[at // self._size]) == 1:
                    continue
                problem = f"points to {at:#x}, which has {used} uses"
            faults.error(code, place, f"this refcount table entry {problem}")

    def _compare(self, counts: Counts, faults: Faults) -> tuple[int, list[tuple[int, int]]]:
        """How many clusters are in use, and those with too low a count."""
        clusters = -(-self._source.size // self._size)
        end = 0
        wrong: list[tuple[int, int]] = []
        for first, last in self._in_use(counts, clusters):
            stored, counted = self._stored.of(first, last), counts.of(first, last)
            used = _reach_of(counted)
            if stored is not None:
                used = max(used, _reach_of(stored))
            end = max(end, first + used)
            if stored is None or stored == counted or list(stored) == list(counted):
                continue
            for start, count, one, other in _differences(stored, counted):
                at = (first + start) * self._size
                if one > other:
                    faults.leak("qcow2.leak", at, _differs(count, one, other), count)
                    continue
                if count <= _ALONE and len(wrong) + count <= _EXPLAINED:
                    wrong += [(first + start + number, one) for number in range(count)]
                else:
                    faults.error("qcow2.refcount", at, _differs(count, one, other), count)
        return end, wrong

    def _in_use(self, counts: Counts, clusters: int) -> Iterator[tuple[int, int]]:
        """Ranges of clusters, in the reach of one block each, that are or may be in use."""
        per_block = self._stored.per_block
        blocks = {index for index, _ in self._stored.entries()}
        for first, last in counts.used():
            blocks.update(range(first // per_block, -(-last // per_block)))
        for index in sorted(blocks):
            first, last = index * per_block, min(clusters, (index + 1) * per_block)
            if first >= last:
                break
            yield first, last

    def _overlaps(self, counts: Counts, metadata: list[Use]) -> list[tuple[int, int]]:
        """Clusters of metadata that something else uses, too, and whose counts say so."""
        found: list[tuple[int, int]] = []
        for use in metadata:
            first, last = use.at // self._size, -(-(use.at + use.length) // self._size)
            numbers = counts.of(first, last)
            if max(numbers) <= 1:
                continue
            for cluster, number in enumerate(numbers, first):
                stored = self._stored.at(cluster)
                if number > 1 and stored is not None and stored >= number:
                    found.append((cluster, stored))
        return found[:_EXPLAINED]

    def _explain(self, wrong: list[tuple[int, int]], counts: Counts, faults: Faults) -> None:
        """Tell of clusters with wrong counts what uses them."""
        if not wrong:
            return
        stored = dict(wrong)
        users: dict[int, list[str]] = {cluster: [] for cluster in stored}
        for use in self._all_uses():
            first, last = use.at // self._size, -(-(use.at + use.length) // self._size)
            if last - first > len(users):
                hits = [cluster for cluster in users if first <= cluster < last]
            else:
                hits = [cluster for cluster in range(first, last) if cluster in users]
            for cluster in hits:
                place = use.place + use.step * (cluster - first)
                entry = use.what.endswith("entry")
                times = f" ({use.times} times)" if use.times > 1 else ""
                where = f" at {place:#x}" if entry else ""
                users[cluster].append(f"{use.what}{where}{times}")
        for cluster, count in stored.items():
            used = counts[cluster]
            names = users[cluster][:_USERS]
            if len(users[cluster]) > _USERS:
                names.append(f"{len(users[cluster]) - _USERS} more")
            by = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else "?"
            if count >= used:
                text = f"metadata and something else lie in this cluster: {by}"
                faults.error("qcow2.metadata-overlap", cluster * self._size, text)
            else:
                text = f"{_differs(1, count, used)}: {by}"
                faults.error("qcow2.refcount", cluster * self._size, text)

    def _all_uses(self) -> Iterator[Use]:
        yield from self._uses(Faults(self._source.name), deep=False)
        for index, entry in self._stored.entries():
            if self._stored.readable(entry):
                place = self._stored.table_at + 8 * index
                yield Use(entry & ~RESERVED, self._size, "the refcount table entry", place)


class _Placed(NamedTuple):
    """A snapshot, and where its entry ends."""

    entry: SnapshotEntry
    end: int


def _end_of(source: ByteSource, entry: SnapshotEntry) -> int:
    fixed = source.read_at(entry.at, 40)
    id_size, name_size = int.from_bytes(fixed[12:14], "big"), int.from_bytes(fixed[14:16], "big")
    return entry.at + 40 + int.from_bytes(fixed[36:40], "big") + id_size + name_size


def _copied(level: str, entry: int, at: int, stored: int) -> str:
    says = "says" if entry & COPIED else "does not say"
    return (
        f"this {level} table entry {says} that it alone uses the cluster at {at:#x}, whose "
        f"reference count is {stored}"
    )


def _differs(count: int, stored: int, used: int) -> str:
    what = "this cluster" if count == 1 else f"each of {count} clusters from here on"
    return f"the reference count of {what} is {stored}; it has {_times(used)}"


def _times(used: int) -> str:
    return "no use" if not used else "1 use" if used == 1 else f"{used} uses"


def _all_fit(numbers: Numbers, *, ones: bool) -> bool:
    """Whether all are 1, or none is."""
    return numbers.count(1) == (len(numbers) if ones else 0)


def _reach_of(numbers: Numbers) -> int:
    """How many reach up to the last that is not 0."""
    if isinstance(numbers, bytes | bytearray):
        return len(numbers.rstrip(b"\0"))
    return next((i for i in range(len(numbers), 0, -1) if numbers[i - 1]), 0)


def _differences(stored: Numbers, counted: Numbers) -> Iterator[tuple[int, int, int, int]]:
    """Where two lists differ in the same way for a while: from where, how long, and the values."""
    index, end = 0, len(counted)
    while index < end:
        one, other = stored[index], counted[index]
        if one == other:
            index += 1
            continue
        start = index
        while index < end and (stored[index], counted[index]) == (one, other):
            index += 1
        yield start, index - start, one, other
