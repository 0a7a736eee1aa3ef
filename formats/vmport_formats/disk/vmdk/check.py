"""Checks a VMDK: the grain directories and tables of its sparse extents, their copies, and markers.

Sources: VMware, "Virtual Disk Format 5.0", "Hosted Sparse Extents", "Stream-Optimized Compressed
Sparse Extents"; for seSparse, what qemu knows of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vmport_formats.disk.check import Statistics
from vmport_formats.disk.fetch import unpack
from vmport_formats.disk.layer import Found
from vmport_formats.disk.placements import Kind, Placements, entries
from vmport_formats.disk.vmdk.descriptor import ExtentType
from vmport_formats.disk.vmdk.esx import (
    COWD_HEADER,
    COWD_MAGIC,
    SESPARSE_MAGIC,
    EsxExtent,
    read_cowd,
    read_sesparse,
)
from vmport_formats.disk.vmdk.extents import grains_of
from vmport_formats.disk.vmdk.info import read_vmdk
from vmport_formats.disk.vmdk.layer import open_layer
from vmport_formats.disk.vmdk.other_files import extent_reference
from vmport_formats.disk.vmdk.pointers import SectorPointers, SeSparsePointers, cowd_pointers
from vmport_formats.disk.vmdk.sparse import GRAIN_MARKER, Flag, SparseExtent, read_sparse
from vmport_formats.disk.vmdk.words import Pages
from vmport_formats.errors import CorruptInput
from vmport_formats.units import SECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.check import Faults
    from vmport_formats.disk.layer import Opener, Unit
    from vmport_formats.disk.vmdk.pointers import Pointers
    from vmport_formats.source import ByteSource

_SPARSE = frozenset({ExtentType.SPARSE, ExtentType.VMFSSPARSE, ExtentType.SESPARSE})


def check(source: ByteSource, opener: Opener, faults: Faults, *, deep: bool) -> Statistics:
    """See `disk.check.Checker`.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: as `layer.open_layer`.
        UnsafeInput: an extent is not granted.
    """
    vmdk = read_vmdk(source)
    open_layer(source, opener)  # the extents fit the descriptor, and none is missing
    if vmdk.extent is not None:
        return _check_extent(source, vmdk.extent, faults, deep=deep)
    totals = Statistics(total=0, allocated=0, fragmented=0)
    if vmdk.descriptor is None:
        return totals
    for line in vmdk.descriptor.extents:
        if line.type not in _SPARSE or not line.sectors:
            continue
        extent_source = opener(extent_reference(line, vmdk.descriptor))
        with_name = faults.within(extent_source.name)
        found = _check_extent(extent_source, _read(extent_source), with_name, deep=deep)
        faults.complete &= with_name.complete
        totals = totals + found
    return totals


def _read(source: ByteSource) -> SparseExtent | EsxExtent:
    head = source.read_at(0, len(SESPARSE_MAGIC))
    if head == SESPARSE_MAGIC:
        return read_sesparse(source)
    return read_cowd(source) if head.startswith(COWD_MAGIC) else read_sparse(source)


class _Shape(NamedTuple):
    """What a check needs to know of an extent, whatever its kind; in bytes."""

    pointers: Pointers
    size: int
    grain: int
    directory: int
    taken: tuple[tuple[int, int, str], ...]
    """Offset, length and name of what the header places."""

    @property
    def table(self) -> int:
        """Bytes of a grain table."""
        return self.pointers.table_entries * self.pointers.width

    @property
    def grains(self) -> int:
        """How many there are."""
        return -(-self.size // self.grain)

    @property
    def tables(self) -> int:
        """How many there are."""
        return -(-self.grains // self.pointers.table_entries)


def _shape_of(extent: SparseExtent | EsxExtent) -> _Shape:
    if isinstance(extent, EsxExtent):
        layout, grain = extent.layout, int(extent.cluster_size)
        cowd = extent.variant == "COWD"
        pointers = cowd_pointers(grain) if cowd else SeSparsePointers(layout, grain)
        taken = (
            (0, COWD_HEADER if cowd else SECTOR, "the header"),
            (layout.directory, layout.directory_size, "the grain directory"),
        )
        return _Shape(pointers, int(extent.virtual_size), grain, layout.directory, taken)
    header = extent.header
    pointers = SectorPointers(
        header.num_gtes_per_gt,
        header.grain_size,
        zeroed=bool(header.flags & Flag.ZEROED_GRAINS),
        packed=extent.compressed,
    )
    directory, grain = header.gd_offset * SECTOR, header.grain_size * SECTOR
    shape = _Shape(pointers, header.capacity * SECTOR, grain, directory, ())
    return shape._replace(
        taken=(
            (0, SECTOR, "the header"),
            (extent.descriptor_offset, extent.descriptor_length, "the descriptor"),
            (directory, 4 * shape.tables, "the grain directory"),
        )
    )


def _check_extent(
    source: ByteSource, extent: SparseExtent | EsxExtent, faults: Faults, *, deep: bool
) -> Statistics:
    shape = _shape_of(extent)
    found = Placements(source, faults)
    for at, length, what in shape.taken:
        found.reserve(at, length, what)
    marked = isinstance(extent, SparseExtent) and bool(extent.header.flags & Flag.MARKERS)
    tables = dict(_tables(source, shape, shape.directory, found, faults))
    seen: set[int] = set()
    for number, at in tables.items():
        if at in seen:  # told as an overlap; its grains belong to the first
            continue
        seen.add(at)
        _check_table(source, shape, number, at, found, faults, marked=marked)
    if isinstance(extent, SparseExtent) and extent.header.flags & Flag.REDUNDANT_GRAIN_DIRECTORY:
        _check_copies(source, shape, extent.header.rgd_offset * SECTOR, tables, found, faults)
    found.check_overlaps()
    if deep and shape.pointers.packed:
        _unpack_all(source, extent, shape, faults)
    packed = found.blocks if shape.pointers.packed else 0
    return Statistics(
        total=shape.grains,
        allocated=found.blocks,
        compressed=packed,
        fragmented=packed or found.fragmented,
        image_end=found.end,
    )


def _tables(
    source: ByteSource,
    shape: _Shape,
    directory: int,
    found: Placements,
    faults: Faults,
    what: str = "grain directory",
) -> Iterator[tuple[int, int]]:
    """Number and offset of each grain table that a directory places in the file."""
    pointers = shape.pointers
    kind = Kind(f"{what} entry", "vmdk.grain-directory-entry", pointers.width, shape.table)
    for number, _, value in entries(
        source, directory, shape.tables, width=pointers.width, order="little", marks={0}, step=0
    ):
        place = directory + pointers.width * number
        try:
            at = pointers.table(value)
        except ValueError as error:
            faults.error(kind.code, place, f"this {kind.name} {error}")
            continue
        if at is not None and found.place(kind, place, at, block=False):
            yield number, at


def _check_table(
    source: ByteSource,
    shape: _Shape,
    number: int,
    table: int,
    found: Placements,
    faults: Faults,
    *,
    marked: bool,
) -> None:
    pointers = shape.pointers
    kind = Kind("grain table entry", "vmdk.grain-table-entry", pointers.width, shape.grain)
    begin = number * pointers.table_entries
    count = min(pointers.table_entries, shape.grains - begin)
    step = 0 if pointers.packed else pointers.grain_step
    for first, together, value in entries(
        source, table, count, width=pointers.width, order="little", marks={0}, step=step
    ):
        place = table + pointers.width * first
        try:
            how, at = pointers.grain(value)
        except ValueError as error:
            faults.error(kind.code, place, f"this {kind.name} {error}", together)
            continue
        if how is Found.STORED:
            last = begin + first + together == shape.grains
            short = -shape.size % shape.grain if last else 0
            found.place(kind, place, at, together, short=short)
        elif how is Found.PACKED:
            length = _packed_length(source, shape, begin + first, at, faults, marked=marked)
            found.place(kind._replace(length=length), place, at)
        elif together > 1:  # a mark that goes up by one step is no mark any more
            _check_rest(shape, kind, place, value, together, begin + first, found)


def _check_rest(
    shape: _Shape,
    kind: Kind,
    place: int,
    value: int,
    together: int,
    grain: int,
    found: Placements,
) -> None:
    for index in range(1, together):
        how, at = shape.pointers.grain(value + index * shape.pointers.grain_step)
        if how is Found.STORED:
            short = -shape.size % shape.grain if grain + index == shape.grains - 1 else 0
            found.place(kind, place + kind.step * index, at, short=short)


def _packed_length(
    source: ByteSource, shape: _Shape, grain: int, at: int, faults: Faults, *, marked: bool
) -> int:
    """How long a compressed grain is, as its marker says, which must be that of this grain."""
    if not marked:
        return 1
    marker = source.read_at(at, GRAIN_MARKER.size)
    if len(marker) < GRAIN_MARKER.size:
        return GRAIN_MARKER.size
    sector, length = GRAIN_MARKER.unpack(marker)
    expected = grain * shape.grain // SECTOR
    if sector != expected:
        text = f"this marker is of the grain for sector {sector}; expected is sector {expected}"
        faults.error("vmdk.grain-marker", at, text)
        return GRAIN_MARKER.size
    return GRAIN_MARKER.size + int(length)


def _check_copies(
    source: ByteSource,
    shape: _Shape,
    directory: int,
    tables: dict[int, int],
    found: Placements,
    faults: Faults,
) -> None:
    """That the redundant grain directory leads to tables with the same entries."""
    width = shape.pointers.width
    what = "redundant grain directory"
    found.reserve(directory, width * shape.tables, f"the {what}")
    copies = dict(_tables(source, shape, directory, found, faults, what))
    for number in sorted(tables.keys() | copies.keys()):
        place = directory + width * number
        if number not in copies or number not in tables:
            which = what if number in tables else "grain directory"
            text = f"grain table {number} is missing in the {which}, but not in the other one"
            faults.error("vmdk.redundant-directory", place, text)
            continue
        one = source.read_at(tables[number], shape.table)
        other = source.read_at(copies[number], shape.table)
        if one == other:
            continue
        different = [
            index
            for index in range(0, shape.table, width)
            if one[index : index + width] != other[index : index + width]
        ]
        text = (
            f"this copy of a grain table entry differs from the entry at "
            f"{tables[number] + different[0]:#x}"
            + (f", and so do {len(different) - 1} more of the table" if different[1:] else "")
        )
        faults.error("vmdk.redundant-table", copies[number] + different[0], text, len(different))


def _unpack_all(
    source: ByteSource, extent: SparseExtent | EsxExtent, shape: _Shape, faults: Faults
) -> None:
    if faults.failed:
        return
    for unit in _units(source, extent, shape, faults):
        try:
            unpack(unit)
        except CorruptInput as error:
            faults.take(error)


def _units(
    source: ByteSource, extent: SparseExtent | EsxExtent, shape: _Shape, faults: Faults
) -> Iterator[Unit]:
    try:
        for run in grains_of(source, extent, 0, Pages()).runs(0, shape.size):
            if run.unit is not None:
                yield run.unit
    except CorruptInput as error:
        faults.stop(error)
