"""What a VMDK file says of itself, whichever of its kinds it is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.disk.model import Concern, DiskFormat, ImageInfo
from vmport_formats.disk.vmdk.descriptor import (
    MAX_DESCRIPTOR,
    Descriptor,
    ExtentType,
    codec,
    decode,
    looks_like_descriptor,
    parse_descriptor,
)
from vmport_formats.disk.vmdk.magic import COWD_MAGIC, SESPARSE_MAGIC
from vmport_formats.disk.vmdk.other_files import (
    extent_references,
    extents_of_qemu,
    name_concerns,
    parent_references,
    tracking_references,
)
from vmport_formats.disk.vmdk.qemu_view import KEYS_WINDOW, qemu_parent
from vmport_formats.disk.vmdk.reach import check_reach
from vmport_formats.disk.vmdk.sparse import MAGIC, SparseExtent, read_sparse
from vmport_formats.errors import CorruptInput
from vmport_formats.references import Reference, ReferenceKind
from vmport_formats.units import SECTOR, Bytes, Sectors, sectors_to_bytes

if TYPE_CHECKING:
    from vmport_formats.disk.vmdk.descriptor import Extent
    from vmport_formats.disk.vmdk.esx import EsxExtent
    from vmport_formats.source import ByteSource

_HEAD: Final = 4096
_EMBEDDED: Final = "embedded descriptor, "
# qemu looks for the embedded descriptor's keys here, wherever the header says that it is.
_QEMU_DESCRIPTOR: Final = SECTOR

_SPARSE: Final = ExtentType.SPARSE.value
_CREATE_TYPE: Final = re.compile(r"[A-Za-z0-9_.-]{1,127}")
# The kinds of disk that are one file; and all kinds that are known, from VMware's documents.
_ONE_FILE: Final = frozenset({"monolithicSparse", "streamOptimized"})
_CREATE_TYPES: Final = _ONE_FILE | {
    "monolithicFlat",
    "twoGbMaxExtentSparse",
    "twoGbMaxExtentFlat",
    "2GbMaxExtentSparse",
    "2GbMaxExtentFlat",
    "fullDevice",
    "partitionedDevice",
    "vmfs",
    "vmfsPreallocated",
    "vmfsEagerZeroedThick",
    "vmfsThin",
    "vmfsSparse",
    "vmfsRaw",
    "vmfsRDM",
    "vmfsRDMP",
    "vmfsRawDeviceMap",
    "vmfsPassthroughRawDeviceMap",
    "seSparse",
    "vsanSparse",
    "custom",
}


def matches(source: ByteSource) -> bool:
    """Whether it begins like an extent of VMware's, or like a descriptor."""
    head = source.read_at(0, _HEAD)
    return head.startswith((MAGIC, COWD_MAGIC, SESPARSE_MAGIC)) or looks_like_descriptor(head)


def read_info(source: ByteSource) -> ImageInfo:
    """The metadata of the VMDK in `source`, as `read_vmdk`."""
    return read_vmdk(source).info


class Vmdk(NamedTuple):
    """What one file says."""

    info: ImageInfo
    descriptor: Descriptor | None
    """None where it has none."""
    extent: SparseExtent | EsxExtent | None
    """The data that it holds itself; None where it only names the files that do."""


def read_vmdk(source: ByteSource, *, whole: bool = True) -> Vmdk:
    """All that the VMDK in `source` says; no other file is opened.

    A descriptor's disk is as large as its extents together: what their own headers say is not
    known, for they are not opened.  For the same reason it has no `cluster_size`.  Not `whole`: the
    grains need not lie in the file, for who looks at each of them.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: with codes ``vmdk.*``.
    """
    head = source.read_at(0, _HEAD)
    if head.startswith(MAGIC):
        extent = read_sparse(source)
        if whole and not extent.is_vessel:
            check_reach(source, extent.header)
        return _sparse_vmdk(source, extent)
    if head.startswith((COWD_MAGIC, SESPARSE_MAGIC)):
        from vmport_formats.disk.vmdk import esx  # few files are of ESX's own formats

        cowd = head.startswith(COWD_MAGIC)
        return _esx_vmdk(source, esx.read_cowd(source) if cowd else esx.read_sesparse(source))
    if looks_like_descriptor(head):
        return _text_vmdk(source)
    raise CorruptInput(
        source.name,
        at=0,
        code="vmdk.magic",
        problem="begins neither like a sparse extent nor like a descriptor",
    )


