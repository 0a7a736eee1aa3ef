"""Images that qemu-img is not asked about: it would refuse them, or read them wrongly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.disk.model import DiskFormat
from vmport_formats.errors import UnsupportedFeature

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vmport_formats.disk.model import ImageInfo

# qemu-img opens a differencing VHD as a dynamic one: what is in the parent reads as zeros, and it
# ends with 0.  The other two it refuses.
_NO_PARENTS: Final = frozenset({DiskFormat.VHD, DiskFormat.VHDX, DiskFormat.VDI})

_UNSUPPORTED: Final[Mapping[str, str]] = {
    "qcow2.data-file": "name its data file in it with `qemu-img amend -o data_file=FILE`",
    "vdi.block-extra": "clone it with VirtualBox (VBoxManage clonemedium)",
    "vdi.parent-without-path": "merge it with its parent first (VBoxManage clonemedium)",
    "vhdx.dirty-log": "mount it once with Windows, or replay the log with `qemu-img check -r all` "
    "on a copy",
    "vmdk.dirty-journal": "consolidate the snapshots of the machine first",
    "vmdk.lone-extent": "name the descriptor (a small .vmdk file of text) instead",
    "vmdk.parent-unnamed": "consolidate the snapshots of the machine first",
}
"""Concerns by their codes: the file is sound, but qemu-img does not read all of it."""


def is_luks(info: ImageInfo) -> bool:
    """Whether the image is encrypted, and so that qemu opens it with a passphrase."""
    return info.format is DiskFormat.LUKS or (
        info.format is DiskFormat.QCOW2 and info.details.get("encrypt") == {"format": "luks"}
    )


def check_supported(path: str, info: ImageInfo, *, opened: bool = False) -> None:
    """That qemu-img reads all of the image's content, and reads it rightly.

    `opened`: it gets the passphrase of what is encrypted with LUKS.

    Raises:
        UnsupportedFeature: it is encrypted, differencing, or has something that it reads wrongly.
    """
    if info.encrypted and not (opened and is_luks(info)):
        raise UnsupportedFeature(path, code=f"{info.format.code}.encrypted", problem="is encrypted")
    if info.format in _NO_PARENTS and info.backing is not None:
        raise UnsupportedFeature(
            path,
            code=f"{info.format.code}.differencing",
            problem=f"is a differencing {info.format.label}: all that it does not hold is in its "
            f"parent, {info.backing.name!r}, and qemu-img would read that as zeros",
            hint="merge it with its parent first, in the hypervisor that it is from",
        )
    for concern in info.concerns:
        if (advice := _UNSUPPORTED.get(concern.code)) is not None:
            raise UnsupportedFeature(path, code=concern.code, problem=concern.text, hint=advice)
