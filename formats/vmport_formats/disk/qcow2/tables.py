"""qcow2's lists behind the header: internal snapshots, persistent bitmaps, the refcounts' reach."""

from __future__ import annotations

from enum import IntFlag
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.disk.model import Snapshot
from vmport_formats.disk.qcow2.extensions import text
from vmport_formats.errors import CorruptInput, TruncatedInput
from vmport_formats.source import read_exactly
from vmport_formats.units import Bytes
from vmport_formats.zeros import without_trailing_zeros

if TYPE_CHECKING:
    from vmport_formats.disk.qcow2.extensions import BitmapsPointer
    from vmport_formats.disk.qcow2.header import Header
    from vmport_formats.source import ByteSource

_SNAPSHOT = Struct(">QIHHIIQII")
_SNAPSHOT_EXTRA = Struct(">QQ")
MAX_SNAPSHOT_EXTRA: Final = 1024
"""Bytes of extra data in one entry of the snapshot table, as in qemu."""
MAX_SNAPSHOT_TABLE: Final = 1024 * 65536

_WINDOW: Final = 256 << 10

_BITMAP = Struct(">QIIBBHI")
_DIRTY_TRACKING: Final = 1
MAX_BITMAP_NAME: Final = 1023
BITMAP_GRANULARITY_BITS: Final = range(9, 32)

_BLOCKS_TRIED: Final = 4
"""How many all-zero refcount blocks are skipped when looking for the last cluster in use."""


class BitmapFlag(IntFlag):
    """The state of one persistent bitmap."""

    IN_USE = 1 << 0
    AUTO = 1 << 1
    EXTRA_DATA_COMPATIBLE = 1 << 2


class SnapshotEntry(NamedTuple):
    """An entry of the snapshot table."""

    at: int
    """Its offset."""
    l1_table_offset: int
    l1_size: int
    """Entries of 8 bytes."""
    snapshot: Snapshot