def _text_vmdk(source: ByteSource) -> Vmdk:
    data = source.read_at(0, MAX_DESCRIPTOR + 1)
    length = len(data.partition(b"\0")[0])
    if length > MAX_DESCRIPTOR:
        raise CorruptInput(
            source.name,
            code="vmdk.descriptor-size",
            problem=f"descriptor is longer than {MAX_DESCRIPTOR} bytes",
        )
    descriptor = parse_descriptor(data, path=source.name)
    concerns = []
    # Padding is of NULs.  Anything else there, or so much of it, hides from those who read text.
    if len(data) > MAX_DESCRIPTOR or data.count(0, length) != len(data) - length:
        concerns.append(
            Concern("vmdk.descriptor-tail", "the descriptor is followed by something else")
        )
    info = _described(source, descriptor, qemu_parent(data), concerns)
    return Vmdk(info, descriptor, None)


def _described(
    source: ByteSource,
    descriptor: Descriptor,
    qemu_finds: bytes | None,
    concerns: list[Concern],
    *,
    where: str = "",
) -> ImageInfo:
    """A disk whose descriptor stands alone, or in a file without data of its own."""
    kind = descriptor.create_type
    if kind is None or not _CREATE_TYPE.fullmatch(kind):
        raise CorruptInput(
            source.name,
            at=where.rstrip(", ") or None,
            code="vmdk.create-type",
            problem="descriptor states no createType"
            if kind is None
            else f"createType is {kind[:80]!r}; must be a word",
        )
    if not descriptor.extents:
        raise CorruptInput(
            source.name,
            at=where.rstrip(", ") or None,
            code="vmdk.extents",
            problem="descriptor lists no extents",
        )
    extents = extent_references(descriptor.extents, descriptor)
    strays, more = extents_of_qemu(descriptor)
    parents, parent_concerns = parent_references(descriptor, qemu_finds)
    concerns += [
        Concern(
            "vmdk.create-type",
            f"is of type {kind}, whose data lies in other files",
        )
    ]
    concerns += [*_descriptor_concerns(descriptor), *more, *parent_concerns]
    return ImageInfo(
        DiskFormat.VMDK,
        variant=kind,
        virtual_size=descriptor.virtual_size,
        file_size=Bytes(source.size),
        references=(*extents, *strays, *parents, *tracking_references(descriptor)),
        encrypted=_encrypted(descriptor),
        concerns=tuple(concerns),
        details=_descriptor_details(descriptor)
        | {"extents": [_extent_details(extent, descriptor) for extent in descriptor.extents]},
    )


def _sparse_vmdk(source: ByteSource, extent: SparseExtent) -> Vmdk:
    data = source.read_at(extent.descriptor_offset, extent.descriptor_length)
    descriptor = parse_descriptor(data, path=source.name, where=_EMBEDDED)
    qemu_finds = qemu_parent(source.read_at(_QEMU_DESCRIPTOR, KEYS_WINDOW))
    if extent.is_vessel:
        info = _described(source, descriptor, qemu_finds, list(extent.concerns), where=_EMBEDDED)
        return Vmdk(info, descriptor, None)
    references: tuple[Reference, ...] = ()
    concerns = list(extent.concerns)
    details = _descriptor_details(descriptor) if descriptor.raw else {}
    variant = "streamOptimized" if extent.compressed else "monolithicSparse"
    if not descriptor.raw:
        variant = "sparse extent"
        concerns.append(_lone("sparse"))
    elif not _describes_itself(descriptor.extents):
        references = extent_references(descriptor.extents, descriptor)
        concerns.append(
            Concern(
                "vmdk.extents-ambiguous",
                "has data of its own, and a descriptor that says the data lies elsewhere",
            )
        )
    capacity = sectors_to_bytes(Sectors(extent.header.capacity))
    if descriptor.extents and descriptor.virtual_size != capacity:
        concerns.append(
            Concern(
                "vmdk.capacity-mismatch",
                f"its header says {capacity} bytes, and its descriptor "
                f"{descriptor.virtual_size}; the header was believed",
            )
        )
    if descriptor.create_type is not None and descriptor.create_type not in _ONE_FILE:
        concerns.append(
            Concern(
                "vmdk.create-type",
                f"is one file, and yet says to be of type {descriptor.create_type}",
            )
        )
    parents, more = parent_references(descriptor, qemu_finds)
    concerns += [*_descriptor_concerns(descriptor), *more]
    grain = sectors_to_bytes(Sectors(extent.header.grain_size))
    name = next((item.name for item in descriptor.extents), None)
    own: dict[str, object] = {
        "filename": None if name is None else decode(name, codec(descriptor))[0],
        "format": _SPARSE,
        "virtual-size": capacity,
        "cluster-size": grain,
    }
    info = ImageInfo(
        DiskFormat.VMDK,
        variant=variant,
        virtual_size=capacity,
        file_size=Bytes(source.size),
        cluster_size=grain,
        references=(*references, *parents, *tracking_references(descriptor)),
        encrypted=_encrypted(descriptor),
        dirty=bool(extent.header.unclean_shutdown),
        concerns=tuple(concerns),
        details=details | extent.details() | {"extents": [own]},
    )
    return Vmdk(info, descriptor if descriptor.raw else None, extent)


