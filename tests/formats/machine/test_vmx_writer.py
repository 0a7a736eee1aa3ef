"""VMX that VMware starts: the rules of its virtual hardware hold for every machine."""

from __future__ import annotations

import struct
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmport_formats.errors import UnsupportedFeature, UsageError
from vmport_formats.machine.ledger import Impact, Verdict, compose, stated
from vmport_formats.machine.libvirt import read_libvirt
from vmport_formats.machine.vmx.syntax import parse_vmx
from vmport_formats.machine.vmx.writer import write_vmx

if TYPE_CHECKING:
    from tests.conftest import Golden
    from vmport_formats.machine.ledger import Entry, Ledger

MACHINES = sorted((Path(__file__).parents[3] / "fixtures/machine/libvirt").iterdir())


def translate(text: str, *, hardware: int | None = None) -> tuple[dict[str, str], Ledger]:
    """The keys of the VMX for a domain, and the ledger."""
    reading = read_libvirt(text.encode(), "machine.xml")
    writing = write_vmx(reading.model, name="machine", hardware=hardware)
    document = parse_vmx(writing.text.encode(), name="machine.vmx")
    document.require_sound()
    return {entry.key: entry.value for entry in document}, compose(reading, writing)


def domain(body: str = "", *, devices: str = "", osinfo: str | None = None) -> str:
    metadata = "" if osinfo is None else OSINFO.format(osinfo)
    return f"<domain type='kvm'><name>m</name>{metadata}{body}<devices>{devices}</devices></domain>"


OSINFO = """<metadata><l:libosinfo xmlns:l='http://libosinfo.org/xmlns/libvirt/domain/1.0'>
<l:os id='{}'/></l:libosinfo></metadata>"""
DEBIAN = "http://debian.org/debian/12"
WINDOWS = "http://microsoft.com/win/11"


def entry_of(ledger: Ledger, path: str) -> Entry:
    (found,) = [e for e in ledger.entries if e.source is not None and e.source.path == path]
    return found


@pytest.mark.parametrize("folder", MACHINES, ids=lambda folder: folder.name)
def test_golden_vmx(folder: Path, golden: Golden) -> None:
    reading = read_libvirt((folder / "machine.xml").read_bytes(), "machine.xml")
    golden(folder / "machine.vmx", write_vmx(reading.model, name="machine").text)


# --- One rule at a time -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("memory", "written", "verdict"),
    [
        ("<memory unit='MiB'>1024</memory>", "1024", Verdict.KEPT),
        ("<memory unit='MiB'>1025</memory>", "1028", Verdict.ADAPTED),
        ("<memory unit='GB'>1</memory>", "956", Verdict.ADAPTED),
        ("<memory unit='b'>1</memory>", "4", Verdict.ADAPTED),
    ],
)
def test_memory_is_a_multiple_of_four(memory: str, written: str, verdict: Verdict) -> None:
    keys, ledger = translate(domain(memory))
    assert keys["memsize"] == written
    assert entry_of(ledger, "/domain/memory").verdict is verdict


def test_memory_that_is_not_stated_is_chosen_loudly() -> None:
    keys, ledger = translate(domain())
    (entry,) = [entry for entry in ledger.entries if "memsize" in entry.places]
    assert keys["memsize"] == "1024"
    assert (entry.verdict, entry.impact) == (Verdict.DEFAULTED, Impact.MAJOR)


def test_the_generation_id_is_what_the_guest_reads() -> None:
    # Pairs that were seen by a guest under VMware and under QEMU, qemu-devel, September 2021.
    keys, _ = translate(domain("<genid>09512cc5-940a-8987-b950-f54f631015e8</genid>"))
    assert keys["vm.genid"] == "-8536691797830587195"
    assert keys["vm.genidX"] == "-1723453263670062919"
    low, high = (int(keys[key]) & (1 << 64) - 1 for key in ("vm.genid", "vm.genidX"))
    assert struct.pack(">QQ", low, high).hex() == "8987940a09512cc5e81510634ff550b9"


@pytest.mark.parametrize(
    ("mac", "checked"),
    [
        ("00:50:56:00:00:00", True),
        ("00:50:56:3f:ff:ff", True),
        ("00:50:56:40:00:00", False),
        ("00:50:56:80:00:01", False),
        ("00:0c:29:00:00:01", False),
        ("52:54:00:00:00:01", False),
    ],
)
def test_a_mac_address_outside_of_vmwares_range_is_not_checked(mac: str, checked: bool) -> None:
    keys, _ = translate(domain(devices=f"<interface><mac address='{mac}'/></interface>"))
    assert (keys["ethernet0.addressType"], keys["ethernet0.address"]) == ("static", mac)
    assert ("ethernet0.checkMACAddress" not in keys) is checked


