"""Which devices VMware's virtual hardware has, and which version of it a machine needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.errors import UnsupportedFeature, UsageError
from vmport_formats.machine import guest_os
from vmport_formats.machine.ledger import Impact, Loss, Verdict
from vmport_formats.machine.model import (
    Architecture,
    ControllerKind,
    ControllerModel,
    FirmwareKind,
    InputBus,
    InputKind,
    NicModel,
    PowerAction,
)
from vmport_formats.machine.vmware.versions import (
    DEFAULT_HARDWARE,
    HARDWARE,
    NEWEST_HARDWARE,
)
from vmport_formats.units import GIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vmport_formats.machine.guest_os import System
    from vmport_formats.machine.ledger import Books
    from vmport_formats.machine.model import Machine
    from vmport_formats.machine.vmware.versions import Hardware

UEFI_HARDWARE: Final = 8
SECURE_BOOT_HARDWARE: Final = 13
TPM_HARDWARE: Final = 14
USB3_HARDWARE: Final = 8

CONTROLLER_HARDWARE: Final = {
    ControllerKind.IDE: 3,
    ControllerKind.SCSI: 3,
    ControllerKind.SATA: 10,
    ControllerKind.NVME: 13,
    ControllerKind.FLOPPY: 3,
}
"""Lowest virtual hardware version with controllers of a kind."""

SCSI_HARDWARE: Final = {
    ControllerModel.BUSLOGIC: 3,
    ControllerModel.LSILOGIC: 3,
    ControllerModel.LSISAS1068: 7,
    ControllerModel.PVSCSI: 7,
}
"""The SCSI chips that VMware has, and the lowest virtual hardware version with each."""

NIC_HARDWARE: Final = {
    NicModel.PCNET: 3,
    NicModel.VMXNET: 3,
    NicModel.E1000: 4,
    NicModel.VMXNET2: 4,
    NicModel.VMXNET3: 7,
    NicModel.E1000E: 8,
}
"""The network chips that VMware has, and the lowest virtual hardware version with each."""

PVSCSI_64_HARDWARE: Final = 14
"""From this version on a paravirtual SCSI controller has 64 units rather than 16."""

NVME_64_HARDWARE: Final = 21
"""From this version on an NVMe controller has 64 units rather than 15."""

RESERVED_SCSI_UNIT: Final = 7
"""The controller itself."""


class Room(NamedTuple):
    """How many controllers of a kind there can be, and units on each."""

    controllers: int
    units: int


ROOM: Final = {
    ControllerKind.IDE: Room(2, 2),
    ControllerKind.SATA: Room(4, 30),
    ControllerKind.SCSI: Room(4, 16),
    ControllerKind.NVME: Room(4, 15),
    ControllerKind.FLOPPY: Room(1, 2),
}
"""VMware's limits; IDE counts each channel as a controller."""

MAX_NICS: Final = 10
MAX_NICS_OLD: Final = 4
"""Before virtual hardware 7."""
MAX_SERIALS: Final = 4
MAX_PARALLELS: Final = 3


def max_units(kind: ControllerKind, chip: ControllerModel | None, hardware: int | None) -> int:
    """How many units a controller has; with `hardware` None, as many as any version has.

    `chip` is the model of a SCSI controller.
    """
    if kind is ControllerKind.SCSI and chip is ControllerModel.PVSCSI:
        return 64 if hardware is None or hardware >= PVSCSI_64_HARDWARE else 16
    if kind is ControllerKind.NVME:
        return 64 if hardware is None or hardware >= NVME_64_HARDWARE else 15
    return ROOM[kind].units


def max_nics(hardware: int | None) -> int:
    """How many network cards a machine can have."""
    return MAX_NICS_OLD if hardware is not None and hardware < 7 else MAX_NICS


_NEVER_RELEASED: Final = frozenset(range(NEWEST_HARDWARE)) - frozenset(HARDWARE)


def hardware_version(machine: Machine) -> int:
    """The virtual hardware version that the machine states, else `DEFAULT_HARDWARE`."""
    stated = machine.hardware_version
    if stated is None or stated < min(HARDWARE) or stated in _NEVER_RELEASED:
        return DEFAULT_HARDWARE
    return stated


def width(machine: Machine) -> int:
    """32 or 64: the bits of the machine's processor, 64 when it states none."""
    return 32 if machine.architecture in (Architecture.I686, Architecture.ARMV7L) else 64


def guest_system(machine: Machine) -> System | None:
    """The operating system that the machine states; None when that is not known."""
    found = guest_os.identify(machine.guest_os, bits=width(machine))
    return None if found is None else found.id


@dataclass(frozen=True, slots=True)
class Change:
    """Why a device is not what the source has, and what that means."""

    why: str
    effect: str = ""
    action: str = ""
    impact: Impact = Impact.MINOR


