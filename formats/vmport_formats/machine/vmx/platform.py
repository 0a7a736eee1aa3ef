"""Writes what a VMX file says of the machine as a whole: ids, firmware, TPM, board, clock."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from vmport_formats.machine import guest_os
from vmport_formats.machine.ledger import Impact, Loss
from vmport_formats.machine.model import (
    ClockBase,
    FirmwareKind,
    TpmModel,
    Virtualization,
)
from vmport_formats.machine.vmware import guest_system, width

if TYPE_CHECKING:
    from uuid import UUID

    from vmport_formats.machine.model import Machine
    from vmport_formats.machine.vmx.text import VmxLines

_NO_FIRMWARE: Final = "BIOS (no line: libvirt and virt-v2v do not understand one)"


def write_identity(vmx: VmxLines, machine: Machine, *, name: str, hardware: int) -> None:
    """Name, notes, ids and guest system."""
    if machine.name is not None:
        vmx.kept("displayName", machine.name, "name")
    else:
        vmx.defaulted("displayName", name, "the source names no machine; this is the file's name")
    if machine.virtualization is Virtualization.FULL:
        vmx.books.kept("virtualization", place="virtualHW.version")
    _write_guest_os(vmx, machine, hardware)
    notes = [text for text in (machine.title, machine.annotation) if text is not None]
    if notes:
        vmx.line("annotation", "\n\n".join(notes))
        vmx.books.kept("annotation", place="annotation")
        vmx.books.adapted(
            "title",
            place="annotation",
            after=notes[0],
            why="VMware has notes, but no title; it is the first line of the notes",
        )
    if machine.uuid is not None:
        _write_uuid(vmx, machine.uuid)
    if machine.genid is not None and machine.genid.id is not None:
        # Two signed numbers whose bytes, little-endian, are those that the guest reads; QEMU
        # stores the text's first three groups little-endian.  Others get this order wrong.
        low, high = struct.unpack("<qq", machine.genid.id.bytes_le)
        vmx.kept("vm.genid", low, "genid.id")
        vmx.kept("vm.genidX", high, "genid.id")
    elif machine.genid is not None:
        vmx.dropped(
            "genid",
            loss=Loss("VMware makes a generation id by itself", impact=Impact.NONE),
        )
    if machine.smbios_mode == "host":
        vmx.kept("SMBIOS.reflectHost", True, "smbios_mode")


def _write_guest_os(vmx: VmxLines, machine: Machine, hardware: int) -> None:
    found = guest_os.for_vmware(machine.guest_os, bits=width(machine), hardware=hardware)
    key = found.id.key
    vmx.books.kept("architecture", place="guestOS")
    if machine.guest_os is None:
        vmx.defaulted(
            "guestOS",
            key,
            "the source does not say which system runs inside",
            effect="VMware offers no choices that are made for it",
            action="set guestOS to the system's key, such as debian12-64",
        )
    elif found.fit is guest_os.Fit.EXACT:
        vmx.kept("guestOS", key, "guest_os")
    else:
        vmx.adapted("guestOS", key, "guest_os", why=found.why)


def _write_uuid(vmx: VmxLines, uuid: UUID) -> None:
    octets = [f"{octet:02x}" for octet in uuid.bytes]
    text = f"{' '.join(octets[:8])}-{' '.join(octets[8:])}"
    vmx.adapted(
        "uuid.bios",
        text,
        "uuid",
        why="VMware writes it in another form",
        effect="a guest that reads SMBIOS by version 2.6 or later, as on virtual hardware 13 and "
        "up, sees its first three groups with the bytes reversed",
        action="if a licence or an agent is bound to it, compare `dmidecode -s system-uuid`",
        impact=Impact.MINOR,
    )
    vmx.defaulted(
        "uuid.action",
        "keep",
        "at the first start VMware would ask whether the machine was moved or copied; a copy gets "
        "another UUID",
    )


# --- Firmware -----------------------------------------------------------------------------------


def write_firmware(vmx: VmxLines, machine: Machine, *, name: str) -> None:
    """BIOS or UEFI, secure boot, TPM."""
    firmware = machine.firmware
    kind = None if firmware is None else firmware.kind
    if kind is FirmwareKind.UEFI:
        vmx.kept("firmware", "efi", "firmware.kind")
        vmx.defaulted(
            "nvram",
            f"{name}.nvram",
            "VMware keeps UEFI's variables there; it makes the file at the first start",
        )
    elif kind is FirmwareKind.BIOS:
        vmx.books.kept("firmware.kind", place="firmware", after=_NO_FIRMWARE)
    elif kind is None:
        vmx.books.defaulted(
            place="firmware",
            after=_NO_FIRMWARE,
            why="the source names no firmware; PC hypervisors then start a BIOS",
        )
    else:
        vmx.books.adapted(
            "firmware.kind",
            place="firmware",
            after=_NO_FIRMWARE,
            why="VMware starts machines by BIOS or UEFI only"
            if kind is FirmwareKind.DIRECT_KERNEL
            else "vmport cannot tell what this firmware is",
            effect="the guest starts only if its disk boots by BIOS",
            action='if it boots by UEFI, set firmware = "efi"',
            impact=Impact.MAJOR,
        )
    if firmware is not None and kind is FirmwareKind.UEFI:
        _write_secure_boot(vmx, stated=firmware.secure_boot, capable=firmware.secure_boot_capable)
    _write_tpm(vmx, machine)


def _write_secure_boot(vmx: VmxLines, *, stated: bool | None, capable: bool | None) -> None:
    key = "uefi.secureBoot.enabled"
    if stated is not None:
        vmx.kept(key, stated, "firmware.secure_boot", "firmware.secure_boot_capable")
    elif capable:
        vmx.adapted(
            key,
            False,
            "firmware.secure_boot_capable",
            before="possible",
            why="the source says that the firmware can do secure boot; whether it does is in the "
            "NVRAM, which does not move",
            effect="the guest starts without secure boot",
            action='if it was on (mokutil --sb-state, or msinfo32), set it to "TRUE"',
            impact=Impact.MINOR,
        )
    elif capable is not None:
        vmx.kept(key, False, "firmware.secure_boot_capable")


def _write_tpm(vmx: VmxLines, machine: Machine) -> None:
    tpm = machine.tpm
    if tpm is None:
        return
    vmx.adapted(
        "managedvm.autoAddVTPM",
        "software",
        *(
            path
            for path in ("tpm.model", "tpm.backend", "tpm.version")
            if vmx.books.is_stated(path)
        ),
        "tpm",
        before=f"{tpm.model or TpmModel.TIS} {tpm.version or ''}".strip(),
        why="VMware makes a new TPM 2.0; what is in the old one does not move",
        effect="what is sealed in the TPM does not open: BitLocker and LUKS ask for a recovery key",
        action="have the recovery keys at hand, or suspend BitLocker before the move; on ESXi add "
        "the TPM in the vSphere Client (it needs a key provider); Workstation adds it by itself",
        impact=Impact.MAJOR,
    )


# --- Board and clock ----------------------------------------------------------------------------


def write_board(vmx: VmxLines, machine: Machine, *, hardware: int) -> None:
    """The PCI bridges that VMware needs, VMCI, IOMMU, and the clock."""
    if hardware >= 7:
        vmx.defaulted(
            "pciBridge0.present", True, "VMware has no slots for PCI Express cards without bridges"
        )
        for number in range(4, 8):
            vmx.line(f"pciBridge{number}.present", True)
            vmx.line(f"pciBridge{number}.virtualDev", "pcieRootPort")
            vmx.line(f"pciBridge{number}.functions", 8)
        if machine.vsock is None:
            vmx.defaulted("vmci0.present", True, "VMware Tools talk to the host through it")
        else:
            vmx.adapted(
                "vmci0.present",
                True,
                "vsock",
                before="vsock",
                why="VMware has sockets to the host (vsock) over VMCI; it picks the number (CID)",
            )
    if machine.iommu is not None and hardware >= 14:
        vmx.adapted(
            "vvtd.enable",
            True,
            "iommu",
            before=f"{machine.iommu.model or 'an'} IOMMU",
            why="VMware's IOMMU is Intel's; it remaps interrupts too",
        )
    clock = machine.clock
    if clock is None:
        return
    if clock.base is ClockBase.UTC and not clock.offset:
        vmx.kept("rtc.diffFromUTC", 0, "clock.base", "clock.offset")
    elif clock.base is ClockBase.VARIABLE and clock.offset is not None:
        vmx.adapted(
            "rtc.diffFromUTC",
            clock.offset,
            "clock.base",
            "clock.offset",
            before=f"{clock.offset} seconds from UTC, and what the guest makes of it",
            why="VMware forgets what a guest sets its hardware clock to",
            effect="after each power-off the clock starts from this difference again",
        )
    elif clock.base is not None:
        _drop_clock(vmx, machine, clock.base)
    for index, timer in enumerate(clock.timers):
        if timer.name == "hpet" and timer.present is not None:
            path = f"clock.timers[{index}]"
            vmx.kept("hpet0.present", timer.present, f"{path}.name", f"{path}.present")


def _drop_clock(vmx: VmxLines, machine: Machine, base: ClockBase) -> None:
    system = guest_system(machine)
    windows = system is not None and system.family == "Windows"
    if base is ClockBase.LOCALTIME and windows:
        vmx.books.kept("clock.base", place="guestOS", after="local time, as always for Windows")
        return
    vmx.dropped(
        "clock.base",
        loss=Loss(
            why="VMware sets the hardware clock by the guest's system: local time for Windows, "
            "UTC for others",
            effect="a guest that reads the hardware clock otherwise shows a wrong time until it "
            "synchronizes",
            action="let the guest use NTP, or set rtc.diffFromUTC (seconds)",
        ),
    )
