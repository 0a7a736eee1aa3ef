"""An OVF envelope as it is written: files, disks, networks, systems and their items, with places.

All values stay text; nothing is judged and nothing is filled in, so that a checker sees what the
file says.  OVF 0.9, 1.x and 2.x look alike from here: the sections of 0.9, told apart by
``xsi:type``, get their later names, and so does its ``InstanceId``; the ``StorageItem`` and
``EthernetPortItem`` of 2.x are items.

Sources: DMTF DSP0243 1.0.0, 1.1.1 and 2.1.1, and DSP8023, its schema.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from vmport_formats.errors import CorruptInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lxml import etree

    from vmport_formats.position import Position
    from vmport_formats.xml import XmlDocument

XSI: Final = "http://www.w3.org/2001/XMLSchema-instance"
VMW: Final = "http://www.vmware.com/schema/ovf"
VBOX: Final = "http://www.virtualbox.org/ovf/machine"
_CIM: Final = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_"
RASD: Final = f"{_CIM}ResourceAllocationSettingData"
VSSD: Final = f"{_CIM}VirtualSystemSettingData"
SASD: Final = f"{_CIM}StorageAllocationSettingData.xsd"
EPASD: Final = f"{_CIM}EthernetPortAllocationSettingData.xsd"


class OvfVersion(StrEnum):
    """The versions of the format, as far as their namespaces differ."""

    V0_9 = "0.9"
    V1 = "1.x"
    V2 = "2.x"


NAMESPACES: Final = {
    "http://www.vmware.com/schema/ovf/1/envelope": OvfVersion.V0_9,
    "http://schemas.dmtf.org/ovf/1/envelope": OvfVersion.V0_9,
    "http://schemas.dmtf.org/ovf/envelope/1": OvfVersion.V1,
    "http://schemas.dmtf.org/ovf/envelope/2": OvfVersion.V2,
}
"""The namespaces of envelopes that are read."""

OVIRT: Final = "http://schemas.dmtf.org/ovf/envelope/1/"
"""oVirt and RHV write descriptors of their own in this one, with a slash at its end."""

ITEMS: Final = ("Item", "StorageItem", "EthernetPortItem")


@dataclass(frozen=True, slots=True, eq=False)
class File:
    """A file of the package, as ``References`` names it."""

    element: etree._Element
    id: str | None
    href: str | None
    size: str | None
    compression: str | None
    chunk_size: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Disk:
    """A virtual disk, as ``DiskSection`` declares it."""

    element: etree._Element
    id: str | None
    capacity: str | None
    """A number, or ``${name}`` for a property."""
    units: str | None
    """Of the capacity; bytes when not said."""
    file_ref: str | None
    parent_ref: str | None
    format: str | None
    populated_size: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A network that cards connect to by name."""

    element: etree._Element
    name: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Configuration:
    """A choice of size that the user has at deployment, such as ``small``."""

    element: etree._Element
    id: str | None
    default: bool


@dataclass(frozen=True, slots=True, eq=False)
class Property:
    """A value that the user gives at deployment, which ``${key}`` stands for."""

    element: etree._Element
    key: str | None
    """Qualified by class and instance as DSP0243 says: ``class.key.instance``."""
    short: str | None
    """The key alone, by which products let ``${key}`` refer to it too."""


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One piece of virtual hardware."""

    element: etree._Element
    kind: str
    """``Item``, ``StorageItem`` or ``EthernetPortItem``."""
    required: bool
    configurations: tuple[str, ...]
    """The deployment choices that it belongs to; all when empty."""
    bound: str | None
    """``min``, ``max`` or ``normal``: the item states a range of its namesake, no device."""
    fields: Mapping[str, tuple[etree._Element, ...]]
    """The children by name, ``InstanceID`` and so on."""

    def first(self, name: str) -> etree._Element | None:
        """The first child called `name`."""
        found = self.fields.get(name)
        return found[0] if found else None

    def text(self, name: str) -> str | None:
        """The text of the first child called `name`, without space around; None: there is none."""
        found = self.first(name)
        return None if found is None else text_of(found)


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """A ``vmw:Config`` or ``vmw:ExtraConfig`` line: VMware's key and value."""

    element: etree._Element
    key: str
    value: str


