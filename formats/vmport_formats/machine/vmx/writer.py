"""Writes a machine as VMX, for ESXi, Workstation and Fusion."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from vmport_formats.errors import UnsupportedFeature
from vmport_formats.machine import vmware
from vmport_formats.machine.ledger import Books, Impact, Loss, Verdict
from vmport_formats.machine.model import Architecture
from vmport_formats.machine.vmware.losses import VMWARE_LOSSES
from vmport_formats.machine.vmx.boot import write_boot
from vmport_formats.machine.vmx.cards import (
    write_nics,
    write_ports,
    write_screen,
    write_sound,
    write_usb,
)
from vmport_formats.machine.vmx.drives import write_drives
from vmport_formats.machine.vmx.platform import write_board, write_firmware, write_identity
from vmport_formats.machine.vmx.processor import write_cpu, write_memory
from vmport_formats.machine.vmx.text import VmxLines

if TYPE_CHECKING:
    from vmport_formats.machine.ledger import Writing
    from vmport_formats.machine.model import Machine

DIALECT: Final = "VMX"

_ARCHITECTURES: Final = (None, Architecture.X86_64, Architecture.I686)

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
    write_firmware(vmx, machine, name=name)
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
    version, verdict, why = vmware.choose_hardware(machine, asked)
    if verdict is Verdict.KEPT:
        vmx.kept("virtualHW.version", version, "hardware_version")
    elif verdict is Verdict.ADAPTED:
        vmx.adapted("virtualHW.version", version, "hardware_version", why=why)
    else:
        vmx.defaulted("virtualHW.version", version, why)
        asked_for = Loss("another version was asked for", impact=Impact.NONE)
        vmx.dropped("hardware_version", loss=asked_for)
    return version
