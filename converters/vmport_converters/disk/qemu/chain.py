"""A disk and all files that it rests on: found, granted, parsed and remembered one by one.

An overlay names its backing file, that perhaps another; a qcow2 image may keep its data elsewhere;
a VMDK descriptor names its extents.  Each is opened only if the resolver grants it, and read as the
format that was declared for it, or else as what our own probe finds.  An outside program is then
told all of it, and has nothing left to look up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vmport_converters.disk.qemu.supported import check_supported
from vmport_converters.disk.stamps import Stamps
from vmport_formats.disk.model import DiskFormat, ImageInfo
from vmport_formats.disk.probe import probe
from vmport_formats.disk.vmdk.descriptor import (
    MAX_DESCRIPTOR,
    ExtentType,
    codec,
    decode,
    looks_like_descriptor,
    parse_descriptor,
)
from vmport_formats.errors import (
    CorruptInput,
    TruncatedInput,
    UnreadableInput,
    UnsafeInput,
    UnsupportedFeature,
)
from vmport_formats.references import Reference, ReferenceKind
from vmport_formats.source import open_source
from vmport_formats.units import Bytes, Sectors, sectors_to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.vmdk.descriptor import Descriptor
    from vmport_formats.references import Resolver
    from vmport_formats.source import ByteSource

MAX_DEPTH: Final = 200
"""Images that a disk may rest on, one on the other."""

_FLAT: Final = frozenset({ExtentType.FLAT, ExtentType.VMFS})
_SPARSE: Final = frozenset({ExtentType.SPARSE, ExtentType.VMFSSPARSE, ExtentType.SESPARSE})


@dataclass(frozen=True, slots=True)
class Piece:
    """An extent of a VMDK descriptor, in the order of the disk."""

    type: ExtentType
    size: Bytes
    path: str | None
    """None: there is no file, and it reads as zeros."""
    offset: Bytes
    """Where in its file a flat one begins."""


@dataclass(frozen=True, slots=True)
class Link:
    """One image of a chain."""

    path: str
    """Absolute."""
    info: ImageInfo
    data_file: str | None = None
    """Absolute; a qcow2 image's external data file."""
    pieces: tuple[Piece, ...] = ()
    """A VMDK descriptor's extents."""


@dataclass(frozen=True, slots=True)
class Chain:
    """A disk: its image, then those that it rests on, each on the next."""

    name: str
    """The first image's path, as the user gave it."""
    links: tuple[Link, ...]
    stamps: Stamps
    """Every file that is read."""

    @property
    def top(self) -> Link:
        """The image that was named."""
        return self.links[0]


def open_chain(
    source: str, *, declared: DiskFormat | None, resolver: Resolver, opened: bool = False
) -> Chain:
    """Follow `source` down to the image that rests on no other.

    `opened`: as `check_supported` has it.

    Raises:
        UnsafeInput: `resolver` does not grant a file, or a name is no plain path.
        UnsupportedFeature: an image has a parent or extents of a kind that cannot be followed.
        CorruptInput: the chain leads back to itself, or is too long.
        TruncatedInput: an extent or data file is shorter than it must be.
        InputError: as `vmport_formats.disk.probe.probe`, for each image.
    """
    return _Walk(source, resolver, opened=opened).run(declared)


