"""Checks a VMDK: the grain directories and tables of its sparse extents, their copies, and markers.

Sources: VMware, "Virtual Disk Format 5.0", "Hosted Sparse Extents", "Stream-Optimized Compressed
Sparse Extents"; for seSparse, what qemu knows of it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.disk.check import Statistics
from vmport_formats.disk.fetch import unpack
from vmport_formats.disk.layer import Found
from vmport_formats.disk.placements import Beyond, Kind, Placements, entries
from vmport_formats.disk.vmdk.copies import Span, compare, paired
from vmport_formats.disk.vmdk.descriptor import ExtentType
from vmport_formats.disk.vmdk.esx import (
    COWD_HEADER,
    EsxExtent,
    read_cowd,
    read_sesparse,
)
from vmport_formats.disk.vmdk.extents import (
    FLAT,
    check_readable,
    flat,
    grains_of,
    named_twice,
    sparse,
)
from vmport_formats.disk.vmdk.info import read_vmdk
from vmport_formats.disk.vmdk.layer import parent_if_readable
from vmport_formats.disk.vmdk.magic import COWD_MAGIC, SESPARSE_MAGIC
from vmport_formats.disk.vmdk.other_files import extent_reference
from vmport_formats.disk.vmdk.pointers import SectorPointers, SeSparsePointers, cowd_pointers
from vmport_formats.disk.vmdk.sparse import GRAIN_MARKER, Flag, SparseExtent, read_sparse
from vmport_formats.disk.vmdk.words import Pages
from vmport_formats.errors import CorruptInput, UnreadableInput
from vmport_formats.units import SECTOR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vmport_formats.disk.check import Faults
    from vmport_formats.disk.layer import Opener, Unit
    from vmport_formats.disk.vmdk.descriptor import Descriptor
    from vmport_formats.disk.vmdk.pointers import Pointers
    from vmport_formats.references import Reference
    from vmport_formats.source import ByteSource

_TABLES_OF_DEEP: Final = 1 / 16
"""The share of the time that is for tables where all grains are unpacked, too."""
_ANY: Final = 1 << 40
"""As long as no compressed grain can be."""


def check(source: ByteSource, opener: Opener, faults: Faults, *, deep: bool) -> Statistics:
    """See `disk.check.Checker`.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: as `layer.open_layer`.
        UnsafeInput: an extent is not granted.
    """
    vmdk = read_vmdk(source, whole=False)
    parent_if_readable(vmdk, source.name)
    if vmdk.extent is not None:
        grains_of(source, vmdk.extent, 0, Pages())  # it can be read
        return _check_extent(source, vmdk.extent, faults, deep=deep)
    if vmdk.descriptor is None:
        return Statistics()
    return _check_named(vmdk.descriptor, opener, faults, deep=deep)


def _check_named(
    descriptor: Descriptor, opener: Opener, faults: Faults, *, deep: bool
) -> Statistics:
    """The extents that a descriptor names: a broken one does not hide the others."""
    check_readable(faults.name, descriptor)
    totals = Statistics(total=0, allocated=0, fragmented=0)
    known: set[Reference] = set()
    number = len(descriptor.extents)
    for index, line in enumerate(descriptor.extents):
        faults.phase(index / number, (index + 1) / number)
        if line.type is ExtentType.ZERO or not line.sectors:
            continue
        reference = extent_reference(line, descriptor)
        try:
            source = opener(reference)
            if line.type in FLAT:
                flat(source, line)
            elif reference in known:
                raise named_twice(faults.name, line, reference)
            else:
                sparse(source, line, 0, Pages())  # it is what its line says
                inside = faults.within(source.name)
                totals += _check_extent(source, _read(source), inside, deep=deep)
                faults.complete &= inside.complete
        except (CorruptInput, UnreadableInput) as error:
            faults.stop(error)
        known.add(reference)
        faults.done(1)
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
        zeroed=header.has(Flag.ZEROED_GRAINS),
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
    marked = isinstance(extent, SparseExtent) and extent.header.has(Flag.MARKERS)
    unpacked = deep and shape.pointers.packed
    tables = list(_tables(source, shape, shape.directory, found, faults))
    seen: set[int] = set()
    left = source.size
    for span in tables:
        faults.done(span.number / shape.tables * (_TABLES_OF_DEEP if unpacked else 1))
        if span.at not in seen:  # else told as an overlap; its grains belong to the first
            seen.add(span.at)
            left -= span.tables * shape.table
            if left < 0:  # they lie over each other, which is told
                faults.complete = False
                break
            _check_tables(source, shape, span, found, faults, marked=marked)
    if isinstance(extent, SparseExtent) and extent.header.has(Flag.REDUNDANT_GRAIN_DIRECTORY):
        _check_copies(source, shape, extent.header.rgd_offset * SECTOR, tables, found, faults)
    found.check_overlaps()
    if unpacked:
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
) -> Iterator[Span]:
    """The grain tables that a directory places in the file."""
    pointers = shape.pointers
    kind = Kind(f"{what} entry", "vmdk.grain-directory-entry", pointers.width, shape.table)
    for number, count, value in entries(
        source,
        directory,
        shape.tables,
        width=pointers.width,
        order="little",
        marks={0},
        step=pointers.table_step,
        beyond=Beyond(pointers.table_limit(source.size), faults),
    ):
        for index, together in _alike(
            pointers.table, value, count, pointers.table_step, shape.table
        ):
            place = directory + pointers.width * (number + index)
            try:
                at = pointers.table(value + index * pointers.table_step)
            except ValueError as error:
                faults.error(kind.code, place, f"this {kind.name} {error}")
                continue
            if at is None:
                continue
            if inside := found.place(kind, place, at, together, block=False):
                yield Span(number + index, inside, at)


def _alike(
    decode: Callable[[int], object], value: int, count: int, step: int, length: int
) -> Iterator[tuple[int, int]]:
    """Entries that go up by `step`: together if what they place does too, else one by one."""
    if count > 1:
        with suppress(ValueError):
            first, last = _offset(decode(value)), _offset(decode(value + (count - 1) * step))
            if first and last == first + (count - 1) * length:
                yield 0, count
                return
    for index in range(count):
        yield index, 1


def _offset(decoded: object) -> int:
    """Of a table, or of a grain that is stored; else 0."""
    if isinstance(decoded, tuple):
        return int(decoded[1])
    return decoded if isinstance(decoded, int) else 0


def _check_tables(
    source: ByteSource,
    shape: _Shape,
    span: Span,
    found: Placements,
    faults: Faults,
    *,
    marked: bool,
) -> None:
    pointers = shape.pointers
    length = _ANY if pointers.packed else shape.grain
    kind = Kind("grain table entry", "vmdk.grain-table-entry", pointers.width, length)
    begin = span.number * pointers.table_entries
    size = min(span.tables * pointers.table_entries, shape.grains - begin)
    step = 0 if pointers.packed else pointers.grain_step
    for first, count, value in entries(
        source,
        span.at,
        size,
        width=pointers.width,
        order="little",
        marks={0},
        step=step,
        beyond=Beyond(pointers.grain_limit(source.size), faults),
    ):
        for index, together in _alike(pointers.grain, value, count, step, shape.grain):
            grain = begin + first + index
            place = span.at + pointers.width * (first + index)
            try:
                how, at = pointers.grain(value + index * step)
            except ValueError as error:
                faults.error(kind.code, place, f"this {kind.name} {error}")
                continue
            if how is Found.STORED:
                short = -shape.size % shape.grain if grain + together == shape.grains else 0
                found.place(kind, place, at, together, short=short)
            elif how is Found.PACKED:
                length = _packed_length(source, shape, grain, at, faults, marked=marked)
                found.place(kind, place, at, length=length)


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
    tables: list[Span],
    found: Placements,
    faults: Faults,
) -> None:
    """That the redundant grain directory leads to tables with the same entries."""
    width = shape.pointers.width
    what = "redundant grain directory"
    found.reserve(directory, width * shape.tables, f"the {what}")
    copies = list(_tables(source, shape, directory, found, faults, what))
    for number, count, one, other in paired(tables, copies, shape.table):
        if one is None or other is None:
            which = "grain directory" if one is None else what
            text = f"grain table {number} is missing in the {which}, but not in the other one"
            place = directory + width * number
            faults.error("vmdk.redundant-directory", place, text, count)
            continue
        compare(source, one, other, count * shape.table, width, faults)


def _unpack_all(
    source: ByteSource, extent: SparseExtent | EsxExtent, shape: _Shape, faults: Faults
) -> None:
    if faults.failed:  # the reader stops where a pointer is broken
        faults.complete = False
        return
    for unit in _units(source, extent, shape, faults):
        faults.done(_TABLES_OF_DEEP + (1 - _TABLES_OF_DEEP) * unit.start / shape.size)
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
