"""Which image a VMDK rests on, and whether an image is that one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmport_formats.disk.vmdk.descriptor import NO_PARENT, codec, decode
from vmport_formats.errors import CorruptInput
from vmport_formats.references import Reference, ReferenceKind

if TYPE_CHECKING:
    from vmport_formats.disk.model import ImageInfo
    from vmport_formats.disk.vmdk.info import Vmdk


def parent_of(vmdk: Vmdk, name: str) -> Reference | None:
    """The parent of the VMDK in the file called `name`, by the format; not one only qemu finds.

    Raises:
        CorruptInput: it does not tell for sure whether it has one, or which.
    """
    descriptor = vmdk.descriptor
    if descriptor is None:
        return vmdk.info.backing  # that a COWD may name
    hint = descriptor.values.get("parentFileNameHint")
    cid = descriptor.parent_cid
    if hint is None and cid not in {None, NO_PARENT}:
        raise CorruptInput(
            name,
            code="vmdk.parent-unnamed",
            problem=f"rests on a parent with CID {cid:08x}, but does not say where that is",
            hint='add a line parentFileNameHint="…" to its descriptor',
        )
    if hint is not None and cid == NO_PARENT:
        raise CorruptInput(
            name,
            code="vmdk.parent-ambiguous",
            problem=f"names the parent {hint!r}, but its parentCID says that there is none",
            hint="remove the line parentFileNameHint from its descriptor, "
            "or set parentCID to the CID of the parent",
        )
    if hint is None:
        return None
    return Reference(ReferenceKind.PARENT, decode(hint, codec(descriptor))[0], "vmdk")


def check_parent(child: ImageInfo, child_name: str, parent: ImageInfo, parent_name: str) -> None:
    """That `parent` has not been written to since `child` was made from it.

    Raises:
        CorruptInput: its CID is another one than the child says.
    """
    wanted = child.details.get("parent-cid")
    found = parent.details.get("cid")
    if wanted is None or found == wanted:
        return
    says = f"has CID {found:08x}" if isinstance(found, int) else "states no CID"
    raise CorruptInput(
        child_name,
        code="vmdk.parent-cid",
        problem=f"was made from a parent with CID {wanted:08x}, but {parent_name} {says}",
        hint="the parent is another disk, or was written to since; if neither is so, "
        "correct parentCID in the descriptor",
    )
