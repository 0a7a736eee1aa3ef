"""Checks a qcow2 file: what its tables point to, and the reference counts that follow from that.

The counts of errors and leaks are those of ``qemu-img check``, with these exceptions: a broken
table that several snapshots share counts once; so does a cluster with more uses than a count can
hold; an L1 entry that points to the header is told as that, and the header not taken for a table;
entries that readers refuse for what flags they set count, even where qemu-img passes over them.
Where hostile tables would be walked over and over, what goes beyond the length of the file is not:
L2 tables that begin inside a cluster, L1 tables of snapshots, and tables of bitmaps.

Source: qemu's ``docs/interop/qcow2.rst``, "Host cluster management", "Cluster mapping".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.disk.check import Faults, Statistics
from vmport_formats.disk.counts import Counts, TooMany
from vmport_formats.disk.qcow2.extensions import read_extensions
from vmport_formats.disk.qcow2.header import check_tables, read_header
from vmport_formats.disk.qcow2.l2_uses import Use
from vmport_formats.disk.qcow2.refcounts import RESERVED, StoredRefcounts
from vmport_formats.disk.qcow2.uses import Uses
from vmport_formats.errors import UnsupportedFeature
from vmport_formats.units import SECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.counts import Numbers
    from vmport_formats.disk.layer import Opener
    from vmport_formats.disk.qcow2.extensions import Extensions
    from vmport_formats.disk.qcow2.header import Header
    from vmport_formats.source import ByteSource

_PART: Final = 1 << 16
"""Clusters whose counts are looked at together."""
_EXPLAINED: Final = 256
"""Clusters for which is told what uses them."""
_ALONE: Final = 8
"""More clusters in a row with the same wrong count are told as one fault."""
_USERS: Final = 4
"""Of one cluster, that are named."""


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
        self._size = header.cluster_size
        self._stored = StoredRefcounts(source, header)
        self._uses = Uses(source, header, extensions, self._stored)

    def run(self, faults: Faults, *, deep: bool) -> Statistics:
        """Look at everything, and then at the counts."""
        counts = Counts()
        metadata: list[Use] = []
        for use in self._uses.walk(faults, deep=deep):
            self._count(counts, use)
            if use.only:
                metadata.append(use)
        l2 = self._uses.l2
        statistics = l2.allocated, l2.compressed, l2.fragmented
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
        clusters = -(-self._source.size // self._size)
        for use in metadata:
            end = min(clusters, -(-(use.at + use.length) // self._size))
            for first in range(use.at // self._size, end, _PART):
                numbers = counts.of(first, min(end, first + _PART))
                if max(numbers) <= 1:
                    continue
                for cluster, number in enumerate(numbers, first):
                    if number <= 1:
                        continue
                    stored = self._stored.at(cluster)
                    if stored is not None and stored >= number:
                        found.append((cluster, stored))
                if len(found) >= _EXPLAINED:
                    return found[:_EXPLAINED]
        return found

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
        yield from self._uses.walk(Faults(self._source.name, deaf=True), deep=False)
        for index, entry in self._stored.entries():
            if self._stored.readable(entry):
                place = self._stored.table_at + 8 * index
                yield Use(entry & ~RESERVED, self._size, "the refcount table entry", place)


def _differs(count: int, stored: int, used: int) -> str:
    what = "this cluster" if count == 1 else f"each of {count} clusters from here on"
    return f"the reference count of {what} is {stored}; it has {_times(used)}"


def _times(used: int) -> str:
    return "no use" if not used else "1 use" if used == 1 else f"{used} uses"


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
