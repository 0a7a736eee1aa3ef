"""All that points to clusters of a qcow2 file, for a check: tables, snapshots, bitmaps, data.

Source: qemu's ``docs/interop/qcow2.rst``, "Host cluster management", "Cluster mapping".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.disk.placements import Beyond, entries
from vmport_formats.disk.qcow2.bitmap_tables import bitmap_tables
from vmport_formats.disk.qcow2.entries import COPIED, OFFSET
from vmport_formats.disk.qcow2.header import MAX_L1_TABLE, Incompatible
from vmport_formats.disk.qcow2.l2_uses import L2Uses, Table, Use, copied
from vmport_formats.disk.qcow2.tables import read_snapshots
from vmport_formats.errors import CorruptInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.check import Faults
    from vmport_formats.disk.qcow2.extensions import Extensions
    from vmport_formats.disk.qcow2.header import Header
    from vmport_formats.disk.qcow2.refcounts import StoredRefcounts
    from vmport_formats.disk.qcow2.tables import SnapshotEntry
    from vmport_formats.source import ByteSource

_RESERVED: Final = 0x7F00_0000_0000_01FF


class Uses:
    """Walks one file."""

    def __init__(
        self, source: ByteSource, header: Header, extensions: Extensions, stored: StoredRefcounts
    ) -> None:
        self._source = source
        self._header = header
        self._extensions = extensions
        self._size = header.cluster_size
        self._stored = stored
        self._has_data_file = header.has(Incompatible.DATA_FILE)
        self.l2 = L2Uses(source, header, stored)

    def walk(self, faults: Faults, *, deep: bool) -> Iterator[Use]:
        """All uses of the file but those of refcount blocks; faults are noted on the way."""
        header = self._header
        self.l2.begin()
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
        tables: dict[int, Table] = {}
        yield from self._l1(header.l1_table_offset, header.l1_size, 40, tables, faults, active=True)
        left = self._source.size
        for snapshot in snapshots:
            entry = snapshot.entry
            left -= max(0, min(8 * entry.l1_size, self._source.size - entry.l1_table_offset))
            if left < 0:  # there can be thousands, each as long as the file
                faults.complete = False
                text = "the L1 tables of snapshots up to this one are longer than the whole file"
                faults.error("qcow2.snapshot-table", entry.at, text)
                break
            yield from self._snapshot(entry, tables, faults)
        misplaced = 0
        for number, table in enumerate(tables.values()):
            faults.done(number / len(tables))
            what = "the L1 table entry"
            yield Use(table.at, self._size, what, table.place, times=table.times)
            if table.at % self._size:
                # Each byte of the file can be in as many as a cluster has bytes.
                misplaced += self._size
                if misplaced > self._source.size:
                    faults.complete = False
                    continue
            yield from self.l2.of(table, faults, deep=deep)

    def _snapshots(self, faults: Faults) -> list[_Placed]:
        header = self._header
        if not header.nb_snapshots:
            return []
        if self._has_data_file:
            faults.error("qcow2.snapshot-table", 60, "has snapshots, but its data in another file")
        try:
            snapshots = read_snapshots(self._source, header)
        except CorruptInput as error:
            faults.stop(error)
            return []
        return [_Placed(entry, _end_of(self._source, entry)) for entry in snapshots]

    def _snapshot(
        self, entry: SnapshotEntry, tables: dict[int, Table], faults: Faults
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
        tables: dict[int, Table],
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
        beyond = self._beyond(faults, active=active)
        for index, _, entry in entries(
            self._source, at, size, width=8, order="big", marks={0}, step=0, beyond=beyond
        ):
            where = at + 8 * index
            offset = self._l1_entry(entry, where, faults, active=active)
            if offset and (known := tables.get(offset)):
                tables[offset] = known._replace(times=known.times + 1)
            elif offset:
                guest = index * self.l2.covered
                tables[offset] = Table(offset, where, 1, active, guest)

    def _beyond(self, faults: Faults, *, active: bool) -> Beyond:
        """L1 entries that point behind the end of the file, to what has no reference count."""

        def more(entry: int) -> int:
            wrong = bool(entry & _RESERVED) + bool((entry & OFFSET) % self._size)
            return wrong + (active and bool(entry & COPIED))

        reach = self._stored.reach * self._size if active else 0
        return Beyond(max(self._source.size, reach), faults, OFFSET, more)

    def _l1_entry(self, entry: int, where: int, faults: Faults, *, active: bool) -> int:
        """Where it points; faults are noted."""
        offset = entry & OFFSET
        if entry & _RESERVED:
            text = f"this L1 table entry sets bits that are reserved: {entry & _RESERVED:#x}"
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
                faults.error("qcow2.copied", where, copied("L1", entry, offset, stored))
        return offset if offset < self._source.size else 0

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
        left = self._source.size
        for bitmap in tables:
            what = "the bitmap directory entry"
            yield Use(bitmap.at, 8 * bitmap.size, what, bitmap.place, only=True)
            if bitmap.at >= self._source.size:
                text = f"a bitmap's table lies at {bitmap.at:#x}, behind the end of the file"
                faults.error("qcow2.bitmaps", bitmap.place, text)
                continue
            if bitmap.at + 8 * bitmap.size > self._source.size:
                text = (
                    f"a bitmap's table ends at {bitmap.at + 8 * bitmap.size:#x}, but the file at "
                    f"{self._source.size:#x}"
                )
                faults.error("qcow2.bitmaps", bitmap.place, text)
            left -= min(8 * bitmap.size, self._source.size - bitmap.at)
            if left < 0:
                faults.complete = False
                text = "the tables of bitmaps up to this one are longer than the whole file"
                faults.error("qcow2.bitmaps", bitmap.place, text)
                break
            for place, offset, problem in bitmap.entries(self._source, self._size, faults):
                if problem is not None:
                    faults.error("qcow2.bitmaps", place, f"this bitmap table entry {problem}")
                elif offset:
                    yield Use(offset, self._size, "the bitmap table entry", place)


class _Placed(NamedTuple):
    """A snapshot, and where its entry ends."""

    entry: SnapshotEntry
    end: int


def _end_of(source: ByteSource, entry: SnapshotEntry) -> int:
    fixed = source.read_at(entry.at, 40)
    id_size, name_size = int.from_bytes(fixed[12:14], "big"), int.from_bytes(fixed[14:16], "big")
    return entry.at + 40 + int.from_bytes(fixed[36:40], "big") + id_size + name_size
