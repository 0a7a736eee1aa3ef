"""Rules for the buses that the disks of a libvirt domain are on, and their places there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_converters.machine.rules.libvirt.disks import bus_of, kind_of, target_of
from vmport_converters.machine.rules.libvirt.view import QEMU, RULES, name_of, number
from vmport_converters.machine.rules.model import Found, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_converters.machine.rules.libvirt.view import DomainView

# The kinds of address that a disk on a bus can have.
_ADDRESSES: Final = {
    "ide": ("drive",),
    "sata": ("drive",),
    "scsi": ("drive",),
    "fdc": ("drive",),
    "usb": ("usb",),
    "virtio": ("pci", "ccw", "virtio-mmio", "virtio-s390", "unassigned"),
}

# How far each part of a drive's address goes, per libvirt and QEMU.
_DRIVES: Final = {
    "ide": {"controller": 0, "bus": 1, "target": 0, "unit": 1},
    "sata": {"bus": 0, "target": 0, "unit": 5},
    "fdc": {"controller": 0, "bus": 0, "target": 0, "unit": 1},
    "scsi": {"bus": 0},
}
_LABELS: Final = {"ide": "IDE", "sata": "SATA", "scsi": "SCSI", "fdc": "a floppy controller"}


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
