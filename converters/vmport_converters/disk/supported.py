"""Images that are refused, whichever engine would read them, and what is odd about others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.errors import CorruptInput, UnsafeInput

if TYPE_CHECKING:
    from vmport_formats.disk.model import ImageInfo

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


def check_sound(path: str, info: ImageInfo) -> None:
    """That it is clear what the image holds.

    Raises:
        CorruptInput: the image says of itself that it is corrupt.
        UnsafeInput: programs disagree on what it holds.
    """
    if info.corrupt:
        raise CorruptInput(
            path,
            code=f"{info.format.code}.corrupt",
            problem="says of itself that it is corrupt",
            hint="repair a copy of it with `qemu-img check -r all`",
        )
    for concern in info.concerns:
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
