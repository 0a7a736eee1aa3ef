"""Writes the boot order: VMware ranks classes of devices, and hard disks among themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.machine.ledger import Impact
from vmport_formats.machine.model import BootDevice, DiskDevice, FirmwareKind

if TYPE_CHECKING:
    from vmport_formats.machine.model import Machine
    from vmport_formats.machine.vmware import DrivePlan
    from vmport_formats.machine.vmx.text import VmxLines

_CLASSES: Final = {
    BootDevice.DISK: "hdd",
    BootDevice.CDROM: "cdrom",
    BootDevice.FLOPPY: "floppy",
}

_UEFI: Final = (
    "VMware's UEFI follows this order only until its NVRAM has one of its own; after that it boots "
    "what the guest set"
)


def write_boot(vmx: VmxLines, machine: Machine, plan: DrivePlan) -> None:
    """The order of classes and of hard disks, and the delay."""
    uefi = machine.firmware is not None and machine.firmware.kind is FirmwareKind.UEFI
    boot = machine.boot
    ranked = _ranked_devices(machine, plan)
    if boot is not None and boot.order:
        device_classes: list[str] = []
        for index, device in enumerate(boot.order):
            if device is BootDevice.NETWORK:
                device_classes.extend(f"ethernet{nic}" for nic in range(min(len(machine.nics), 10)))
            elif device in _CLASSES:
                device_classes.append(_CLASSES[device])
            if device is not BootDevice.OTHER:
                _account(vmx, "bios.bootOrder", f"boot.order[{index}]", uefi=uefi)
        if device_classes:
            vmx.line("bios.bootOrder", ",".join(dict.fromkeys(device_classes)))
    elif ranked:
        order = [device_class for _, device_class, _, _ in ranked]
        vmx.line("bios.bootOrder", ",".join(dict.fromkeys(order)))
        disks = [slot for _, device_class, slot, _ in ranked if device_class == "hdd"]
        if disks:
            vmx.line("bios.hddOrder", ",".join(disks))
        for _, device_class, _, path in ranked:
            _account(
                vmx, "bios.hddOrder" if device_class == "hdd" else "bios.bootOrder", path, uefi=uefi
            )
    if boot is not None and boot.delay_ms is not None:
        vmx.kept("bios.bootDelay", boot.delay_ms, "boot.delay_ms")


def _ranked_devices(machine: Machine, plan: DrivePlan) -> list[tuple[int, str, str, str]]:
    """Devices with a place in the order: the place, the class, the slot, the model path."""
    found: list[tuple[int, str, str, str]] = []
    for drive in plan.drives:
        order = machine.disks[drive.index].boot_order
        if order is None:
            continue
        device_class = {DiskDevice.CDROM: "cdrom", DiskDevice.FLOPPY: "floppy"}.get(
            drive.device, "hdd"
        )
        found.append((order, device_class, str(drive.slot), f"disks[{drive.index}].boot_order"))
    for index, nic in enumerate(machine.nics[:10]):
        if nic.boot_order is not None:
            key = f"ethernet{index}"
            found.append((nic.boot_order, key, key, f"nics[{index}].boot_order"))
    return sorted(found)


def _account(vmx: VmxLines, key: str, path: str, *, uefi: bool) -> None:
    if uefi:
        vmx.books.adapted(path, place=key, after="a hint", why=_UEFI, impact=Impact.NONE)
    else:
        vmx.books.kept(path, place=key)