class _Walk:
    """The files met so far."""

    def __init__(self, source: str, resolver: Resolver, *, opened: bool) -> None:
        self._source = source
        self._opened = opened
        self._resolver = resolver
        self._stamps = Stamps()
        self._images: set[tuple[int, int]] = set()

    def run(self, declared: DiskFormat | None) -> Chain:
        links: list[Link] = []
        path: str | None = self._source
        while path is not None:
            if len(links) > MAX_DEPTH:
                raise CorruptInput(
                    self._source,
                    code="chain.depth",
                    problem=f"rests on more than {MAX_DEPTH} images, one on the other",
                )
            link = self._link(path, declared)
            if links:
                _check_parent(links[-1], link)
            links.append(link)
            path, declared = self._next(path, link)
        return Chain(self._source, tuple(links), self._stamps)

    def _link(self, path: str, declared: DiskFormat | None) -> Link:
        stamp = self._stamps.remember(path)
        if stamp.file in self._images:
            raise CorruptInput(
                path, code="chain.loop", problem="rests on itself, over other images"
            )
        self._images.add(stamp.file)
        with open_source(path) as source:
            info = probe(source, declared=declared)
            check_supported(path, info, opened=self._opened)
            text = _descriptor_text(info, source)
        link = Link(str(Path(path).absolute()), info)
        if text is not None:
            pieces = self._pieces(path, parse_descriptor(text, path=path))
            return replace(link, pieces=tuple(pieces))
        for reference in info.references:
            if reference.kind is ReferenceKind.DATA:
                return replace(link, data_file=self._data_file(path, info, reference))
        return link

    def _next(self, name: str, link: Link) -> tuple[str | None, DiskFormat | None]:
        """The image that `link` rests on, and the format declared for it."""
        reference = link.info.backing
        if reference is None:
            return None, None
        path = self._resolve(reference, name)
        if reference.declared_format is None:
            return path, None
        try:
            return path, DiskFormat.named(reference.declared_format)
        except ValueError:
            raise UnsupportedFeature(
                name,
                code="chain.format",
                problem=f"declares its {reference.kind} to be of the unknown format "
                f"{reference.declared_format!r}",
            ) from None

    def _resolve(self, reference: Reference, named_by: str) -> str:
        # Before the first slash, a colon makes of it, for qemu, what is no file of this machine.
        if ":" in reference.name.partition("/")[0]:
            raise UnsafeInput(
                named_by,
                code="reference.not-a-file",
                problem=f"its {reference.kind} is {reference.name!r}, which is not the path of a "
                "file; vmport opens only files",
            )
        found = str(self._resolver(reference, named_by=named_by))
        try:
            self._stamps.remember(found)
        except UnreadableInput as error:
            raise UnreadableInput(
                named_by,
                code="reference.missing",
                problem=f"its {reference.kind} {reference.name!r}: {error.problem}",
            ) from error
        return found

    def _data_file(self, path: str, info: ImageInfo, reference: Reference) -> str:
        found = self._resolve(reference, path)
        with open_source(found) as data:
            if info.details.get("data-file-raw") and data.size < info.virtual_size:
                raise _cut(found, data.size, info.virtual_size)
        return found

    def _pieces(self, path: str, descriptor: Descriptor) -> Iterator[Piece]:
        """The extents, each in a file that holds all of it."""
        for extent in descriptor.extents:
            size = sectors_to_bytes(extent.sectors)
            if extent.type is ExtentType.ZERO:
                yield Piece(extent.type, size, None, Bytes(0))
                continue
            if extent.type not in _FLAT | _SPARSE or extent.access == "NOACCESS":
                raise UnsupportedFeature(
                    path,
                    at=f"line {extent.line}",
                    code="vmdk.extent-type",
                    problem=f"an extent of type {extent.type}, {extent.access}, cannot be read: "
                    "its data is no file of this machine",
                )
            name, _ = decode(extent.name or "", codec(descriptor))
            found = self._resolve(Reference(ReferenceKind.EXTENT, name), path)
            offset = sectors_to_bytes(extent.offset or Sectors(0))
            with open_source(found) as file:
                if extent.type in _SPARSE:
                    _check_sparse(file, size)
                elif file.size < offset + size:
                    raise _cut(found, file.size, offset + size)
            yield Piece(extent.type, size, found, offset)


def _descriptor_text(info: ImageInfo, source: ByteSource) -> bytes | None:
    """The text of a VMDK that is nothing but its descriptor."""
    if info.format is not DiskFormat.VMDK:
        return None
    if not any(item.kind is ReferenceKind.EXTENT for item in info.references):
        return None
    text = source.read_at(0, MAX_DESCRIPTOR)
    if looks_like_descriptor(text[:4096]):
        return text
    raise UnsupportedFeature(
        source.name,
        code="vmdk.vessel",
        problem="is a sparse extent that names other files as the place of its data",
        hint="no VMware product writes this; the image may be forged",
    )


def _check_parent(child: Link, parent: Link) -> None:
    """A VMDK notes the content id of its parent, which changes when the parent is written to."""
    noted = child.info.details.get("parent-cid")
    found = parent.info.details.get("cid")
    if child.info.format is DiskFormat.VMDK and noted != found:
        raise CorruptInput(
            child.path,
            code="vmdk.parent-changed",
            problem=f"rests on a parent with content id {noted:08x}, but that of {parent.path} is "
            + (f"{found:08x}" if isinstance(found, int) else "not stated"),
            hint="the parent was written to since, or is another disk; the two do not fit together",
        )


def _check_sparse(file: ByteSource, size: Bytes) -> None:
    info = probe(file, declared=DiskFormat.VMDK)
    if any(item.kind is ReferenceKind.EXTENT for item in info.references):
        raise UnsafeInput(
            file.name, code="vmdk.nested-extent", problem="is an extent that names extents itself"
        )
    if info.virtual_size != size:
        raise CorruptInput(
            file.name,
            code="vmdk.extent-size",
            problem=f"holds {info.virtual_size} bytes of the disk, but the descriptor says {size}",
        )


def _cut(path: str, size: int, needed: int) -> TruncatedInput:
    return TruncatedInput(
        path,
        code="source.truncated",
        problem=f"holds {size} bytes of the {needed} that it must",
        hint="the file is cut short; copy it again",
    )