class Chosen(NamedTuple):
    """A version of the virtual hardware, and how it came about."""

    version: int
    verdict: Verdict
    """KEPT, ADAPTED, or DEFAULTED: the machine states none, or another one was asked for."""
    why: str
    """Empty when kept."""


def choose_hardware(machine: Machine, asked: int | None) -> Chosen:
    """The virtual hardware version for `machine`.

    It is the one that is asked for; else the one that the machine states, else `DEFAULT_HARDWARE`,
    and higher where the machine needs it.

    Raises:
        UsageError: the machine needs a higher version than the one that is asked for.
        UnsupportedFeature: no version can run the machine.
    """
    needs = sorted(_needs(machine), reverse=True)
    lowest, what = needs[0]
    if lowest > NEWEST_HARDWARE:
        raise UnsupportedFeature(
            None,
            code="vmware.too-large",
            problem=f"no VMware version runs a machine with {what}",
        )
    if asked is not None:
        if asked < lowest:
            listed = ", ".join(f"{why} ({number})" for number, why in needs if number > asked)
            raise UsageError(
                None,
                code="vmware.hardware-version",
                problem=f"virtual hardware {asked} cannot have: {listed}",
                hint=f"ask for version {lowest} or higher, or for none",
            )
        return Chosen(asked, Verdict.DEFAULTED, "asked for on the command line")
    stated = machine.hardware_version
    version = max(hardware_version(machine), lowest)
    if stated == version:
        return Chosen(version, Verdict.KEPT, "")
    if stated is not None:
        why = f"the lowest that has {what}" if version == lowest else "there is no such version"
        return Chosen(version, Verdict.ADAPTED, why)
    why = "runs on ESXi 7.0 U2 and later, and on Workstation 16.2 and later"
    if version > DEFAULT_HARDWARE:
        why = f"the lowest that has {what}"
    return Chosen(version, Verdict.DEFAULTED, why)


def _first(fits: Callable[[Hardware], bool]) -> int:
    """The lowest version that `fits`, of those that ESXi runs too; beyond all when none does."""
    found = (n for n, row in HARDWARE.items() if fits(row) and not row.hosted_only)
    return next(found, NEWEST_HARDWARE + 1)


def _needs(machine: Machine) -> Iterator[tuple[int, str]]:
    """The virtual hardware versions that parts of `machine` need, each with the part."""
    cpus = 1 if machine.cpu is None else machine.cpu.online or machine.cpu.count or 1
    memory = 0 if machine.memory is None else machine.memory.size or 0
    yield (
        _first(lambda row: cpus <= row.max_cpus),
        f"{cpus} processors",
    )
    yield (
        _first(lambda row: memory <= row.max_memory * MIB),
        f"{-(-memory // GIB)} GiB of memory",
    )
    if machine.firmware is not None:
        if machine.firmware.kind is FirmwareKind.UEFI:
            yield UEFI_HARDWARE, "UEFI"
        if machine.firmware.secure_boot:
            yield SECURE_BOOT_HARDWARE, "secure boot"
    if machine.tpm is not None:
        yield TPM_HARDWARE, "a TPM"
    kinds = {controller.kind for controller in machine.controllers}
    if ControllerKind.NVME in kinds or any(disk.bus == "nvme" for disk in machine.disks):
        yield CONTROLLER_HARDWARE[ControllerKind.NVME], "NVMe"


ALWAYS: Final = "(every VMware machine)"
"""Where a value is in the target, when the target needs no words for it."""


def account_for_implied(machine: Machine, books: Books) -> None:
    """Enter the values of `machine` that are so on every VMware machine, without a word."""
    features, power = machine.features, machine.power
    for name in ("acpi", "apic", "pae"):
        if features is not None and getattr(features, name):
            books.kept(f"features.{name}", place=ALWAYS)
    if power is not None and power.on_power_off is PowerAction.DESTROY:
        books.kept("power.on_power_off", place=ALWAYS)
    if power is not None and power.on_reboot is PowerAction.RESTART:
        books.kept("power.on_reboot", place=ALWAYS)
    if power is not None and power.on_crash is PowerAction.DESTROY:
        why = "VMware leaves a guest that crashed as it is; vSphere HA can watch it"
        books.dropped("power.on_crash", loss=Loss(why, impact=Impact.NONE))
    for index, device in enumerate(machine.inputs):
        if device.bus in (None, InputBus.PS2) and device.kind in _PS2:
            books.kept(f"inputs[{index}]", place=ALWAYS)
    for name in ("guest_os", "firmware", "boot", "cpu", "memory", "features", "power"):
        if getattr(machine, name) is not None and books.is_value(name):  # nothing stated inside
            books.kept(name, place=ALWAYS)


_PS2: Final = (InputKind.MOUSE, InputKind.KEYBOARD)
