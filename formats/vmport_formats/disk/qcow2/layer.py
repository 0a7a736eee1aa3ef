"""qcow2 content: from guest offsets through L1 and L2 tables to clusters and subclusters.

Source: qemu's ``docs/interop/qcow2.rst``, "Cluster mapping", "Extended L2 Entries".
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from sys import byteorder
from threading import Lock
from typing import TYPE_CHECKING, Final

from vmport_formats.disk.codecs import inflate_raw, unzstd
from vmport_formats.disk.layer import Found, Run, Unit
from vmport_formats.disk.qcow2.header import Compression, Encryption, Incompatible, read_header
from vmport_formats.disk.qcow2.info import read_info
from vmport_formats.errors import CorruptInput, TruncatedInput, UnsupportedFeature
from vmport_formats.references import ReferenceKind
from vmport_formats.source import read_exactly

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vmport_formats.disk.layer import Opener
    from vmport_formats.disk.model import ImageInfo
    from vmport_formats.disk.qcow2.header import Header
    from vmport_formats.source import ByteSource

_OFFSET: Final = 0x00FF_FFFF_FFFF_FE00
"""Bits 9 to 55 of an L1 or L2 entry."""
_COPIED: Final = 1 << 63
_COMPRESSED: Final = 1 << 62
_ALL_ZEROS: Final = 1
_SUBCLUSTERS: Final = 32
_BATCH: Final = 4096
"""L1 entries that are read at a time."""
_CACHED_RUNS: Final = 1 << 17
"""Runs of decoded L2 tables that are kept."""


class Qcow2Layer:
    """The active state of the virtual disk in one qcow2 file, or one of its internal snapshots."""

    def __init__(
        self,
        source: ByteSource,
        header: Header,
        info: ImageInfo,
        *,
        data: ByteSource | None = None,
        l1_table: tuple[int, int] | None = None,
    ) -> None:
        """`data` is the external data file; `l1_table` (offset, entries) that of a snapshot."""
        self.info = info
        self.size = int(info.virtual_size)
        self._source = source
        self._header = header
        self._data = source if data is None else data
        self._has_data_file = data is not None
        self._l1_offset, self._l1_entries = l1_table or (header.l1_table_offset, header.l1_size)
        self._entry_words = 2 if header.has(Incompatible.EXTENDED_L2) else 1
        self._covered = header.cluster_size * (header.cluster_size // (8 * self._entry_words))
        self._tables: OrderedDict[int, tuple[Run, ...]] = OrderedDict()
        self._cached = 0
        self._lock = Lock()

    def runs(self, offset: int, length: int) -> Iterator[Run]:
        """See `layer.Layer.runs`."""
        end = offset + length
        while offset < end:
            first = offset // self._covered
            count = min(_BATCH, -(-end // self._covered) - first)
            for number, entry in enumerate(self._l1(first, count), start=first):
                start = number * self._covered
                stop = min(end, start + self._covered)
                if not entry & _OFFSET:
                    yield Run(stop - offset, Found.ABSENT)
                else:
                    yield from _cut(self._table(number, entry & _OFFSET), start, offset, stop)
                offset = stop

    def _l1(self, first: int, count: int) -> Sequence[int]:
        if first + count > self._l1_entries:  # only a snapshot's table can be so short
            count_here = max(0, self._l1_entries - first)
            return [*self._l1(first, count_here), *([0] * (count - count_here))]
        if not count:
            return []
        data = read_exactly(
            self._source, self._l1_offset + 8 * first, 8 * count, what="the L1 table"
        )
        return _words(data)

    def _table(self, number: int, at: int) -> tuple[Run, ...]:
        """All runs of the L2 table at host offset `at`, which is entry `number` of the L1 table."""
        with self._lock:
            if (known := self._tables.get(at)) is not None:
                self._tables.move_to_end(at)
                return known
        if at % self._header.cluster_size:
            raise self._corrupt(
                self._l1_offset + 8 * number,
                "qcow2.l1-entry",
                f"points to {at:#x}, inside a cluster",
            )
        size = self._header.cluster_size
        if at + size > self._source.size:
            raise TruncatedInput(
                self._source.name,
                at=self._l1_offset + 8 * number,
                code="qcow2.l1-entry",
                problem=f"the L2 table at {at:#x} lies behind the end of the file at "
                f"{self._source.size:#x}",
                hint="the file is cut short; copy it again",
            )
        data = read_exactly(self._source, at, size, what="an L2 table")
        if not any(data):
            runs: tuple[Run, ...] = (Run(self._covered, Found.ABSENT),)
        else:
            runs = tuple(_joined(self._decode(_words(data), at, number * self._covered)))
        with self._lock:
            if at not in self._tables:
                self._tables[at] = runs
                self._cached += len(runs)
            while self._cached > _CACHED_RUNS and len(self._tables) > 1:
                self._cached -= len(self._tables.popitem(last=False)[1])
        return runs

    def _decode(self, words: Sequence[int], table: int, guest: int) -> Iterator[Run]:
        """One run for each cluster, or for each stretch of alike subclusters."""
        size = self._header.cluster_size
        version2 = self._header.version == 2
        limit = self._data.size
        step = self._entry_words
        for index in range(0, len(words), step):
            entry = words[index]
            at = entry & _OFFSET
            if entry & _COMPRESSED:
                yield self._packed(entry, table + 8 * index, guest)
            elif step == 2:
                yield from self._subclusters(entry, words[index + 1], table + 8 * index)
            elif entry & _ALL_ZEROS and not version2:
                yield Run(size, Found.ZERO)
            elif not at and not (self._has_data_file and entry & _COPIED):
                yield Run(size, Found.ABSENT)
            else:
                if at % size or at >= limit:
                    raise self._pointer(table + 8 * index, at)
                yield Run(size, Found.STORED, self._data, at)
            guest += size

    def _subclusters(self, entry: int, bitmap: int, where: int) -> Iterator[Run]:
        at = entry & _OFFSET
        size = self._header.cluster_size // _SUBCLUSTERS
        stored, zeros = bitmap & 0xFFFF_FFFF, bitmap >> 32
        if stored & zeros:
            raise self._corrupt(
                where + 8, "qcow2.subclusters", "marks a subcluster as stored and as zeros at once"
            )
        present = bool(at) or (self._has_data_file and bool(entry & _COPIED))
        if stored and (not present or at % self._header.cluster_size or at >= self._data.size):
            raise self._pointer(where, at)
        for number in range(_SUBCLUSTERS):
            bit = 1 << number
            if stored & bit:
                yield Run(size, Found.STORED, self._data, at + number * size)
            else:
                yield Run(size, Found.ZERO if zeros & bit else Found.ABSENT)

    def _packed(self, entry: int, where: int, guest: int) -> Run:
        size_bits = self._header.cluster_bits - 8
        at = entry & ((1 << (62 - size_bits)) - 1)
        sectors = (entry >> (62 - size_bits)) & ((1 << size_bits) - 1)
        packed = (sectors + 1) * 512 - at % 512
        if self._has_data_file:
            raise self._corrupt(
                where, "qcow2.compressed-cluster", "is compressed, which a data file cannot hold"
            )
        if not at or at >= self._source.size:
            raise self._pointer(where, at)
        size = self._header.cluster_size
        unpack = unzstd if self._header.compression is Compression.ZSTD else inflate_raw
        unit = Unit(guest, size, self._source, at, packed, unpack, "qcow2.compressed-cluster")
        return Run(size, Found.PACKED, unit=unit)

    def _pointer(self, where: int, at: int) -> CorruptInput:
        return self._corrupt(
            where,
            "qcow2.l2-entry",
            f"points to {at:#x}; must be a multiple of the cluster size of "
            f"{self._header.cluster_size}, inside the file that ends at {self._data.size:#x}",
        )

    def _corrupt(self, where: int, code: str, problem: str) -> CorruptInput:
        return CorruptInput(
            self._source.name, at=where, code=code, problem=f"this table entry {problem}"
        )


def open_layer(source: ByteSource, opener: Opener) -> Qcow2Layer:
    """The content of a qcow2 image; its external data file, if it has one, through `opener`.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: as `info.read_info`; also when the image
            is encrypted, or has a data file that it does not name.
        UnsafeInput: `opener` does not grant the data file.
    """
    header = read_header(source)
    info = read_info(source)
    if header.encryption is not Encryption.NONE:
        raise UnsupportedFeature(
            source.name,
            at=32,
            code="qcow2.encrypted",
            problem=f"the content is encrypted ({header.encryption.name}); no key was given",
        )
    if not header.has(Incompatible.DATA_FILE):
        return Qcow2Layer(source, header, info)
    for reference in info.references:
        if reference.kind is ReferenceKind.DATA:
            return Qcow2Layer(source, header, info, data=opener(reference))
    raise UnsupportedFeature(
        source.name,
        code="qcow2.data-file",
        problem="keeps its data in another file, which it does not name",
    )


def _words(data: bytes) -> Sequence[int]:
    words = array("Q", data)
    if byteorder == "little":
        words.byteswap()
    return words


def _joined(runs: Iterator[Run]) -> Iterator[Run]:
    """Neighbours that continue each other as one run."""
    last: Run | None = None
    for run in runs:
        if last is not None and (
            last.found is run.found
            and run.found is not Found.PACKED
            and (run.found is not Found.STORED or last.at + last.length == run.at)
        ):
            last = last._replace(length=last.length + run.length)
        else:
            if last is not None:
                yield last
            last = run
    if last is not None:
        yield last


def _cut(runs: tuple[Run, ...], start: int, offset: int, stop: int) -> Iterator[Run]:
    """The part of `runs`, the first of which begins at guest `start`, between two offsets."""
    for run in runs:
        end = start + run.length
        if end > offset:
            if start >= stop:
                return
            first = max(start, offset)
            length = min(end, stop) - first
            if length == run.length:
                yield run
            else:
                yield run._replace(length=length, at=run.at + first - start)
        start = end
