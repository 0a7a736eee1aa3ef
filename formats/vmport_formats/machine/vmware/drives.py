"""Where a machine's disks, CDs and floppies go on VMware's controllers.

A drive keeps its controller and address where VMware has them.  Of the others, a Linux guest's
paravirtual disks go to VMware's paravirtual SCSI; everything else to SATA, or to IDE when the guest
is a Windows from before SATA drivers (or the virtual hardware is).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.machine.guest_os_table import Family
from vmport_formats.machine.ledger import Impact, Loss
from vmport_formats.machine.model import (
    ControllerKind,
    ControllerModel,
    DiskBus,
    DiskDevice,
    DiskSourceKind,
)
from vmport_formats.machine.vmware.hardware import (
    CONTROLLER_HARDWARE,
    RESERVED_SCSI_UNIT,
    ROOM,
    SCSI_HARDWARE,
    Change,
    guest_system,
    hardware_version,
    max_units,
    width,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vmport_formats.machine.guest_os import System
    from vmport_formats.machine.model import Disk, Machine

NO_IMAGE: Final = {
    DiskSourceKind.NVME: "an NVMe device of the host, handed to the guest",
    DiskSourceKind.VHOST_USER: "served by a program of the old host",
    DiskSourceKind.DIRECTORY: "a folder of the host, shown as a disk",
}
"""Sources of a disk that no conversion can read."""


class Slot(NamedTuple):
    """A place for a drive: VMware's ``sata0:3`` is ``Slot(SATA, 0, 3)``."""

    kind: ControllerKind
    controller: int
    unit: int

    def __str__(self) -> str:
        return f"{self.kind}{self.controller}:{self.unit}"


@dataclass(frozen=True, slots=True)
class PlacedController:
    """A controller that VMware is to have."""

    kind: ControllerKind
    number: int
    model: ControllerModel | None = None
    """The chip of a SCSI controller; None for the others, which have but one."""
    origin: int | None = None
    """Index into the machine's controllers of the one that it stands for."""
    changed: Change | None = None
    """Set when it is of another model than that one."""


@dataclass(frozen=True, slots=True)
class PlacedDrive:
    """A disk, CD or floppy drive and its place."""

    index: int
    """Into the machine's disks."""
    device: DiskDevice
    """DISK, CDROM or FLOPPY."""
    slot: Slot
    moved: Change | None = None
    """Set when the guest finds it on another kind of controller; None: as in the source."""
    readdressed: str = ""
    """Why its address is not the one that the source states; empty when it is."""


@dataclass(frozen=True, slots=True)
class DrivePlan:
    """Where all drives go."""

    controllers: tuple[PlacedController, ...]
    """Those that hold a drive, and those of the source that VMware has too; in order."""
    drives: tuple[PlacedDrive, ...]
    """By controller and unit, as numbers; the kind of the boot disk's controller comes first."""
    left_out: Mapping[int, Loss]
    """By index into the machine's disks: those that VMware has no place for."""


def plan_drives(machine: Machine) -> DrivePlan:
    """A place on VMware's controllers for each drive of `machine`."""
    planner = _Planner(machine, hardware_version(machine), guest_system(machine))
    order = _source_order(machine)
    found = (planner.wish(index, machine.disks[index]) for index in order)
    wishes = [wish for wish in found if wish is not None]
    for wish in wishes:
        if wish.exact is not None:
            planner.keep(wish)
    for wish in wishes:
        if wish.index not in planner.placed:
            planner.settle(wish)
    return planner.finish(order)


