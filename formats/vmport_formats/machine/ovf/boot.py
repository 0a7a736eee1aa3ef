"""What an OVF says of the boot order: only what VMware would not choose by itself.

VMware tries hard disks first, in the order of their places, then CDs, then networks.  Where the
source wants another first device, VMware's ``BootOrderSection`` (for a disk or a CD) or the setting
``bios.bootOrder`` (for a network) names it.  A section that is not needed is not written: some
vCenters refuse an import because of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vmport_formats.machine.ledger import Impact
from vmport_formats.machine.model import BootDevice, DiskDevice
from vmport_formats.machine.ovf.envelope import VMW
from vmport_formats.machine.ovf.markup import append

if TYPE_CHECKING:
    from lxml import etree

    from vmport_formats.machine.ledger import Books
    from vmport_formats.machine.model import Machine
    from vmport_formats.machine.ovf.section import Hardware
    from vmport_formats.machine.vmware import DrivePlan

_OWN_ORDER: Final = (BootDevice.DISK, BootDevice.CDROM, BootDevice.NETWORK)
_KINDS: Final = {DiskDevice.CDROM: BootDevice.CDROM, DiskDevice.FLOPPY: BootDevice.FLOPPY}


@dataclass(frozen=True, slots=True)
class _Wish:
    """One entry of the source's boot order."""

    path: str
    kind: BootDevice
    index: int | None = None
    """Into the machine's disks or network cards; None: all of the kind."""
    position: int = 0
    """Among the devices of its kind, as VMware counts them."""

    @property
    def rank(self) -> tuple[int, int]:
        """When VMware would try it by itself."""
        known = self.kind in _OWN_ORDER
        return _OWN_ORDER.index(self.kind) if known else len(_OWN_ORDER), self.position


@dataclass(frozen=True, slots=True)
class BootSection:
    """A ``BootOrderSection``, to be written."""

    kind: str
    instance_id: int | None = None

    def append_to(self, system: etree._Element) -> None:
        """Write it at the end of a virtual system."""
        attributes = {"required": "false", f"{{{VMW}}}type": self.kind}
        if self.instance_id is not None:
            attributes[f"{{{VMW}}}instanceId"] = str(self.instance_id)
        section = append(system, "BootOrderSection", None, attributes, space=VMW)
        append(section, "Info", "What to boot first")


def plan_boot(
    machine: Machine, books: Books, hardware: Hardware, plan: DrivePlan
) -> BootSection | None:
    """The section that the boot order needs, if any; it may add a setting to `hardware` instead."""
    wishes = _wishes(machine, plan)
    if not wishes:
        return None
    if _is_own_order(wishes, machine, hardware):
        paths = [wish.path for wish in wishes]
        books.kept(*paths, place="(VMware's own order)", after="disks, CDs, networks")
        return None
    first, *rest = wishes
    section: BootSection | None = None
    place: str | None = "BootOrderSection"
    after = f"{first.kind} first"
    if first.kind is BootDevice.DISK and first.index in hardware.disks:
        item = hardware.disks[first.index]
        section = BootSection("disk", item.instance_id)
        after = f"{item.element_name} first"
    elif first.kind is BootDevice.CDROM:
        section = BootSection("cdrom")
    elif first.kind is BootDevice.NETWORK and hardware.configs.get("firmware") == "bios":
        card = first.index if first.index in hardware.nics else 0
        after = f"ethernet{card},hdd,cdrom"
        hardware.extra["bios.bootOrder"] = after
        place = "ExtraConfig bios.bootOrder"
    else:
        place, rest = None, wishes
    if place is not None:
        books.kept(first.path, place=place, after=after)
    for wish in rest:
        books.adapted(
            wish.path,
            place=place,
            after="disks, CDs, networks",
            why="an OVF can name the first device only, and not every kind",
            effect="" if place else "the guest may start from another device",
            action="set the boot order on the new host",
            impact=Impact.NONE if place else Impact.MINOR,
        )
    return section


def _wishes(machine: Machine, plan: DrivePlan) -> list[_Wish]:
    """The source's boot order; that of single devices goes before that of kinds."""
    places = {drive.index: position for position, drive in enumerate(plan.drives)}
    ranked = [
        *(
            (disk.boot_order, _disk_wish(index, disk.device, places.get(index, len(places))))
            for index, disk in enumerate(machine.disks)
            if disk.boot_order is not None
        ),
        *(
            (nic.boot_order, _Wish(f"nics[{index}].boot_order", BootDevice.NETWORK, index, index))
            for index, nic in enumerate(machine.nics)
            if nic.boot_order is not None
        ),
    ]
    single = [wish for _, wish in sorted(ranked, key=lambda pair: pair[0])]
    kinds = machine.boot.order if machine.boot is not None else ()
    return single + [_Wish(f"boot.order[{index}]", kind) for index, kind in enumerate(kinds)]


def _disk_wish(index: int, device: DiskDevice | None, position: int) -> _Wish:
    kind = _KINDS.get(device or DiskDevice.DISK, BootDevice.DISK)
    return _Wish(f"disks[{index}].boot_order", kind, index, position)


def _is_own_order(wishes: list[_Wish], machine: Machine, hardware: Hardware) -> bool:
    """Whether VMware, left alone, would try these devices in this order."""
    ranks = [wish.rank for wish in wishes]
    if ranks != sorted(set(ranks)) or ranks[-1][0] == len(_OWN_ORDER):
        return False
    devices = [machine.disks[index].device or DiskDevice.DISK for index in hardware.disks]
    disks = [wish for wish in wishes if wish.kind is BootDevice.DISK]
    if disks:
        hard = [
            index
            for index in hardware.disks
            if (machine.disks[index].device or DiskDevice.DISK) is DiskDevice.DISK
        ]
        return disks[0].index is None or hard[:1] == [disks[0].index]
    if DiskDevice.DISK in devices:
        return False
    return wishes[0].kind is BootDevice.CDROM or DiskDevice.CDROM not in devices
