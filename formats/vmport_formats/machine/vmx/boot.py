"""Writes the boot order: VMware ranks classes of devices, and hard disks among themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.machine.ledger import Impact
from vmport_formats.machine.model import BootDevice, DiskDevice, FirmwareKind
from vmport_formats.machine.vmware import MAX_NICS

if TYPE_CHECKING:
    from vmport_formats.machine.model import Machine
    from vmport_formats.machine.vmware import DrivePlan
    from vmport_formats.machine.vmx.text import VmxLines

_DISK: Final = "hdd"
_CLASSES: Final = {
    BootDevice.DISK: _DISK,
    BootDevice.CDROM: "cdrom",
    BootDevice.FLOPPY: "floppy",
}
_CLASS_OF_DRIVE: Final = {
    DiskDevice.DISK: _DISK,
    DiskDevice.CDROM: "cdrom",
    DiskDevice.FLOPPY: "floppy",
}

_UEFI: Final = (
    "VMware's UEFI follows this order only until its NVRAM has one of its own; after that it boots "
    "what the guest set"
)


class _Ranked(NamedTuple):
    """A device with a place of its own in the boot order."""

    order: int
    token: str
    """In ``bios.bootOrder``: a class of drives, or one network card."""
    key: str
    path: str


def write_boot(vmx: VmxLines, machine: Machine, plan: DrivePlan) -> None:
    """The order of classes and of hard disks, and the delay."""
    boot = machine.boot
    ranked = _ranked(machine, plan)
    if ranked:
        _write_order(vmx, machine, [(device.token, device.path) for device in ranked])
    else:
        classes = () if boot is None else boot.order
        tokens = [
            (token, f"boot.order[{index}]")
            for index, device_class in enumerate(classes)
            for token in _tokens(machine, device_class)
        ]
        _write_order(vmx, machine, tokens)
    _write_disk_order(vmx, machine, plan, ranked)
    if boot is not None and boot.delay_ms is not None:
        vmx.kept("bios.bootDelay", boot.delay_ms, "boot.delay_ms")


def _write_order(vmx: VmxLines, machine: Machine, tokens: list[tuple[str, str]]) -> None:
    """Write what each of the model's paths asks for, in order."""
    if not tokens:
        return
    order = ",".join(dict.fromkeys(token for token, _ in tokens))
    vmx.line("bios.bootOrder", order)
    for path in dict.fromkeys(path for _, path in tokens):
        _account(vmx, machine, path, order)


def _write_disk_order(
    vmx: VmxLines, machine: Machine, plan: DrivePlan, ranked: list[_Ranked]
) -> None:
    """Which hard disk is tried first; VMware would ask the controllers in an order of its own."""
    stated = [device.key for device in ranked if device.token == _DISK]
    if stated:
        vmx.line("bios.hddOrder", ",".join(stated))
        return
    disks = {drive.index: drive.slot for drive in plan.drives if drive.device is DiskDevice.DISK}
    if len({(slot.kind, slot.controller) for slot in disks.values()}) > 1:
        vmx.defaulted(
            "bios.hddOrder",
            str(disks[min(disks)]),
            "with several controllers, VMware may try another disk than the first",
        )


def _ranked(machine: Machine, plan: DrivePlan) -> list[_Ranked]:
    found: list[_Ranked] = []
    for drive in plan.drives:
        order = machine.disks[drive.index].boot_order
        if order is not None:
            token = _CLASS_OF_DRIVE[drive.device]
            path = f"disks[{drive.index}].boot_order"
            found.append(_Ranked(order, token, str(drive.slot), path))
    for index, nic in enumerate(machine.nics[:MAX_NICS]):
        if nic.boot_order is not None:
            key = f"ethernet{index}"
            found.append(_Ranked(nic.boot_order, key, key, f"nics[{index}].boot_order"))
    return sorted(found)


def _tokens(machine: Machine, device_class: BootDevice) -> list[str]:
    if device_class is BootDevice.NETWORK:
        return [f"ethernet{index}" for index in range(min(len(machine.nics), MAX_NICS))]
    return [_CLASSES[device_class]] if device_class in _CLASSES else []


def _account(vmx: VmxLines, machine: Machine, path: str, order: str) -> None:
    place = "bios.bootOrder"
    firmware = machine.firmware
    if firmware is not None and firmware.kind is FirmwareKind.UEFI:
        vmx.books.adapted(path, place=place, after=order, why=_UEFI, impact=Impact.NONE)
    else:
        vmx.books.kept(path, place=place)
