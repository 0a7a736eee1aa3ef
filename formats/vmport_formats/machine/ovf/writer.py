"""A machine as an OVF 1.1 envelope, with an account of what became of each of its values.

Sources: DMTF DSP0243 1.1.1 (Open Virtualization Format Specification); VMware's extensions as its
products export them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from vmport_formats.errors import UnsupportedFeature, UsageError
from vmport_formats.machine import guest_os, vmware
from vmport_formats.machine.guest_os import Fit
from vmport_formats.machine.guest_os_table import CIM_NAMES, Family
from vmport_formats.machine.ledger import Books, DiskConversion, Impact, Loss
from vmport_formats.machine.model import (
    Architecture,
    BootDevice,
    ClockBase,
    DiskDevice,
    DiskSourceKind,
)
from vmport_formats.machine.ovf import vocabulary
from vmport_formats.machine.ovf.envelope import VBOX, VMW
from vmport_formats.machine.ovf.hardware import describe_hardware
from vmport_formats.machine.ovf.markup import (
    append,
    append_config,
    append_item,
    append_system,
    envelope,
    serialize,
)
from vmport_formats.machine.vmware_losses import VMWARE_LOSSES
from vmport_formats.units import SECTOR, Bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lxml import etree

    from vmport_formats.machine.ledger import Writing
    from vmport_formats.machine.model import Disk, DiskSource, Machine
    from vmport_formats.machine.ovf.hardware import Hardware
    from vmport_formats.machine.vmware import DrivePlan

DIALECT: Final = "OVF"


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """What the caller knows of a disk and the machine's descriptor does not say."""

    capacity: Bytes
    """The virtual size."""
    stream_optimized: Bytes | None = None
    """The file's length, when the file is a streamOptimized VMDK already and needs no conversion;
    None when it is anything else."""


@dataclass(frozen=True, slots=True)
class _Package:
    """A hard disk as the package holds it."""

    file_id: str
    disk_id: str
    href: str
    capacity: Bytes
    size: Bytes | None
    """Of the file; None while it is still to be made."""


def write_ovf(
    machine: Machine, *, name: str, facts: Mapping[int, DiskFacts] | None = None
) -> Writing:
    """`machine` as an OVF.

    `name` is the source's file name: the machine's own name, when it states none, and what errors
    are about.  `facts` has, by index into the machine's disks, what is known of them.

    Raises:
        UnsupportedFeature: the guest's processor is no x86, the only one that VMware has.
        UsageError: a hard disk's capacity is known neither from the machine nor from `facts`; OVF
            must state it, and a wrong one makes an import fail.
    """
    _refuse_foreign(machine, name)
    books = Books(machine, dialect=DIALECT)
    plan = vmware.plan_drives(machine)
    packages = _packages(machine, plan, name, facts or {})
    resources = {index: f"ovf:/disk/{disk.disk_id}" for index, disk in packages.items()}
    hardware = describe_hardware(machine, books, plan, resources)
    conversions = [
        conversion
        for index, package in packages.items()
        if (conversion := _disk_source(machine, books, index, package)) is not None
    ]
    root = envelope()
    _references(root, packages)
    _disk_section(root, packages)
    _network_section(root, hardware)
    system = _virtual_system(root, machine, books, name)
    _operating_system(system, machine, books)
    _hardware_section(system, machine, books, hardware, name)
    _boot_order(system, machine, books, hardware, plan)
    _clock(machine, books)
    text = serialize(root)
    return books.close(text, losses=VMWARE_LOSSES, conversions=conversions)


def _refuse_foreign(machine: Machine, name: str) -> None:
    if machine.architecture not in (None, Architecture.X86_64, Architecture.I686):
        raise UnsupportedFeature(
            name,
            code="ovf.architecture",
            problem=f"the guest's processor is {machine.architecture}; VMware's and VirtualBox's "
            "machines that an OVF describes are x86",
        )


# --- Disks --------------------------------------------------------------------------------------