def test_text_is_escaped() -> None:
    text = 'a "quote", a | and\n two\t lines, ünï'
    keys, _ = translate(domain(f"<description>{text}</description>"))
    assert keys["annotation"] == text


@pytest.mark.parametrize(
    ("cpu", "vcpus", "cores"),
    [
        ("<vcpu>4</vcpu>", "4", None),
        ("<vcpu>8</vcpu><cpu><topology sockets='2' cores='4'/></cpu>", "8", "4"),
        ("<vcpu>8</vcpu><cpu><topology sockets='2' cores='2' threads='2'/></cpu>", "8", "4"),
        ("<vcpu current='6'>8</vcpu><cpu><topology sockets='2' cores='4'/></cpu>", "6", "3"),
        ("<vcpu>128</vcpu><cpu><topology sockets='1' cores='128'/></cpu>", "128", "64"),
    ],
)
def test_sockets_are_full(cpu: str, vcpus: str, cores: str | None) -> None:
    keys, _ = translate(domain(cpu))
    assert (keys["numvcpus"], keys.get("cpuid.coresPerSocket")) == (vcpus, cores)


@pytest.mark.parametrize(
    ("body", "devices", "version"),
    [
        ("", "", "19"),
        ("<vcpu>800</vcpu>", "", "22"),
        ("<memory unit='TiB'>20</memory>", "", "19"),
    ],
)
def test_the_hardware_version_is_the_default_or_what_is_needed(
    body: str, devices: str, version: str
) -> None:
    keys, _ = translate(domain(body, devices=devices))
    assert keys["virtualHW.version"] == version


def test_a_hardware_version_that_lacks_something_is_refused() -> None:
    text = domain("<os firmware='efi'/>", devices="<tpm model='tpm-crb'/>")
    assert translate(text, hardware=14)[0]["virtualHW.version"] == "14"
    with pytest.raises(UsageError) as caught:
        translate(text, hardware=11)
    assert "TPM (14)" in caught.value.problem
    assert "UEFI" not in caught.value.problem


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("<os><type arch='aarch64'>hvm</type></os>", "vmx.architecture"),
        ("<vcpu>1000</vcpu>", "vmware.too-large"),
        ("<memory unit='TiB'>30</memory>", "vmware.too-large"),
    ],
)
def test_what_vmware_cannot_run_is_refused(body: str, code: str) -> None:
    with pytest.raises(UnsupportedFeature) as caught:
        translate(domain(body))
    assert caught.value.code == code


def test_bios_is_not_written_for_libvirt_refuses_the_line() -> None:
    assert "firmware" not in translate(domain("<os firmware='bios'/>"))[0]


@pytest.mark.parametrize(
    ("system", "written"),
    [
        ("<feature name='secure-boot' enabled='yes'/>", "TRUE"),
        ("<feature name='secure-boot' enabled='no'/>", "FALSE"),
        ("", None),
    ],
)
def test_secure_boot(system: str, written: str | None) -> None:
    keys, _ = translate(domain(f"<os firmware='efi'><firmware>{system}</firmware></os>"))
    assert keys["firmware"] == "efi"
    assert keys.get("uefi.secureBoot.enabled") == written


def disk(name: str, bus: str, unit: int | None = None, *, source: str = "/d.img") -> str:
    address = "" if unit is None else f"<address type='drive' controller='0' unit='{unit}'/>"
    return (
        f"<disk type='file' device='disk'><driver type='raw'/><source file='{source}'/>"
        f"<target dev='{name}' bus='{bus}'/>{address}</disk>"
    )


def test_unit_seven_stays_free() -> None:
    disks = "".join(disk(f"sd{'abcdefghijkl'[unit]}", "scsi", unit) for unit in range(12))
    controller = "<controller type='scsi' index='0' model='lsisas1068'/>"
    keys, ledger = translate(domain(devices=controller + disks))
    units = {int(key.split(":")[1].split(".")[0]) for key in keys if key.startswith("scsi0:")}
    assert len(units) == 12
    assert 7 not in units
    moved = entry_of(ledger, "/domain/devices/disk[8]/target/@bus")
    assert moved.verdict is Verdict.ADAPTED
    assert all(f"scsi0:{unit}.present" in keys for unit in (*range(7), *range(8, 12)))