@dataclass(frozen=True, slots=True, eq=False)
class Hardware:
    """A ``VirtualHardwareSection``: what a system consists of."""

    element: etree._Element
    configurations: tuple[str, ...]
    types: tuple[str, ...]
    """Every entry of ``VirtualSystemType``, which may list several: ``vmx-13``."""
    types_element: etree._Element | None
    items: tuple[Item, ...]
    settings: tuple[Setting, ...]


@dataclass(frozen=True, slots=True, eq=False)
class GuestSystem:
    """An ``OperatingSystemSection``."""

    element: etree._Element
    id: str | None
    """A CIM number."""
    vmware: str | None
    """``vmw:osType``."""
    virtualbox: str | None
    """``vbox:OSType``."""


@dataclass(frozen=True, slots=True, eq=False)
class System:
    """A ``VirtualSystem``: one virtual machine."""

    element: etree._Element
    id: str | None
    hardware: tuple[Hardware, ...]
    guests: tuple[GuestSystem, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """Any section, known or not."""

    element: etree._Element
    kind: str
    """Its name without a namespace; for 0.9 that of its ``xsi:type``."""
    parent: str
    """``Envelope``, ``VirtualSystem`` or ``VirtualSystemCollection``."""
    native: bool
    """Whether its name is OVF's own."""
    required: bool


@dataclass(frozen=True, slots=True, eq=False)
class Envelope:
    """The whole descriptor."""

    document: XmlDocument
    element: etree._Element
    namespace: str
    version: OvfVersion
    references: etree._Element | None
    files: tuple[File, ...]
    disks: tuple[Disk, ...]
    networks: tuple[Network, ...]
    network_section: etree._Element | None
    configurations: tuple[Configuration, ...]
    properties: tuple[Property, ...]
    systems: tuple[System, ...]
    """All virtual machines, those in collections too."""
    collections: tuple[etree._Element, ...]
    sections: tuple[Section, ...]

    def place(self, element: etree._Element, attribute: str | None = None) -> Position:
        """Where `element`, or its OVF attribute `attribute`, stands in the file."""
        key = None if attribute is None else attribute_key(element, attribute, self.namespace)
        return self.document.position(element, key)

    def owns(self, element: etree._Element) -> bool:
        """Whether `element` is one of OVF's own; in 0.9 those may be in no namespace at all."""
        return _is_own(element, self.namespace)


def read_envelope(document: XmlDocument) -> Envelope:
    """The envelope in `document`.

    Raises:
        CorruptInput: the root is not an OVF envelope of a namespace in `NAMESPACES`.
    """
    root = document.root
    namespace, name = split(root)
    version = NAMESPACES.get(namespace)
    if name != "Envelope" or version is None:
        raise CorruptInput(
            document.name,
            at=str(document.position(root)),
            code="ovf.not-an-envelope",
            problem=f"the root element is {name!r} in {namespace!r}, not an OVF envelope",
        )
    sections = tuple(_sections(root, namespace))
    contents = list(_walk(root, namespace))
    references = next((item for item in _elements(root) if kind_of(item) == "References"), None)
    disk_sections = [s.element for s in sections if s.kind in ("DiskSection", "SharedDiskSection")]
    network_sections = [s.element for s in sections if s.kind == "NetworkSection"]
    return Envelope(
        document=document,
        element=root,
        namespace=namespace,
        version=version,
        references=references,
        files=tuple(_files(references, namespace)),
        disks=tuple(_disk(item, namespace) for item in _named(disk_sections, _DISKS)),
        networks=tuple(
            Network(item, attribute(item, "name", namespace))
            for item in _named(network_sections, ("Network",))
        ),
        network_section=network_sections[0] if network_sections else None,
        configurations=tuple(_configurations(sections, namespace)),
        properties=tuple(_properties(sections, namespace)),
        systems=tuple(_system(item, namespace) for item, kind in contents if kind == _SYSTEM),
        collections=tuple(item for item, kind in contents if kind == _COLLECTION),
        sections=sections,
    )


_SYSTEM: Final = "VirtualSystem"
_COLLECTION: Final = "VirtualSystemCollection"
_DISKS: Final = ("Disk", "SharedDisk")


# --- Names and attributes -----------------------------------------------------------------------


def split(element: etree._Element) -> tuple[str, str]:
    """The namespace (empty when there is none) and the local name of `element`."""
    tag = str(element.tag)
    if tag.startswith("{"):
        namespace, _, name = tag[1:].partition("}")
        return namespace, name
    return "", tag


def kind_of(element: etree._Element) -> str:
    """What `element` is, by its local name; in 0.9 by the type that it declares."""
    name = split(element)[1]
    if name in ("Section", "Content"):
        declared = element.get(f"{{{XSI}}}type")
        if declared:
            return declared.rpartition(":")[2].removesuffix("_Type")
    return name


def attribute_key(element: etree._Element, name: str, namespace: str) -> str | None:
    """How the OVF attribute `name` is written on `element`: with a namespace, or (wrongly) bare."""
    qualified = f"{{{namespace}}}{name}"
    if qualified in element.attrib:
        return qualified
    return name if name in element.attrib else None


def attribute(element: etree._Element, name: str, namespace: str) -> str | None:
    """The value of the OVF attribute `name`; None when it is not there."""
    key = attribute_key(element, name, namespace)
    return None if key is None else element.get(key)


def text_of(element: etree._Element) -> str:
    """The text of `element` without space around."""
    return (element.text or "").strip()


def _is_own(element: etree._Element, namespace: str) -> bool:
    found = split(element)[0]
    return found == namespace or (not found and NAMESPACES.get(namespace) is OvfVersion.V0_9)


def _elements(parent: etree._Element) -> Iterator[etree._Element]:
    """The child elements; no comments."""
    return parent.iterchildren(tag="*")


def _named(parents: list[etree._Element], names: tuple[str, ...]) -> Iterator[etree._Element]:
    for parent in parents:
        yield from (item for item in _elements(parent) if split(item)[1] in names)


def _flag(element: etree._Element, name: str, namespace: str, default: bool) -> bool:
    value = attribute(element, name, namespace)
    return default if value is None else value.strip().lower() in ("true", "1")


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word for word in re.split(r"[\s,;]+", text or "") if word)


