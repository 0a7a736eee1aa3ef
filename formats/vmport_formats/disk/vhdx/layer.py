"""VHDX content: blocks and, where there is a parent, bitmaps of their sectors.

Source: [MS-VHDX] sections 2.4 (Blocks) and 2.5 (BAT).  Of the states that leave the content of a
block open, all read as zeros: each of them allows it, and it is what qemu does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.disk.bitmaps import bit_runs_at, stored_runs
from vmport_formats.disk.layer import Found, Run, cut, joined
from vmport_formats.disk.occupancy import Occupancy
from vmport_formats.disk.tables import EntryKind, FlatTable, TableReader
from vmport_formats.disk.vhdx.bitmaps import Bitmaps
from vmport_formats.disk.vhdx.block_table import STATE_MASK, State, chunk_ratio, offset_in
from vmport_formats.disk.vhdx.info import read_vhdx
from vmport_formats.errors import CorruptInput, UnsupportedFeature
from vmport_formats.patched import PatchedSource
from vmport_formats.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.layer import Opener
    from vmport_formats.disk.model import ImageInfo
    from vmport_formats.disk.vhdx.info import Vhdx
    from vmport_formats.source import ByteSource

_UNSTORED: Final[dict[int, Found]] = {
    State.NOT_PRESENT: Found.ABSENT,
    State.UNDEFINED: Found.ZERO,
    State.ZERO: Found.ZERO,
    State.UNMAPPED: Found.ZERO,
    State.UNMAPPED_V0: Found.ZERO,
}


class VhdxLayer:
    """The virtual disk in one VHDX file.  A `layer.Layer`, and a `layer.Child`."""

    def __init__(self, vhdx: Vhdx) -> None:
        metadata = vhdx.metadata
        self.info = vhdx.info
        self.size = metadata.virtual_disk_size
        self.parents = vhdx.info.references
        self._linkage = metadata.linkage
        self._source = vhdx.source
        self._block_size = metadata.block_size
        self._sector = metadata.logical_sector_size
        self._ratio = chunk_ratio(metadata)
        occupancy = Occupancy(0, MIB)
        for start, end in ((0, MIB), *((region.offset, region.end) for region in vhdx.regions.all)):
            occupancy.take([(start, end)])
        table_at = vhdx.regions.block_table.offset
        self._bitmaps = (
            Bitmaps(vhdx.source, table_at, self._ratio, occupancy) if metadata.has_parent else None
        )
        kind = EntryKind(
            "block table entry",
            code="vhdx.block-table-entry",
            width=8,
            order="little",
            marks=frozenset(_UNSTORED),
            step=self._block_size,
            place=self._place,
            group=self._ratio,
            short=-self.size % self._block_size,
        )
        blocks = -(-self.size // self._block_size)
        self._table = FlatTable(TableReader(vhdx.source, kind, occupancy), table_at, blocks)

    def _place(self, value: int) -> tuple[int, int, bool] | None:
        state = value & STATE_MASK
        if state in _UNSTORED:
            return None  # an offset may be left, and does not count
        if state == State.RESERVED:
            raise ValueError(f"is in state {state}, which is reserved")
        if state == State.PARTIALLY_PRESENT and self._bitmaps is None:
            raise ValueError(f"is in state {state}, which only a disk with a parent can have")
        return offset_in(value), self._block_size, True

    def runs(self, offset: int, length: int) -> Iterator[Run]:
        """See `layer.Layer.runs`."""
        return joined(self._runs(offset, offset + length))

    def _runs(self, offset: int, end: int) -> Iterator[Run]:
        size = self._block_size
        for first, entries, value in self._table.stretches(offset // size, -(-end // size)):
            start = first * size
            stop = min(end, start + entries * size)
            state = value & STATE_MASK
            if state in _UNSTORED:
                yield Run(stop - offset, _UNSTORED[state])
            elif state == State.FULLY_PRESENT or self._bitmaps is None:
                yield from self._stored(offset_in(value) + offset - start, stop - offset)
            else:
                yield from self._partly_stored(
                    self._bitmaps, offset_in(value) - start, offset, stop
                )
            offset = stop

    def _stored(self, at: int, length: int) -> Iterator[Run]:
        """Bytes of this file, or of its log."""
        source = self._source
        if not isinstance(source, PatchedSource):
            yield Run(length, Found.STORED, source, at)
            return
        for start, end, patch in source.parts(at, at + length):
            if patch is None:
                yield Run(end - start, Found.STORED, source.base, start)
            elif patch.data is None:
                yield Run(end - start, Found.ZERO)
            else:
                yield Run(end - start, Found.STORED, source, start)

    def _partly_stored(self, bitmaps: Bitmaps, shift: int, offset: int, end: int) -> Iterator[Run]:
        """A range of the disk; a sector that is stored is `shift` bytes further on in the file."""
        chunk_size, sector = self._ratio * self._block_size, self._sector
        while offset < end:
            chunk, inside = divmod(offset, chunk_size)
            length = min(chunk_size - inside, end - offset)
            first, last = inside // sector, -(-(inside + length) // sector)
            bits = bit_runs_at(self._source, bitmaps.at(chunk), first, last, first="lsb")
            start = offset - inside % sector
            runs = stored_runs(self._source, start + shift, bits, sector=sector)
            for run in cut(runs, start, offset, offset + length):
                if run.found is Found.STORED:
                    yield from self._stored(run.at, run.length)
                else:
                    yield run
            offset += length

    def check_parent(self, parent: ImageInfo, source: ByteSource) -> tuple[()]:
        """See `layer.Child.check_parent`: a disk has a new GUID once a guest has written to it."""
        found = parent.details["data-write-guid"]
        if found in self._linkage:
            return ()
        wanted = " or ".join(self._linkage) or "(it does not say)"
        raise CorruptInput(
            self._source.name,
            code="vhdx.parent-linkage",
            problem=f"was made from a disk with data write GUID {wanted}, but that of "
            f"{source.name} is {found}",
            hint="the file is another disk, or was written to since; put the right one in its "
            "place, as it was",
        )


def open_layer(source: ByteSource, opener: Opener) -> VhdxLayer:
    """The content of a VHDX; its log, when there is one to be replayed, is replayed in memory.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: as `info.read_info`; also when the log
            cannot be replayed.
    """
    vhdx = read_vhdx(source)
    if vhdx.log is not None and not vhdx.log.complete:
        raise UnsupportedFeature(
            source.name,
            code="vhdx.log-length",
            problem="was not closed cleanly, and its log is too long to be replayed in memory",
            hint="attach it in Windows once, which replays the log in the file",
        )
    if vhdx.log is not None and not vhdx.log.entries:
        raise CorruptInput(
            source.name,
            code="vhdx.dirty-log",
            problem="was not closed cleanly, and its log holds nothing that can be replayed: its "
            "tables may be older than its blocks",
        )
    return VhdxLayer(vhdx)
