"""The XML of an OVF envelope that is written: namespaces, elements, items in schema order."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from lxml import etree

from vmport_formats.machine.ovf.envelope import RASD, VBOX, VMW, VSSD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vmport_formats.machine.ovf.vocabulary import ResourceType

OVF: Final = "http://schemas.dmtf.org/ovf/envelope/1"

_PREFIXES: Final[dict[str | None, str]] = {
    None: OVF,
    "ovf": OVF,
    "rasd": RASD,
    "vbox": VBOX,
    "vmw": VMW,
    "vssd": VSSD,
}

_UNWRITABLE: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no XML 1.0 document may hold, not even escaped."""


def writable(text: str) -> str:
    """`text` with what XML cannot express (control characters) replaced."""
    return _UNWRITABLE.sub("\ufffd", text)


@dataclass(frozen=True, slots=True)
class Item:
    """One piece of virtual hardware, to be written.

    The fields that CIM defines have its names; None leaves one out.
    """

    kind: ResourceType
    element_name: str
    instance_id: int = 0
    address: str | None = None
    address_on_parent: int | None = None
    allocation_units: str | None = None
    automatic_allocation: bool | None = None
    connection: str | None = None
    description: str | None = None
    host_resource: str | None = None
    parent: int | None = None
    reservation: int | None = None
    subtype: str | None = None
    virtual_quantity: int | None = None
    cores_per_socket: int | None = None
    configs: tuple[tuple[str, str], ...] = ()
    """VMware's settings of the device."""
    required: bool = True
    """False: a reader that does not know the item may pass it over."""

    @property
    def place(self) -> str:
        """How the ledger calls it."""
        return f"Item {self.instance_id} ({self.element_name})"

    def numbered(self, instance_id: int) -> Item:
        """The item with its id."""
        return replace(self, instance_id=instance_id)


def append(
    parent: etree._Element,
    name: str,
    text: str | None = None,
    attributes: Mapping[str, str] | None = None,
    *,
    space: str = OVF,
) -> etree._Element:
    """A new last child of `parent`; OVF's own attributes are qualified, as its schema wants."""
    element = etree.SubElement(parent, f"{{{space}}}{name}")
    for key, value in sorted((attributes or {}).items()):
        element.set(key if key.startswith("{") else f"{{{OVF}}}{key}", writable(value))
    if text is not None:
        element.text = writable(text)
    return element


def append_item(section: etree._Element, item: Item) -> None:
    """`item` at the end of a hardware section."""
    element = append(section, "Item", None, None if item.required else {"required": "false"})
    # The schema's sequence is the alphabet.
    fields = {
        "Address": item.address,
        "AddressOnParent": item.address_on_parent,
        "AllocationUnits": item.allocation_units,
        "AutomaticAllocation": None
        if item.automatic_allocation is None
        else str(item.automatic_allocation).lower(),
        "Connection": item.connection,
        "Description": item.description,
        "ElementName": item.element_name,
        "HostResource": item.host_resource,
        "InstanceID": item.instance_id,
        "Parent": item.parent,
        "Reservation": item.reservation,
        "ResourceSubType": item.subtype,
        "ResourceType": int(item.kind),
        "VirtualQuantity": item.virtual_quantity,
    }
    for name, value in fields.items():
        if value is not None:
            append(element, name, str(value), space=RASD)
    if item.cores_per_socket is not None:
        cores = str(item.cores_per_socket)
        append(element, "CoresPerSocket", cores, {"required": "false"}, space=VMW)
    for key, value in item.configs:
        append_config(element, "Config", key, value)


def append_config(parent: etree._Element, name: str, key: str, value: str) -> None:
    """A ``vmw:Config`` or ``vmw:ExtraConfig`` line, which a reader may pass over."""
    attributes = {"required": "false", f"{{{VMW}}}key": key, f"{{{VMW}}}value": value}
    append(parent, name, None, attributes, space=VMW)


def append_system(section: etree._Element, *, identifier: str, family: str) -> None:
    """The ``System`` of a hardware section: which family of virtual hardware it is."""
    system = append(section, "System")
    append(system, "ElementName", "Virtual Hardware Family", space=VSSD)
    append(system, "InstanceID", "0", space=VSSD)
    append(system, "VirtualSystemIdentifier", identifier, space=VSSD)
    append(system, "VirtualSystemType", family, space=VSSD)


def envelope() -> etree._Element:
    """An empty envelope."""
    return etree.Element(f"{{{OVF}}}Envelope", nsmap=_PREFIXES)  # type: ignore[arg-type]


def serialize(root: etree._Element) -> str:
    """The document as text, indented, ending in a newline."""
    etree.indent(root, space="  ")
    body = etree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'