def test_disks_of_one_name_in_two_folders_get_two_names() -> None:
    disks = disk("sda", "sata", 0, source="/a/Data.img") + disk("sdb", "sata", 1, source="/b/data")
    keys, _ = translate(domain(devices=disks))
    assert [keys["sata0:0.fileName"], keys["sata0:1.fileName"]] == ["Data.vmdk", "data-2.vmdk"]


def test_a_virtio_disk_of_linux_moves_to_the_paravirtual_controller() -> None:
    keys, ledger = translate(domain(devices=disk("vda", "virtio"), osinfo=DEBIAN))
    assert (keys["scsi0.virtualDev"], keys["scsi0:0.fileName"]) == ("pvscsi", "d.vmdk")
    entry = entry_of(ledger, "/domain/devices/disk/target/@bus")
    assert (entry.verdict, "initramfs" in entry.effect) == (Verdict.ADAPTED, True)


VIRTIO = "<address type='pci' bus='{}' slot='0'/></disk>"


@pytest.mark.parametrize(
    ("first", "second", "order"),
    [("1", "2", ["a", "b"]), ("2", "1", ["b", "a"]), ("2", None, ["a", "b"])],
)
def test_virtio_disks_keep_the_order_in_which_the_guest_found_them(
    first: str, second: str | None, order: list[str]
) -> None:
    pairs = (("a", first), ("b", second))
    disks = [
        disk(f"vd{name}", "virtio", source=f"/{name}").replace(
            "</disk>", "</disk>" if bus is None else VIRTIO.format(bus)
        )
        for name, bus in pairs
    ]
    for written in (disks, disks[::-1]):
        keys, _ = translate(domain(devices="".join(written), osinfo=DEBIAN))
        found = [keys[f"scsi0:{unit}.fileName"] for unit in range(2)]
        assert found == [f"{name}.vmdk" for name in order]


def test_a_virtio_disk_of_windows_moves_to_sata() -> None:
    keys, _ = translate(domain(devices=disk("vda", "virtio"), osinfo=WINDOWS))
    assert keys["sata0:0.fileName"] == "d.vmdk"
    assert not any(key.startswith("scsi") for key in keys)


@pytest.mark.parametrize(("osinfo", "card"), [(DEBIAN, "vmxnet3"), (WINDOWS, "e1000e")])
def test_a_virtio_card_becomes_one_that_the_guest_knows(osinfo: str, card: str) -> None:
    nic = "<interface type='bridge'><model type='virtio'/></interface>"
    assert translate(domain(devices=nic, osinfo=osinfo))[0]["ethernet0.virtualDev"] == card


def test_cards_beyond_the_tenth_are_a_serious_loss() -> None:
    keys, ledger = translate(domain(devices="<interface type='bridge'/>" * 11))
    assert "ethernet9.present" in keys
    assert "ethernet10.present" not in keys
    entry = entry_of(ledger, "/domain/devices/interface[11]/@type")
    assert (entry.verdict, entry.impact) == (Verdict.DROPPED, Impact.MAJOR)


def test_boot_orders_of_single_devices() -> None:
    devices = (
        disk("sda", "sata", 0).replace("<target", "<boot order='3'/><target")
        + disk("sdb", "sata", 1, source="/e").replace("<target", "<boot order='1'/><target")
        + "<interface type='bridge'><boot order='2'/></interface>"
    )
    keys, _ = translate(domain(devices=devices))
    assert keys["bios.bootOrder"] == "hdd,ethernet0"
    assert keys["bios.hddOrder"] == "sata0:1,sata0:0"


# --- Any machine --------------------------------------------------------------------------------

BUSES = ("virtio", "scsi", "sata", "ide", "usb", "nvme", "xen", "fdc")
SCSI_MODELS = ("", "buslogic", "lsilogic", "lsisas1068", "lsisas1078", "vmpvscsi", "virtio-scsi")


@st.composite
def disks(draw: st.DrawFn) -> str:
    parts = []
    places = set()
    for number in range(draw(st.integers(0, 20))):
        bus = draw(st.sampled_from(BUSES))
        device = "floppy" if bus == "fdc" else draw(st.sampled_from(["disk", "disk", "cdrom"]))
        name = draw(st.sampled_from(["/a/x.img", "/b/x.img", "/c/X.qcow2", "/", "/d/x.vmdk", ""]))
        source = f"<source file='{name}'/>" if name else ""
        address = ""
        controller, unit = draw(st.integers(0, 5)), draw(st.integers(0, 70))
        if draw(st.booleans()) and (bus, controller, unit) not in places:
            places.add((bus, controller, unit))
            address = f"<address type='drive' controller='{controller}' unit='{unit}'/>"
        flags = draw(st.sampled_from(["", "<readonly/>", "<shareable/>", "<transient/>"]))
        parts.append(
            f"<disk type='file' device='{device}'><driver type='raw'/>{source}"
            f"<target dev='d{number}' bus='{bus}'/>{flags}{address}</disk>"
        )
    return "".join(parts)


