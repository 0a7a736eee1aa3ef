"""Which format a file is: by content only, one at most, and never against a declaration."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests import specimens
from vmport_formats.disk import (
    bochs,
    cloop,
    dmg,
    luks,
    parallels,
    qcow,
    qcow2,
    qed,
    raw,
    vdi,
    vhd,
    vhdx,
    vmdk,
)
from vmport_formats.disk.model import DiskFormat
from vmport_formats.disk.probe import detect, probe, reader
from vmport_formats.errors import CorruptInput, InputError, UnknownFormat, UnsafeInput
from vmport_formats.source import MemorySource

if TYPE_CHECKING:
    from vmport_formats.disk.probe import FormatReader

READERS: dict[DiskFormat, FormatReader] = {
    DiskFormat.RAW: raw,
    DiskFormat.QCOW: qcow,
    DiskFormat.QCOW2: qcow2,
    DiskFormat.VMDK: vmdk,
    DiskFormat.VHD: vhd,
    DiskFormat.VHDX: vhdx,
    DiskFormat.VDI: vdi,
    DiskFormat.QED: qed,
    DiskFormat.PARALLELS: parallels,
    DiskFormat.DMG: dmg,
    DiskFormat.CLOOP: cloop,
    DiskFormat.BOCHS: bochs,
    DiskFormat.LUKS: luks,
}
"""That each module keeps the interface is for mypy to see here."""

VHD_FOOTER = b"conectix".ljust(512, b"\0")


def source(data: bytes) -> MemorySource:
    return MemorySource(data, name="image")


def test_every_format_has_its_reader() -> None:
    assert set(READERS) == set(DiskFormat)
    for item, module in READERS.items():
        assert reader(item) is module


@pytest.mark.needs("qemu-img")
@pytest.mark.qemu_samples
@pytest.mark.parametrize("name", specimens.NAMES)
def test_content_alone_tells_the_format(name: str) -> None:
    data = specimens.specimen(name)
    assert detect(source(data)) is specimens.format_of(name)


@pytest.mark.parametrize("item", [item for item in DiskFormat if item is not DiskFormat.RAW])
def test_a_declared_format_that_is_not_there_is_an_error_not_a_guess(item: DiskFormat) -> None:
    for data in (b"", b"\0" * 4096, b"no such thing\n" * 1000, VHD_FOOTER[::-1] * 9):
        with pytest.raises(InputError):
            probe(source(data), declared=item)
    with pytest.raises(CorruptInput) as caught:
        probe(source(b"\0" * (1 << 20)), declared=item)
    assert caught.value.code.startswith(f"{item.code}.")


@pytest.mark.needs("qemu-img")
def test_two_marks_are_one_too_many() -> None:
    image = specimens.specimen("qcow2")
    both = image + VHD_FOOTER
    with pytest.raises(UnsafeInput) as caught:
        probe(source(both))
    assert caught.value.code == "probe.polyglot"
    assert "qcow2 and VHD" in caught.value.problem
    assert probe(source(both), declared=DiskFormat.QCOW2).format is DiskFormat.QCOW2


@pytest.mark.needs("qemu-img")
def test_declared_raw_is_raw_whatever_it_holds() -> None:
    image = specimens.specimen("qcow2")
    info = probe(source(image), declared=DiskFormat.RAW)
    assert info.format is DiskFormat.RAW
    assert info.virtual_size == -(-len(image) // 512) * 512
    assert info.references == ()


def test_an_empty_file_is_a_disk_only_where_that_is_declared() -> None:
    with pytest.raises(InputError) as caught:
        probe(source(b""))
    assert caught.value.code == "probe.empty"
    assert probe(source(b""), declared=DiskFormat.RAW).virtual_size == 0


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b'<?xml version="1.0"?>\n<Envelope xmlns="http://schemas.dmtf.org/ovf/1">', "OVF"),
        (b'<ovf:Envelope xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">', "OVF"),
        (b"<!-- edited by virsh -->\n<domain type='kvm'>\n  <name>web</name>", "libvirt"),
        (b'<?xml version="1.0"?>\n<VirtualBox version="1.16-linux">', "VirtualBox"),
        (b'.encoding = "UTF-8"\nconfig.version = "8"\nvirtualHW.version = "19"\n', "VMX"),
        (b'#!/usr/bin/vmware\nconfig.version = "8"\n', "VMX"),
        ("\ufeff<domain/>".encode(), "libvirt"),
        (b"web.ovf".ljust(257, b"\0") + b"ustar\x0000".ljust(1024, b"\0"), "OVA"),
    ],
)
def test_a_machine_descriptor_is_no_disk(text: bytes, what: str) -> None:
    with pytest.raises(UnknownFormat, match=what) as caught:
        probe(source(text))
    assert caught.value.code == "probe.not-a-disk"
    assert probe(source(text), declared=DiskFormat.RAW).format is DiskFormat.RAW


@pytest.mark.parametrize(
    "data", [b"<domain>\0", b"just text\n", b"\0<Envelope", b"<svg", b"GIF89a\0\0\0"]
)
def test_other_bytes_are_raw(data: bytes) -> None:
    if data == b"<svg":
        with pytest.raises(UnknownFormat):
            probe(source(data))
    else:
        assert probe(source(data)).format is DiskFormat.RAW


@pytest.mark.parametrize(
    ("name", "item"), [("vhd", DiskFormat.VHD), ("vpc", DiskFormat.VHD), ("RAW", DiskFormat.RAW)]
)
def test_a_format_has_qemu_s_name_and_people_s(name: str, item: DiskFormat) -> None:
    assert DiskFormat.named(name) is item
    with pytest.raises(ValueError, match="floppy"):
        DiskFormat.named("floppy")


def test_the_parsers_are_useful_alone() -> None:
    """Security people want a parser without a converter: nothing heavy comes along."""
    program = (
        "import sys, vmport_formats.disk.probe as p, vmport_formats.disk.safety\n"
        "from vmport_formats.source import MemorySource\n"
        "p.probe(MemorySource(bytes(4096)))\n"
        "print(*sorted(name.partition('.')[0] for name in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "vmport_formats" in loaded
    assert not loaded & {"typer", "click", "lxml", "rich", "yaml", "vmport", "vmport_converters"}
