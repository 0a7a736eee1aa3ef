"""One small image of each format, for tests that damage it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.qemu_variants import VARIANTS, make
from tests.samples import sample
from vmport_formats.disk.model import DiskFormat

_MADE = {
    "qcow": (DiskFormat.QCOW, "qcow-over-raw"),
    "qcow2": (DiskFormat.QCOW2, "qcow2-1.1-snapshots"),
    "qcow2-v2": (DiskFormat.QCOW2, "qcow2-0.10-over-qcow2"),
    "qcow2-bitmaps": (DiskFormat.QCOW2, "qcow2-bitmaps"),
    "qcow2-luks": (DiskFormat.QCOW2, "qcow2-luks"),
    "vmdk": (DiskFormat.VMDK, "vmdk-monolithicSparse-content"),
    "vmdk-stream": (DiskFormat.VMDK, "vmdk-streamOptimized-content"),
    "vmdk-descriptor": (DiskFormat.VMDK, "vmdk-twoGbMaxExtentSparse-5G"),
    "vhd-dynamic": (DiskFormat.VHD, "vhd-dynamic-content"),
    "vhd-fixed": (DiskFormat.VHD, "vhd-fixed-content"),
    "vhdx": (DiskFormat.VHDX, "vhdx-dynamic-content"),
    "vdi": (DiskFormat.VDI, "vdi-static-off-content"),
    "qed": (DiskFormat.QED, "qed-over-raw"),
    "qed-content": (DiskFormat.QED, "qed-content"),
    "parallels": (DiskFormat.PARALLELS, "parallels-content"),
    "luks": (DiskFormat.LUKS, "luks"),
}
_SAMPLES = {
    "parallels-v1": (DiskFormat.PARALLELS, "parallels-v1"),
    "dmg": (DiskFormat.DMG, "simple-dmg.dmg"),
    "cloop": (DiskFormat.CLOOP, "simple-pattern.cloop"),
    "bochs": (DiskFormat.BOCHS, "empty.bochs"),
}

NAMES = (*_MADE, *_SAMPLES)


def format_of(name: str) -> DiskFormat:
    """The format of a specimen."""
    return (_MADE | _SAMPLES)[name][0]


@cache
def specimen(name: str) -> bytes:
    """The content of the specimen called `name`; made once where it must be made."""
    if name in _SAMPLES:
        return sample(_SAMPLES[name][1]).read_bytes()
    with TemporaryDirectory() as folder:
        return make(VARIANTS[_MADE[name][1]], Path(folder)).read_bytes()
