"""Writes a machine as VMX, for ESXi, Workstation and Fusion."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.errors import UnsupportedFeature, UsageError
from vmport_formats.machine import vmware
from vmport_formats.machine.ledger import Books, Impact, Loss
from vmport_formats.machine.model import Architecture, ControllerKind, FirmwareKind
from vmport_formats.machine.vmware_losses import VMWARE_LOSSES
from vmport_formats.machine.vmx.boot import write_boot
from vmport_formats.machine.vmx.cards import (
    write_nics,
    write_ports,
    write_screen,
    write_sound,
    write_usb,
)
from vmport_formats.machine.vmx.drives import write_drives
from vmport_formats.machine.vmx.platform import (
    write_board,
    write_cpu,
    write_firmware,
    write_identity,
    write_memory,
)
from vmport_formats.machine.vmx.text import VmxLines
from vmport_formats.units import GIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.machine.ledger import Writing
    from vmport_formats.machine.model import Machine

DIALECT: Final = "VMX"

_ARCHITECTURES: Final = (None, Architecture.X86_64, Architecture.I686)

NEWEST_HARDWARE: Final = 22


class _Capacity(NamedTuple):
    hardware: int
    cpus: int
    memory: int
    """In GiB."""


# VMware, "Hardware Features Available with Virtual Machine Compatibility Settings".
_CAPACITIES: Final = (
    _Capacity(4, 4, 64),
    _Capacity(7, 8, 255),
    _Capacity(8, 32, 1011),
    _Capacity(9, 64, 1011),
    _Capacity(11, 128, 4080),
    _Capacity(13, 128, 6128),
    _Capacity(15, 256, 6128),
    _Capacity(18, 768, 24560),
    _Capacity(22, 960, 24560),
)

_LOSSES: Final = {
    **VMWARE_LOSSES,
    "disks[*].read_only": Loss(
        "VMware has no write-protected disks", "the guest can write to the disk"
    ),
    "disks[*].discard": Loss("VMware's thin disks take space back as they can", impact=Impact.NONE),
    "disks[*].rotation_rate": Loss(
        "VMware tells guests solid state or not, no speed", impact=Impact.NONE
    ),
    "disks[*].boot_order": Loss(
        "its class of devices has no place in VMware's boot order",
        "the firmware does not boot from it",
    ),
    "host_devices[*].boot_order": Loss(
        "the device is not handed through", "the firmware does not boot from it"
    ),
    "boot.order[*]": Loss("VMware does not boot from such a device"),
}


def write_vmx(machine: Machine, *, name: str, hardware: int | None = None) -> Writing:
    """The VMX file for `machine`, and what became of each of its values.

    `name` is that of the file, without its suffix; other files are named after it.  `hardware` asks
    for a version of the virtual hardware; otherwise it is the source's, or `DEFAULT_HARDWARE`, and
    higher where the machine needs it.

    Raises:
        UsageError: the machine needs a higher version than `hardware`.
        UnsupportedFeature: VMware cannot run it at all: another architecture, or too large.
    """
    if machine.architecture not in _ARCHITECTURES:
        raise UnsupportedFeature(
            None,
            code="vmx.architecture",
            problem=f"the machine is made for {machine.architecture} processors; "
            "VMX describes x86 machines",
            hint="choose a hypervisor that emulates or runs this architecture",
        )
    vmx = VmxLines(Books(machine, dialect=DIALECT))
    vmx.line(".encoding", "UTF-8")
    vmx.line("config.version", 8)
    version = _write_hardware(vmx, machine, hardware)
    planned = replace(machine, hardware_version=version)
    plan = vmware.plan_drives(planned)
    write_identity(vmx, machine, name=name, hardware=version)
    write_firmware(vmx, machine)
    write_boot(vmx, machine, plan)
    write_memory(vmx, machine)
    write_cpu(vmx, machine, hardware=version)
    write_board(vmx, machine, hardware=version)
    conversions = write_drives(vmx, machine, plan, name=name)
    write_nics(vmx, planned, hardware=version)
    write_ports(vmx, machine, name=name)
    write_usb(vmx, machine)
    write_sound(vmx, machine)
    write_screen(vmx, machine)
    vmware.account_for_implied(machine, vmx.books)
    return vmx.books.close(vmx.text(), losses=_LOSSES, conversions=conversions)


def _write_hardware(vmx: VmxLines, machine: Machine, asked: int | None) -> int:
    needs = sorted(_needs(machine), reverse=True)
    lowest, what = needs[0] if needs else (3, "")
    if lowest > NEWEST_HARDWARE:
        raise UnsupportedFeature(
            None,
            code="vmx.too-large",
            problem=f"no VMware version runs a machine with {what}",
        )
    if asked is not None:
        if asked < lowest:
            listed = ", ".join(f"{why} ({number})" for number, why in needs if number > asked)
            raise UsageError(
                None,
                code="vmx.hardware-version",
                problem=f"virtual hardware {asked} cannot have: {listed}",
                hint=f"ask for version {lowest} or higher, or for none",
            )
        vmx.defaulted("virtualHW.version", asked, "asked for on the command line")
        vmx.dropped(
            "hardware_version",
            loss=Loss("another version was asked for", impact=Impact.NONE),
        )
        return asked
    stated = machine.hardware_version
    wanted = vmware.hardware_version(machine)
    version = max(wanted, lowest)
    if stated is None:
        why = "runs on ESXi 7.0 U2 and later, and on Workstation 16.2 and later"
        if version > vmware.DEFAULT_HARDWARE:
            why = f"the lowest that has {what}"
        vmx.defaulted("virtualHW.version", version, why)
    elif stated == version:
        vmx.kept("virtualHW.version", version, "hardware_version")
    else:
        why = f"the lowest that has {what}" if version == lowest else "there is no such version"
        vmx.adapted("virtualHW.version", version, "hardware_version", why=why)
    return version


def _needs(machine: Machine) -> Iterator[tuple[int, str]]:
    """The virtual hardware versions that parts of `machine` need, each with the part."""
    cpus = 1 if machine.cpu is None else machine.cpu.online or machine.cpu.count or 1
    memory = 0 if machine.memory is None else machine.memory.size or 0
    beyond = NEWEST_HARDWARE + 1
    yield (
        next((row.hardware for row in _CAPACITIES if cpus <= row.cpus), beyond),
        f"{cpus} processors",
    )
    yield (
        next((row.hardware for row in _CAPACITIES if memory <= row.memory * GIB), beyond),
        f"{-(-memory // GIB)} GiB of memory",
    )
    if machine.firmware is not None:
        if machine.firmware.kind is FirmwareKind.UEFI:
            yield vmware.UEFI_HARDWARE, "UEFI"
        if machine.firmware.secure_boot:
            yield vmware.SECURE_BOOT_HARDWARE, "secure boot"
    if machine.tpm is not None:
        yield vmware.TPM_HARDWARE, "a TPM"
    kinds = {controller.kind for controller in machine.controllers}
    if ControllerKind.NVME in kinds or any(disk.bus == "nvme" for disk in machine.disks):
        yield vmware.CONTROLLER_HARDWARE[ControllerKind.NVME], "NVMe"