# --- Sections -----------------------------------------------------------------------------------


def _walk(root: etree._Element, namespace: str) -> Iterator[tuple[etree._Element, str]]:
    """The virtual systems and collections, in document order."""
    for item in _elements(root):
        kind = kind_of(item)
        if kind in (_SYSTEM, _COLLECTION) and _is_own(item, namespace):
            yield item, kind
            if kind == _COLLECTION:
                yield from _walk(item, namespace)


def _sections(root: etree._Element, namespace: str) -> Iterator[Section]:
    for parent, parent_kind in ((root, "Envelope"), *_walk(root, namespace)):
        for item in _elements(parent):
            kind = kind_of(item)
            native = _is_own(item, namespace)
            if native and kind in (*_NO_SECTIONS, _SYSTEM, _COLLECTION):
                continue
            required = _flag(item, "required", namespace, default=True)
            yield Section(item, kind, parent_kind, native, required)


_NO_SECTIONS: Final = ("References", "Strings", "Info", "Name")


def _files(references: etree._Element | None, namespace: str) -> Iterator[File]:
    if references is None:
        return
    for item in _named([references], ("File",)):
        yield File(
            item,
            id=attribute(item, "id", namespace),
            href=attribute(item, "href", namespace),
            size=attribute(item, "size", namespace),
            compression=attribute(item, "compression", namespace),
            chunk_size=attribute(item, "chunkSize", namespace),
        )


