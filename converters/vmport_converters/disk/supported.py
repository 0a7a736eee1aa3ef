"""Images that are refused before qemu-img is asked: it would fail at them, or read them wrongly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.disk.model import DiskFormat
from vmport_formats.errors import CorruptInput, UnsafeInput, UnsupportedFeature

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

_AMBIGUOUS: Final = frozenset(
    {
        "vdi.image-type",
        "vhd.footer-mismatch",
        "vmdk.compression-ambiguous",
        "vmdk.footer-mismatch",
        "vmdk.parent-ambiguous",
    }
)
"""Concerns: the file can be read in two ways, and qemu-img's may be the other one."""

_WORTH_SAYING: Final = frozenset(
    {
        "raw.gpt-beyond-end",
        "raw.gpt-missing",
        "raw.mbr-beyond-end",
        "vhd.footer-checksum",
        "vhd.footer-missing",
        "vhdx.header-damaged",
        "vhdx.region-table-damaged",
    }
)
"""Concerns that hinder nothing, but that one who converts the disk will want to know."""


def check_supported(path: str, info: ImageInfo) -> None:
    """That all of the image's content can be had.

    Raises:
        UnsupportedFeature: encrypted, differencing, or with something that qemu-img reads wrongly.
        CorruptInput: the image says of itself that it is corrupt.
        UnsafeInput: programs disagree on what it holds.
    """
    if info.encrypted:
        raise UnsupportedFeature(
            path,
            code=f"{info.format.code}.encrypted",
            problem="is encrypted; converting encrypted disks is not supported yet",
        )
    if info.corrupt:
        raise CorruptInput(
            path,
            code=f"{info.format.code}.corrupt",
            problem="says of itself that it is corrupt",
            hint="repair a copy of it with `qemu-img check -r all`",
        )
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
        if concern.code in _AMBIGUOUS:
            raise UnsafeInput(
                path,
                code=concern.code,
                problem=f"{concern.text}; programs disagree on what it holds",
            )
        if concern.code == "vmdk.extents-ambiguous" and info.variant in _EMBEDDED:
            raise UnsafeInput(path, code=concern.code, problem=concern.text)


# The descriptor of the others is text, which is handed to qemu-img rewritten.
_EMBEDDED: Final = frozenset({"monolithicSparse", "streamOptimized"})


def worth_saying(info: ImageInfo) -> list[str]:
    """What is odd about an image that can be read all the same."""
    return [item.text for item in info.concerns if item.code in _WORTH_SAYING]