@st.composite
def domains(draw: st.DrawFn) -> str:
    controllers = "".join(
        f"<controller type='scsi' index='{index}'{f' model={model!r}' if model else ''}/>"
        for index, model in enumerate(draw(st.lists(st.sampled_from(SCSI_MODELS), max_size=6)))
    )
    cards = st.sampled_from(["virtio", "e1000", "e1000e", "rtl8139", "pcnet", "vmxnet3", "foo"])
    nics = "".join(
        f"<interface type='network'><source network='n'/><model type='{model}'/></interface>"
        for model in draw(st.lists(cards, max_size=12))
    )
    ports = "".join(
        f"<{kind} type='{backend}'><source path='/dev/x'/></{kind}>"
        for kind, backend in draw(
            st.lists(
                st.tuples(
                    st.sampled_from(["serial", "parallel", "console", "channel"]),
                    st.sampled_from(["pty", "file", "dev", "unix", "tcp", "null", "bar"]),
                ),
                max_size=8,
            )
        )
    )
    sockets, cores, threads = (draw(st.integers(1, 6)) for _ in range(3))
    count = sockets * cores * threads
    start = draw(st.integers(1, count))
    memory = draw(st.integers(1, 1 << 41))
    osinfo = draw(st.sampled_from([None, DEBIAN, WINDOWS, "http://openbsd.org/openbsd/7.5", "?"]))
    firmware = draw(st.sampled_from(["", " firmware='efi'", " firmware='bios'"]))
    body = (
        f"<memory unit='b'>{memory}</memory><vcpu current='{start}'>{count}</vcpu>"
        f"<os{firmware}><type arch='x86_64' machine='q35'>hvm</type></os><cpu mode='custom'>"
        f"<topology sockets='{sockets}' cores='{cores}' threads='{threads}'/></cpu>"
    )
    return domain(body, devices=controllers + draw(disks()) + nics + ports, osinfo=osinfo)


@settings(max_examples=60, deadline=None)
@given(domains())
def test_any_machine_gives_a_sound_vmx_and_a_complete_ledger(text: str) -> None:
    reading = read_libvirt(text.encode(), "machine.xml")
    keys, ledger = translate(text)
    sourced = {path for paths in reading.taken.values() for path in paths}
    assert sourced == set(stated(reading.model))
    entered = Counter(entry.source.path for entry in ledger.entries if entry.source is not None)
    assert entered == Counter(leaf.path for leaf in reading.leaves)

    assert int(keys["memsize"]) % 4 == 0
    assert int(keys["numvcpus"]) % int(keys["cpuid.coresPerSocket"]) == 0
    slots = {key.rpartition(".")[0] for key in keys if ":" in key}
    for slot in slots:
        kind = slot.rstrip("0123456789:")
        controller, unit = (int(part) for part in slot.removeprefix(kind).split(":"))
        limits = {"scsi": (4, 64), "sata": (4, 30), "ide": (2, 2), "nvme": (4, 15)}
        assert controller < limits[kind][0]
        assert unit < limits[kind][1]
        assert (kind, unit) != ("scsi", 7)
        assert kind == "ide" or keys[f"{kind}{controller}.present"] == "TRUE"
        if kind == "scsi" and unit > 15:
            assert keys[f"scsi{controller}.virtualDev"] == "pvscsi"
    names = [v for k, v in keys.items() if k.endswith(".fileName") and v.endswith(".vmdk")]
    assert len({name.casefold() for name in names}) == len(names)
    assert not any("/" in name for name in names)

    for index, part in enumerate(reading.model.disks):
        path = f"/domain/devices/disk[{index + 1}]" if len(reading.model.disks) > 1 else None
        entry = entry_of(ledger, f"{path or '/domain/devices/disk'}/target/@bus")
        placed = any(
            place.split(".")[0] in slots | {"floppy0", "floppy1"} for place in entry.places
        )
        assert placed or (entry.verdict, entry.impact) == (Verdict.DROPPED, Impact.MAJOR), part
