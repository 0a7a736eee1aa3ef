"""Machines as OVF envelopes: golden files, and what holds for every machine there can be."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmport_formats.errors import UnsupportedFeature, UsageError
from vmport_formats.machine import model
from vmport_formats.machine.guest_os import vmware_guest
from vmport_formats.machine.ledger import Impact, Verdict, compose, stated
from vmport_formats.machine.libvirt import read_libvirt
from vmport_formats.machine.model import (
    Architecture,
    Boot,
    BootDevice,
    Controller,
    ControllerKind,
    ControllerModel,
    Disk,
    DiskBus,
    DiskDevice,
    DiskSource,
    DiskSourceKind,
    GuestOs,
    Machine,
    Nic,
)
from vmport_formats.machine.ovf.envelope import read_envelope
from vmport_formats.machine.ovf.units import bytes_in
from vmport_formats.machine.ovf.writer import DiskFacts, write_ovf
from vmport_formats.machine.vmware import NO_IMAGE
from vmport_formats.units import Bytes
from vmport_formats.xml import parse_xml

if TYPE_CHECKING:
    from tests.conftest import Golden
    from vmport_formats.machine.ledger import Ledger, Outcome, Writing
    from vmport_formats.machine.ovf.envelope import Envelope, Item

FIXTURES: Final = Path(__file__).parents[3] / "fixtures" / "machine"
GIB: Final = 1 << 30


def envelope_of(writing: Writing) -> Envelope:
    return read_envelope(parse_xml(writing.text.encode(), name="written.ovf"))


def known(machine: Machine, capacity: int = 10 * GIB) -> dict[int, DiskFacts]:
    return {index: DiskFacts(Bytes(capacity)) for index in range(len(machine.disks))}


def items_of(writing: Writing) -> dict[str, Item]:
    """The items by name."""
    (system,) = envelope_of(writing).systems
    (hardware,) = system.hardware
    return {item.text("ElementName") or "": item for item in hardware.items}


def settings_of(writing: Writing) -> dict[str, str]:
    """The ``vmw:Config`` and ``vmw:ExtraConfig`` lines."""
    (system,) = envelope_of(writing).systems
    return {line.key: line.value for line in system.hardware[0].settings}


# --- Golden files -------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["ovf-linux-uefi", "ovf-windows", "ovf-old-bios"])
def test_golden(case: str, golden: Golden) -> None:
    folder = FIXTURES / case
    reading = read_libvirt((folder / "machine.xml").read_bytes(), "machine.xml")
    writing = write_ovf(reading.model, name=case, facts=known(reading.model))
    golden(folder / "expected.ovf", writing.text)
    golden(folder / "expected.ledger", ledger_lines(compose(reading, writing)))


def ledger_lines(ledger: Ledger) -> str:
    """A ledger for a person who reviews a diff: a line a value."""
    lines = []
    for entry in ledger.entries:
        source = "-" if entry.source is None else f"{entry.source.path} = {entry.source.value}"
        target = " ".join(
            filter(None, (", ".join(entry.places), entry.after and f"= {entry.after}"))
        )
        # What has no place in the model is the reader's to explain.
        reason = f" ({entry.why})" if entry.why and (entry.model or entry.source is None) else ""
        impact = "" if entry.impact is Impact.NONE else f" [{entry.impact}]"
        line = f"{entry.verdict}{impact}: {source} -> {target or 'nothing'}{reason}"
        lines.append(line.replace("\n", "\\n"))
    return "\n".join(lines) + "\n"


# --- Any machine --------------------------------------------------------------------------------

_NAMES: Final = {**vars(model), "UUID": UUID, "Bytes": int}
_SIZES: Final = st.integers(1, 1 << 42)
_TEXTS: Final = st.text(st.characters(codec="utf-8"), max_size=8)
_SPECIAL: Final[dict[str, st.SearchStrategy[Any]]] = {
    "MacAddress": st.just("52:54:00:12:34:56"),
    "CpuList": st.sampled_from(["0", "0-3", "4-7", "0,2"]),
    "PciAddress": st.sampled_from(["0000:00:04.0", "0000:01:00.0"]),
    "osinfo": st.sampled_from(["http://debian.org/debian/12", "http://microsoft.com/win/xp", "?"]),
    "vmware": st.sampled_from(["windows9-64", "other", "nonsense"]),
    "hardware_version": st.integers(0, 25),
    # More processors than VMware runs are refused, and that is another test.
    **dict.fromkeys(("count", "online", "sockets", "dies", "cores"), st.integers(1, 16)),
}


def anything(cls: type[Any]) -> st.SearchStrategy[Any]:
    """Any instance of a dataclass of the model, most of its values not stated."""
    hints = typing.get_type_hints(cls, _NAMES)
    fields = {}
    for field in dataclasses.fields(cls):
        name = field.name
        strategy = _SPECIAL[name] if name in _SPECIAL else _value(hints[name])
        if field.default is None:
            strategy = st.none() | strategy
        fields[name] = strategy
    return st.builds(cls, **fields)


def _value(hint: Any) -> st.SearchStrategy[Any]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return _value(next(arg for arg in typing.get_args(hint) if arg is not type(None)))
    if typing.get_origin(hint) is tuple:
        return st.lists(_value(typing.get_args(hint)[0]), max_size=2).map(tuple)
    if isinstance(hint, typing.NewType):
        return _SPECIAL[hint.__name__] if hint.__name__ in _SPECIAL else _value(hint.__supertype__)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return st.sampled_from(hint)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return st.deferred(lambda: anything(hint))
    return {bool: st.booleans(), int: _SIZES, str: _TEXTS, UUID: st.uuids()}[hint]


ADDRESSES: Final = st.none() | st.integers(0, 20)
DISKS: Final = st.builds(
    Disk,
    device=st.sampled_from([None, *DiskDevice]),
    bus=st.sampled_from([None, *DiskBus]),
    controller=st.none() | st.integers(0, 5),
    channel=st.none() | st.integers(0, 2),
    scsi_target=ADDRESSES,
    unit=ADDRESSES,
    target=st.none() | st.sampled_from(["vda", "sdb", "hdc"]),
    boot_order=st.none() | st.integers(1, 4),
    read_only=st.none() | st.booleans(),
    rotation_rate=st.none() | st.integers(1, 7200),
    source=st.none()
    | st.builds(
        DiskSource,
        kind=st.none() | st.sampled_from(DiskSourceKind),
        path=st.none() | st.sampled_from(["/a/x.qcow2", "/b/x.img", "/c/é\u0001 :?#.raw", "\\\\"]),
        capacity=st.none() | _SIZES,
    ),
)
CONTROLLERS: Final = st.builds(
    Controller,
    kind=st.sampled_from(ControllerKind),
    index=st.none() | st.integers(0, 5),
    model=st.none() | st.sampled_from(ControllerModel),
)
_HINTS: Final = typing.get_type_hints(Machine, _NAMES)
_PARTS: Final[dict[str, st.SearchStrategy[Any]]] = {
    **{name: _SPECIAL[name] if name in _SPECIAL else _value(_HINTS[name]) for name in _HINTS},
    "architecture": st.sampled_from([Architecture.I686, Architecture.X86_64]),
    "disks": st.lists(DISKS, max_size=10).map(tuple),
    "controllers": st.lists(CONTROLLERS, max_size=5).map(tuple),
    "nics": st.lists(anything(Nic), max_size=12).map(tuple),
}


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """Any machine, with a few of its parts stated."""
    names = draw(st.sets(st.sampled_from(sorted(_PARTS)), max_size=6))
    return Machine(**{name: draw(_PARTS[name]) for name in sorted(names | {"disks"})})


@settings(max_examples=100, deadline=None)
@given(machines())
def test_every_envelope_is_consistent(machine: Machine) -> None:
    envelope = envelope_of(write_ovf(machine, name="any", facts=known(machine)))
    (system,) = envelope.systems
    (hardware,) = system.hardware
    ids = [item.text("InstanceID") for item in hardware.items]
    assert ids == [str(number) for number in range(1, len(ids) + 1)]
    by_id = dict(zip(ids, hardware.items, strict=True))
    places = []
    for item in hardware.items:
        parent = item.text("Parent")
        if parent is not None:
            assert by_id[parent].text("ResourceType") in ("5", "6", "20")
            places.append((parent, item.text("AddressOnParent")))
        # The schema's sequence is the alphabet.
        names = [name for name in item.fields if name[0].isupper() and name != "Config"]
        names = [name for name in names if name != "CoresPerSocket"]
        assert names == sorted(names)
    assert len(set(places)) == len(places)
    controllers = [
        (item.text("ResourceType"), item.text("ResourceSubType"), item.text("Address"))
        for item in hardware.items
        if item.text("ResourceType") in ("5", "6", "20")
    ]
    assert len(set(controllers)) == len(controllers)
    # Item -> Disk -> File, each step once.
    disks = {disk.id: disk for disk in envelope.disks}
    files = {file.id: file for file in envelope.files}
    used = [text for item in hardware.items if (text := item.text("HostResource"))]
    assert sorted(used) == sorted(f"ovf:/disk/{disk}" for disk in disks)
    assert {disk.file_ref for disk in disks.values() if disk.file_ref} == set(files)
    names = [(file.href or "").lower() for file in files.values()]
    assert len(set(names)) == len(names)
    assert all(name and "/" not in name and ":" not in name for name in names)
    assert all(int(disk.capacity or 0) % 512 == 0 for disk in disks.values())
    wanted = {item.text("Connection") for item in hardware.items if item.text("Connection")}
    assert {network.name for network in envelope.networks} == wanted
    (guest,) = system.guests
    assert vmware_guest(guest.vmware or "") is not None


@settings(max_examples=100, deadline=None)
@given(machines())
def test_every_value_is_accounted_for(machine: Machine) -> None:
    writing = write_ovf(machine, name="any", facts=known(machine))
    outcomes = Counter(outcome.path for outcome in writing.outcomes if outcome.path is not None)
    assert set(outcomes) == set(stated(machine))
    assert not [path for path, count in outcomes.items() if count > 1]
    for outcome in writing.outcomes:
        assert "vmport does not write" not in outcome.why, outcome
        if outcome.verdict in (Verdict.ADAPTED, Verdict.DEFAULTED):
            assert outcome.why, outcome
            assert outcome.after, outcome
        if outcome.verdict is Verdict.DROPPED:
            assert outcome.why, outcome


@settings(max_examples=40, deadline=None)
@given(machines())
def test_the_same_machine_gives_the_same_bytes(machine: Machine) -> None:
    facts = known(machine)
    assert write_ovf(machine, name="a", facts=facts) == write_ovf(machine, name="a", facts=facts)


# --- Single points ------------------------------------------------------------------------------


def outcome_of(writing: Writing, path: str) -> Outcome:
    (found,) = [outcome for outcome in writing.outcomes if outcome.path == path]
    return found


def test_a_capacity_that_nobody_knows_is_refused() -> None:
    machine = Machine(
        disks=(
            Disk(target="vda", source=DiskSource(path="/images/a.qcow2")),
            Disk(target="vdb", source=DiskSource(path="/more/b.raw", capacity=Bytes(GIB))),
            Disk(device=DiskDevice.CDROM),
        )
    )
    with pytest.raises(UsageError, match="that of vda") as caught:
        write_ovf(machine, name="x")
    assert "--allow /images" in (caught.value.hint or "")
    assert "--disk-size vda=SIZE" in (caught.value.hint or "")
    writing = write_ovf(machine, name="x", facts={0: DiskFacts(Bytes(GIB + 1))})
    capacities = [int(disk.capacity or 0) for disk in envelope_of(writing).disks]
    assert capacities == [GIB + 512, GIB]


def test_a_machine_that_vmware_cannot_run_is_refused() -> None:
    with pytest.raises(UnsupportedFeature, match="aarch64"):
        write_ovf(Machine(architecture=Architecture.AARCH64), name="x")


def test_the_virtual_hardware_is_as_new_as_the_machine_needs() -> None:
    """Kept when the source states one, raised when it cannot hold the machine, or as asked for."""

    def family(machine: Machine, asked: int | None = None) -> tuple[str, ...]:
        (system,) = envelope_of(write_ovf(machine, name="x", hardware=asked)).systems
        return system.hardware[0].types

    uefi = model.Firmware(kind=model.FirmwareKind.UEFI, secure_boot=True)
    assert family(Machine()) == ("vmx-19",)
    assert family(Machine(hardware_version=9)) == ("vmx-09",)
    assert family(Machine(hardware_version=9, firmware=uefi)) == ("vmx-13",)
    assert family(Machine(cpu=model.Cpu(count=800))) == ("vmx-22",)
    assert family(Machine(firmware=uefi), 14) == ("vmx-14",)
    with pytest.raises(UsageError, match="cannot have: secure boot"):
        family(Machine(firmware=uefi), 11)
    with pytest.raises(UnsupportedFeature, match="2000 processors"):
        family(Machine(cpu=model.Cpu(count=2000)))


@pytest.mark.parametrize(
    ("size", "shown"), [(1, 4), (4 << 20, 4), ((4 << 20) + 1, 8), (512 << 20, 512)]
)
def test_memory_is_a_multiple_of_four_megabytes(size: int, shown: int) -> None:
    machine = Machine(memory=model.Memory(size=Bytes(size)))
    item = items_of(write_ovf(machine, name="x"))[f"{shown} MB of memory"]
    assert item.text("VirtualQuantity") == str(shown)
    assert bytes_in(item.text("AllocationUnits") or "") == 1 << 20


def test_units_that_vmware_lacks_are_not_used() -> None:
    """Unit 7 of a SCSI controller is the controller itself; the drive there moves, and says so."""
    disks = tuple(
        Disk(bus=DiskBus.SCSI, controller=0, unit=unit, target=f"sd{unit}") for unit in range(10)
    )
    controller = Controller(ControllerKind.SCSI, 0, ControllerModel.PVSCSI)
    machine = Machine(controllers=(controller,), disks=disks)
    writing = write_ovf(machine, name="x", facts=known(machine))
    units = [
        int(item.text("AddressOnParent") or -1)
        for item in items_of(writing).values()
        if item.text("ResourceType") == "17"
    ]
    assert units == [0, 1, 2, 3, 4, 5, 6, 8, 9, 10]
    assert outcome_of(writing, "disks[7].unit").why == "on VMware, scsi0:7 is the controller itself"


def test_disks_go_by_place_not_by_document_order() -> None:
    disks = tuple(
        Disk(bus=DiskBus.SCSI, controller=0, unit=unit, source=DiskSource(path=f"/d/{unit}.img"))
        for unit in (10, 2, 0)
    )
    controller = Controller(ControllerKind.SCSI, 0, ControllerModel.LSISAS1068)
    machine = Machine(controllers=(controller,), disks=disks)
    hrefs = [
        file.href for file in envelope_of(write_ovf(machine, name="x", facts=known(machine))).files
    ]
    assert hrefs == ["0.vmdk", "2.vmdk", "10.vmdk"]


@pytest.mark.parametrize(
    ("osinfo", "disk", "nic"),
    [
        ("http://debian.org/debian/12", "VirtualSCSI", "VmxNet3"),
        ("http://microsoft.com/win/2k19", "vmware.sata.ahci", "E1000e"),
        ("http://microsoft.com/win/7", "vmware.sata.ahci", "E1000"),
        ("http://microsoft.com/win/xp", None, "E1000"),  # XP has no SATA driver: IDE
        (None, "vmware.sata.ahci", "E1000"),
    ],
)
def test_paravirtual_devices_become_what_the_guest_has_drivers_for(
    osinfo: str | None, disk: str | None, nic: str
) -> None:
    machine = Machine(
        guest_os=None if osinfo is None else GuestOs(osinfo=osinfo),
        disks=(Disk(bus=DiskBus.VIRTIO, target="vda"),),
        nics=(Nic(model=model.NicModel.VIRTIO),),
    )
    writing = write_ovf(machine, name="x", facts=known(machine))
    items = items_of(writing)
    parent = items["Hard disk 1"].text("Parent")
    controller = next(item for item in items.values() if item.text("InstanceID") == parent)
    assert controller.text("ResourceSubType") == disk
    assert controller.text("ResourceType") == (
        "5" if disk is None else controller.text("ResourceType")
    )
    assert items["Network adapter 1"].text("ResourceSubType") == nic
    for path in ("disks[0].bus", "nics[0].model"):
        outcome = outcome_of(writing, path)
        assert outcome.verdict is Verdict.ADAPTED
        assert outcome.effect
        assert outcome.action
    windows = osinfo is not None and "microsoft" in osinfo
    wanted = Impact.MAJOR if windows else Impact.MINOR  # INACCESSIBLE_BOOT_DEVICE
    assert outcome_of(writing, "disks[0].bus").impact is wanted


def test_disks_without_an_image_are_left_out_with_the_reason() -> None:
    disks = tuple(
        Disk(bus=DiskBus.VIRTIO, source=DiskSource(kind=kind, path="/x")) for kind in NO_IMAGE
    )
    writing = write_ovf(Machine(disks=disks), name="x")
    assert not envelope_of(writing).disks
    for index in range(len(disks)):
        outcome = outcome_of(writing, f"disks[{index}].source.path")
        assert (outcome.verdict, outcome.impact) == (Verdict.DROPPED, Impact.MAJOR)


def test_a_stream_optimized_disk_is_taken_as_it_is() -> None:
    disks = (Disk(source=DiskSource(path="/vm/My Disk.vmdk", format="vmdk")),)
    facts = {0: DiskFacts(Bytes(GIB), stream_optimized=Bytes(4711))}
    writing = write_ovf(Machine(disks=disks), name="x", facts=facts)
    (file,) = envelope_of(writing).files
    assert (file.href, file.size) == ("My Disk.vmdk", "4711")
    assert not writing.conversions
    assert outcome_of(writing, "disks[0].source.path").verdict is Verdict.KEPT


DISK_AND_CD: Final = (
    Disk(bus=DiskBus.SATA, unit=0),
    Disk(bus=DiskBus.SATA, unit=1),
    Disk(bus=DiskBus.SATA, unit=2, device=DiskDevice.CDROM),
)


@pytest.mark.parametrize(
    ("order", "ranks", "section", "setting"),
    [
        ((), {}, None, None),
        ((BootDevice.DISK, BootDevice.CDROM, BootDevice.NETWORK), {}, None, None),
        ((), {0: 1, 2: 2}, None, None),
        ((), {1: 1}, ("disk", "Hard disk 2"), None),
        ((BootDevice.CDROM, BootDevice.DISK), {}, ("cdrom", None), None),
        ((), {2: 1, 0: 2}, ("cdrom", None), None),
        ((BootDevice.NETWORK, BootDevice.DISK), {}, None, "ethernet0,hdd,cdrom"),
    ],
)
def test_the_boot_order_is_said_where_vmware_would_choose_otherwise(
    order: tuple[BootDevice, ...],
    ranks: dict[int, int],
    section: tuple[str, str | None] | None,
    setting: str | None,
) -> None:
    disks = tuple(
        dataclasses.replace(disk, boot_order=ranks.get(index))
        for index, disk in enumerate(DISK_AND_CD)
    )
    machine = Machine(boot=Boot(order=order), disks=disks, nics=(Nic(),))
    writing = write_ovf(machine, name="x", facts=known(machine))
    found = [item.element for item in envelope_of(writing).sections if "BootOrder" in item.kind]
    vmw = "{http://www.vmware.com/schema/ovf}"
    if section is None:
        assert not found
    else:
        kind, name = section
        instance = None if name is None else items_of(writing)[name].text("InstanceID")
        assert [(e.get(f"{vmw}type"), e.get(f"{vmw}instanceId")) for e in found] == [
            (kind, instance)
        ]
    assert settings_of(writing).get("bios.bootOrder") == setting


def test_control_characters_do_not_break_the_xml() -> None:
    machine = Machine(name='a\x00b<&>"\x1f', annotation="one\ntwo\x0b \ud800 \ufffe")
    (system,) = envelope_of(write_ovf(machine, name="x")).systems
    assert system.id == 'a\ufffdb<&>"\ufffd'
