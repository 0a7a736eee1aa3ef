"""A first look at a file's ends: which formats it might be, so that only their modules are asked.

Each format's own module has the last word on its mark.  Here is what every file of it must show,
which is enough to leave most modules, and the time that their import takes, alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.disk.model import DiskFormat

if TYPE_CHECKING:
    from vmport_formats.source import ByteSource

_HEAD: Final = 4096
_TAIL: Final = 512
_VDI: Final = slice(64, 68)
_FORMATS: Final = tuple(DiskFormat)

_STARTS: Final = {
    DiskFormat.QCOW: (b"QFI\xfb\0\0\0\1",),
    DiskFormat.QCOW2: (b"QFI\xfb",),
    DiskFormat.VMDK: (b"KDMV", b"COWD", b"\xbe\xba\xfe\xca"),
    DiskFormat.VHD: (b"conectix",),
    DiskFormat.VHDX: (b"vhdxfile",),
    DiskFormat.QED: (b"QED\0",),
    DiskFormat.PARALLELS: (b"Withou",),
    DiskFormat.CLOOP: (b"#!/bin/sh",),
    DiskFormat.BOCHS: (b"Bochs ",),
    DiskFormat.LUKS: (b"LUKS\xba\xbe",),
}


def candidates(source: ByteSource) -> tuple[DiskFormat, ...]:
    """The formats that `source` might be of; every other one's `matches` would say no."""
    head = source.read_at(0, _HEAD)
    tail = source.read_at(max(0, source.size - _TAIL), _TAIL)
    found = {item for item, starts in _STARTS.items() if head.startswith(starts)}
    if _might_describe(head):
        found.add(DiskFormat.VMDK)
    if b"conectix" in tail[:9]:  # the footer, of 512 bytes or 511
        found.add(DiskFormat.VHD)
    if head[_VDI] == b"\x7f\x10\xda\xbe":
        found.add(DiskFormat.VDI)
    if tail.startswith(b"koly"):
        found.add(DiskFormat.DMG)
    return tuple(sorted(found, key=_FORMATS.index))


def _might_describe(head: bytes) -> bool:
    """A descriptor of VMware's begins with a comment or states its version."""
    text = head.lstrip(b" \t\r\n")
    return not text or text.startswith(b"#") or text[:7].lower() == b"version"
