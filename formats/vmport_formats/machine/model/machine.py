"""The machine: all parts together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    from vmport_formats.machine.model.boot import Boot
    from vmport_formats.machine.model.devices import (
        Balloon,
        Graphics,
        HostDevice,
        Input,
        Iommu,
        Panic,
        Port,
        Rng,
        SharedFolder,
        SmartCard,
        Sound,
        UsbRedirection,
        Video,
        Vsock,
        Watchdog,
    )
    from vmport_formats.machine.model.firmware import Firmware, Tpm
    from vmport_formats.machine.model.network import Nic
    from vmport_formats.machine.model.platform import (
        Accelerator,
        Architecture,
        Chipset,
        GenerationId,
        GuestOs,
        SmbiosValue,
        Virtualization,
    )
    from vmport_formats.machine.model.power import Clock, Power
    from vmport_formats.machine.model.processor import Cpu, Features, Memory, MemoryModule, NumaCell
    from vmport_formats.machine.model.storage import Controller, Disk


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A named earlier state of the machine."""

    id: str | None = None
    name: str | None = None
    description: str | None = None
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """A virtual machine: everything that a descriptor says of it."""

    name: str | None = None
    title: str | None = None
    annotation: str | None = None
    """Free text for people."""
    uuid: UUID | None = None
    genid: GenerationId | None = None
    guest_os: GuestOs | None = None
    accelerator: Accelerator | None = None
    virtualization: Virtualization | None = None
    architecture: Architecture | None = None
    chipset: Chipset | None = None
    machine_type: str | None = None
    """The board with its version, in the hypervisor's own words: ``pc-q35-7.2``."""
    hardware_version: int | None = None
    """VMware's ``virtualHW.version``, or the number in OVF's ``vmx-19``."""
    smbios: tuple[SmbiosValue, ...] = ()
    smbios_mode: str | None = None
    """Where those strings come from: ``emulate``, ``host``, ``sysinfo``."""
    firmware: Firmware | None = None
    boot: Boot | None = None
    tpm: Tpm | None = None
    cpu: Cpu | None = None
    memory: Memory | None = None
    memory_modules: tuple[MemoryModule, ...] = ()
    numa: tuple[NumaCell, ...] = ()
    io_threads: int | None = None
    features: Features | None = None
    clock: Clock | None = None
    power: Power | None = None
    controllers: tuple[Controller, ...] = ()
    disks: tuple[Disk, ...] = ()
    """Hard disks, CD and floppy drives, in the order of the descriptor."""
    nics: tuple[Nic, ...] = ()
    graphics: tuple[Graphics, ...] = ()
    videos: tuple[Video, ...] = ()
    serials: tuple[Port, ...] = ()
    parallels: tuple[Port, ...] = ()
    consoles: tuple[Port, ...] = ()
    channels: tuple[Port, ...] = ()
    sounds: tuple[Sound, ...] = ()
    inputs: tuple[Input, ...] = ()
    rngs: tuple[Rng, ...] = ()
    watchdogs: tuple[Watchdog, ...] = ()
    balloon: Balloon | None = None
    panics: tuple[Panic, ...] = ()
    vsock: Vsock | None = None
    iommu: Iommu | None = None
    host_devices: tuple[HostDevice, ...] = ()
    shared_folders: tuple[SharedFolder, ...] = ()
    usb_redirections: tuple[UsbRedirection, ...] = ()
    smart_cards: tuple[SmartCard, ...] = ()
    snapshots: tuple[Snapshot, ...] = ()