def read_snapshots(source: ByteSource, header: Header) -> tuple[SnapshotEntry, ...]:
    """All entries of the snapshot table.

    Raises:
        CorruptInput, TruncatedInput: code ``qcow2.snapshot-table``.
    """
    entries = []
    window = _Window(source)
    start = offset = header.snapshots_offset
    for number in range(header.nb_snapshots):
        entry = window.take(offset, _SNAPSHOT.size)
        l1, l1_size, id_size, name_size, seconds, nanoseconds, clock, memory, extra_size = (
            _SNAPSHOT.unpack(entry)
        )
        end = offset + _SNAPSHOT.size + extra_size + id_size + name_size
        if extra_size > MAX_SNAPSHOT_EXTRA or end - start > MAX_SNAPSHOT_TABLE:
            raise CorruptInput(
                source.name,
                at=offset,
                code="qcow2.snapshot-table",
                problem=f"entry {number} makes the snapshot table too large: {extra_size} bytes "
                f"of extra data (at most {MAX_SNAPSHOT_EXTRA}), {end - start} bytes in all (at "
                f"most {MAX_SNAPSHOT_TABLE})",
            )
        tail = window.take(offset + _SNAPSHOT.size, extra_size + id_size + name_size)
        disk_size = None
        if extra_size >= _SNAPSHOT_EXTRA.size:
            memory, disk_size = _SNAPSHOT_EXTRA.unpack_from(tail)
        elif extra_size >= 8:
            memory = int.from_bytes(tail[:8], "big")
        snapshot = Snapshot(
            id=text(tail[extra_size : extra_size + id_size]),
            name=text(tail[extra_size + id_size :]),
            vm_state_size=Bytes(memory),
            created=seconds,
            created_nanoseconds=nanoseconds,
            vm_clock=clock,
            virtual_size=None if disk_size is None else Bytes(disk_size),
        )
        entries.append(SnapshotEntry(offset, l1, l1_size, snapshot))
        offset = -(-end // 8) * 8
    return tuple(entries)


class _Window:
    """The snapshot table read in large pieces: it can have 65536 small entries."""

    __slots__ = ("_data", "_source", "_start")

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._start = 0
        self._data = b""

    def take(self, offset: int, length: int) -> bytes:
        """Just `length` bytes from `offset`, or `TruncatedInput`."""
        begin = offset - self._start
        if not 0 <= begin <= begin + length <= len(self._data):
            self._start, begin = offset, 0
            self._data = self._source.read_at(offset, max(length, _WINDOW))
            if len(self._data) < length:
                raise TruncatedInput(
                    self._source.name,
                    at=offset,
                    code="qcow2.snapshot-table",
                    problem=f"the file ends at {self._source.size:#x}, inside the snapshot table",
                    hint="the file is cut short; copy it again",
                )
        return self._data[begin : begin + length]


def read_bitmaps(
    source: ByteSource, header: Header, pointer: BitmapsPointer
) -> list[dict[str, object]]:
    """Name, granularity and flags of each persistent bitmap, as qemu-img shows them.

    Raises:
        CorruptInput: code ``qcow2.bitmaps``.
    """

    def wrong(at: int, problem: str) -> CorruptInput:
        return CorruptInput(source.name, at=at, code="qcow2.bitmaps", problem=problem)

    base = pointer.directory_offset
    directory = read_exactly(source, base, pointer.directory_size, what="the bitmap directory")
    bitmaps: list[dict[str, object]] = []
    offset = 0
    for number in range(pointer.number):
        if offset + _BITMAP.size > len(directory):
            raise wrong(
                base + offset,
                f"the bitmap directory ends before bitmap {number} of {pointer.number}",
            )
        table, table_size, flags, kind, granularity, name_size, extra_size = _BITMAP.unpack_from(
            directory, offset
        )
        name_at = offset + _BITMAP.size + extra_size
        end = name_at + name_size
        if end > len(directory):
            raise wrong(base + offset, f"bitmap {number} reaches beyond the bitmap directory")
        if (
            kind != _DIRTY_TRACKING
            or granularity not in BITMAP_GRANULARITY_BITS
            or not 1 <= name_size <= MAX_BITMAP_NAME
            or flags & ~sum(BitmapFlag)
            or table == 0
            or table % header.cluster_size
            or table_size == 0
        ):
            raise wrong(base + offset, f"bitmap {number} breaks a rule of its directory entry")
        bitmaps.append(
            {
                "name": text(directory[name_at:end]),
                "granularity": 1 << granularity,
                "flags": [
                    label
                    for flag, label in ((BitmapFlag.IN_USE, "in-use"), (BitmapFlag.AUTO, "auto"))
                    if flags & flag
                ],
            }
        )
        offset = -(-end // 8) * 8
    if offset != len(directory):
        raise wrong(base, f"the bitmap directory has {len(directory)} bytes, its entries {offset}")
    return bitmaps


def check_reach(source: ByteSource, header: Header) -> None:
    """That the file holds every cluster which its refcounts say is in use.

    qemu reads what lies behind the end of the file as zeros, so a cut image loses data silently.
    Only the last used refcount block is looked at, so this costs a few reads.

    Raises:
        TruncatedInput: code ``qcow2.file-size``.
    """
    table = read_exactly(
        source,
        header.refcount_table_offset,
        header.refcount_table_clusters * header.cluster_size,
        what="the refcount table",
    )
    per_block = header.cluster_size * 8 // header.refcount_bits
    for _ in range(_BLOCKS_TRIED):
        table = without_trailing_zeros(table)
        if not table:
            return
        index = (len(table) - 1) // 8
        entry = table[index * 8 : index * 8 + 8].ljust(8, b"\0")
        at = header.refcount_table_offset + index * 8
        block_offset = int.from_bytes(entry, "big") & ~0x1FF
        if block_offset % header.cluster_size:
            raise CorruptInput(
                source.name,
                at=at,
                code="qcow2.refcount-table",
                problem=f"a refcount block is at {block_offset:#x}; must be a multiple of the "
                f"cluster size of {header.cluster_size}",
            )
        block = source.read_at(block_offset, header.cluster_size)
        if block_offset and len(block) < header.cluster_size:
            raise _cut(source, at, block_offset + header.cluster_size, "a refcount block")
        if used := _used(block, header.refcount_bits):
            last = index * per_block + used
            # The last cluster may be there in part: what is missing of it reads as zeros.
            if (last - 1) * header.cluster_size >= source.size:
                raise _cut(source, at, last * header.cluster_size, "the last cluster in use")
            return
        table = table[: index * 8]


def _used(block: bytes, width: int) -> int:
    """How many entries of a refcount block reach up to the last one that is not zero."""
    block = without_trailing_zeros(block)
    if not block:
        return 0
    if width >= 8:
        return -(-len(block) // (width // 8))
    # Entries narrower than a byte fill it from its least significant bit.
    return (len(block) - 1) * (8 // width) + -(-block[-1].bit_length() // width)


def _cut(source: ByteSource, at: int, end: int, what: str) -> TruncatedInput:
    return TruncatedInput(
        source.name,
        at=at,
        code="qcow2.file-size",
        problem=f"{what} ends at {end:#x}, but the file at {source.size:#x}",
        hint="the file is cut short: copy it again; if it is whole, a program crashed while "
        "writing, and `qemu-img check -r leaks` mends it",
    )
