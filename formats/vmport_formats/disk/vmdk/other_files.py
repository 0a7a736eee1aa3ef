"""Which other files a descriptor leads to: by the format, and by qemu, where the two differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.disk.model import Concern
from vmport_formats.disk.vmdk.descriptor import NO_PARENT, Descriptor, codec, decode
from vmport_formats.disk.vmdk.qemu_view import qemu_extents
from vmport_formats.references import Reference, ReferenceKind
from vmport_formats.units import Sectors, sectors_to_bytes

if TYPE_CHECKING:
    from vmport_formats.disk.vmdk.descriptor import Extent

# A colon makes a drive, or a protocol of qemu's, of a name that leads to no other folder.
_MORE_THAN_A_NAME: Final = frozenset("/\\:")


def extent_references(extents: tuple[Extent, ...], descriptor: Descriptor) -> tuple[Reference, ...]:
    """The files of the extents, each once, in order."""
    return tuple(
        dict.fromkeys(
            extent_reference(extent, descriptor) for extent in extents if extent.name is not None
        )
    )


def extent_reference(extent: Extent, descriptor: Descriptor) -> Reference:
    """The file of an extent that has one."""
    name = decode(extent.name or "", codec(descriptor))[0]
    return Reference(ReferenceKind.EXTENT, name, extent.type.file_format)


def extents_of_qemu(descriptor: Descriptor) -> tuple[tuple[Reference, ...], list[Concern]]:
    """The files that only qemu would open, and whether it reads another disk than this one."""
    found = qemu_extents(descriptor.raw)
    if found is None:
        return (), []
    meant = [
        (extent.sectors, extent.type.value, extent.name, extent.offset or 0, 1)
        for extent in descriptor.extents
    ]
    read = [
        (item.sectors, _latin(item.type), _latin(item.name), item.offset or 0, item.times)
        for item in found
    ]
    if meant == read:
        return (), []
    encoding = codec(descriptor)
    names = {extent.name for extent in descriptor.extents}
    strays = dict.fromkeys(
        Reference(ReferenceKind.EXTENT, decode(name, encoding)[0])
        for _, _, name, _, _ in read
        if name not in names
    )
    size = sectors_to_bytes(Sectors(sum(item.sectors * item.times for item in found)))
    causes = []
    if len(read) < len(meant):
        causes.append("passes over extents that are not RW or of a type without a file")
    if any(item.times > 1 for item in found):
        causes.append("takes an extent after a blank line for two")
    reason = f"it {' and '.join(causes)}" if causes else "it scans across line ends"
    return tuple(strays), [
        Concern(
            "vmdk.extents-ambiguous",
            f"its extents add up to {descriptor.virtual_size} bytes, but qemu reads {size}: "
            f"{reason}",
        )
    ]


def parent_references(
    descriptor: Descriptor, qemu_finds: bytes | None
) -> tuple[tuple[Reference, ...], list[Concern]]:
    """The parent that the descriptor names, and the one that qemu finds, should that differ."""
    encoding = codec(descriptor)
    hint = descriptor.values.get("parentFileNameHint")
    names = [] if hint is None else [decode(hint, encoding)[0]]
    concerns = []
    has_parent = descriptor.parent_cid not in {None, NO_PARENT}
    if has_parent and hint is None:
        concerns.append(
            Concern(
                "vmdk.parent-unnamed",
                f"rests on a parent with CID {descriptor.parent_cid:08x}, "
                "but does not say where that is",
            )
        )
    if hint is not None and not has_parent:
        concerns.append(
            Concern(
                "vmdk.parent-ambiguous",
                "names a parent, but its parentCID says that there is none",
            )
        )
    if qemu_finds is not None and qemu_finds != (hint or "").encode("latin-1"):
        stray = decode(_latin(qemu_finds), encoding)[0]
        names.append(stray)
        concerns.append(
            Concern(
                "vmdk.parent-ambiguous",
                f"qemu finds a parent where the format has none, and opens it: {stray!r}",
            )
        )
    elif qemu_finds is None and hint is not None:
        concerns.append(
            Concern(
                "vmdk.parent-ambiguous",
                "names a parent where qemu does not look for one; it reads zeros instead",
            )
        )
    return (
        tuple(Reference(ReferenceKind.PARENT, name, "vmdk") for name in dict.fromkeys(names)),
        concerns,
    )


def tracking_references(descriptor: Descriptor) -> tuple[Reference, ...]:
    """The file that records which blocks have changed since a backup; no data of the disk."""
    name = descriptor.values.get("changeTrackPath")
    if not name:
        return ()
    return (Reference(ReferenceKind.CHANGE_TRACKING, decode(name, codec(descriptor))[0]),)


def name_concerns(descriptor: Descriptor) -> list[Concern]:
    """What is odd about the names of the extents' files."""
    encoding = codec(descriptor)
    names = [extent.name for extent in descriptor.extents if extent.name is not None]
    concerns = []
    if path := next((name for name in names if not _MORE_THAN_A_NAME.isdisjoint(name)), None):
        concerns.append(
            Concern(
                "vmdk.extent-path",
                f"an extent is more than a file name: {decode(path, encoding)[0]!r}",
            )
        )
    declared = descriptor.values.get("encoding")
    if declared is not None and encoding is None:
        concerns.append(Concern("vmdk.encoding", f"declares the unknown encoding {declared!r}"))
    odd = (name for name in names if not name.isascii())
    if any(encoding != "utf-8" or not decode(name, encoding)[1] for name in odd):
        concerns.append(
            Concern(
                "vmdk.file-name-encoding",
                "a file name has characters that programs will read differently",
            )
        )
    return concerns


def _latin(text: bytes) -> str:
    """`text` as the parser of descriptors holds it, a character a byte."""
    return text.decode("latin-1")