def _disk(item: etree._Element, namespace: str) -> Disk:
    return Disk(
        item,
        id=attribute(item, "diskId", namespace),
        capacity=attribute(item, "capacity", namespace),
        units=attribute(item, "capacityAllocationUnits", namespace),
        file_ref=attribute(item, "fileRef", namespace),
        parent_ref=attribute(item, "parentRef", namespace),
        format=attribute(item, "format", namespace),
        populated_size=attribute(item, "populatedSize", namespace),
    )


def _configurations(sections: tuple[Section, ...], namespace: str) -> Iterator[Configuration]:
    parents = [item.element for item in sections if item.kind == "DeploymentOptionSection"]
    for item in _named(parents, ("Configuration",)):
        identifier = attribute(item, "id", namespace)
        yield Configuration(item, identifier, _flag(item, "default", namespace, default=False))


def _properties(sections: tuple[Section, ...], namespace: str) -> Iterator[Property]:
    for section in sections:
        if section.kind != "ProductSection":
            continue
        prefix = attribute(section.element, "class", namespace)
        suffix = attribute(section.element, "instance", namespace)
        for item in _named([section.element], ("Property",)):
            key = attribute(item, "key", namespace)
            full = None if key is None else ".".join(filter(None, (prefix, key, suffix)))
            yield Property(item, full, key)


# --- Systems ------------------------------------------------------------------------------------


def _system(element: etree._Element, namespace: str) -> System:
    children = [(item, kind_of(item)) for item in _elements(element)]
    return System(
        element,
        id=attribute(element, "id", namespace),
        hardware=tuple(
            _hardware(item, namespace)
            for item, kind in children
            if kind == "VirtualHardwareSection"
        ),
        guests=tuple(
            _guest(item, namespace) for item, kind in children if kind == "OperatingSystemSection"
        ),
    )


def _hardware(element: etree._Element, namespace: str) -> Hardware:
    types: etree._Element | None = None
    items: list[Item] = []
    settings: list[Setting] = []
    for child in _elements(element):
        place, name = split(child)
        if name == "System":
            types = next(_named([child], ("VirtualSystemType",)), types)
        elif name in ITEMS:
            items.append(_item(child, name, namespace))
        elif place == VMW and name in ("Config", "ExtraConfig"):
            key, value = (child.get(f"{{{VMW}}}{part}", "") for part in ("key", "value"))
            settings.append(Setting(child, key, value))
    return Hardware(
        element,
        configurations=_words(attribute(element, "configuration", namespace)),
        types=_words(None if types is None else types.text),
        types_element=types,
        items=tuple(items),
        settings=tuple(settings),
    )


def _item(element: etree._Element, kind: str, namespace: str) -> Item:
    fields: dict[str, list[etree._Element]] = {}
    for child in _elements(element):
        name = split(child)[1]
        name = "InstanceID" if name == "InstanceId" else name
        fields.setdefault(name, []).append(child)
    return Item(
        element,
        kind,
        required=_flag(element, "required", namespace, default=True),
        configurations=_words(attribute(element, "configuration", namespace)),
        bound=attribute(element, "bound", namespace),
        fields={name: tuple(found) for name, found in fields.items()},
    )


def _guest(element: etree._Element, namespace: str) -> GuestSystem:
    virtualbox = next(
        (item for item in _elements(element) if split(item) == (VBOX, "OSType")), None
    )
    return GuestSystem(
        element,
        id=attribute(element, "id", namespace),
        vmware=element.get(f"{{{VMW}}}osType"),
        virtualbox=None if virtualbox is None else text_of(virtualbox),
    )
