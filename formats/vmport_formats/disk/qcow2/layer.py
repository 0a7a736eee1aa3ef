"""qcow2 content: the way from guest offsets through L1 and L2 tables, of now or of a snapshot.

Source: qemu's ``docs/interop/qcow2.rst``, "Cluster mapping", "Snapshots", "Encryption".
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from sys import byteorder
from threading import Lock
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.disk.layer import Found, Run, cut, joined
from vmport_formats.disk.numbers import reach
from vmport_formats.disk.qcow2.claims import Claims
from vmport_formats.disk.qcow2.clusters import Clusters
from vmport_formats.disk.qcow2.entries import OFFSET, Taken, overlapped
from vmport_formats.disk.qcow2.extensions import read_extensions
from vmport_formats.disk.qcow2.header import (
    MAX_L1_TABLE,
    Encryption,
    Incompatible,
    l1_entries,
    read_header,
)
from vmport_formats.disk.qcow2.info import read_info
from vmport_formats.disk.qcow2.tables import read_snapshots
from vmport_formats.errors import (
    CorruptInput,
    InputError,
    LockedInput,
    TruncatedInput,
    UnsupportedFeature,
)
from vmport_formats.references import ReferenceKind
from vmport_formats.source import read_exactly
from vmport_formats.units import MAX_SIZE, MIB, SECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vmport_formats.disk.layer import Cipher, Opener
    from vmport_formats.disk.model import ImageInfo
    from vmport_formats.disk.qcow2.extensions import Extensions
    from vmport_formats.disk.qcow2.header import Header
    from vmport_formats.disk.qcow2.tables import SnapshotEntry
    from vmport_formats.source import ByteSource

_L1_RESERVED: Final = 0x7F00_0000_0000_01FF
_BATCH: Final = 2048
"""Words of a table that are read and looked at together; large tables have a hundred times more."""
_CACHE: Final = 2 * MIB
"""Bytes of tables that are kept, for each image of a chain."""
_NAMED: Final = 8
"""Snapshots that a message names."""


class L1Table(NamedTuple):
    """Where an L1 table is, and the disk that it is for."""

    offset: int
    size: int
    """Entries of 8 bytes."""
    disk_size: int
    """Bytes."""


class Qcow2Layer:
    """The virtual disk in one qcow2 file: as it is, or as it was at an internal snapshot."""

    def __init__(
        self,
        source: ByteSource,
        info: ImageInfo,
        cluster_size: int,
        l1: L1Table,
        clusters: Clusters,
        taken: Sequence[Taken],
        claims: Claims,
    ) -> None:
        self.info = info
        self.size = l1.disk_size // SECTOR * SECTOR
        self._source = source
        self._l1 = l1
        self._clusters = clusters
        self._taken = taken
        self._claims = claims
        self._cluster_size = cluster_size
        self._table_entries = cluster_size // (8 * clusters.words)
        self._covered = cluster_size * self._table_entries
        self._tables = _Tables(source)

    def runs(self, offset: int, length: int) -> Iterator[Run]:
        """See `layer.Layer.runs`."""
        return joined(self._l1_runs(offset, offset + length))

    def _l1_runs(self, offset: int, end: int) -> Iterator[Run]:
        while offset < end:
            number = offset // self._covered
            if number >= self._l1.size:  # only a snapshot's table can be so short
                yield Run(end - offset, Found.ABSENT)
                return
            index = number % _BATCH
            first = number - index
            at = self._l1.offset + 8 * first
            batch = self._tables.words(at, min(_BATCH, self._l1.size - first))
            self._claims.note(batch, at, 8)
            if batch[index]:
                stop = min(end, (number + 1) * self._covered)
                yield from self._l2_runs(batch[index], number, offset, stop)
            else:
                stop = min(end, (number + reach(batch, index, len(batch), 0)) * self._covered)
                yield Run(stop - offset, Found.ABSENT)
            offset = stop

    def _l2_runs(self, entry: int, number: int, offset: int, end: int) -> Iterator[Run]:
        """What L1 entry `number` says of a range, which lies in what it covers."""
        table = self._l2_table(entry, self._l1.offset + 8 * number)
        start = number * self._covered
        words = self._clusters.words
        while offset < end:
            index = (offset - start) // self._cluster_size
            first = index - index % (_BATCH // words)
            last = min(
                first + _BATCH // words,
                self._table_entries,
                -(-(end - start) // self._cluster_size),
            )
            at = table + 8 * words * first
            part = self._tables.words(at, min(_BATCH, words * (self._table_entries - first)))
            self._clusters.claim(part, at)
            runs = self._clusters.runs(
                part[words * (index - first) : words * (last - first)],
                table + 8 * words * index,
                start + index * self._cluster_size,
            )
            stop = min(end, start + last * self._cluster_size)
            yield from cut(runs, start + index * self._cluster_size, offset, stop)
            offset = stop

    def _l2_table(self, entry: int, place: int) -> int:
        """The offset in an L1 entry, which itself is at `place`; 0 for none."""
        at = entry & OFFSET
        if entry & _L1_RESERVED:
            problem = f"sets bits that are reserved: {entry & _L1_RESERVED:#x}"
        elif at % self._cluster_size or not at:
            problem = (
                f"points to {at:#x}; must be a multiple of the cluster size of "
                f"{self._cluster_size}, behind the header"
            )
        elif hit := overlapped(self._taken, at, at + self._cluster_size):
            problem = f"points to {at:#x}, into {hit.what}"
        elif self._claims.contradicted(place, 8, 1) is not None:
            problem = f"says that it alone points to {at:#x}, and so does another"
        elif at + self._cluster_size > self._source.size:
            raise TruncatedInput(
                self._source.name,
                at=place,
                code="qcow2.l1-entry",
                problem=f"the L2 table at {at:#x} lies behind the end of the file at "
                f"{self._source.size:#x}",
                hint="the file is cut short; copy it again",
            )
        else:
            return at
        raise CorruptInput(
            self._source.name,
            at=place,
            code="qcow2.l1-entry",
            problem=f"this L1 table entry {problem}",
        )


class _Tables:
    """Parts of tables as native words; the last used ones are kept."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._parts: OrderedDict[tuple[int, int], array[int]] = OrderedDict()
        self._kept = 0
        self._lock = Lock()

    def words(self, at: int, count: int) -> array[int]:
        """`count` words from offset `at`; not to be changed."""
        with self._lock:
            if (known := self._parts.get((at, count))) is not None:
                self._parts.move_to_end((at, count))
                return known
        words = array("Q", read_exactly(self._source, at, 8 * count, what="an L1 or L2 table"))
        if byteorder == "little":
            words.byteswap()
        with self._lock:
            if (at, count) not in self._parts:
                self._parts[at, count] = words
                self._kept += 8 * count
            while self._kept > _CACHE:
                _, oldest = self._parts.popitem(last=False)
                self._kept -= 8 * len(oldest)
        return words