def _source_order(machine: Machine) -> list[int]:
    """Indices of the disks in the order in which the guest found them: by place, as numbers.

    The order of a descriptor means nothing; buses count in the order of their first disk.  On a bus
    where some disk has no address, the names decide, for hypervisors give addresses by them.
    """
    buses = list(dict.fromkeys(disk.bus for disk in machine.disks))
    named = {disk.bus for disk in machine.disks if disk.unit is None and disk.pci is None}

    def place(index: int) -> tuple[object, ...]:
        disk = machine.disks[index]
        target = disk.target or ""
        name = (len(target), target)
        if disk.bus in named:
            return (buses.index(disk.bus), *name)
        return (
            buses.index(disk.bus),
            disk.controller or 0,
            disk.channel or 0,
            disk.scsi_target or 0,
            disk.unit or 0,
            disk.pci or "",
            *name,
        )

    return sorted(range(len(machine.disks)), key=place)


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a drive should get."""

    index: int
    device: DiskDevice
    kinds: tuple[ControllerKind, ...]
    """Acceptable kinds of controllers, the best first."""
    chip: ControllerModel | None = None
    """Which SCSI chip, where it matters."""
    exact: Slot | None = None
    """The very place that the source states, if VMware has it."""
    moved: Change | None = None
    readdressed: str = ""


_EARLY_WINDOWS: Final = (
    "before the move, boot the old machine once with a small extra disk on such a controller, so "
    "that Windows starts the driver at boot"
)
_EARLY_LINUX: Final = "before the move, see that the initramfs has the driver (ahci, ata_piix)"
_PVSCSI: Final = Change(
    "VMware's own paravirtual controller is pvscsi",
    effect="the guest starts only if the driver vmw_pvscsi is in its initramfs",
    action="before the move, see that it is there (Debian and Ubuntu put it in by themselves; "
    "for dracut: --add-drivers vmw_pvscsi)",
)


class _Planner:
    def __init__(self, machine: Machine, hardware: int, guest: System | None) -> None:
        self.machine = machine
        self.hardware = hardware
        self.guest = guest
        self.linux = guest is not None and guest.family is Family.LINUX
        self.windows = guest is not None and guest.family is Family.WINDOWS
        self.placed: dict[int, PlacedDrive] = {}
        self.left_out: dict[int, Loss] = {}
        self.taken: dict[Slot, int] = {}
        self.scsi: dict[int, ControllerModel] = {}
        self.origins: dict[tuple[ControllerKind, int], int] = {}
        self.changed: dict[int, Change] = {}
        for index, controller in enumerate(machine.controllers):
            number = controller.index or 0
            key = (controller.kind, number)
            if controller.kind not in ROOM or key in self.origins:
                continue
            if number >= ROOM[controller.kind].controllers or not self.has(controller.kind):
                continue
            if controller.kind is ControllerKind.SCSI:
                model = self.scsi_model(controller.model)
                if model is None:
                    continue
                self.scsi[number] = model
                if model is not controller.model:
                    self.changed[number] = _PVSCSI
            self.origins[key] = index

    def has(self, kind: ControllerKind) -> bool:
        return CONTROLLER_HARDWARE[kind] <= self.hardware

    def scsi_model(self, model: ControllerModel | None) -> ControllerModel | None:
        """The chip itself if VMware has it, its counterpart if there is one, else None."""
        if model is ControllerModel.VIRTIO_SCSI and self.linux:
            model = ControllerModel.PVSCSI
        if model is None or SCSI_HARDWARE.get(model, self.hardware + 1) > self.hardware:
            return None
        if model is ControllerModel.BUSLOGIC and width(self.machine) == 64:
            return None  # VMware has no BusLogic for 64-bit guests
        return model

    def units(self, kind: ControllerKind, controller: int) -> Iterator[int]:
        """The units of a controller that may hold a drive."""
        units = max_units(kind, self.scsi.get(controller), self.hardware)
        reserved = RESERVED_SCSI_UNIT if kind is ControllerKind.SCSI else None
        return (unit for unit in range(units) if unit != reserved)

    # --- What each drive should get

    def wish(self, index: int, disk: Disk) -> _Wish | None:
        device = disk.device or DiskDevice.DISK
        if device in (DiskDevice.LUN, DiskDevice.OTHER):
            self.left_out[index] = Loss(
                why="the guest talks to a SCSI device of the host directly; it is not a disk image",
                effect="the guest lacks this disk",
                action="map the device as a raw device on the new host",
                impact=Impact.MAJOR,
            )
            return None
        what = NO_IMAGE.get(disk.source.kind) if disk.source and disk.source.kind else None
        if what is not None and device is DiskDevice.DISK:
            self.left_out[index] = Loss(
                why=f"the disk is {what}; there is no image that could be converted",
                effect="the guest lacks this disk",
                action="copy its content into a disk image, and add that",
                impact=Impact.MAJOR,
            )
            return None
        if device is DiskDevice.FLOPPY or disk.bus is DiskBus.FDC:
            slot = Slot(ControllerKind.FLOPPY, 0, disk.unit or 0)
            wanted = slot if slot.unit < 2 else None
            return _Wish(index, DiskDevice.FLOPPY, (ControllerKind.FLOPPY,), exact=wanted)
        native = {
            DiskBus.IDE: self._ide,
            DiskBus.SATA: self._sata,
            DiskBus.SCSI: self._scsi,
            DiskBus.NVME: self._nvme,
        }.get(disk.bus or DiskBus.OTHER)
        return self._foreign(index, disk, device) if native is None else native(index, disk, device)

    def _ide(self, index: int, disk: Disk, device: DiskDevice) -> _Wish:
        stated = disk.channel is not None or disk.unit is not None
        slot = Slot(ControllerKind.IDE, disk.channel or 0, disk.unit or 0)
        legal = not disk.controller and slot.controller < 2 and slot.unit < 2
        kinds = (ControllerKind.IDE, ControllerKind.SATA, ControllerKind.SCSI)
        return self._native(index, device, kinds, slot, stated=stated, legal=legal)

    def _sata(self, index: int, disk: Disk, device: DiskDevice) -> _Wish:
        if not self.has(ControllerKind.SATA):
            return self._foreign(index, disk, device)
        slot = Slot(ControllerKind.SATA, disk.controller or 0, disk.unit or 0)
        room = ROOM[ControllerKind.SATA]
        legal = slot.controller < room.controllers and slot.unit < room.units
        kinds = (ControllerKind.SATA, ControllerKind.SCSI, ControllerKind.IDE)
        return self._native(index, device, kinds, slot, stated=disk.unit is not None, legal=legal)

    def _nvme(self, index: int, disk: Disk, device: DiskDevice) -> _Wish:
        if not self.has(ControllerKind.NVME) or device is DiskDevice.CDROM:
            return self._foreign(index, disk, device)
        slot = Slot(ControllerKind.NVME, disk.controller or 0, disk.unit or 0)
        legal = slot.controller < ROOM[ControllerKind.NVME].controllers and slot.unit in self.units(
            ControllerKind.NVME, slot.controller
        )
        kinds = (ControllerKind.NVME, ControllerKind.SATA, ControllerKind.SCSI)
        return self._native(index, device, kinds, slot, stated=disk.unit is not None, legal=legal)

    def _scsi(self, index: int, disk: Disk, device: DiskDevice) -> _Wish:
        number = disk.controller or 0
        # VMware's unit is the id on the bus; a controller that speaks of LUNs has one id for all.
        unit = disk.scsi_target or disk.unit or 0
        lun = disk.unit if disk.scsi_target else 0
        if number not in self.scsi or device is DiskDevice.CDROM:
            return self._foreign(index, disk, device)
        slot = Slot(ControllerKind.SCSI, number, unit)
        legal = not lun and not disk.channel and unit in self.units(ControllerKind.SCSI, number)
        kinds = (ControllerKind.SCSI, ControllerKind.SATA, ControllerKind.IDE)
        return self._native(index, device, kinds, slot, stated=disk.unit is not None, legal=legal)

    def _native(
        self,
        index: int,
        device: DiskDevice,
        kinds: tuple[ControllerKind, ...],
        slot: Slot,
        *,
        stated: bool,
        legal: bool,
    ) -> _Wish:
        why = "" if legal or not stated else f"VMware has no {slot}"
        if why and slot.kind is ControllerKind.SCSI and slot.unit == RESERVED_SCSI_UNIT:
            why = f"on VMware, {slot} is the controller itself"
        chip = self.scsi.get(slot.controller) if slot.kind is ControllerKind.SCSI else None
        return _Wish(
            index, device, kinds, chip, exact=slot if stated and legal else None, readdressed=why
        )

    def _foreign(self, index: int, disk: Disk, device: DiskDevice) -> _Wish:
        ide, sata, scsi = ControllerKind.IDE, ControllerKind.SATA, ControllerKind.SCSI
        paravirtual = disk.bus in (DiskBus.VIRTIO, DiskBus.XEN)
        pvscsi = SCSI_HARDWARE[ControllerModel.PVSCSI] <= self.hardware
        if paravirtual and device is DiskDevice.DISK and self.linux and pvscsi:
            change = replace(
                _PVSCSI,
                why=f"VMware has no {disk.bus} disks; its own paravirtual controller is pvscsi",
                effect=f"{_PVSCSI.effect}; it names the disk sda in place of vda",
            )
            return _Wish(index, device, (scsi, sata, ide), ControllerModel.PVSCSI, moved=change)
        old = self.windows and self.guest is not None and self.guest.version < (2006,)
        kinds = (ide, scsi, sata) if old or not self.has(sata) else (sata, scsi, ide)
        first = kinds[0].upper()
        if device is DiskDevice.CDROM:
            change = Change(f"VMware has CD drives on {first}", impact=Impact.NONE)
        elif disk.bus is None:
            change = Change("the source does not say what the disk hangs on")
        else:
            change = Change(
                f"VMware has no {self._called(disk)}; most guests have a driver for {first}",
                effect="the guest starts only if it loads that driver early",
                action=_EARLY_WINDOWS if self.windows else _EARLY_LINUX,
                # Windows starts only the drivers of the controllers that it was installed on.
                impact=Impact.MAJOR if self.windows else Impact.MINOR,
            )
        return _Wish(index, device, kinds, moved=change)

    def _called(self, disk: Disk) -> str:
        if disk.bus is DiskBus.SCSI:
            models = {
                controller.index or 0: controller.model
                for controller in self.machine.controllers
                if controller.kind is ControllerKind.SCSI
            }
            model = models.get(disk.controller or 0)
            return "SCSI controller of this kind" if model is None else f"{model} controller"
        names = {
            DiskBus.VIRTIO: "virtio disk",
            DiskBus.XEN: "Xen disk",
            DiskBus.USB: "USB disk image",
            DiskBus.SD: "SD card",
            DiskBus.SATA: f"SATA in virtual hardware {self.hardware}",
            DiskBus.NVME: f"NVMe in virtual hardware {self.hardware}",
        }
        return names.get(disk.bus or DiskBus.OTHER, "such a bus")

    # --- Who gets it

    def keep(self, wish: _Wish) -> None:
        """Give the drive the place that the source states, unless another has it."""
        assert wish.exact is not None  # noqa: S101
        if wish.exact not in self.taken:
            self._place(wish, wish.exact, moved=None, why="")

    def settle(self, wish: _Wish) -> None:
        """Give the drive the first free place of the kinds that suit it."""
        why = wish.readdressed
        if wish.exact is not None:
            why = f"{wish.exact} is taken by another drive"
        for kind in wish.kinds:
            if not self.has(kind):
                continue
            for slot in self._slots(kind, wish.chip or self._default_scsi()):
                if slot in self.taken:
                    continue
                moved = wish.moved
                if moved is None and kind is not wish.kinds[0]:
                    moved = Change(
                        f"VMware's {wish.kinds[0].upper()} controllers are full",
                        effect="the guest needs the driver of the other controller",
                        impact=Impact.MINOR,
                    )
                if slot.kind is ControllerKind.SCSI:
                    self.scsi.setdefault(slot.controller, wish.chip or self._default_scsi())
                self._place(wish, slot, moved=moved, why=why)
                return
        self.left_out[wish.index] = Loss(
            why="VMware has no room for another drive of this kind",
            effect="the guest lacks this drive",
            action="attach it by hand to a controller with a free place",
            impact=Impact.MAJOR,
        )

    def _slots(self, kind: ControllerKind, chip: ControllerModel) -> Iterator[Slot]:
        """All places of a kind; of SCSI those on controllers that have `chip`, or will."""
        for controller in range(ROOM[kind].controllers):
            if kind is ControllerKind.SCSI and self.scsi.get(controller, chip) is not chip:
                continue
            yield from (Slot(kind, controller, unit) for unit in self.units(kind, controller))

    def _place(self, wish: _Wish, slot: Slot, *, moved: Change | None, why: str) -> None:
        self.taken[slot] = wish.index
        self.placed[wish.index] = PlacedDrive(wish.index, wish.device, slot, moved, why)

    def _default_scsi(self) -> ControllerModel:
        sas = SCSI_HARDWARE[ControllerModel.LSISAS1068] <= self.hardware
        return ControllerModel.LSISAS1068 if sas else ControllerModel.LSILOGIC

    def finish(self, order: list[int]) -> DrivePlan:
        kinds = self._kinds(order)
        used = {(slot.kind, slot.controller) for slot in self.taken}
        kept = {
            (kind, number)
            for kind, number in self.origins
            if kind in (ControllerKind.SCSI, ControllerKind.SATA, ControllerKind.NVME)
        }
        controllers = [
            PlacedController(
                kind,
                number,
                self.scsi[number] if kind is ControllerKind.SCSI else None,
                self.origins.get((kind, number)),
                self.changed.get(number) if kind is ControllerKind.SCSI else None,
            )
            for kind, number in sorted(used | kept, key=lambda key: (kinds.index(key[0]), key[1]))
            if kind is not ControllerKind.FLOPPY
        ]
        drives = sorted(
            self.placed.values(),
            key=lambda drive: (kinds.index(drive.slot.kind), *drive.slot[1:]),
        )
        return DrivePlan(tuple(controllers), tuple(drives), dict(self.left_out))

    def _kinds(self, order: list[int]) -> list[ControllerKind]:
        """The kinds of controllers, that of the boot disk first, then by their first disk."""

        def rank(index: int) -> tuple[bool, int, int]:
            disk = self.machine.disks[index]
            hard = self.placed[index].device is DiskDevice.DISK
            unranked = len(order) + max((d.boot_order or 0 for d in self.machine.disks), default=0)
            return not hard, disk.boot_order or unranked, order.index(index)

        found = [self.placed[index].slot.kind for index in sorted(self.placed, key=rank)]
        return list(dict.fromkeys((*found, *ROOM)))
