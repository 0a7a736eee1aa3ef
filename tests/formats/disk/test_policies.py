"""What each policy says to images of all kinds, and that oslo.utils says less."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import pytest

from fixtures.disks import luks, qcow2, vdi, vhd, vhdx, vmdk
from fixtures.disks.image_file import ImageFile
from tests.oslo import refusal
from tests.specimens import specimen
from vmport_formats.disk.model import DiskFormat, Snapshot
from vmport_formats.disk.policy import Policy, judge
from vmport_formats.disk.probe import probe
from vmport_formats.source import MemorySource
from vmport_formats.units import Bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from vmport_formats.source import ByteSource

pytestmark = [pytest.mark.needs("qemu-img"), pytest.mark.qemu_samples]

MIB = 1 << 20
CHILD = vmdk.descriptor(
    'RW 2048 SPARSE "child.vmdk"',
    create_type="monolithicSparse",
    more='parentFileNameHint="/etc/passwd"',
).replace("parentCID=ffffffff", "parentCID=1")
LOG = vhdx.LogEntry(1, zeros={vhdx.BAT_AT: 4096}).build()


def codes(policy: Policy, image: ByteSource, declared: DiskFormat | None = None) -> list[str]:
    ruling = judge(policy, image, probe(image, declared=declared))
    assert ruling.accepted == (not ruling.reasons)
    assert len({(reason.code, reason.text) for reason in ruling.reasons}) == len(ruling.reasons)
    return list(dict.fromkeys(reason.code for reason in ruling.reasons))


def oslo_refuses(image: ByteSource) -> bool:
    return refusal(BytesIO(image.read_at(0, image.size))) is not None


def known(name: str) -> Callable[[], ByteSource]:
    return lambda: MemorySource(specimen(name))


def composed(*kinds: qcow2.Kind) -> ByteSource:
    return qcow2.compose([qcow2.Cluster(kind) for kind in kinds]).file


def padded_descriptor() -> ByteSource:
    return ImageFile({0: vmdk.descriptor().encode() + bytes(4096)})


MISSED_BY_OSLO: dict[str, tuple[Callable[[], ByteSource], str]] = {
    "VMDK with a parent": (lambda: vmdk.sparse(CHILD), "vmdk.parent"),
    "differencing VHD": (lambda: vhd.differencing(MIB), "vhd.parent"),
    "differencing VHDX": (lambda: vhdx.differencing(), "vhdx.parent"),
    "VDI of another type": (lambda: vdi.differencing(), "vdi.parent"),
    "VHDX with a dirty log": (lambda: vhdx.image(log={0: LOG}), "vhdx.dirty-log"),
    "fixed VHD": (lambda: vhd.fixed(MIB), "openstack.fixed-vhd"),
    "Parallels": (known("parallels"), "openstack.format"),
    "DMG": (known("dmg"), "openstack.format"),
    "cloop": (known("cloop"), "openstack.format"),
    "Bochs": (known("bochs"), "openstack.format"),
    "COWD": (lambda: vmdk.cowd(), "vmdk.lone-extent"),
    "seSparse": (lambda: vmdk.sesparse(), "vmdk.lone-extent"),
}


@pytest.mark.parametrize(("make", "code"), MISSED_BY_OSLO.values(), ids=MISSED_BY_OSLO)
def test_what_oslo_calls_safe_or_raw(make: Callable[[], ByteSource], code: str) -> None:
    image = make()
    assert not oslo_refuses(image)
    assert code in codes(Policy.OPENSTACK, image)
    assert code in codes(Policy.STRICT, image)
    assert codes(Policy.NONE, image) == []


def test_a_padded_descriptor_is_no_raw_disk() -> None:
    assert codes(Policy.OPENSTACK, padded_descriptor()) == ["vmdk.extent", "vmdk.create-type"]


@pytest.mark.parametrize(
    ("make", "strict"),
    [
        (lambda: composed(qcow2.Kind.DATA), []),
        (lambda: vmdk.sparse(), []),
        (lambda: vmdk.stream(), []),
        (lambda: MemorySource(bytes(MIB)), []),
        (lambda: vhd.dynamic(MIB), ["strict.format"]),
        (lambda: vhdx.image(), ["strict.format"]),
        (lambda: vdi.image(), ["strict.format"]),
        (lambda: luks.disk(bytes(512)), ["strict.format", "strict.encrypted"]),
        (known("qcow2"), ["strict.snapshots"]),
    ],
    ids=[
        "qcow2",
        "VMDK",
        "stream",
        "raw",
        "VHD",
        "VHDX",
        "VDI",
        "LUKS",
        "snapshots",
    ],
)
def test_what_openstack_takes(make: Callable[[], ByteSource], strict: list[str]) -> None:
    image = make()
    assert not oslo_refuses(image)
    assert codes(Policy.OPENSTACK, image) == []
    assert codes(Policy.STRICT, image) == strict


def test_a_disk_that_was_not_closed() -> None:
    image = composed(qcow2.Kind.DATA)
    info = probe(image)._replace(
        dirty=True, snapshots=(Snapshot("1", "before", Bytes(0), 0),), encrypted=True
    )
    assert [reason.code for reason in judge(Policy.STRICT, image, info).reasons] == [
        "strict.encrypted",
        "strict.dirty",
        "strict.snapshots",
    ]


def partitions(*entries: bytes, size: int = MIB) -> ByteSource:
    """A raw disk with an MBR of up to four entries."""
    table = b"".join(entries).ljust(64, b"\0")
    return ImageFile({446: table + b"\x55\xaa"}, size=size)


LINUX = bytes([0x80, 0, 2, 0, 0x83, 0, 1, 0]) + b"\1\0\0\0\7\0\0\0"
PROTECTIVE = bytes([0, 0, 2, 0, 0xEE, 0, 1, 0]) + b"\1\0\0\0\7\0\0\0"


@pytest.mark.parametrize(
    ("image", "code"),
    [
        (partitions(b"\x7f" + LINUX[1:]), "openstack.mbr"),
        (partitions(), "openstack.mbr"),
        (partitions(PROTECTIVE[:1] + b"\1" + PROTECTIVE[2:]), "openstack.mbr"),
        (partitions(PROTECTIVE, LINUX), "openstack.mbr"),
        (partitions(bytes(16), PROTECTIVE), "openstack.mbr"),
        (
            ImageFile({32769: b"CD001", 446: LINUX, 510: b"\x55\xaa"}, size=MIB),
            "openstack.several-formats",
        ),
        (ImageFile({0: b'createType="x"\n' * 40}, size=MIB), "openstack.text"),
        (ImageFile({0: b"LUKS\xba\xbe\0\2"}, size=MIB), "openstack.other-format"),
        (vmdk.sparse().patched({510: b"\x55\xaa"}), "openstack.several-formats"),
        (vmdk.sparse(descriptor_offset=2), "openstack.vmdk-descriptor"),
        (vmdk.stream().patched({130 * 512 + 99: b"\1"}), "openstack.vmdk-footer"),
        (vmdk.stream().patched({132 * 512 + 99: b"\1"}), "openstack.vmdk-footer"),
    ],
    ids=[
        "boot flag",
        "no partition",
        "GPT elsewhere",
        "GPT and more",
        "GPT not first",
        "hybrid ISO",
        "text",
        "LUKS 2",
        "VMDK with an MBR",
        "descriptor elsewhere",
        "marker of the footer",
        "marker of the end",
    ],
)
def test_what_openstack_sees_otherwise(image: ByteSource, code: str) -> None:
    assert oslo_refuses(image)
    assert code in codes(Policy.OPENSTACK, image)


@pytest.mark.parametrize(
    ("line", "accepted"),
    [
        ("# Größe", False),
        ("# a comment", True),
        ("word", False),
        ("ddb.something", True),
        ("a key = 1", False),
        ("key = 1", False),
        ("key= 1", True),
        ('#createType="vmfs"', False),
    ],
)
def test_lines_that_openstack_does_not_know(line: str, accepted: bool) -> None:
    text = vmdk.descriptor('RW 2048 SPARSE "disk.vmdk"', create_type="monolithicSparse")
    image = vmdk.sparse(f"{line}\n{text}")
    assert oslo_refuses(image) != accepted
    assert ("openstack.vmdk-descriptor" in codes(Policy.OPENSTACK, image)) != accepted


def test_extended_l2_entries() -> None:
    image = qcow2.compose([qcow2.Cluster(qcow2.Kind.DATA)], extended=True).file
    assert oslo_refuses(image)
    assert codes(Policy.OPENSTACK, image) == ["openstack.extended-l2"]


@pytest.mark.parametrize("policy", [Policy.OPENSTACK, Policy.STRICT])
def test_a_declared_format_must_be_the_one_that_is_found(policy: Policy) -> None:
    """Else an image gets in as raw, and is opened as what it is."""
    image = composed(qcow2.Kind.DATA)
    assert "policy.declared-format" in codes(policy, image, DiskFormat.RAW)
    assert codes(policy, image, DiskFormat.QCOW2) == []
    both = ImageFile({0: b"QFI\xfb", 64: b"\x7f\x10\xda\xbe"}, size=MIB)
    assert "probe.polyglot" in codes(policy, both, DiskFormat.RAW)
