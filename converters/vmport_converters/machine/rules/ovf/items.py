"""Rules for the items of an OVF machine: ids, types, controllers and addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmport_converters.machine.rules.model import Found, Layer, Severity
from vmport_converters.machine.rules.ovf.names import SUBTYPES
from vmport_converters.machine.rules.ovf.view import (
    ALL,
    CD,
    DISK,
    DVD,
    FIRST_VENDOR_TYPE,
    FLOPPY,
    KNOWN_TYPES,
    NVRAM,
    RULES,
    VMWARE,
    at,
    at_text,
    bus_of,
    can_coexist,
    devices,
    hardware_sections,
    hardware_version,
    items,
    name_of,
    number,
    same_choice,
    type_of,
)
from vmport_converters.machine.rules.spelling import nearest
from vmport_converters.machine.rules.vmware import (
    MAX_CONTROLLERS,
    NVME,
    PVSCSI,
    RESERVED_SCSI_UNIT,
    SAS,
    SATA,
    max_units,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.machine.ovf.envelope import Envelope, Hardware, Item

_DRIVES = (DISK, CD, DVD)


@RULES.rule("instance-id", Severity.ERROR, affects=ALL, layer=Layer.STRUCTURE)
def instance_id(ovf: Envelope) -> Iterator[Found]:
    """An item has no ``InstanceID``.

    Nothing can refer to it, and importers refuse the envelope.
    """
    for _, section in hardware_sections(ovf):
        for item in section.items:
            if not item.text("InstanceID"):
                yield at(
                    ovf,
                    item.element,
                    f"{name_of(item)} has no InstanceID",
                    "add one that no other item of this machine has",
                )


@RULES.rule("instance-id-duplicate", Severity.ERROR, affects=ALL)
def instance_id_duplicate(ovf: Envelope) -> Iterator[Found]:
    """Two items of a machine have the same ``InstanceID``.

    What names it as its parent gets one of the two.  Items that state a bound of another, and
    those that replace one in some deployment configuration, may share it.
    """
    for _, section in hardware_sections(ovf):
        seen: dict[str, list[Item]] = {}
        for item in devices(section):
            element, text = item.first("InstanceID"), item.text("InstanceID")
            if element is None or not text:
                continue
            others = seen.setdefault(text, [])
            first = next((other for other in others if same_choice(other, item)), None)
            if first is not None:
                yield at_text(
                    ovf,
                    element,
                    f"{name_of(item)} has the InstanceID of {name_of(first)}, line "
                    f"{ovf.place(first.element).line}",
                    "give it one of its own, and correct the Parent of what hangs on it",
                )
            elif len(others) < 16:
                others.append(item)


@RULES.rule("resource-type", Severity.ERROR, affects=ALL, layer=Layer.STRUCTURE)
def resource_type(ovf: Envelope) -> Iterator[Found]:
    """An item has no ``ResourceType``, or one that is no number.

    Importers do not know what to create, and refuse the envelope.
    """
    for item in items(ovf):
        element = item.first("ResourceType")
        mend = "write its number: 3 CPU, 4 memory, 6 SCSI, 10 network card, 17 disk"
        if element is None:
            yield at(ovf, item.element, f"{name_of(item)} has no ResourceType", mend)
        elif number(element.text) is None:
            problem = f"the ResourceType of {name_of(item)} is no number"
            yield at_text(ovf, element, problem, mend, expected="a number")


@RULES.rule("resource-type-unknown", Severity.WARNING, affects=ALL)
def resource_type_unknown(ovf: Envelope) -> Iterator[Found]:
    """An item has a ``ResourceType`` that CIM does not define, or one of a single vendor.

    An importer that does not know it refuses the envelope, unless the item says that it is not
    required.  32768 is the NVRAM of newer VirtualBox.
    """
    for item in items(ovf):
        element, kind = item.first("ResourceType"), type_of(item)
        if element is None or kind is None or kind in KNOWN_TYPES or not item.required:
            continue
        vendor = kind >= FIRST_VENDOR_TYPE
        what = "VirtualBox's NVRAM" if kind == NVRAM else "a type of one vendor's own"
        yield at_text(
            ovf,
            element,
            f"{name_of(item)} is {what}" if vendor else f"CIM has no ResourceType {kind}",
            'add ovf:required="false" to the item, if the machine works without it',
            affects="every importer but VirtualBox" if kind == NVRAM else None,
        )


@RULES.rule("resource-subtype", Severity.WARNING, affects=ALL)
def resource_subtype(ovf: Envelope) -> Iterator[Found]:
    """A ``ResourceSubType`` is nearly a known one, but not quite.

    Importers take another model, or refuse the envelope.
    """
    for item in items(ovf):
        element, kind = item.first("ResourceSubType"), type_of(item)
        known = SUBTYPES.get(kind or 0)
        if element is None or known is None:
            continue
        words = [word.strip() for word in (element.text or "").replace(",", " ").split()]
        if any(word.lower() in {name.lower() for name in known} for word in words):
            continue
        meant = next(filter(None, (nearest(word, known) for word in words[:8])), None)
        if meant is not None:
            yield at_text(
                ovf,
                element,
                f"no product knows this model; did you mean {meant}?",
                f"write {meant}",
                expected=meant,
            )


@RULES.rule("parent-missing", Severity.ERROR, affects=ALL)
def parent_missing(ovf: Envelope) -> Iterator[Found]:
    """The ``Parent`` of an item is no item's ``InstanceID``.

    The device hangs on nothing; importers refuse the envelope or put it somewhere else.
    """
    for _, section in hardware_sections(ovf):
        known = {item.text("InstanceID") for item in section.items}
        for item in devices(section):
            element, text = item.first("Parent"), item.text("Parent")
            if element is not None and text and text not in known:
                yield at_text(
                    ovf,
                    element,
                    f"{name_of(item)} hangs on item {text}, and there is none",
                    "write the InstanceID of its controller",
                    expected=_controllers(section),
                )


@RULES.rule("parent-no-controller", Severity.ERROR, affects=ALL)
def parent_no_controller(ovf: Envelope) -> Iterator[Found]:
    """A drive hangs on an item that is no disk controller.

    Importers refuse the envelope, or put the drive somewhere else.
    """
    for _, section in hardware_sections(ovf):
        by_id = {item.text("InstanceID"): item for item in devices(section)}
        for item in devices(section):
            element = item.first("Parent")
            parent = by_id.get(item.text("Parent"))
            if element is None or parent is None or type_of(item) not in _DRIVES:
                continue
            if type_of(parent) in (3, 4, 10, FLOPPY, *_DRIVES, 24):
                yield at_text(
                    ovf,
                    element,
                    f"{name_of(item)} hangs on {name_of(parent)}, which is no disk controller",
                    "write the InstanceID of its controller",
                    expected=_controllers(section),
                )


@RULES.rule("disk-without-controller", Severity.WARNING, affects=ALL)
def disk_without_controller(ovf: Envelope) -> Iterator[Found]:
    """A hard disk names no controller (``Parent``).

    Importers choose one, and the guest may have no driver for it or find its disks in another
    order.
    """
    for item in items(ovf):
        if type_of(item) == DISK and not item.text("Parent"):
            yield at(
                ovf,
                item.element,
                f"{name_of(item)} hangs on no controller",
                "add Parent with the InstanceID of its controller, and AddressOnParent",
            )


@RULES.rule("address-clash", Severity.ERROR, affects=ALL)
def address_clash(ovf: Envelope) -> Iterator[Found]:
    """Two drives are at the same address of a controller.

    One of them is missing after the import, or the import fails.
    """
    for _, section in hardware_sections(ovf):
        seen: dict[tuple[str, str], list[Item]] = {}
        for item in devices(section):
            element = item.first("AddressOnParent")
            parent, address = item.text("Parent"), item.text("AddressOnParent")
            if element is None or not parent or not address or type_of(item) not in _DRIVES:
                continue
            others = seen.setdefault((parent, address), [])
            first = next((other for other in others if _clash(other, item)), None)
            if first is not None:
                yield at_text(
                    ovf,
                    element,
                    f"{name_of(item)} is at address {address} of item {parent}, as is "
                    f"{name_of(first)} in line {ovf.place(first.element).line}",
                    "give it a free address",
                )
            elif len(others) < 16:
                others.append(item)


@RULES.rule("scsi-reserved-unit", Severity.ERROR, affects=VMWARE)
def scsi_reserved_unit(ovf: Envelope) -> Iterator[Found]:
    """A drive is at address 7 of a SCSI controller.

    7 is the controller's own id on its bus; the machine does not power on.
    """
    for item, controller in _placed(ovf):
        element = item.first("AddressOnParent")
        if element is None or bus_of(controller) != "scsi":
            continue
        if number(element.text) == RESERVED_SCSI_UNIT:
            yield at_text(
                ovf,
                element,
                f"{name_of(item)}: address 7 of a SCSI controller is the controller itself",
                "take another address, such as 8",
            )


@RULES.rule("address-range", Severity.ERROR, affects=ALL)
def address_range(ovf: Envelope) -> Iterator[Found]:
    """A drive is at an address that its controller does not have.

    SCSI has 0 to 15 (63 with VMware's paravirtual one), SATA 0 to 29, NVMe 0 to 63, IDE 0 and 1.
    """
    for item, controller in _placed(ovf):
        element, bus = item.first("AddressOnParent"), bus_of(controller)
        if element is None or bus is None:
            continue
        address = number(element.text)
        subtype = (controller.text("ResourceSubType") or "").lower()
        most = max_units(bus, "pvscsi" if "virtual" in subtype else None, None)
        if bus == "ide":
            most = 4  # some products write both channels as one controller
        if address is None or address >= most:
            yield at_text(
                ovf,
                element,
                f"{name_of(item)}: the addresses of {name_of(controller)} are 0 to {most - 1}",
                "take a free address, or another controller",
                expected=f"0 to {most - 1}",
            )


@RULES.rule("controller-count", Severity.ERROR, affects=VMWARE)
def controller_count(ovf: Envelope) -> Iterator[Found]:
    """There are more controllers of a kind than a machine can have.

    At most 4 SCSI, 4 SATA and 4 NVMe controllers and 2 IDE channels.
    """
    for _, section in hardware_sections(ovf):
        counts: dict[str, int] = {}
        for item in devices(section):
            bus = bus_of(item)
            if bus is None or item.configurations:
                continue
            counts[bus] = counts.get(bus, 0) + 1
            if counts[bus] == MAX_CONTROLLERS[bus] + 1:
                yield at(
                    ovf,
                    item.element,
                    f"a machine has at most {MAX_CONTROLLERS[bus]} {bus.upper()} controllers",
                    "put its drives on one of the others",
                )


@RULES.rule("controller-hardware", Severity.ERROR, affects=VMWARE)
def controller_hardware(ovf: Envelope) -> Iterator[Found]:
    """A controller needs a newer hardware version than the machine's type.

    SATA came with vmx-10, NVMe with vmx-13, VirtualSCSI and lsilogicsas with vmx-07.
    """
    models = {"virtualscsi": PVSCSI, "lsilogicsas": SAS}
    for _, section in hardware_sections(ovf):
        version = hardware_version(section)
        if version is None:
            continue
        for item in devices(section):
            subtype = (item.text("ResourceSubType") or "").strip().lower()
            feature = {"sata": SATA, "nvme": NVME}.get(bus_of(item) or "") or models.get(subtype)
            if feature is not None and version < feature.since and item.required:
                yield at(
                    ovf,
                    item.element,
                    f"{name_of(item)} is {feature.label}, which needs vmx-{feature.since:02}; this "
                    f"is vmx-{version:02}",
                    f"write vmx-{feature.since:02} or higher as VirtualSystemType, or use another "
                    "controller",
                )


def _clash(first: Item, second: Item) -> bool:
    """Whether both are there at once; an item with another's id replaces it."""
    return can_coexist(first, second) and first.text("InstanceID") != second.text("InstanceID")


def _placed(ovf: Envelope) -> Iterator[tuple[Item, Item]]:
    """Each drive that states an address, with its controller."""
    for _, section in hardware_sections(ovf):
        by_id = {item.text("InstanceID"): item for item in devices(section)}
        for item in devices(section):
            parent = by_id.get(item.text("Parent"))
            if parent is not None and type_of(item) in _DRIVES and item.text("AddressOnParent"):
                yield item, parent


def _controllers(section: Hardware) -> str | None:
    found = [item for item in devices(section) if bus_of(item) is not None]
    shown = ", ".join(item.text("InstanceID") or "?" for item in found[:6])
    return shown or None