# --- Opening ------------------------------------------------------------------------------------


def open_layer(
    source: ByteSource,
    opener: Opener,
    *,
    snapshot: str | None = None,
    passphrase: bytes | None = None,
) -> Qcow2Layer:
    """The content of a qcow2 image; its external data file, if it has one, through `opener`.

    `snapshot` is the id, or else the name, of the internal snapshot to read instead of the present.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: as `info.read_info`; also when it has a
            data file that it does not name.
        InputError: it has no such snapshot (``qcow2.snapshot``).
        LockedInput: it is encrypted, and the passphrase is missing or wrong.
        UnsafeInput: `opener` does not grant the data file.
    """
    header = read_header(source)
    extensions = read_extensions(source, header)
    info = read_info(source)
    l1 = L1Table(header.l1_table_offset, header.l1_size, header.size)
    taken = _taken(header, extensions)
    if snapshot is not None:
        l1 = _snapshot_table(source, header, snapshot)
        taken.append(Taken(l1.offset, l1.offset + 8 * l1.size, "the L1 table of the snapshot"))
    claims = Claims(header.cluster_size, source.size, taken)
    clusters = Clusters(
        source,
        header,
        taken,
        claims,
        data=_data_file(source, header, info, opener),
        cipher=_cipher(source, header, extensions, passphrase),
    )
    return Qcow2Layer(source, info, header.cluster_size, l1, clusters, taken, claims)


