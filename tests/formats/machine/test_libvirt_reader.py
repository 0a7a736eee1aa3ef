"""libvirt XML: what it comes to, what is refused and where, and that nothing hangs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vmport_formats.errors import (
    CorruptInput,
    UnknownFormat,
    UnsafeInput,
    UnsupportedFeature,
    VmportError,
)
from vmport_formats.machine.ledger import Impact, describe, stated
from vmport_formats.machine.libvirt import read_libvirt
from vmport_formats.machine.libvirt.values import scale
from vmport_formats.machine.model import (
    ControllerModel,
    DiskBus,
    FirmwareKind,
    Machine,
)

if TYPE_CHECKING:
    from tests.conftest import Golden

MACHINES = sorted((Path(__file__).parents[3] / "fixtures/machine/libvirt").iterdir())


def read(body: str, *, kind: str = "kvm") -> Machine:
    return read_libvirt(f"<domain type='{kind}'>{body}</domain>".encode(), "x.xml").model


def devices(body: str, *, kind: str = "kvm") -> Machine:
    return read(f"<devices>{body}</devices>", kind=kind)


@pytest.mark.parametrize("folder", MACHINES, ids=lambda folder: folder.name)
def test_golden_model(folder: Path, golden: Golden) -> None:
    reading = read_libvirt((folder / "machine.xml").read_bytes(), "machine.xml")
    values = {path: describe(value) for path, value in stated(reading.model).items()}
    lines = [f"{path} = {value!r}" for path, value in values.items()]
    unread = [leaf for leaf in reading.leaves if leaf.path not in reading.taken]
    lines += ["", *(f"not in the model: {leaf.path} = {leaf.value!r}" for leaf in unread)]
    golden(folder / "model.txt", "".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize("folder", MACHINES, ids=lambda folder: folder.name)
def test_nothing_is_guessed_and_nothing_goes_unexplained(folder: Path) -> None:
    reading = read_libvirt((folder / "machine.xml").read_bytes(), "machine.xml")
    sourced = {path for paths in reading.taken.values() for path in paths}
    assert sourced == set(stated(reading.model))
    unread = {leaf.path for leaf in reading.leaves} - set(reading.taken)
    assert unread == set(reading.lost)


def test_what_libvirt_adds_one_day_is_not_called_harmless() -> None:
    body = "<devices><video new='1'><model type='vga'/></video><teleporter/></devices>"
    reading = read_libvirt(f"<domain type='kvm'>{body}</domain>".encode(), "x.xml")
    unexplained = {leaf.path for leaf in reading.leaves} - set(reading.taken) - set(reading.lost)
    assert unexplained == {"/domain/devices/video/@new", "/domain/devices/teleporter"}


# --- Values -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "size"),
    [
        ("b", 1),
        ("bytes", 1),
        ("byte", 1),
        ("KB", 1000),
        ("k", 1024),
        ("KiB", 1024),
        ("kib", 1024),
        ("MB", 10**6),
        ("M", 2**20),
        ("MiB", 2**20),
        ("GB", 10**9),
        ("G", 2**30),
        ("gib", 2**30),
        ("TB", 10**12),
        ("TiB", 2**40),
        ("P", 2**50),
        ("EiB", 2**60),
        ("", None),
        ("KBB", None),
        ("x", None),
        ("iB", None),
    ],
)
def test_units_of_memory(unit: str, size: int | None) -> None:
    assert scale(unit) == size


def test_memory_without_a_unit_is_in_kib() -> None:
    memory = read("<memory>1000</memory>").memory
    assert memory is not None
    assert memory.size == 1_024_000


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("kvm", ControllerModel.LSI53C895A),
        ("qemu", ControllerModel.LSI53C895A),
        ("vmware", ControllerModel.LSILOGIC),
        ("vbox", ControllerModel.LSILOGIC),
    ],
)
def test_lsilogic_is_another_chip_in_qemu_than_elsewhere(kind: str, model: ControllerModel) -> None:
    machine = devices("<controller type='scsi' index='0' model='lsilogic'/>", kind=kind)
    assert machine.controllers[0].model is model


@pytest.mark.parametrize(
    ("name", "bus"),
    [
        ("vda", DiskBus.VIRTIO),
        ("sdb", DiskBus.SCSI),
        ("hdc", DiskBus.IDE),
        ("xvda", DiskBus.XEN),
        ("fda", DiskBus.FDC),
        ("disk0", None),
    ],
)
def test_a_bus_that_is_left_out_follows_from_the_name(name: str, bus: DiskBus | None) -> None:
    assert devices(f"<disk><target dev='{name}'/></disk>").disks[0].bus is bus


@pytest.mark.parametrize(
    ("system", "kind"),
    [
        ("<os firmware='efi'/>", FirmwareKind.UEFI),
        ("<os firmware='bios'/>", FirmwareKind.BIOS),
        ("<os><loader type='pflash'>/x.bin</loader></os>", FirmwareKind.UEFI),
        ("<os><loader type='rom'>/usr/share/ovmf/OVMF.fd</loader></os>", FirmwareKind.UEFI),
        ("<os><loader>/usr/share/seabios/bios-256k.bin</loader></os>", FirmwareKind.BIOS),
        ("<os><loader>/opt/coreboot.rom</loader></os>", FirmwareKind.OTHER),
        ("<os><kernel>/boot/vmlinuz</kernel></os>", FirmwareKind.DIRECT_KERNEL),
    ],
)
def test_firmware(system: str, kind: FirmwareKind) -> None:
    firmware = read(system).firmware
    assert firmware is not None
    assert firmware.kind is kind


def test_a_secure_loader_can_do_secure_boot_but_need_not() -> None:
    firmware = read("<os><loader type='pflash' secure='yes'>/OVMF.fd</loader></os>").firmware
    assert firmware is not None
    assert (firmware.secure_boot, firmware.secure_boot_capable) == (None, True)


def test_a_chain_of_backing_files_is_read_nearest_first() -> None:
    chain = "<backingStore><source file='/b'/><backingStore><source file='/c'/></backingStore>"
    machine = devices(f"<disk><source file='/a'/>{chain}</backingStore></disk>")
    assert [backing.path for backing in machine.disks[0].backing] == ["/b", "/c"]


def test_a_password_is_nowhere() -> None:
    data = b"<domain type='kvm'><devices><graphics type='vnc' passwd='hunter2'/></devices></domain>"
    assert "hunter2" not in repr(read_libvirt(data, "x.xml"))


# --- What is refused ----------------------------------------------------------------------------

REFUSED = [
    ("<domain/", CorruptInput, "xml.not-well-formed", None),
    ("<!DOCTYPE d [<!ENTITY a 'b'>]><domain>&a;</domain>", UnsafeInput, "xml.doctype", None),
    ("<network/>", UnknownFormat, "libvirt.root", "1:1"),
    ("<domainsnapshot><domain/></domainsnapshot>", UnknownFormat, "libvirt.root", "1:1"),
    ("<x><domain/>\n <domain/></x>", UnknownFormat, "libvirt.several-domains", "2:2"),
    ("<domain type='lxc'/>", UnsupportedFeature, "libvirt.container", "1:1"),
    ("<domain><os><type>exe</type></os></domain>", UnsupportedFeature, "libvirt.container", "1:1"),
    ("<domain><name>a</name><name>b</name></domain>", CorruptInput, "machine.repeated", "1:23"),
    ("<domain><uuid>1234</uuid></domain>", CorruptInput, "machine.uuid", "1:9"),
    ("<domain><memory>lots</memory></domain>", CorruptInput, "machine.number", "1:9"),
    ("<domain><memory>-1</memory></domain>", CorruptInput, "machine.range", "1:9"),
    ("<domain><memory>0</memory></domain>", CorruptInput, "machine.memory", "1:9"),
    (f"<domain><memory>{2**64}</memory></domain>", CorruptInput, "machine.range", "1:9"),
    (f"<domain><memory>{2**63}</memory></domain>", CorruptInput, "machine.range", "1:9"),
    (f"<domain><memory>{'9' * 5000}</memory></domain>", CorruptInput, "machine.number", "1:9"),
    ("<domain><memory unit='XB'>1</memory></domain>", CorruptInput, "machine.unit", "1:17"),
    (
        "<domain><memory>1</memory><currentMemory>2</currentMemory></domain>",
        CorruptInput,
        "machine.memory",
        "1:27",
    ),
    ("<domain><vcpu>0</vcpu></domain>", CorruptInput, "machine.range", "1:9"),
    ("<domain><vcpu current='3'>2</vcpu></domain>", CorruptInput, "machine.vcpus", "1:15"),
    ("<domain><vcpu cpuset='4-1'>2</vcpu></domain>", CorruptInput, "machine.cpus", "1:15"),
    ("<domain><vcpu cpuset='0-999999'>2</vcpu></domain>", CorruptInput, "machine.cpus", "1:15"),
    (
        "<domain><vcpu>3</vcpu><cpu><topology sockets='2' cores='2'/></cpu></domain>",
        CorruptInput,
        "machine.topology",
        "1:28",
    ),
    (
        "<domain><os><loader secure='maybe'/></os></domain>",
        CorruptInput,
        "machine.switch",
        "1:21",
    ),
]

REFUSED_DEVICES = [
    ("<disk><target dev='vda'/></disk><disk><target dev='vda'/></disk>", "duplicate-disk"),
    ("<controller type='scsi' index='0'/>" * 2, "duplicate-controller"),
    (
        "".join(
            f"<disk><target dev='sd{name}' bus='sata'/><address type='drive' unit='1'/></disk>"
            for name in "ab"
        ),
        "duplicate-address",
    ),
    (
        "".join(f"<disk><target dev='vd{name}'/><boot order='1'/></disk>" for name in "ab"),
        "boot-order",
    ),
    ("<interface><mac address='01:00:5e:00:00:01'/></interface>", "mac"),
    ("<interface><mac address='52:54:00'/></interface>", "mac"),
    ("<interface><boot order='0'/></interface>", "range"),
    ("<graphics type='vnc' port='70000'/>", "range"),
    ("<disk><wwn>12</wwn></disk>", "wwn"),
    ("<controller/>", "controller"),
]


@pytest.mark.parametrize(("text", "kind", "code", "at"), REFUSED)
def test_refusals(text: str, kind: type[VmportError], code: str, at: str | None) -> None:
    with pytest.raises(kind) as caught:
        read_libvirt(text.encode(), "x.xml")
    assert (caught.value.path, caught.value.code) == ("x.xml", code)
    if at is not None:
        assert caught.value.at == at


@pytest.mark.parametrize(("body", "code"), REFUSED_DEVICES)
def test_refusals_of_devices(body: str, code: str) -> None:
    with pytest.raises(CorruptInput) as caught:
        devices(body)
    assert caught.value.code == f"machine.{code}"


def test_two_ways_to_order_the_boot_exclude_each_other() -> None:
    body = "<os><boot dev='hd'/></os><devices><disk><boot order='1'/></disk></devices>"
    with pytest.raises(CorruptInput) as caught:
        read(body)
    assert caught.value.code == "machine.boot-order"


@pytest.mark.parametrize(
    "text",
    [
        "<domain>" + "<a>" * 100_000,
        "<domain>" + "<a/>" * 90_000 + "</domain>",
        "<domain>" + "<a>" * 150 + "<b/>" * 90_000 + "</a>" * 150 + "</domain>",
        "<domain>" + ("<a " + " ".join(f"b{i}=''" for i in range(900)) + "/>") * 100 + "</domain>",
        "<domain><name>" + "x" * (3 << 20) + "</name>" + "<devices/>" * 2 + "</domain>",
        "<domain><vcpu cpuset='" + "0-8191," * 5000 + "0'>1</vcpu></domain>",
    ],
    ids=["deep", "wide", "deep-and-wide", "attributes", "long", "cpu-list"],
)
def test_hostile_documents_are_refused_soon(text: str) -> None:
    begun = time.process_time()
    with pytest.raises(CorruptInput):
        read_libvirt(text.encode(), "x.xml")
    assert time.process_time() - begun < 2  # a second on an idle machine


def test_losses_that_break_a_guest_say_what_to_do() -> None:
    body = "<launchSecurity type='sev'/><devices><shmem name='x'/></devices>"
    reading = read_libvirt(f"<domain type='kvm'>{body}</domain>".encode(), "x.xml")
    serious = [loss for loss in reading.lost.values() if loss.impact is Impact.MAJOR]
    assert len(serious) == 2
    assert all(loss.effect and loss.action for loss in serious)
