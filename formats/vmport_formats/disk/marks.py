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
_VDI_MARK: Final = b"\x7f\x10\xda\xbe"
_QCOW: Final = b"QFI\xfb\0\0\0\1"
_FORMATS: Final = tuple(DiskFormat)

_STARTS: Final = {
    b"QFI\xfb": DiskFormat.QCOW2,
    b"KDMV": DiskFormat.VMDK,
    b"COWD": DiskFormat.VMDK,
    b"\xbe\xba\xfe\xca": DiskFormat.VMDK,
    b"cone": DiskFormat.VHD,
    b"vhdx": DiskFormat.VHDX,
    b"QED\0": DiskFormat.QED,
    b"With": DiskFormat.PARALLELS,
    b"#!/b": DiskFormat.CLOOP,
    b"Boch": DiskFormat.BOCHS,
    b"LUKS": DiskFormat.LUKS,
}
"""The first four bytes of a file."""


def candidates(source: ByteSource) -> tuple[DiskFormat, ...]:
    """The formats that `source` might be of; every other one's `matches` would say no."""
    head = source.read_at(0, _HEAD)
    tail = source.read_at(max(0, source.size - _TAIL), _TAIL)
    found = []
    if (start := _STARTS.get(head[:4])) is not None:
        found.append(start)
    if head.startswith(_QCOW):
        found.append(DiskFormat.QCOW)
    if _might_describe(head):
        found.append(DiskFormat.VMDK)
    if b"conectix" in tail[:9]:  # the footer, of 512 bytes or 511
        found.append(DiskFormat.VHD)
    if head[_VDI] == _VDI_MARK:
        found.append(DiskFormat.VDI)
    if tail.startswith(b"koly"):
        found.append(DiskFormat.DMG)
    return tuple(found) if len(found) < 2 else tuple(sorted(set(found), key=_FORMATS.index))


def _might_describe(head: bytes) -> bool:
    """A descriptor of VMware's begins with a comment or states its version."""
    text = head.lstrip(b" \t\r\n")
    return not text or text.startswith(b"#") or text[:7].lower() == b"version"
