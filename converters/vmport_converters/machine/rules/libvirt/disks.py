"""Rules for the targets, sources and formats of the disks of a libvirt domain."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from vmport_converters.machine.rules.libvirt.view import (
    ALL,
    QEMU,
    RULES,
    name_of,
)
from vmport_converters.machine.rules.model import Found, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lxml import etree

    from vmport_converters.machine.rules.libvirt.view import DomainView

_TARGET: Final = re.compile(r"(?:ioemu:)?(?:fd|hd|sd|vd|xvd|ubd)[a-z0-9_]*", re.IGNORECASE)
_PARTITION: Final = re.compile(r"(?:hd|sd|vd|xvd)[a-z]+\d+")
_SOURCES: Final = {"file": "file", "block": "dev", "dir": "dir", "volume": "volume"}
_BUS_BY_PREFIX: Final = {
    "fd": "fdc",
    "hd": "ide",
    "sd": "scsi",
    "vd": "virtio",
    "xvd": "xen",
    "ubd": "uml",
}

# Formats that QEMU does not open as a guest's disk, and what to write instead.
_NO_DISK_FORMATS: Final = {"cow": "qcow2", "dir": "raw, with <disk type='dir'>", "iso": "raw"}


def kind_of(disk: etree._Element) -> str:
    """What the guest takes it for: ``disk``, ``cdrom``, ``floppy`` or ``lun``."""
    return disk.get("device") or "disk"


def target_of(disk: etree._Element) -> str:
    """The name that libvirt suggests to the guest, such as ``vda``; empty without one."""
    target = disk.find("target")
    return "" if target is None else (target.get("dev") or "")


def bus_of(disk: etree._Element) -> str:
    """The bus that it is on, as stated or by its name; empty when neither says."""
    target = disk.find("target")
    stated = None if target is None else target.get("bus")
    if stated:
        return stated
    if kind_of(disk) == "floppy":
        return "fdc"
    name = target_of(disk).removeprefix("ioemu:")
    return next((bus for prefix, bus in _BUS_BY_PREFIX.items() if name.startswith(prefix)), "")


def index_of(name: str) -> int | None:
    """Which disk of its kind a name means: 0 for ``sda``, 26 for ``sdaa``; None: it says none."""
    found = re.fullmatch(r"(?:fd|hd|sd|vd|xvd|ubd)([a-z]{1,3})", name)
    if found is None:
        return None
    index = 0
    for letter in found[1]:
        index = index * 26 + ord(letter) - ord("a") + 1
    return index - 1


def place_of(disk: etree._Element) -> tuple[int, int, int] | None:
    """Controller, bus and unit that libvirt derives from the name of a disk without address."""
    index, bus = index_of(target_of(disk)), bus_of(disk)
    if index is None:
        return None
    if bus == "ide":
        return index // 4, index // 2 % 2, index % 2
    if bus == "sata":
        return index // 6, 0, index % 6
    if bus == "fdc":
        return index // 2, 0, index % 2
    if bus == "scsi" and index < 7:
        return 0, 0, index
    return None


@RULES.rule("target-missing", Severity.ERROR, affects=ALL)
def target_missing(domain: DomainView) -> Iterator[Found]:
    """A disk has no ``<target dev>``.

    libvirt refuses the domain: "missing target information for device".
    """
    for disk in domain.disks:
        if not target_of(disk):
            element = disk.find("target")
            yield domain.at(
                disk if element is None else element,
                "the disk has no <target dev>",
                "add <target dev='vda' bus='virtio'/>, with a name of its own",
            )


@RULES.rule("target-duplicate", Severity.ERROR, affects=ALL)
def target_duplicate(domain: DomainView) -> Iterator[Found]:
    """Two disks have the same ``<target dev>``.

    libvirt refuses the domain: "target duplicated for disk sources".
    """
    seen: dict[str, etree._Element] = {}
    for disk in domain.disks:
        element, name = disk.find("target"), target_of(disk)
        if element is None or not name or domain.root.get("type") == "vmware":
            continue  # libvirt's VMX driver itself gives one name to disks on several buses
        first = seen.setdefault(name, disk)
        if first is not disk:
            yield domain.at(
                element,
                f"the disk in line {domain.line(first)} is {name} already",
                "give each disk a name of its own",
                attribute="dev",
            )


@RULES.rule("target-name", Severity.ERROR, affects=QEMU)
def target_name(domain: DomainView) -> Iterator[Found]:
    """The ``<target dev>`` of a disk is no name that libvirt takes.

    It begins with hd, sd, vd, xvd, ubd or fd and names a whole disk; "invalid harddisk device
    name" otherwise.
    """
    for disk in domain.disks:
        element, name = disk.find("target"), target_of(disk)
        if element is None or not name or not domain.is_qemu:
            continue
        problem = None
        if kind_of(disk) == "floppy" and not name.startswith("fd"):
            problem = f"a floppy drive cannot be called {name}; its name begins with fd"
        elif kind_of(disk) in ("disk", "lun") and _TARGET.fullmatch(name) is None:
            problem = f"a disk cannot be called {name!r}"
        elif _PARTITION.fullmatch(name):
            problem = f"{name} is a partition; a disk has no number at its end"
        if problem is not None:
            yield domain.at(
                element,
                problem,
                "write a name such as vda, sda or hdc",
                attribute="dev",
                expected="hd, sd, vd, xvd, ubd or fd and letters",
            )


@RULES.rule("source-missing", Severity.ERROR, affects=QEMU)
def source_missing(domain: DomainView) -> Iterator[Found]:
    """A hard disk has no source.

    Only a CD or floppy drive may be empty; libvirt refuses the domain.
    """
    for disk in domain.disks:
        attribute = _SOURCES.get(disk.get("type") or "file")
        element = disk.find("source")
        if attribute is None or not domain.is_qemu or kind_of(disk) not in ("disk", "lun"):
            continue
        if element is None or not (element.get(attribute) or "").strip():
            others = element is not None and any(map(element.get, _SOURCES.values()))
            if others:
                continue  # source-type says it better
            yield domain.at(
                disk if element is None else element,
                f"{name_of(disk)} has no source",
                f"add <source {attribute}='…'/>",
            )


@RULES.rule("source-type", Severity.ERROR, affects=ALL)
def source_type(domain: DomainView) -> Iterator[Found]:
    """The source of a disk is written for another ``type`` than the disk has.

    ``type='file'`` goes with ``<source file>``, ``block`` with ``dev``, ``dir`` with ``dir``;
    libvirt looks for that attribute only, and finds no source.
    """
    for disk in domain.disks:
        kind, element = disk.get("type") or "file", disk.find("source")
        wanted = _SOURCES.get(kind)
        if element is None or wanted is None or element.get(wanted):
            continue
        for other_kind, other in _SOURCES.items():
            if element.get(other) and other != wanted:
                yield domain.at(
                    element,
                    f"a disk of type '{kind}' has <source {wanted}>, not <source {other}>",
                    f"write <disk type='{other_kind}'>, or <source {wanted}='…'>",
                    attribute=other,
                )
                break


@RULES.rule("source-relative", Severity.WARNING, affects=QEMU)
def source_relative(domain: DomainView) -> Iterator[Found]:
    """The source of a disk is named without its whole path.

    It is looked for in the folder of libvirt's service, which is ``/``; schema validation refuses
    the domain.
    """
    for disk in domain.disks:
        element = disk.find("source")
        attribute = {"file": "file", "block": "dev"}.get(disk.get("type") or "file")
        path = None if element is None or attribute is None else element.get(attribute)
        if element is not None and path and not path.startswith("/") and domain.is_qemu:
            yield domain.at(
                element,
                f"{path!r} is not a whole path",
                "write it from / on",
                attribute=attribute,
                expected="a path that begins with /",
            )


@RULES.rule("format-missing", Severity.WARNING, affects=QEMU)
def format_missing(domain: DomainView) -> Iterator[Found]:
    """A disk does not say which format its image has (``<driver type>``).

    libvirt takes raw, so the guest sees the inside of a qcow2 file as its disk.  Where the format
    is guessed instead, a guest can write a header and read any file of the host (CVE-2010-3851).
    """
    for disk in domain.disks:
        driver, source = disk.find("driver"), disk.find("source")
        kind = disk.get("type") or "file"
        if not domain.is_qemu or source is None or kind not in ("file", "block", "network"):
            continue
        if kind_of(disk) not in ("disk", "lun") or not len(source.attrib):
            continue
        if driver is None or not driver.get("type"):
            yield domain.at(
                disk if driver is None else driver,
                f"{name_of(disk)} does not say its format; libvirt takes raw",
                "add type='qcow2', or what vmport inspect says of the image, to <driver>",
            )


@RULES.rule("format-unusable", Severity.ERROR, affects=QEMU)
def format_unusable(domain: DomainView) -> Iterator[Found]:
    """The format of a disk is one that QEMU does not open.

    libvirt refuses the domain.
    """
    for disk in domain.disks:
        driver = disk.find("driver")
        instead = None if driver is None else _NO_DISK_FORMATS.get(driver.get("type") or "")
        if driver is not None and instead is not None and domain.is_qemu:
            if driver.get("type") == "dir" and disk.get("type") == "dir":
                continue
            yield domain.at(
                driver,
                f"QEMU opens no disk of format {driver.get('type')}",
                f"write type='{instead}'" if " " not in instead else f"write {instead}",
                attribute="type",
            )


@RULES.rule("shareable-format", Severity.ERROR, affects=QEMU)
def shareable_format(domain: DomainView) -> Iterator[Found]:
    """A disk is shared with other machines, but its format has metadata that they would fight over.

    libvirt refuses the domain: "shared access requires use of supported storage format".
    """
    for disk in domain.disks:
        driver, shared = disk.find("driver"), disk.find("shareable")
        form = None if driver is None else driver.get("type")
        if shared is not None and form not in (None, "raw") and domain.is_qemu:
            yield domain.at(
                shared,
                f"a disk in {form} cannot be shared",
                "convert the image to raw, or remove <shareable/>",
                expected="raw",
            )


@RULES.rule("backing-store", Severity.NOTE, affects="programs that take one file for the disk")
def backing_store(domain: DomainView) -> Iterator[Found]:
    """A disk is the delta of another image (``<backingStore>``).

    Its content is spread over a chain of files; a move has to take all of them.
    """
    for disk in domain.disks:
        element = disk.find("backingStore")
        if element is not None and element.find("source") is not None:
            yield domain.at(
                element,
                f"{name_of(disk)} is the delta of another image",
                "merge the chain before a move: virsh blockpull, or vmport convert with --allow",
            )
