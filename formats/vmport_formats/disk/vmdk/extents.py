"""What the extents of a disk hold: files, parts of files, grains, or nothing but zeros.

Source: VMware, "Virtual Disk Format 5.0", "The Extent Description".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from vmport_formats.disk.layer import Found, Run
from vmport_formats.disk.vmdk.descriptor import ExtentType
from vmport_formats.disk.vmdk.esx import (
    COWD_HEADER,
    EsxExtent,
    read_cowd,
    read_sesparse,
)
from vmport_formats.disk.vmdk.grains import Grains, Shape, Taken
from vmport_formats.disk.vmdk.magic import COWD_MAGIC, SESPARSE_MAGIC
from vmport_formats.disk.vmdk.other_files import extent_reference
from vmport_formats.disk.vmdk.pointers import SectorPointers, SeSparsePointers, cowd_pointers
from vmport_formats.disk.vmdk.sparse import MAGIC, Flag, SparseExtent, read_sparse
from vmport_formats.disk.vmdk.words import Pages
from vmport_formats.errors import CorruptInput, TruncatedInput, UnsupportedFeature
from vmport_formats.units import MIB, SECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.layer import Opener
    from vmport_formats.disk.vmdk.descriptor import Descriptor, Extent
    from vmport_formats.references import Reference
    from vmport_formats.source import ByteSource

_MAX_PACKED_GRAIN: Final = 16 * MIB
"""A grain is unpacked as a whole, in memory; 64 KiB is what everybody writes."""
FLAT: Final = frozenset({ExtentType.FLAT, ExtentType.VMFS})
SPARSE: Final = frozenset({ExtentType.SPARSE, ExtentType.VMFSSPARSE, ExtentType.SESPARSE})
_DEVICES: Final = frozenset({ExtentType.VMFSRDM, ExtentType.VMFSRAW})


class Content(Protocol):
    """What an extent holds."""

    def runs(self, offset: int, end: int) -> Iterator[Run]:
        """The runs from `offset` to `end`, both counted from the extent's begin."""
        ...


class Piece(NamedTuple):
    """An extent's place on the disk."""

    begin: int
    end: int
    content: Content


class _Flat:
    """The bytes of a file, from an offset on."""

    def __init__(self, source: ByteSource, at: int) -> None:
        self._source = source
        self._at = at

    def runs(self, offset: int, end: int) -> Iterator[Run]:
        """See `Content.runs`."""
        yield Run(end - offset, Found.STORED, self._source, self._at + offset)


class _Zeros:
    """An extent without a file."""

    def runs(self, offset: int, end: int) -> Iterator[Run]:
        """See `Content.runs`."""
        yield Run(end - offset, Found.ZERO)


# --- Files that a descriptor names --------------------------------------------------------------


def open_extents(name: str, descriptor: Descriptor, opener: Opener) -> Iterator[Piece]:
    """The extents of the descriptor in the file called `name`, their files through `opener`.

    Nothing is opened when one of them cannot be read.

    Raises:
        UnsupportedFeature: an extent is a device, is not to be read, or is not known well enough.
        CorruptInput, TruncatedInput: an extent's file is not what its line says.
        UnsafeInput: `opener` does not grant one.
    """
    check_readable(name, descriptor)
    opened: dict[Reference, ByteSource] = {}
    pages = Pages()
    begin = 0
    for extent in descriptor.extents:
        end = begin + extent.sectors * SECTOR
        if begin == end:
            continue
        content: Content = _Zeros()
        if extent.type is not ExtentType.ZERO:
            reference = extent_reference(extent, descriptor)
            known = reference in opened
            source = opened[reference] if known else opener(reference)
            opened[reference] = source
            if extent.type in FLAT:  # several may lie in one file
                content = flat(source, extent)
            elif known:
                raise named_twice(name, extent, reference)
            else:
                content = sparse(source, extent, begin, pages)
        yield Piece(begin, end, content)
        begin = end


def named_twice(name: str, extent: Extent, reference: Reference) -> CorruptInput:
    """What the file called `name` has wrong when a sparse extent is in it for a second time."""
    return CorruptInput(
        name,
        at=f"line {extent.line}",
        code="vmdk.extent-twice",
        problem=f"names the sparse extent {reference.name!r} for a second time",
    )


def check_readable(name: str, descriptor: Descriptor) -> None:
    """Check that the extents of the descriptor in the file called `name` are files, and known.

    Raises:
        UnsupportedFeature: one is a device, is not to be read, or is not known well enough.
    """
    for extent in descriptor.extents:
        _check_readable(name, extent, descriptor)


def _check_readable(name: str, extent: Extent, descriptor: Descriptor) -> None:
    hint: str | None
    hint = "clone the disk on its host with `vmkfstools -i`, which copies such data into a file"
    if extent.type is ExtentType.ZERO:  # nothing that could be kept from anyone
        return
    if extent.access == "NOACCESS":
        code, problem, hint = "access", "is not to be read (NOACCESS)", None
    elif extent.type in _DEVICES:
        code, problem = "device", f"is a raw device of the ESXi host ({extent.type})"
    elif extent.type not in FLAT | SPARSE:
        code, problem = "content", f"is of type {extent.type}"
    else:
        return
    raise UnsupportedFeature(
        name,
        at=f"line {extent.line}",
        code=f"vmdk.extent-{code}",
        problem=f"extent {extent_reference(extent, descriptor).name!r} {problem}, "
        "so its content cannot be had",
        hint=hint,
    )