def _packages(
    machine: Machine, plan: DrivePlan, name: str, facts: Mapping[int, DiskFacts]
) -> dict[int, _Package]:
    """The hard disks of the package, in the order of the plan."""
    packages: dict[int, _Package] = {}
    unknown: list[tuple[int, Disk]] = []
    names: set[str] = set()
    for drive in plan.drives:
        if drive.device is not DiskDevice.DISK:
            continue
        disk = machine.disks[drive.index]
        known = facts.get(drive.index)
        capacity = known.capacity if known is not None else None
        if capacity is None and disk.source is not None:
            capacity = disk.source.capacity
        if capacity is None:
            unknown.append((drive.index, disk))
            continue
        number = len(packages) + 1
        ready = None if known is None else known.stream_optimized
        packages[drive.index] = _Package(
            file_id=f"file{number}",
            disk_id=f"vmdisk{number}",
            href=_file_name(disk, ready is not None, machine.name or name, number, names),
            capacity=Bytes(-(-capacity // SECTOR) * SECTOR),
            size=ready,
        )
    if unknown:
        raise _capacity_unknown(name, unknown)
    return packages


def _capacity_unknown(name: str, disks: list[tuple[int, Disk]]) -> UsageError:
    called = [disk.target or f"disk {index + 1}" for index, disk in disks]
    paths = [disk.source.path for _, disk in disks if disk.source and disk.source.path]
    folders = sorted({path.rpartition("/")[0] or "." for path in paths})
    options = " ".join(f"--disk-size {item}=SIZE" for item in called)
    hint = f"add {options}"
    if len(paths) == len(disks):
        allow = " ".join(f"--allow {folder}" for folder in folders)
        hint = f"add {allow} to read the sizes from the disks, or {options}"
    return UsageError(
        name,
        code="ovf.capacity",
        problem=f"an OVF states the size of each disk, and this descriptor does not state that of "
        f"{', '.join(called)}",
        hint=hint,
    )


def _file_name(disk: Disk, ready: bool, machine: str, number: int, taken: set[str]) -> str:
    """The name of a disk's file in the package: its own, with VMware's suffix; unique."""
    path = disk.source.path if disk.source is not None else None
    base = (path or "").replace("\\", "/").rpartition("/")[2]
    stem, dot, suffix = base.rpartition(".")
    stem = stem if dot and stem and len(suffix) <= 8 else base
    if ready and suffix.lower() == "vmdk":
        stem = base[: -len(".vmdk")]
    if not stem.strip(". "):
        stem = f"{machine.replace('/', '-')}-disk{number}"
    name = f"{stem}.vmdk"
    count = 1
    while name.lower() in taken:
        name = f"{stem}-{count}.vmdk"
        count += 1
    taken.add(name.lower())
    return name


def _disk_source(
    machine: Machine, books: Books, index: int, package: _Package
) -> DiskConversion | None:
    """Enter what became of a disk's source; the conversion that it needs."""
    source = machine.disks[index].source
    path = f"disks[{index}].source"
    place = f"File {package.file_id}/href"
    books.kept(f"{path}.capacity", place=f"Disk {package.disk_id}/capacity")
    if source is None or package.size is not None:
        books.kept(path, place=place, after=package.href)
        return None
    parts = [f"{path}.{part}" for part in ("kind", "path", "pool", "volume", "protocol", "name")]
    books.adapted(
        *parts,
        place=place,
        after=package.href,
        why="the package holds the disk as a streamOptimized VMDK",
        action=f"convert {_called(source)} to {package.href}",
    )
    return DiskConversion(_called(source), source.format, package.href, "vmdk")


def _called(source: DiskSource) -> str:
    """A disk's source in a few words."""
    if source.path:
        return source.path
    if source.kind is DiskSourceKind.VOLUME:
        return f"volume {source.volume} of pool {source.pool}"
    if source.name:
        return f"{source.protocol or 'network disk'} {source.name}"
    return "the disk"


def _references(root: etree._Element, packages: Mapping[int, _Package]) -> None:
    references = append(root, "References")
    for package in packages.values():
        attributes = {"id": package.file_id, "href": quote(package.href, safe="/ !$&'()*+,;=@~")}
        if package.size is not None:
            attributes["size"] = str(package.size)
        append(references, "File", None, attributes)


def _disk_section(root: etree._Element, packages: Mapping[int, _Package]) -> None:
    if not packages:
        return
    section = append(root, "DiskSection")
    append(section, "Info", "The virtual disks")
    for package in packages.values():
        attributes = {
            "capacity": str(package.capacity),
            "capacityAllocationUnits": "byte",
            "diskId": package.disk_id,
            "fileRef": package.file_id,
            "format": vocabulary.STREAM_OPTIMIZED,
        }
        append(section, "Disk", None, attributes)


def _network_section(root: etree._Element, hardware: Hardware) -> None:
    if not hardware.networks:
        return
    section = append(root, "NetworkSection")
    append(section, "Info", "The logical networks")
    for name in hardware.networks:
        network = append(section, "Network", None, {"name": name})
        append(network, "Description", f"The network {name} of the old host")


# --- The system ---------------------------------------------------------------------------------


def _virtual_system(
    root: etree._Element, machine: Machine, books: Books, name: str
) -> etree._Element:
    called = machine.name or name.replace("\\", "/").rpartition("/")[2].rpartition(".")[0] or name
    system = append(root, "VirtualSystem", None, {"id": called})
    append(system, "Info", "A virtual machine")
    append(system, "Name", called)
    if machine.name is None:
        books.defaulted(place="Name", after=called, why="the source states no name")
    books.kept("name", place="Name", after=called)
    lines = [text for text in (machine.title, machine.annotation) if text]
    if lines:
        section = append(system, "AnnotationSection")
        append(section, "Info", "What people say about it")
        append(section, "Annotation", "\n\n".join(lines))
        if machine.title is not None:
            books.adapted(
                "title",
                place="Annotation",
                after="the first line of the annotation",
                why="OVF has no title beside the name",
            )
        books.kept("annotation", place="Annotation")
    return system


def _operating_system(system: etree._Element, machine: Machine, books: Books) -> None:
    guest = machine.guest_os
    bits = vmware.width(machine)
    hardware = vmware.hardware_version(machine)
    number = guest_os.for_cim(guest, bits=bits)
    vsphere = guest_os.for_vmware(guest, bits=bits, hardware=hardware)
    virtualbox = guest_os.for_virtualbox(guest, bits=bits)
    description = guest_os.describe(guest, bits=bits)
    attributes = {"id": str(number.id), f"{{{VMW}}}osType": vsphere.id.id}
    if guest is not None and guest.version:
        attributes["version"] = guest.version
    section = append(system, "OperatingSystemSection", None, attributes)
    append(section, "Info", "The guest operating system")
    append(section, "Description", description)
    append(section, "OSType", virtualbox.id, {"required": "false"}, space=VBOX)
    place = "OperatingSystemSection"
    if guest is None:
        why = "the source does not say which operating system is inside"
        action = "set the guest operating system after the import"
        books.defaulted(
            place=f"{place}/osType",
            after=vsphere.id.id,
            why=why,
            action=action,
            impact=Impact.MINOR,
        )
        return
    books.kept("guest_os.version", "guest_os.description", place=place)
    stated = [key for key in ("osinfo", "vmware", "vsphere") if getattr(guest, key) is not None]
    paths = [f"guest_os.{key}" for key in stated]
    if vsphere.fit is Fit.EXACT:
        books.kept(*paths, place=f"{place}/osType", after=vsphere.id.id)
    else:
        substitute = vsphere.fit is Fit.SUBSTITUTE
        books.adapted(
            *paths,
            place=f"{place}/osType",
            after=f"{vsphere.id.id} (vmw:osType), {virtualbox.id} (vbox:OSType)",
            why=vsphere.why,
            action="set the guest operating system after the import" if substitute else "",
        )
    books.kept("guest_os.virtualbox", place=f"{place}/OSType", after=virtualbox.id)
    if guest.cim is not None and guest.cim != number.id:
        books.adapted(
            "guest_os.cim", place=f"{place}/id", after=str(number.id), why=number.why or "as named"
        )
    label = CIM_NAMES.get(number.id, "")
    books.kept("guest_os.cim", place=f"{place}/id", after=f"{number.id} {label}".strip())


def _hardware_section(
    system: etree._Element, machine: Machine, books: Books, hardware: Hardware, name: str
) -> None:
    version = vmware.hardware_version(machine)
    section = append(system, "VirtualHardwareSection")
    append(section, "Info", "The virtual hardware")
    append_system(section, identifier=machine.name or name, family=f"vmx-{version:02}")
    for item in hardware.items:
        append_item(section, item)
    for key, value in sorted(hardware.configs.items()):
        append_config(section, "Config", key, value)
    for key, value in sorted(hardware.extra.items()):
        append_config(section, "ExtraConfig", key, value)
    place = "VirtualSystemType"
    family = f"vmx-{version:02}"
    if machine.hardware_version == version:
        books.kept("hardware_version", place=place, after=family)
    elif machine.hardware_version is None:
        why = "the source is not of VMware; ESXi 7.0 U2 and later run this version"
        books.defaulted(place=place, after=family, why=why)
    else:
        why = f"there is no virtual hardware {machine.hardware_version}"
        books.adapted("hardware_version", place=place, after=family, why=why)
    books.adapted(
        "architecture",
        place="OperatingSystemSection",
        after=f"a {vmware.width(machine)}-bit guest system",
        why="OVF says it by the guest system",
    )


# --- Boot and clock -----------------------------------------------------------------------------


def _boot_order(
    system: etree._Element,
    machine: Machine,
    books: Books,
    hardware: Hardware,
    plan: DrivePlan,
) -> None:
    """Say what to boot first, where VMware would choose otherwise by itself.

    VMware tries disks first, in the order of their places, then CDs, then networks.
    """
    paths = [
        *(f"disks[{index}].boot_order" for index in range(len(machine.disks))),
        *(f"nics[{index}].boot_order" for index in range(len(machine.nics))),
        "boot.order",
    ]
    place, after, why = _first_to_boot(system, machine, hardware, plan)
    ranked = sum(books.is_stated(path) for path in paths[:-1])
    several = ranked > 1 or (machine.boot is not None and len(machine.boot.order) > 1)
    if place == "(VMware's own order)" and not several:
        books.kept(*paths, place=place, after=after)
        return
    for path in paths:
        books.adapted(
            path,
            place=place,
            after=after,
            why=why,
            action="set the boot order on the new host, if more than the first device matters",
        )


def _first_to_boot(
    system: etree._Element, machine: Machine, hardware: Hardware, plan: DrivePlan
) -> tuple[str, str, str]:
    """Write what boots first; where it is written, in words, and why so."""
    own = "(VMware's own order)"
    disks = [drive.index for drive in plan.drives if drive.device is DiskDevice.DISK]
    ranked = sorted(
        [
            *((disk.boot_order, 0, i) for i, disk in enumerate(machine.disks) if disk.boot_order),
            *((nic.boot_order, 1, i) for i, nic in enumerate(machine.nics) if nic.boot_order),
        ]
    )
    kinds = machine.boot.order if machine.boot is not None else ()
    first: BootDevice | None = None
    index: int | None = None
    if ranked:
        _, network, index = ranked[0]
        device = DiskDevice.DISK if network else machine.disks[index].device
        first = {DiskDevice.CDROM: BootDevice.CDROM, DiskDevice.FLOPPY: BootDevice.FLOPPY}.get(
            device or DiskDevice.DISK, BootDevice.DISK
        )
        first = BootDevice.NETWORK if network else first
    elif kinds:
        first = kinds[0]
    if first is None:
        return own, "disks first", ""
    if first is BootDevice.DISK and (index is None or not disks or index == disks[0]):
        return own, "disks first, then CDs, then networks", "OVF names the first device only"
    if first is BootDevice.DISK and index in hardware.disks:
        item = hardware.disks[index]
        _boot_section(system, "disk", item.instance_id)
        return "BootOrderSection", f"{item.element_name} first", "OVF names the first device only"
    if first is BootDevice.CDROM:
        _boot_section(system, "cdrom", None)
        return "BootOrderSection", "CD first", "OVF names the first device only"
    if first is BootDevice.NETWORK:
        card = index if index is not None and index in hardware.nics else 0
        order = f"ethernet{card},hdd,cdrom"
        section = next(child for child in system if str(child.tag).endswith("HardwareSection"))
        append_config(section, "ExtraConfig", "bios.bootOrder", order)
        return "ExtraConfig bios.bootOrder", order, "OVF itself has no network boot"
    return own, "disks first, then CDs, then networks", "OVF cannot say it"


def _boot_section(system: etree._Element, kind: str, instance: int | None) -> None:
    attributes = {f"{{{VMW}}}type": kind, "required": "false"}
    if instance is not None:
        attributes[f"{{{VMW}}}instanceId"] = str(instance)
    section = append(system, "BootOrderSection", None, attributes, space=VMW)
    append(section, "Info", "What to boot first")


def _clock(machine: Machine, books: Books) -> None:
    """VMware decides by the guest system what the clock shows; say so where that differs."""
    clock = machine.clock
    if clock is None or clock.base is None:
        return
    guest = vmware.guest_system(machine)
    windows = guest is not None and guest.family is Family.WINDOWS
    if (clock.base is ClockBase.UTC) != windows and clock.base in (
        ClockBase.UTC,
        ClockBase.LOCALTIME,
    ):
        return
    local = "local time" if windows else "UTC"
    books.dropped(
        "clock.base",
        loss=Loss(
            f"VMware sets the clock of such a guest to {local}",
            "the guest's clock is off by its time zone until it asks a time server",
            "have the guest take its time from a server",
            Impact.MINOR,
        ),
    )
