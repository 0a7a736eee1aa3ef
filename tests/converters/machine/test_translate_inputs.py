"""What a translation looks at: the dialect by content, and only those disks that were granted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vmport_converters.machine.disk_facts import look_at_disks, parse_disk_sizes
from vmport_formats.errors import UnknownFormat, UsageError
from vmport_formats.machine.dialect import Dialect, detect_dialect
from vmport_formats.machine.model import Disk, DiskDevice, DiskSource, Machine

if TYPE_CHECKING:
    from pathlib import Path

ENVELOPE = "<ovf:Envelope xmlns:ovf='http://schemas.dmtf.org/ovf/envelope/1'/>"


@pytest.mark.parametrize(
    ("start", "dialect"),
    [
        (b"<domain type='kvm'>", Dialect.LIBVIRT),
        (b"\n<!-- by hand -->\n<domain/>", Dialect.LIBVIRT),
        (b"\xef\xbb\xbf<?xml version='1.0'?><Envelope/>", Dialect.OVF),
        (ENVELOPE.encode(), Dialect.OVF),
        (ENVELOPE.encode("utf-16"), Dialect.OVF),
        (b"<VirtualBox version='1.16'>", Dialect.VIRTUALBOX),
        (b"<broken", Dialect.LIBVIRT),
        (b'#!/usr/bin/vmware\n.encoding = "UTF-8"\nguestOS = "other"\n', Dialect.VMX),
        (b"\0" * 257 + b"ustar\x0000", Dialect.OVA),
    ],
)
def test_the_content_tells_the_dialect(start: bytes, dialect: Dialect) -> None:
    assert detect_dialect(start, "any.name") is dialect


@pytest.mark.parametrize(
    "start", [b"", b"\0" * 1000, b"name = 'pv'\n", b"QFI\xfb", b"apiVersion: v1"]
)
def test_anything_else_is_not_guessed(start: bytes) -> None:
    with pytest.raises(UnknownFormat):
        detect_dialect(start, "x.vmx")


@pytest.mark.parametrize(
    ("option", "size"),
    [("vda=1", 1), ("vda=20G", 20 << 30), ("vda=2TiB", 2 << 40), ("v=1=2k", None), ("vda", None)]
    + [(f"vda={text}", None) for text in ("", "0", "-1", "1.5G", "9E", "1Z", "1" * 30)],
)
def test_sizes_on_the_command_line(option: str, size: int | None) -> None:
    if size is None:
        with pytest.raises(UsageError):
            parse_disk_sizes([option])
    else:
        assert parse_disk_sizes([option]) == {"vda": size}


def machine_with(path: Path, declared: str | None = "raw") -> Machine:
    source = DiskSource(path=str(path), format=declared)
    cd = Disk(device=DiskDevice.CDROM, target="sda", source=source)
    return Machine(disks=(cd, Disk(target="vda", source=source)))


def test_a_disk_is_opened_only_in_a_granted_folder(tmp_path: Path) -> None:
    images, elsewhere = tmp_path / "images", tmp_path / "elsewhere"
    images.mkdir()
    elsewhere.mkdir()
    disk = images / "d.img"
    disk.write_bytes(bytes(4096))
    machine, descriptor = machine_with(disk), str(tmp_path / "m.xml")

    def look(*folders: Path) -> list[tuple[int, int]]:
        found = look_at_disks(machine, named_by=descriptor, folders=folders, sizes={})
        return [(index, facts.capacity) for index, facts in found.items()]

    assert look() == []
    assert look(elsewhere) == []
    assert look(images) == [(1, 4096)]
    assert look(elsewhere, tmp_path) == [(1, 4096)]
    (elsewhere / "d.img").write_bytes(bytes(8192))  # a copy, found by its name
    assert look(elsewhere) == [(1, 8192)]
    (elsewhere / "d.img").unlink()
    (elsewhere / "d.img").symlink_to(disk)
    assert look(elsewhere) == []


def test_a_disk_without_a_format_is_raw_whatever_it_holds(tmp_path: Path) -> None:
    disk = tmp_path / "d.img"
    disk.write_bytes(b"QFI\xfb" + bytes(1020))
    machine = machine_with(disk, None)
    facts = look_at_disks(machine, named_by="m.xml", folders=[tmp_path], sizes={})
    assert facts[1].capacity == 1024