def _taken(header: Header, extensions: Extensions) -> list[Taken]:
    """What the header places; of lists without a known end only the start."""
    size = header.cluster_size
    l1, refcounts = header.l1_table_offset, header.refcount_table_offset
    taken = [
        Taken(0, size, "the header"),
        Taken(l1, l1 + 8 * header.l1_size, "the L1 table"),
        Taken(refcounts, refcounts + header.refcount_table_clusters * size, "the refcount table"),
    ]
    if header.nb_snapshots:
        at = header.snapshots_offset
        taken.append(Taken(at, at + 1, "the snapshot table"))
    if luks := extensions.encryption_header:
        taken.append(Taken(luks.offset, luks.offset + luks.length, "the LUKS header"))
    return taken


def _data_file(
    source: ByteSource, header: Header, info: ImageInfo, opener: Opener
) -> ByteSource | None:
    if not header.has(Incompatible.DATA_FILE):
        return None
    for reference in info.references:
        if reference.kind is ReferenceKind.DATA:
            return opener(reference)
    raise UnsupportedFeature(
        source.name,
        code="qcow2.data-file",
        problem="keeps its data in another file, which it does not name",
    )


def _cipher(
    source: ByteSource, header: Header, extensions: Extensions, passphrase: bytes | None
) -> Cipher | None:
    if header.encryption is Encryption.NONE:
        return None
    from vmport_formats.encryption.keyslots import unlock
    from vmport_formats.encryption.luks1 import read_header as read_luks_header
    from vmport_formats.encryption.sectors import (
        GuestNumbered,
        HostNumbered,
        Mode,
        Scheme,
        SectorCipher,
        Vector,
    )

    if luks := extensions.encryption_header:
        return HostNumbered(unlock(source, read_luks_header(source, luks.offset), passphrase))
    if passphrase is None:
        raise LockedInput(
            source.name,
            at=32,
            code="qcow2.passphrase",
            problem="the content is encrypted with AES, and no passphrase was given",
        )
    # The passphrase is the key, and nothing tells whether it is the right one.
    key = passphrase[:16].ljust(16, b"\0")
    return GuestNumbered(SectorCipher(Scheme(Mode.CBC, Vector.PLAIN64), key))


def _snapshot_table(source: ByteSource, header: Header, wanted: str) -> L1Table:
    entry = _snapshot(source, header, wanted)
    size = entry.snapshot.virtual_size
    l1 = L1Table(entry.l1_table_offset, entry.l1_size, header.size if size is None else size)
    if l1.size * 8 > MAX_L1_TABLE:
        problem = f"has {l1.size * 8} bytes; at most {MAX_L1_TABLE}"
    elif not l1.offset or l1.offset % header.cluster_size:
        problem = (
            f"is at {l1.offset:#x}; must be a multiple of the cluster size of "
            f"{header.cluster_size}, behind the header"
        )
    elif l1.disk_size > MAX_SIZE:
        problem = f"is for a disk of {l1.disk_size} bytes; at most 2^63-1"
    elif size is not None and l1.size < (needed := l1_entries(header, size)):
        problem = f"has {l1.size} entries; {size} bytes of disk need {needed}"
    elif l1.offset + 8 * l1.size > source.size:
        raise TruncatedInput(
            source.name,
            at=entry.at,
            code="qcow2.snapshot-table",
            problem=f"the L1 table of snapshot {wanted!r} ends at {l1.offset + 8 * l1.size:#x}, "
            f"but the file at {source.size:#x}",
            hint="the file is cut short; copy it again",
        )
    else:
        return l1
    raise CorruptInput(
        source.name,
        at=entry.at,
        code="qcow2.snapshot-table",
        problem=f"the L1 table of snapshot {wanted!r} {problem}",
    )


def _snapshot(source: ByteSource, header: Header, wanted: str) -> SnapshotEntry:
    entries = read_snapshots(source, header)
    for entry in entries:
        if entry.snapshot.id == wanted:
            return entry
    for entry in entries:
        if entry.snapshot.name == wanted:
            return entry
    some = [f"{entry.snapshot.id} ({entry.snapshot.name})" for entry in entries[:_NAMED]]
    if len(entries) > _NAMED:
        some.append("…")
    raise InputError(
        source.name,
        code="qcow2.snapshot",
        problem=f"has no snapshot with the id or name {wanted!r}",
        hint=f"it has {', '.join(some) or 'none'}",
    )