def _esx_vmdk(source: ByteSource, extent: EsxExtent) -> Vmdk:
    """A sparse extent of ESX, which is but a part of a disk: its descriptor is another file."""
    references: tuple[Reference, ...] = ()
    if extent.parent is not None:
        references = (Reference(ReferenceKind.PARENT, extent.parent, "vmdk"),)
    concerns = [_lone(extent.variant)]
    if extent.dirty and extent.variant == "seSparse":
        concerns.append(Concern("vmdk.dirty-journal", "its journal was not replayed"))
    info = ImageInfo(
        DiskFormat.VMDK,
        variant=f"{extent.variant} extent",
        virtual_size=extent.virtual_size,
        file_size=Bytes(source.size),
        cluster_size=extent.cluster_size,
        references=references,
        dirty=extent.dirty,
        concerns=tuple(concerns),
        details=extent.details,
    )
    return Vmdk(info, None, extent)


def _lone(kind: str) -> Concern:
    return Concern(
        "vmdk.lone-extent",
        f"is a {kind} extent, a part of a disk; its descriptor, and the parent that it may rest "
        "on, are in other files",
    )


def _describes_itself(extents: tuple[Extent, ...]) -> bool:
    """Whether an embedded descriptor means the file that it is in, under whatever name."""
    return [extent.type for extent in extents] in ([], [ExtentType.SPARSE])


def _encrypted(descriptor: Descriptor) -> bool:
    """Workstation encrypts with keys in the descriptor, ESXi with a filter named there."""
    filters = descriptor.disk_database.get("ddb.iofilters", "")
    return "vmwarevmcrypt" in filters or any(
        key.lower().startswith("encryption.") for key in descriptor.values
    )


def _descriptor_concerns(descriptor: Descriptor) -> list[Concern]:
    concerns = []
    if descriptor.unknown:
        line = descriptor.unknown[0]
        concerns.append(
            Concern("vmdk.unknown-line", f"line {line.number} is not understood: {line.text!r}")
        )
    if descriptor.duplicates:
        line = descriptor.duplicates[0]
        concerns.append(
            Concern("vmdk.duplicate-line", f"line {line.number} sets a key again: {line.text!r}")
        )
    kind = descriptor.create_type
    if kind is not None and kind not in _CREATE_TYPES:
        concerns.append(Concern("vmdk.create-type-unknown", f"createType {kind!r} is not known"))
    concerns += name_concerns(descriptor)
    return concerns


def _descriptor_details(descriptor: Descriptor) -> dict[str, object]:
    """What qemu-img shows of a descriptor, by its names, then the rest as written."""
    details: dict[str, object] = {
        "cid": descriptor.cid,
        "parent-cid": descriptor.parent_cid,
        "create-type": descriptor.create_type,
        "descriptor-version": descriptor.values.get("version"),
    }
    shown = {"CID", "parentCID", "createType", "version"}
    more = {_kebab(key): value for key, value in descriptor.values.items() if key not in shown}
    database = dict(descriptor.disk_database)
    if not descriptor.raw.isascii():
        encoding = codec(descriptor)
        for texts in (more, database):
            texts.update({key: decode(value, encoding)[0] for key, value in texts.items()})
    return details | more | {"ddb": database}


def _extent_details(extent: Extent, descriptor: Descriptor) -> dict[str, object]:
    """An extent, JSON-ready, by the names of qemu-img where it has them."""
    encoding = codec(descriptor)
    details: dict[str, object] = {
        "filename": None if extent.name is None else decode(extent.name, encoding)[0],
        "format": extent.type.value,
        "virtual-size": sectors_to_bytes(extent.sectors),
        "access": extent.access,
    }
    if extent.offset is not None:
        details["offset"] = sectors_to_bytes(extent.offset)
    if extent.rest:
        details["device"] = decode(extent.rest, encoding)[0]
    return details


def _kebab(key: str) -> str:
    """``parentFileNameHint`` as ``parent-file-name-hint``; ``encoding`` stays."""
    return "".join(f"-{sign.lower()}" if sign.isupper() else sign for sign in key).lstrip("-")
