"""A machine as an OVF 1.1 envelope, with an account of what became of each of its values.

Sources: DMTF DSP0243 1.1.1 (Open Virtualization Format Specification); VMware's extensions as its
products export them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from vmport_formats.errors import UnsupportedFeature
from vmport_formats.machine import guest_os, vmware
from vmport_formats.machine.guest_os import Fit
from vmport_formats.machine.guest_os_table import CIM_NAMES, Family
from vmport_formats.machine.ledger import Books, Impact, Loss, Verdict
from vmport_formats.machine.model import Architecture, ClockBase, Virtualization
from vmport_formats.machine.ovf import vocabulary
from vmport_formats.machine.ovf.boot import plan_boot
from vmport_formats.machine.ovf.envelope import VBOX, VMW
from vmport_formats.machine.ovf.hardware import describe_hardware
from vmport_formats.machine.ovf.markup import (
    append,
    append_config,
    append_item,
    append_system,
    envelope,
    serialize,
    writable,
)
from vmport_formats.machine.ovf.package import DiskFacts, account_for_disk, plan_packages
from vmport_formats.machine.vmware.losses import VMWARE_LOSSES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lxml import etree

    from vmport_formats.machine.ledger import Writing
    from vmport_formats.machine.model import Machine
    from vmport_formats.machine.ovf.package import Package
    from vmport_formats.machine.ovf.section import Hardware

__all__ = ["DiskFacts", "write_ovf"]

DIALECT: Final = "OVF"


def write_ovf(
    machine: Machine,
    *,
    name: str,
    hardware: int | None = None,
    facts: Mapping[int, DiskFacts] | None = None,
) -> Writing:
    """`machine` as an OVF.

    `name` is the package's, the name of its file without the suffix: a machine or a disk that has
    no name is called after it.  `hardware` asks for a version of VMware's virtual hardware;
    otherwise it is the source's, or a common one, and higher where the machine needs it.  `facts`
    has, by index into the machine's disks, what is known of them.

    Raises:
        UnsupportedFeature: VMware cannot run it at all: another architecture, or too large.
        UsageError: the machine needs a higher version than `hardware`; or a hard disk's capacity
            is known neither from the machine nor from `facts`: OVF must state it, and a wrong one
            makes an import fail.
    """
    _refuse_foreign(machine)
    books = Books(machine, dialect=DIALECT)
    machine = _with_hardware(machine, books, hardware)
    plan = vmware.plan_drives(machine)
    packages = plan_packages(machine, plan, name, facts or {})
    resources = {index: f"ovf:/disk/{disk.disk_id}" for index, disk in packages.items()}
    section = describe_hardware(machine, books, plan, resources)
    conversions = [
        conversion
        for index, package in packages.items()
        if (conversion := account_for_disk(machine, books, index, package)) is not None
    ]
    root = envelope()
    _references(root, packages)
    _disk_section(root, packages)
    _network_section(root, section)
    system = _virtual_system(root, machine, books, name)
    _operating_system(system, machine, books)
    boot = plan_boot(machine, books, section, plan)
    _hardware_section(system, machine, books, section, name)
    if boot is not None:
        boot.append_to(system)
    _clock(machine, books)
    text = serialize(root)
    return books.close(text, losses=VMWARE_LOSSES, conversions=conversions)


def _refuse_foreign(machine: Machine) -> None:
    if machine.architecture not in (None, Architecture.X86_64, Architecture.I686):
        raise UnsupportedFeature(
            None,
            code="ovf.architecture",
            problem=f"the machine is made for {machine.architecture} processors; an OVF for VMware "
            "or VirtualBox describes x86 machines",
            hint="choose a hypervisor that emulates or runs this architecture",
        )


def _with_hardware(machine: Machine, books: Books, asked: int | None) -> Machine:
    """The machine with the virtual hardware version that it gets."""
    version, verdict, why = vmware.choose_hardware(machine, asked)
    place, after = "VirtualSystemType", _family(version)
    if verdict is Verdict.KEPT:
        books.kept("hardware_version", place=place, after=after)
    elif verdict is Verdict.ADAPTED:
        books.adapted("hardware_version", place=place, after=after, why=why)
    else:
        books.defaulted(place=place, after=after, why=why)
        asked_for = Loss("another version was asked for", impact=Impact.NONE)
        books.dropped("hardware_version", loss=asked_for)
    return replace(machine, hardware_version=version)


def _family(version: int) -> str:
    return f"vmx-{version:02}"


# --- Sections of the envelope ----------------------------------------------------------------


def _references(root: etree._Element, packages: Mapping[int, Package]) -> None:
    references = append(root, "References")
    for package in packages.values():
        if package.href is None:
            continue
        attributes = {"id": package.file_id, "href": quote(writable(package.href), safe="/ +@=")}
        if package.size is not None:
            attributes["size"] = str(package.size)
        append(references, "File", None, attributes)


def _disk_section(root: etree._Element, packages: Mapping[int, Package]) -> None:
    if not packages:
        return
    section = append(root, "DiskSection")
    append(section, "Info", "The virtual disks")
    for package in packages.values():
        attributes = {
            "capacity": str(package.capacity),
            "capacityAllocationUnits": "byte",
            "diskId": package.disk_id,
            "format": vocabulary.STREAM_OPTIMIZED,
        }
        if package.href is not None:
            attributes["fileRef"] = package.file_id
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
    called = machine.name or name
    system = append(root, "VirtualSystem", None, {"id": called})
    append(system, "Info", "A virtual machine")
    append(system, "Name", called)
    if machine.name is None:
        books.defaulted(
            place="Name", after=called, why="the source states no name; it is called after the file"
        )
    books.kept("name", place="Name", after=called)
    lines = [text for text in (machine.title, machine.annotation) if text is not None]
    if lines:
        section = append(system, "AnnotationSection")
        append(section, "Info", "What people say about it")
        append(section, "Annotation", "\n\n".join(lines))
    books.kept("annotation", place="Annotation")
    books.adapted(
        "title",
        place="Annotation",
        after="the first line of the annotation",
        why="OVF has no title beside the name",
    )
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
    if version := guest_os.version_text(guest, bits=bits):
        attributes["version"] = version
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
    after = f"{number.id} {CIM_NAMES.get(number.id, '')}".strip()
    if guest.cim is None or guest.cim == number.id:
        books.kept("guest_os.cim", place=f"{place}/id", after=after)
    else:
        why = number.why or "another id says more exactly which system it is"
        books.adapted("guest_os.cim", place=f"{place}/id", after=after, why=why)


def _hardware_section(
    system: etree._Element, machine: Machine, books: Books, hardware: Hardware, name: str
) -> None:
    version = vmware.hardware_version(machine)
    section = append(system, "VirtualHardwareSection")
    append(section, "Info", "The virtual hardware")
    append_system(section, identifier=machine.name or name, family=_family(version))
    for item in hardware.items:
        append_item(section, item)
    for key, value in sorted(hardware.configs.items()):
        append_config(section, "Config", key, value)
    for key, value in sorted(hardware.extra.items()):
        append_config(section, "ExtraConfig", key, value)
    if machine.virtualization is Virtualization.FULL:
        books.kept("virtualization", place=vmware.ALWAYS)
    books.adapted(
        "architecture",
        place="OperatingSystemSection",
        after=f"a {vmware.width(machine)}-bit guest system",
        why="OVF says it by the guest system",
    )


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