def flat(source: ByteSource, extent: Extent) -> Content:
    """The content of a flat extent in a file of its own, or in a part of one.

    Raises:
        TruncatedInput: the file is too short.
    """
    at = (extent.offset or 0) * SECTOR
    end = at + extent.sectors * SECTOR
    if end > -(-source.size // SECTOR) * SECTOR:
        raise TruncatedInput(
            source.name,
            at=source.size,
            code="vmdk.extent-outside",
            problem=f"the disk has an extent from {at:#x} to {end:#x} of this file, but it ends at "
            f"{source.size:#x}",
            hint="the file is cut short; copy it again",
        )
    return _Flat(source, at)


def sparse(source: ByteSource, extent: Extent, begin: int, pages: Pages) -> Content:
    """The content of a sparse extent in a file of its own; the magic tells its kind.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: it is not what its line says.
    """
    head = source.read_at(0, len(SESPARSE_MAGIC))
    found: SparseExtent | EsxExtent
    if extent.type is ExtentType.SESPARSE and head == SESPARSE_MAGIC:
        found = read_sesparse(source)
        size = int(found.virtual_size)
    elif extent.type is not ExtentType.SESPARSE and head.startswith(COWD_MAGIC):
        found = read_cowd(source)
        size = int(found.virtual_size)
    elif extent.type is not ExtentType.SESPARSE and head.startswith(MAGIC):
        found = read_sparse(source)
        size = found.header.capacity * SECTOR
    else:
        raise CorruptInput(
            source.name,
            at=0,
            code="vmdk.extent-magic",
            problem=f"begins with {head.hex()}, which no extent of type {extent.type} does",
        )
    if size != extent.sectors * SECTOR:
        raise CorruptInput(
            source.name,
            code="vmdk.extent-capacity",
            problem=f"holds {size} bytes of the disk, but the descriptor says "
            f"{extent.sectors * SECTOR}",
            hint="is this the extent that belongs to the descriptor?",
        )
    return grains_of(source, found, begin, pages)


# --- Grains -------------------------------------------------------------------------------------


def grains_of(
    source: ByteSource, extent: SparseExtent | EsxExtent, begin: int, pages: Pages
) -> Grains:
    """The content of the sparse extent in `source`, which begins at offset `begin` of the disk.

    Raises:
        UnsupportedFeature: its journal was not replayed, or compressed grains are too large.
    """
    if isinstance(extent, SparseExtent):
        return _hosted_grains(source, extent, begin, pages)
    shape = Shape(
        int(extent.virtual_size), int(extent.cluster_size), extent.layout.directory, begin
    )
    directory = Taken(
        extent.layout.directory,
        extent.layout.directory + extent.layout.directory_size,
        "the grain directory",
    )
    if extent.variant == "COWD":
        header = Taken(0, COWD_HEADER, "the header")
        return Grains(source, shape, cowd_pointers(shape.grain), [header, directory], pages)
    if extent.dirty:
        raise UnsupportedFeature(
            source.name,
            code="vmdk.sesparse-journal",
            problem="its journal was not replayed, so what it holds is not known",
            hint="start the virtual machine once, or clone the disk with `vmkfstools -i`",
        )
    header = Taken(0, SECTOR, "the header")
    pointers = SeSparsePointers(extent.layout, shape.grain)
    return Grains(source, shape, pointers, [header, directory], pages)


def _hosted_grains(source: ByteSource, extent: SparseExtent, begin: int, pages: Pages) -> Grains:
    header = extent.header
    shape = Shape(
        header.capacity * SECTOR, header.grain_size * SECTOR, header.gd_offset * SECTOR, begin
    )
    if extent.compressed and shape.grain > _MAX_PACKED_GRAIN:
        raise UnsupportedFeature(
            source.name,
            code="vmdk.compressed-grain-size",
            problem=f"compressed grains are of {shape.grain} bytes; "
            f"at most {_MAX_PACKED_GRAIN} can be unpacked",
        )
    pointers = SectorPointers(
        header.num_gtes_per_gt,
        header.grain_size,
        zeroed=header.has(Flag.ZEROED_GRAINS),
        packed=extent.compressed,
    )
    length = 4 * -(-header.capacity // (header.grain_size * header.num_gtes_per_gt))
    taken = [
        Taken(0, SECTOR, "the header"),
        Taken(
            extent.descriptor_offset,
            extent.descriptor_offset + extent.descriptor_length,
            "the descriptor",
        ),
        Taken(shape.directory, shape.directory + length, "the grain directory"),
    ]
    if header.has(Flag.REDUNDANT_GRAIN_DIRECTORY):
        at = header.rgd_offset * SECTOR
        taken.append(Taken(at, at + length, "the redundant grain directory"))
    return Grains(source, shape, pointers, taken, pages, marked=header.has(Flag.MARKERS))
