"""Disks of VMware, Microsoft and VirtualBox are known for what they are, and for what they need.

Each of these is called safe, or raw, by the checks that clouds use today.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fixtures.disks import vdi, vhd, vhdx, vmdk
from fixtures.disks.image_file import ImageFile
from vmport_formats.disk.model import DiskFormat
from vmport_formats.disk.probe import detect, probe
from vmport_formats.disk.safety import assess
from vmport_formats.errors import UnsafeInput

if TYPE_CHECKING:
    from vmport_formats.source import ByteSource

MIB = 1 << 20
CHILD = vmdk.descriptor(
    'RW 2048 SPARSE "child.vmdk"',
    create_type="monolithicSparse",
    more='parentFileNameHint="/etc/passwd"',
).replace("parentCID=ffffffff", "parentCID=1")
LOG = vhdx.LogEntry(1, zeros={vhdx.BAT_AT: 4096}).build()


def text(content: str, padding: int = 0) -> ImageFile:
    return ImageFile({0: content.encode() + bytes(padding)})


@pytest.mark.parametrize(
    ("image", "disk_format", "reasons"),
    [
        (vmdk.sparse(), DiskFormat.VMDK, []),
        (vmdk.stream(), DiskFormat.VMDK, []),
        (vmdk.sparse(CHILD), DiskFormat.VMDK, ["vmdk.parent"]),
        (text(vmdk.descriptor()), DiskFormat.VMDK, ["vmdk.extent", "vmdk.create-type"]),
        (text(vmdk.descriptor(), 4096), DiskFormat.VMDK, ["vmdk.extent", "vmdk.create-type"]),
        (vmdk.cowd(), DiskFormat.VMDK, ["vmdk.lone-extent"]),
        (vmdk.sesparse(), DiskFormat.VMDK, ["vmdk.lone-extent"]),
        (vhd.fixed(MIB), DiskFormat.VHD, []),
        (vhd.dynamic(MIB), DiskFormat.VHD, []),
        (vhd.differencing(MIB), DiskFormat.VHD, ["vhd.parent"] * 3),
        (vhdx.image(), DiskFormat.VHDX, []),
        (vhdx.differencing(), DiskFormat.VHDX, ["vhdx.parent"] * 3),
        (vhdx.image(log={0: LOG}), DiskFormat.VHDX, ["vhdx.dirty-log"]),
        (vhdx.image(log={}), DiskFormat.VHDX, ["vhdx.dirty-log", "vhdx.corrupt"]),
        (vdi.image(), DiskFormat.VDI, []),
        (vdi.differencing(), DiskFormat.VDI, ["vdi.parent", "vdi.parent-without-path"]),
    ],
    ids=[
        "sparse VMDK",
        "stream",
        "VMDK child",
        "descriptor",
        "padded descriptor",
        "COWD",
        "seSparse",
        "fixed VHD",
        "dynamic VHD",
        "differencing VHD",
        "VHDX",
        "differencing VHDX",
        "dirty VHDX",
        "VHDX without its log",
        "VDI",
        "differencing VDI",
    ],
)
def test_format_and_verdict(image: ByteSource, disk_format: DiskFormat, reasons: list[str]) -> None:
    assert detect(image) is disk_format
    verdict = assess(probe(image))
    assert [reason.code for reason in verdict.reasons] == reasons
    assert verdict.safe == (not reasons)


@pytest.mark.parametrize(
    "front", [vmdk.sparse(), vdi.image(), vhdx.image()], ids=["VMDK", "VDI", "VHDX"]
)
def test_a_vhd_footer_behind_another_disk(front: ImageFile) -> None:
    """The one is told by its start, the other by its end, and programs pick either."""
    both = front.patched({front.size: vhd.footer(front.size, vhd.FIXED)})
    with pytest.raises(UnsafeInput) as caught:
        detect(both)
    assert caught.value.code == "probe.polyglot"
