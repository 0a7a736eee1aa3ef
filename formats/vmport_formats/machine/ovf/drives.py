"""Disks, CDs, floppies and their controllers as items of an OVF."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.machine.ledger import Impact, Loss
from vmport_formats.machine.model import ControllerKind, DiskDevice
from vmport_formats.machine.ovf import vocabulary
from vmport_formats.machine.ovf.markup import Item
from vmport_formats.machine.ovf.vocabulary import ResourceType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vmport_formats.machine.ledger import Books
    from vmport_formats.machine.model import Machine
    from vmport_formats.machine.ovf.section import Hardware
    from vmport_formats.machine.vmware import DrivePlan, PlacedController, PlacedDrive


def add_drives(
    machine: Machine,
    books: Books,
    hardware: Hardware,
    plan: DrivePlan,
    resources: Mapping[int, str],
) -> None:
    """Each controller, followed by its drives in the order of their addresses."""
    for controller in plan.controllers:
        item = hardware.add(_controller(controller))
        if controller.origin is not None:
            _account(books, controller, item)
        else:
            after = item.subtype or item.element_name
            books.defaulted(place=item.place, after=after, why="the drives on it need a controller")
        for drive in plan.drives:
            if drive.slot[:2] == (controller.kind, controller.number):
                _drive(machine, books, hardware, drive, item, resources)
    for drive in plan.drives:
        if drive.slot.kind is ControllerKind.FLOPPY:
            _drive(machine, books, hardware, drive, None, resources)
    for index, loss in plan.left_out.items():
        books.dropped(f"disks[{index}]", loss=loss)
    _account_unused(machine, books, hardware, plan)


def _account_unused(machine: Machine, books: Books, hardware: Hardware, plan: DrivePlan) -> None:
    """Enter what became of the storage controllers that no item stands for."""
    used = {controller.origin for controller in plan.controllers}
    floppies = [item for item in hardware.items if item.kind is ResourceType.FLOPPY]
    unused = Loss("no drive hangs on it in the translation", impact=Impact.NONE)
    for index, stated in enumerate(machine.controllers):
        paths = [f"controllers[{index}].{part}" for part in ("kind", "index", "model")]
        if stated.kind is ControllerKind.FLOPPY and floppies:
            books.kept(*paths, place=floppies[0].place)
        elif stated.kind in vocabulary.STORAGE and index not in used:
            for path in paths:
                books.dropped(path, loss=unused)


def _controller(controller: PlacedController) -> Item:
    name = vocabulary.CONTROLLER_NAMES[controller.kind]
    subtype = {
        ControllerKind.SATA: vocabulary.SATA_SUBTYPE,
        ControllerKind.NVME: vocabulary.NVME_SUBTYPE,
    }.get(controller.kind)
    if controller.model is not None:
        subtype = vocabulary.SCSI_SUBTYPES[controller.model]
    return Item(
        vocabulary.CONTROLLER_TYPES[controller.kind],
        f"{name} {controller.number}",
        address=str(controller.number),
        description=name,
        subtype=subtype,
    )


def _account(books: Books, controller: PlacedController, item: Item) -> None:
    """Enter what became of the controller that `item` stands for."""
    path = f"controllers[{controller.origin}]"
    books.kept(f"{path}.kind", place=item.place)
    books.kept(f"{path}.index", place=f"{item.place}/Address", after=item.address)
    place = f"{item.place}/ResourceSubType"
    after = item.subtype or item.element_name
    change = controller.changed
    if change is None:
        books.kept(f"{path}.model", place=place, after=after)
    else:
        books.adapted(
            f"{path}.model",
            place=place,
            after=after,
            why=change.why,
            effect=change.effect,
            action=change.action,
            impact=change.impact,
        )


_KINDS: Final = {
    DiskDevice.DISK: (ResourceType.DISK, "Hard disk"),
    DiskDevice.CDROM: (ResourceType.CD, "CD/DVD drive"),
    DiskDevice.FLOPPY: (ResourceType.FLOPPY, "Floppy drive"),
}


def _drive(
    machine: Machine,
    books: Books,
    hardware: Hardware,
    drive: PlacedDrive,
    parent: Item | None,
    resources: Mapping[int, str],
) -> None:
    disk = machine.disks[drive.index]
    kind, name = _KINDS[drive.device]
    number = sum(item.kind is kind for item in hardware.items) + 1
    hard = drive.device is DiskDevice.DISK
    item = hardware.add(
        Item(
            kind,
            f"{name} {number}",
            address_on_parent=drive.slot.unit,
            # A medium is put in by hand on the new host.
            automatic_allocation=None if hard else False,
            host_resource=resources.get(drive.index),
            parent=None if parent is None else parent.instance_id,
            subtype={
                DiskDevice.CDROM: vocabulary.CD_SUBTYPE,
                DiskDevice.FLOPPY: vocabulary.FLOPPY_SUBTYPE,
            }.get(drive.device),
            required=hard,
        )
    )
    hardware.disks[drive.index] = item
    path = f"disks[{drive.index}]"
    books.kept(f"{path}.device", place=item.place, after=name)
    if books.is_value(path):  # nothing is stated but that there is a disk
        books.kept(path, place=item.place, after=name)
    address = [f"{path}.{part}" for part in ("controller", "channel", "scsi_target", "unit")]
    place = f"{item.place}/AddressOnParent"
    if drive.moved is not None:
        books.adapted(
            f"{path}.bus",
            place=item.place,
            after=str(drive.slot.kind),
            why=drive.moved.why,
            effect=drive.moved.effect,
            action=drive.moved.action,
            impact=drive.moved.impact,
        )
        why = "the drive hangs on another kind of controller"
        books.adapted(*address, place=place, after=str(drive.slot), why=why)
    else:
        books.kept(f"{path}.bus", place=item.place, after=str(drive.slot.kind))
        if drive.readdressed:
            books.adapted(*address, place=place, after=str(drive.slot), why=drive.readdressed)
        else:
            books.kept(*address, place=place, after=str(drive.slot))
    if not hard:
        _medium(machine, books, drive, item)
    if hard and disk.read_only is not None:
        if disk.read_only:
            why = "OVF has no read-only disks"
            effect = "the guest can write to it"
            books.dropped(f"{path}.read_only", loss=Loss(why, effect, impact=Impact.MINOR))
        else:
            books.kept(f"{path}.read_only", place=item.place)
    if disk.rotation_rate is not None:
        key = f"{drive.slot}.virtualSSD"
        if disk.rotation_rate == 1 and hard:
            hardware.extra[key] = "1"
        after = "a solid-state disk" if key in hardware.extra else "a disk that turns"
        why = "VMware knows solid-state disks and others, and no speeds"
        books.adapted(f"{path}.rotation_rate", place=f"ExtraConfig {key}", after=after, why=why)


def _medium(machine: Machine, books: Books, drive: PlacedDrive, item: Item) -> None:
    disk = machine.disks[drive.index]
    path = f"disks[{drive.index}]"
    source = disk.source
    books.kept(f"{path}.read_only", place=item.place)
    books.kept(f"{path}.connected", place=f"{item.place}/AutomaticAllocation", after="false")
    if source is None or not (source.path or source.name or source.volume):
        books.kept(f"{path}.source", place=item.place, after="an empty drive")
        return
    medium = source.path or source.name or source.volume
    loss = Loss(
        "the medium in the drive is a file of the old host; a package carries disks only",
        "the drive is empty",
        f"put {medium} into the drive on the new host",
        Impact.MINOR,
    )
    for part in ("kind", "path", "pool", "volume", "protocol", "name", "capacity"):
        if books.is_stated(f"{path}.source.{part}"):
            books.dropped(f"{path}.source.{part}", loss=loss)
