"""Rules for the disks of a libvirt domain."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from vmport_converters.machine.rules.libvirt.view import (
    ALL,
    QEMU,
    RULES,
    name_of,
    number,
)
from vmport_converters.machine.rules.model import Found, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lxml import etree

    from vmport_converters.machine.rules.libvirt.view import DomainView

_TARGET: Final = re.compile(r"(?:ioemu:)?(?:fd|hd|sd|vd|xvd|ubd)[a-z0-9_]*", re.IGNORECASE)
_PARTITION: Final = re.compile(r"(?:hd|sd|vd|xvd)[a-z]+\d+")
_SOURCES: Final = {"file": "file", "block": "dev", "dir": "dir", "volume": "volume"}
_BUS_BY_PREFIX: Final = {
    "fd": "fdc",
    "hd": "ide",
    "sd": "scsi",
    "vd": "virtio",
    "xvd": "xen",
    "ubd": "uml",
}

# The kinds of address that a disk on a bus can have.
_ADDRESSES: Final = {
    "ide": ("drive",),
    "sata": ("drive",),
    "scsi": ("drive",),
    "fdc": ("drive",),
    "usb": ("usb",),
    "virtio": ("pci", "ccw", "virtio-mmio", "virtio-s390", "unassigned"),
}

# Formats that QEMU does not open as a guest's disk, and what to write instead.
_NO_DISK_FORMATS: Final = {"cow": "qcow2", "dir": "raw, with <disk type='dir'>", "iso": "raw"}

# How far each part of a drive's address goes, per libvirt and QEMU.
_DRIVES: Final = {
    "ide": {"controller": 0, "bus": 1, "target": 0, "unit": 1},
    "sata": {"bus": 0, "target": 0, "unit": 5},
    "fdc": {"controller": 0, "bus": 0, "target": 0, "unit": 1},
    "scsi": {"bus": 0},
}
_LABELS: Final = {"ide": "IDE", "sata": "SATA", "scsi": "SCSI", "fdc": "a floppy controller"}


def kind_of(disk: etree._Element) -> str:
    """What the guest takes it for: ``disk``, ``cdrom``, ``floppy`` or ``lun``."""
    return disk.get("device") or "disk"


def target_of(disk: etree._Element) -> str:
    """The name that libvirt suggests to the guest, such as ``vda``; empty without one."""
    target = disk.find("target")
    return "" if target is None else (target.get("dev") or "")


def bus_of(disk: etree._Element) -> str:
    """The bus that it is on, as stated or by its name; empty when neither says."""
    target = disk.find("target")
    stated = None if target is None else target.get("bus")
    if stated:
        return stated
    if kind_of(disk) == "floppy":
        return "fdc"
    name = target_of(disk).removeprefix("ioemu:")
    return next((bus for prefix, bus in _BUS_BY_PREFIX.items() if name.startswith(prefix)), "")


def index_of(name: str) -> int | None:
    """Which disk of its kind a name means: 0 for ``sda``, 26 for ``sdaa``; None: it says none."""
    found = re.fullmatch(r"(?:fd|hd|sd|vd|xvd|ubd)([a-z]{1,3})", name)
    if found is None:
        return None
    index = 0
    for letter in found[1]:
        index = index * 26 + ord(letter) - ord("a") + 1
    return index - 1


def place_of(disk: etree._Element) -> tuple[int, int, int] | None:
    """Controller, bus and unit that libvirt derives from the name of a disk without address."""
    index, bus = index_of(target_of(disk)), bus_of(disk)
    if index is None:
        return None
    if bus == "ide":
        return index // 4, index // 2 % 2, index % 2
    if bus == "sata":
        return index // 6, 0, index % 6
    if bus == "fdc":
        return index // 2, 0, index % 2
    if bus == "scsi" and index < 7:
        return 0, 0, index
    return None


@RULES.rule("target-missing", Severity.ERROR, affects=ALL)
def target_missing(domain: DomainView) -> Iterator[Found]:
    """A disk has no ``<target dev>``.

    libvirt refuses the domain: "missing target information for device".
    """
    for disk in domain.disks:
        if not target_of(disk):
            element = disk.find("target")
            yield domain.at(
                disk if element is None else element,
                "the disk has no <target dev>",
                "add <target dev='vda' bus='virtio'/>, with a name of its own",
            )


@RULES.rule("target-duplicate", Severity.ERROR, affects=ALL)
def target_duplicate(domain: DomainView) -> Iterator[Found]:
    """Two disks have the same ``<target dev>``.

    libvirt refuses the domain: "target duplicated for disk sources".
    """
    seen: dict[str, etree._Element] = {}
    for disk in domain.disks:
        element, name = disk.find("target"), target_of(disk)
        if element is None or not name or domain.root.get("type") == "vmware":
            continue  # libvirt's VMX driver itself gives one name to disks on several buses
        first = seen.setdefault(name, disk)
        if first is not disk:
            yield domain.at(
                element,
                f"the disk in line {domain.line(first)} is {name} already",
                "give each disk a name of its own",
                attribute="dev",
            )


@RULES.rule("target-name", Severity.ERROR, affects=QEMU)
def target_name(domain: DomainView) -> Iterator[Found]:
    """The ``<target dev>`` of a disk is no name that libvirt takes.

    It begins with hd, sd, vd, xvd, ubd or fd and names a whole disk; "invalid harddisk device
    name" otherwise.
    """
    for disk in domain.disks:
        element, name = disk.find("target"), target_of(disk)
        if element is None or not name or not domain.is_qemu:
            continue
        problem = None
        if kind_of(disk) == "floppy" and not name.startswith("fd"):
            problem = f"a floppy drive cannot be called {name}; its name begins with fd"
        elif kind_of(disk) in ("disk", "lun") and _TARGET.fullmatch(name) is None:
            problem = f"a disk cannot be called {name!r}"
        elif _PARTITION.fullmatch(name):
            problem = f"{name} is a partition; a disk has no number at its end"
        if problem is not None:
            yield domain.at(
                element,
                problem,
                "write a name such as vda, sda or hdc",
                attribute="dev",
                expected="hd, sd, vd, xvd, ubd or fd and letters",
            )


@RULES.rule("source-missing", Severity.ERROR, affects=QEMU)
def source_missing(domain: DomainView) -> Iterator[Found]:
    """A hard disk has no source.

    Only a CD or floppy drive may be empty; libvirt refuses the domain.
    """
    for disk in domain.disks:
        attribute = _SOURCES.get(disk.get("type") or "file")
        element = disk.find("source")
        if attribute is None or not domain.is_qemu or kind_of(disk) not in ("disk", "lun"):
            continue
        if element is None or not (element.get(attribute) or "").strip():
            others = element is not None and any(map(element.get, _SOURCES.values()))
            if others:
                continue  # source-type says it better
            yield domain.at(
                disk if element is None else element,
                f"{name_of(disk)} has no source",
                f"add <source {attribute}='…'/>",
            )


@RULES.rule("source-type", Severity.ERROR, affects=ALL)
def source_type(domain: DomainView) -> Iterator[Found]:
    """The source of a disk is written for another ``type`` than the disk has.

    ``type='file'`` goes with ``<source file>``, ``block`` with ``dev``, ``dir`` with ``dir``;
    libvirt looks for that attribute only, and finds no source.
    """
    for disk in domain.disks:
        kind, element = disk.get("type") or "file", disk.find("source")
        wanted = _SOURCES.get(kind)
        if element is None or wanted is None or element.get(wanted):
            continue
        for other_kind, other in _SOURCES.items():
            if element.get(other) and other != wanted:
                yield domain.at(
                    element,
                    f"a disk of type '{kind}' has <source {wanted}>, not <source {other}>",
                    f"write <disk type='{other_kind}'>, or <source {wanted}='…'>",
                    attribute=other,
                )
                break


@RULES.rule("source-relative", Severity.WARNING, affects=QEMU)
def source_relative(domain: DomainView) -> Iterator[Found]:
    """The source of a disk is named without its whole path.

    It is looked for in the folder of libvirt's service, which is ``/``; schema validation refuses
    the domain.
    """
    for disk in domain.disks:
        element = disk.find("source")
        attribute = {"file": "file", "block": "dev"}.get(disk.get("type") or "file")
        path = None if element is None or attribute is None else element.get(attribute)
        if element is not None and path and not path.startswith("/") and domain.is_qemu:
            yield domain.at(
                element,
                f"{path!r} is not a whole path",
                "write it from / on",
                attribute=attribute,
                expected="a path that begins with /",
            )


@RULES.rule("format-missing", Severity.WARNING, affects=QEMU)
def format_missing(domain: DomainView) -> Iterator[Found]:
    """A disk does not say which format its image has (``<driver type>``).

    libvirt takes raw, so the guest sees the inside of a qcow2 file as its disk.  Where the format
    is guessed instead, a guest can write a header and read any file of the host (CVE-2010-3851).
    """
    for disk in domain.disks:
        driver, source = disk.find("driver"), disk.find("source")
        kind = disk.get("type") or "file"
        if not domain.is_qemu or source is None or kind not in ("file", "block", "network"):
            continue
        if kind_of(disk) not in ("disk", "lun") or not len(source.attrib):
            continue
        if driver is None or not driver.get("type"):
            yield domain.at(
                disk if driver is None else driver,
                f"{name_of(disk)} does not say its format; libvirt takes raw",
                "add type='qcow2', or what vmport inspect says of the image, to <driver>",
            )


@RULES.rule("format-unusable", Severity.ERROR, affects=QEMU)
def format_unusable(domain: DomainView) -> Iterator[Found]:
    """The format of a disk is one that QEMU does not open.

    libvirt refuses the domain.
    """
    for disk in domain.disks:
        driver = disk.find("driver")
        instead = None if driver is None else _NO_DISK_FORMATS.get(driver.get("type") or "")
        if driver is not None and instead is not None and domain.is_qemu:
            if driver.get("type") == "dir" and disk.get("type") == "dir":
                continue
            yield domain.at(
                driver,
                f"QEMU opens no disk of format {driver.get('type')}",
                f"write type='{instead}'" if " " not in instead else f"write {instead}",
                attribute="type",
            )


@RULES.rule("shareable-format", Severity.ERROR, affects=QEMU)
def shareable_format(domain: DomainView) -> Iterator[Found]:
    """A disk is shared with other machines, but its format has metadata that they would fight over.

    libvirt refuses the domain: "shared access requires use of supported storage format".
    """
    for disk in domain.disks:
        driver, shared = disk.find("driver"), disk.find("shareable")
        form = None if driver is None else driver.get("type")
        if shared is not None and form not in (None, "raw") and domain.is_qemu:
            yield domain.at(
                shared,
                f"a disk in {form} cannot be shared",
                "convert the image to raw, or remove <shareable/>",
                expected="raw",
            )


@RULES.rule("bus-media", Severity.ERROR, affects=QEMU)
def bus_media(domain: DomainView) -> Iterator[Found]:
    """A CD or floppy drive is on a bus that cannot change media.

    A CD works on SATA, SCSI, IDE and USB, a floppy on fdc; libvirt refuses virtio.
    """
    for disk in domain.disks:
        element = disk.find("target")
        if element is None or not domain.is_qemu:
            continue
        if kind_of(disk) in ("cdrom", "floppy") and bus_of(disk) == "virtio":
            yield domain.at(
                element,
                f"a {kind_of(disk)} drive cannot be on virtio",
                "write bus='sata' for a CD, bus='fdc' for a floppy",
                attribute="bus",
                expected="sata, scsi, ide or usb",
            )
        elif kind_of(disk) == "cdrom" and bus_of(disk) == "usb" and disk.find("source") is None:
            yield domain.at(
                element,
                "a drive on USB cannot be empty",
                "write bus='sata', or put a medium in",
                attribute="bus",
            )


@RULES.rule("ide-on-q35", Severity.ERROR, affects=QEMU)
def ide_on_q35(domain: DomainView) -> Iterator[Found]:
    """A disk or controller is on IDE, which a Q35 machine does not have.

    libvirt refuses the domain: "IDE controllers are unsupported for this QEMU binary or machine
    type".
    """
    if not domain.is_q35 or not domain.is_qemu:
        return
    for disk in domain.disks:
        element = disk.find("target")
        if element is not None and bus_of(disk) == "ide":
            yield domain.at(
                element,
                f"{target_of(disk)} is on IDE, which {domain.machine} does not have",
                "write bus='sata', and remove the disk's <address>",
                attribute="bus" if element.get("bus") else "dev",
                expected="sata, scsi, virtio or usb",
            )
    for controller in domain.controllers:
        if controller.get("type") == "ide":
            yield domain.at(
                controller,
                f"{domain.machine} has no IDE",
                "remove the controller",
                attribute="type",
            )


@RULES.rule("read-only-disk", Severity.ERROR, affects=QEMU)
def read_only_disk(domain: DomainView) -> Iterator[Found]:
    """A hard disk on IDE or SATA is read-only, which these buses cannot say to the guest.

    libvirt refuses the domain: "readonly ide disks are not supported".
    """
    for disk in domain.disks:
        element = disk.find("readonly")
        if element is None or kind_of(disk) != "disk" or not domain.is_qemu:
            continue
        if bus_of(disk) in ("ide", "sata"):
            yield domain.at(
                element,
                f"a hard disk on {bus_of(disk).upper()} cannot be read-only",
                "write bus='virtio' or 'scsi', or remove <readonly/>",
            )


@RULES.rule("lun-source", Severity.ERROR, affects=QEMU)
def lun_source(domain: DomainView) -> Iterator[Found]:
    """A disk hands SCSI commands through (``device='lun'``), but its source is no device.

    libvirt refuses the domain: "only valid for block type disk source".
    """
    for disk in domain.disks:
        local = (disk.get("type") or "file") in ("file", "dir")
        if kind_of(disk) == "lun" and local and domain.is_qemu:
            yield domain.at(
                disk,
                "device='lun' needs a device of the host as its source",
                "write device='disk', or type='block' with <source dev>",
                attribute="device",
                expected="disk",
            )


@RULES.rule("disk-address-type", Severity.ERROR, affects=QEMU)
def disk_address_type(domain: DomainView) -> Iterator[Found]:
    """The address of a disk is of a kind that its bus does not have.

    A virtio disk is a PCI device; one on SCSI, SATA, IDE or fdc is a drive of a controller.
    libvirt refuses the domain.
    """
    for disk in domain.disks:
        address, bus = disk.find("address"), bus_of(disk)
        allowed = _ADDRESSES.get(bus)
        kind = None if address is None else address.get("type")
        if address is None or allowed is None or kind is None or not domain.is_qemu:
            continue
        if kind not in (*allowed, "none", "unassigned"):
            yield domain.at(
                address,
                f"{name_of(disk)} is on {bus}, and its address is of type {kind}",
                "remove the <address>; libvirt assigns one",
                attribute="type",
                expected=" or ".join(allowed[:2]),
            )


@RULES.rule("drive-range", Severity.ERROR, affects=QEMU)
def drive_range(domain: DomainView) -> Iterator[Found]:
    """A disk is at a place that its controller does not have.

    IDE has 2 buses of 2 drives, SATA 6 drives, a floppy controller 2; SCSI has one bus.  The parts
    of the address that the bus does not have are 0.
    """
    for disk in domain.disks:
        address, bus = disk.find("address"), bus_of(disk)
        if address is None or address.get("type") != "drive" or not domain.is_qemu:
            continue
        for part, most in _DRIVES.get(bus, {}).items():
            value = number(address.get(part) or "0")
            if value is None or value > most:
                label = _LABELS.get(bus, bus)
                yield domain.at(
                    address,
                    f"the {part} of a drive on {label} is 0"
                    if most == 0
                    else f"the {part} of a drive on {label} is from 0 to {most}",
                    "take a free place, or remove the <address>; libvirt assigns one",
                    attribute=part,
                    expected="0" if most == 0 else f"0 to {most}",
                )
                break


@RULES.rule("scsi-reserved-unit", Severity.WARNING, affects=QEMU)
def scsi_reserved_unit(domain: DomainView) -> Iterator[Found]:
    """A disk is at unit 7 of an LSI Logic or BusLogic controller.

    7 is the controller's own id on its bus, at which a guest does not look for disks.
    """
    narrow = {
        number(item.get("index")) or 0
        for item in domain.controllers
        if item.get("type") == "scsi" and item.get("model") in ("lsilogic", "buslogic")
    }
    for disk in domain.disks:
        address = disk.find("address")
        if address is None or bus_of(disk) != "scsi" or not domain.is_qemu:
            continue
        controller = number(address.get("controller")) or 0
        if controller in narrow and number(address.get("unit")) == 7:
            yield domain.at(
                address,
                "unit 7 of this SCSI controller is the controller itself",
                "take another unit, or model='virtio-scsi' for the controller",
                attribute="unit",
            )


@RULES.rule("scsi-controller-implicit", Severity.NOTE, affects=QEMU)
def scsi_controller_implicit(domain: DomainView) -> Iterator[Found]:
    """A disk is on SCSI, and no controller says of which model.

    libvirt adds an LSI Logic 53C895A, for which current Windows and many Linux kernels have no
    driver.
    """
    if not domain.is_qemu or not domain.is_x86:
        return
    modelled = {
        number(item.get("index")) or 0
        for item in domain.controllers
        if item.get("type") == "scsi" and item.get("model") not in (None, "auto")
    }
    for disk in domain.disks:
        element, address = disk.find("target"), disk.find("address")
        index = 0 if address is None else number(address.get("controller")) or 0
        if element is not None and bus_of(disk) == "scsi" and index not in modelled:
            yield domain.at(
                element,
                f"{target_of(disk)} is on SCSI controller {index}, whose model is left open",
                f"add <controller type='scsi' index='{index}' model='virtio-scsi'/>",
                attribute="bus",
            )
            return


@RULES.rule("backing-store", Severity.NOTE, affects="programs that take one file for the disk")
def backing_store(domain: DomainView) -> Iterator[Found]:
    """A disk is the delta of another image (``<backingStore>``).

    Its content is spread over a chain of files; a move has to take all of them.
    """
    for disk in domain.disks:
        element = disk.find("backingStore")
        if element is not None and element.find("source") is not None:
            yield domain.at(
                element,
                f"{name_of(disk)} is the delta of another image",
                "merge the chain before a move: virsh blockpull, or vmport convert with --allow",
            )
