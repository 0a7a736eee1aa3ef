"""Rules for the disks of an OVF envelope: their sizes, and the chains that they form."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from vmport_converters.machine.rules.model import Found, Severity
from vmport_converters.machine.rules.ovf.references import some
from vmport_converters.machine.rules.ovf.view import ALL, RULES, at, at_text, items, number
from vmport_formats.machine.ovf.units import bytes_in
from vmport_formats.units import MIB, format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.machine.ovf.envelope import Disk, Envelope

_PROPERTY: Final = re.compile(r"\$\{([^{}]*)\}")


@RULES.rule("file-shared", Severity.WARNING, affects=ALL)
def file_shared(ovf: Envelope) -> Iterator[Found]:
    """Two disks have the same file as their content.

    VMware products refuse the envelope; others import the content twice.  An envelope with
    deployment configurations may have one disk in several sizes, and is left alone.
    """
    seen: dict[str, Disk] = {}
    for disk in ovf.disks:
        if not disk.file_ref or ovf.configurations:
            continue
        first = seen.setdefault(disk.file_ref, disk)
        if first is not disk:
            yield at(
                ovf,
                disk.element,
                f"disk {disk.id!r} has the same file as disk {first.id!r}",
                "give each disk a file of its own, or let both items refer to one disk",
                attribute="fileRef",
            )


@RULES.rule("parent-reference", Severity.ERROR, affects=ALL)
def parent_reference(ovf: Envelope) -> Iterator[Found]:
    """A disk's ``parentRef`` names no disk, or leads back to the disk itself.

    The disk holds only the changes to its parent; without it the content cannot be put together.
    """
    by_id = {disk.id: disk for disk in ovf.disks if disk.id is not None}
    sound: set[int] = set()
    for disk in ovf.disks:
        if disk.parent_ref is None:
            continue
        if disk.parent_ref not in by_id:
            yield at(
                ovf,
                disk.element,
                f"there is no disk {disk.parent_ref!r} in DiskSection",
                "write the ovf:diskId of the parent",
                attribute="parentRef",
                expected=some(set(by_id)),
            )
            continue
        chain: set[int] = set()
        step: Disk | None = disk
        while step is not None and id(step) not in chain and id(step) not in sound:
            chain.add(id(step))
            step = by_id.get(step.parent_ref or "")
        if step is disk:
            yield at(
                ovf,
                disk.element,
                f"the parents of disk {disk.id!r} lead back to it",
                "remove the parentRef that closes the circle",
                attribute="parentRef",
            )
        else:
            sound |= chain


@RULES.rule("delta-disk", Severity.NOTE, affects="VirtualBox, virt-v2v, Proxmox and others")
def delta_disk(ovf: Envelope) -> Iterator[Found]:
    """A disk is a delta: it holds only the changes to another one (``parentRef``).

    Few importers put the two together; the others import a broken disk or fail.
    """
    for disk in ovf.disks:
        if disk.parent_ref is not None:
            yield at(
                ovf,
                disk.element,
                f"disk {disk.id!r} holds only the changes to {disk.parent_ref!r}",
                "export the machine again without snapshots",
                attribute="parentRef",
            )


@RULES.rule("capacity", Severity.ERROR, affects=ALL)
def capacity(ovf: Envelope) -> Iterator[Found]:
    """A disk's ``capacity`` is no number above 0 and no ``${property}``.

    Nothing says how large the disk is; the import fails.
    """
    for disk in ovf.disks:
        text = (disk.capacity or "").strip()
        if not text or _PROPERTY.fullmatch(text):
            continue
        if not number(text):
            yield at(
                ovf,
                disk.element,
                f"the capacity of disk {disk.id!r} is {text!r}",
                "write the size as a number, with its unit in ovf:capacityAllocationUnits",
                attribute="capacity",
                expected="a number above 0",
            )


@RULES.rule("capacity-units", Severity.ERROR, affects=ALL)
def capacity_units(ovf: Envelope) -> Iterator[Found]:
    """A disk's ``capacityAllocationUnits`` is no unit of size.

    The disk gets another size than was meant, or the import fails.
    """
    for disk in ovf.disks:
        if disk.units is not None and bytes_in(disk.units) is None:
            yield at(
                ovf,
                disk.element,
                f"{disk.units!r} is no unit of size",
                'write ovf:capacityAllocationUnits="byte * 2^30" for GiB, or leave it out for '
                "bytes",
                attribute="capacityAllocationUnits",
                expected="byte * 2^20, byte * 2^30, ...",
            )


@RULES.rule("capacity-without-unit", Severity.WARNING, affects=ALL)
def capacity_without_unit(ovf: Envelope) -> Iterator[Found]:
    """A disk has less than a mebibyte, since its capacity has no unit.

    Without ``capacityAllocationUnits`` the number counts bytes.
    """
    for disk in ovf.disks:
        size = number(disk.capacity)
        if disk.units is None and size and size < MIB:
            yield at(
                ovf,
                disk.element,
                f"disk {disk.id!r} has {size} bytes; without a unit the capacity counts bytes",
                'add ovf:capacityAllocationUnits="byte * 2^30" if GiB are meant',
                attribute="capacity",
                expected="a number of bytes, or a unit",
            )


@RULES.rule("populated-size", Severity.ERROR, affects="VMware products")
def populated_size(ovf: Envelope) -> Iterator[Found]:
    """A disk's ``populatedSize`` is larger than its capacity.

    It says, in bytes, how much of the disk is used; importers that reserve space by it refuse
    the disk.
    """
    for disk in ovf.disks:
        size, used = number(disk.capacity), number(disk.populated_size)
        unit = 1 if disk.units is None else bytes_in(disk.units)
        if size is not None and used is not None and unit is not None and used > size * unit:
            yield at(
                ovf,
                disk.element,
                f"{format_size(used)} are used on a disk of {format_size(size * unit)}",
                "write the number of bytes that are used, or leave ovf:populatedSize out",
                attribute="populatedSize",
            )


@RULES.rule("property-undefined", Severity.ERROR, affects=ALL)
def property_undefined(ovf: Envelope) -> Iterator[Found]:
    """A capacity or quantity is a ``${property}`` that no ``ProductSection`` declares.

    The importer cannot know the value.
    """
    known = {name for line in ovf.properties for name in (line.key, line.short)}
    mend = "declare it as a Property of the ProductSection, or write the value"
    for disk in ovf.disks:
        found = _PROPERTY.fullmatch((disk.capacity or "").strip())
        if found is not None and found[1] not in known:
            problem = f"there is no property {found[1]!r}"
            yield at(ovf, disk.element, problem, mend, attribute="capacity", expected=some(known))
    for item in items(ovf):
        element = item.first("VirtualQuantity")
        found = _PROPERTY.fullmatch(item.text("VirtualQuantity") or "")
        if element is not None and found is not None and found[1] not in known:
            problem = f"there is no property {found[1]!r}"
            yield at_text(ovf, element, problem, mend, expected=some(known))
