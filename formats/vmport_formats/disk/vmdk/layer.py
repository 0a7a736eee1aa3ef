"""VMDK content: a disk pieced together from extents, each of which is a file or a part of one.

Source: VMware, "Virtual Disk Format 5.0", "The Extent Description", "Delta Links".
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from vmport_formats.disk.layer import Found, Run, joined
from vmport_formats.disk.vmdk.descriptor import ExtentType
from vmport_formats.disk.vmdk.esx import (
    COWD_HEADER,
    COWD_MAGIC,
    SESPARSE_MAGIC,
    EsxExtent,
    read_cowd,
    read_sesparse,
)
from vmport_formats.disk.vmdk.grains import Grains, Shape, Taken
from vmport_formats.disk.vmdk.info import read_vmdk
from vmport_formats.disk.vmdk.other_files import extent_reference
from vmport_formats.disk.vmdk.parents import check_parent, parent_of
from vmport_formats.disk.vmdk.pointers import SectorPointers, SeSparsePointers, cowd_pointers
from vmport_formats.disk.vmdk.sparse import MAGIC, Flag, SparseExtent, read_sparse
from vmport_formats.errors import CorruptInput, TruncatedInput, UnsupportedFeature
from vmport_formats.units import MIB, SECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vmport_formats.disk.layer import Opener
    from vmport_formats.disk.model import ImageInfo
    from vmport_formats.disk.vmdk.descriptor import Descriptor, Extent
    from vmport_formats.disk.vmdk.info import Vmdk
    from vmport_formats.references import Reference
    from vmport_formats.source import ByteSource

_MAX_PACKED_GRAIN: Final = 16 * MIB
"""A grain is unpacked as a whole, in memory; 64 KiB is what everybody writes."""
_FLAT: Final = frozenset({ExtentType.FLAT, ExtentType.VMFS})
_SPARSE: Final = frozenset({ExtentType.SPARSE, ExtentType.VMFSSPARSE, ExtentType.SESPARSE})
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


class VmdkLayer:
    """The virtual disk that a VMDK is, with all of its extents."""

    def __init__(self, vmdk: Vmdk, name: str, pieces: Sequence[Piece]) -> None:
        """`name` is that of the file, for messages."""
        self.info = vmdk.info
        self.size = int(vmdk.info.virtual_size)
        parent = parent_of(vmdk, name)
        self.parents = () if parent is None else (parent,)
        self._name = name
        self._pieces = pieces
        self._begins = [piece.begin for piece in pieces]

    def runs(self, offset: int, length: int) -> Iterator[Run]:
        """See `layer.Layer.runs`."""
        return joined(self._runs(offset, offset + length))

    def _runs(self, offset: int, end: int) -> Iterator[Run]:
        number = bisect_right(self._begins, offset) - 1
        while offset < end:
            piece = self._pieces[number]
            stop = min(end, piece.end)
            yield from piece.content.runs(offset - piece.begin, stop - piece.begin)
            offset = stop
            number += 1

    def check_parent(self, parent: ImageInfo, source: ByteSource) -> tuple[()]:
        """See `layer.Child.check_parent`."""
        check_parent(self.info, self._name, parent, source.name)
        return ()


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


# --- Opening ------------------------------------------------------------------------------------


def open_layer(source: ByteSource, opener: Opener) -> VmdkLayer:
    """The content of a VMDK, and of the extents that it names, through `opener`.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: as `info.read_info`; also when an extent
            is shorter than its line says, or is of another kind, or is a device; when the disk is
            encrypted; when it does not tell for sure whether it has a parent.
        UnsafeInput: `opener` does not grant an extent.
    """
    vmdk = read_vmdk(source)
    if vmdk.info.encrypted:
        raise UnsupportedFeature(
            source.name,
            code="vmdk.encrypted",
            problem="the disk was encrypted by VMware, which alone has the key",
            hint="remove the encryption of the virtual machine in VMware first",
        )
    if vmdk.extent is not None:
        end = int(vmdk.info.virtual_size)
        pieces = [Piece(0, end, _grains(source, vmdk.extent, begin=0))]
    elif vmdk.descriptor is not None:
        pieces = list(_pieces(source.name, vmdk.descriptor, opener))
    return VmdkLayer(vmdk, source.name, [piece for piece in pieces if piece.begin < piece.end])


def _pieces(name: str, descriptor: Descriptor, opener: Opener) -> Iterator[Piece]:
    opened: dict[Reference, ByteSource] = {}
    begin = 0
    for extent in descriptor.extents:
        end = begin + extent.sectors * SECTOR
        if begin < end:
            yield Piece(begin, end, _content(name, extent, descriptor, opener, opened, begin))
        begin = end


def _content(
    name: str,
    extent: Extent,
    descriptor: Descriptor,
    opener: Opener,
    opened: dict[Reference, ByteSource],
    begin: int,
) -> Content:
    if extent.type is ExtentType.ZERO:
        return _Zeros()
    reference = extent_reference(extent, descriptor)
    if extent.access == "NOACCESS":
        raise _refused(name, extent, "is not to be read (NOACCESS)", "access", reference)
    if extent.type in _DEVICES:
        raise _refused(name, extent, "is a raw device on the ESXi host", "device", reference)
    if extent.type not in _FLAT | _SPARSE:
        raise _refused(name, extent, f"is of type {extent.type}", "content", reference)
    if reference not in opened:  # several may lie in one file
        opened[reference] = opener(reference)
    source = opened[reference]
    if extent.type in _FLAT:
        return _flat(source, extent)
    return _sparse(source, extent, begin)


def _refused(
    name: str, extent: Extent, problem: str, code: str, reference: Reference
) -> UnsupportedFeature:
    return UnsupportedFeature(
        name,
        at=f"line {extent.line}",
        code=f"vmdk.extent-{code}",
        problem=f"extent {reference.name!r} {problem}, so its content cannot be had",
        hint="clone the disk on its host with `vmkfstools -i`, which copies such data into a file"
        if extent.type is not ExtentType.FLAT
        else None,
    )


def _flat(source: ByteSource, extent: Extent) -> Content:
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


def _sparse(source: ByteSource, extent: Extent, begin: int) -> Content:
    """The content of a sparse extent in a file of its own; the magic tells its kind."""
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
    return _grains(source, found, begin=begin)


def _grains(source: ByteSource, extent: SparseExtent | EsxExtent, *, begin: int) -> Grains:
    if isinstance(extent, SparseExtent):
        return _hosted_grains(source, extent, begin)
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
        return Grains(source, shape, cowd_pointers(shape.grain), [header, directory])
    if extent.dirty:
        raise UnsupportedFeature(
            source.name,
            code="vmdk.sesparse-journal",
            problem="its journal was not replayed, so what it holds is not known",
            hint="start the virtual machine once, or clone the disk with `vmkfstools -i`",
        )
    header = Taken(0, SECTOR, "the header")
    pointers = SeSparsePointers(extent.layout, shape.grain)
    return Grains(source, shape, pointers, [header, directory])


def _hosted_grains(source: ByteSource, extent: SparseExtent, begin: int) -> Grains:
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
        zeroed=bool(header.flags & Flag.ZEROED_GRAINS),
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
    if header.flags & Flag.REDUNDANT_GRAIN_DIRECTORY:
        at = header.rgd_offset * SECTOR
        taken.append(Taken(at, at + length, "the redundant grain directory"))
    return Grains(source, shape, pointers, taken, marked=bool(header.flags & Flag.MARKERS))
