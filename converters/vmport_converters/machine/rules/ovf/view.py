"""An OVF envelope as the rules look at it, and how they point into it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from vmport_converters.machine.rules.model import Catalogue, Found, Severity
from vmport_formats.machine.dialect import Dialect
from vmport_formats.machine.ovf.envelope import (
    EPASD,
    RASD,
    SASD,
    VBOX,
    VMW,
    VSSD,
    Envelope,
    attribute_key,
    split,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lxml import etree

    from vmport_formats.machine.ovf.envelope import Hardware, Item, System

RULES: Final = Catalogue["Envelope"](Dialect.OVF)

ALL: Final = "every importer"
VMWARE: Final = "VMware products"

# ResourceType, of CIM_ResourceAllocationSettingData.
CPU: Final = 3
MEMORY: Final = 4
IDE: Final = 5
SCSI: Final = 6
NIC: Final = 10
FLOPPY: Final = 14
CD: Final = 15
DVD: Final = 16
DISK: Final = 17
STORAGE: Final = 20
NVRAM: Final = 32768
KNOWN_TYPES: Final = frozenset(range(1, 36))
FIRST_VENDOR_TYPE: Final = 32768

_PREFIXES: Final = {
    RASD: "rasd",
    VSSD: "vssd",
    SASD: "sasd",
    EPASD: "epasd",
    VMW: "vmw",
    VBOX: "vbox",
}
_MAX_PATH: Final = 64


def at(
    envelope: Envelope,
    element: etree._Element,
    problem: str,
    mend: str,
    *,
    attribute: str | None = None,
    found: str | None = None,
    expected: str | None = None,
    affects: str | None = None,
    severity: Severity | None = None,
) -> Found:
    """A finding about `element`, or about its OVF attribute `attribute`."""
    where = xpath(envelope, element)
    if attribute is not None:
        key = attribute_key(element, attribute, envelope.namespace)
        bare = key is not None and not key.startswith("{")
        where += f"/@{attribute}" if bare else f"/@ovf:{attribute}"
        found = found if key is None else element.get(key)
    position = envelope.place(element, attribute)
    return Found(position, where, problem, mend, found, expected, affects, severity)


def at_text(
    envelope: Envelope,
    element: etree._Element,
    problem: str,
    mend: str,
    *,
    expected: str | None = None,
    affects: str | None = None,
    severity: Severity | None = None,
) -> Found:
    """A finding about the text of `element`."""
    position = envelope.document.text_position(element)
    where = xpath(envelope, element)
    return Found(position, where, problem, mend, text_of(element), expected, affects, severity)


def at_key(envelope: Envelope, element: etree._Element, key: str, problem: str, mend: str) -> Found:
    """A finding about an attribute of any namespace, `key` in lxml's notation."""
    position = envelope.document.position(element, key)
    prefix, name = "", key
    if key.startswith("{"):
        namespace, _, name = key[1:].partition("}")
        prefix = _prefix(namespace, envelope)
    where = f"{xpath(envelope, element)}/@{prefix}{name}"
    return Found(position, where, problem, mend, element.get(key))


def xpath(envelope: Envelope, element: etree._Element) -> str:
    """The path of `element`, with the usual prefixes, whatever the file calls them."""
    steps: list[str] = []
    step: etree._Element | None = element
    while step is not None and len(steps) < _MAX_PATH:
        namespace, name = split(step)
        number = sum(1 for _ in step.itersiblings(step.tag, preceding=True)) + 1
        alone = number == 1 and next(step.itersiblings(step.tag), None) is None
        steps.append(f"{_prefix(namespace, envelope)}{name}" + ("" if alone else f"[{number}]"))
        step = step.getparent()
    return "/" + "/".join(reversed(steps))


def _prefix(namespace: str, envelope: Envelope) -> str:
    if namespace == envelope.namespace:
        return "ovf:"
    known = _PREFIXES.get(namespace)
    return f"{known}:" if known else ""


def hardware_sections(envelope: Envelope) -> Iterator[tuple[System, Hardware]]:
    """Every hardware section, with the machine that it belongs to."""
    for system in envelope.systems:
        for section in system.hardware:
            yield system, section


def items(envelope: Envelope) -> Iterator[Item]:
    """Every item of every machine, those that only state a bound left out."""
    for _, section in hardware_sections(envelope):
        yield from devices(section)


def devices(section: Hardware) -> Iterator[Item]:
    """The items of a section that are devices, not bounds of one."""
    return (item for item in section.items if (item.bound or "normal") == "normal")


def type_of(item: Item) -> int | None:
    """The ``ResourceType`` of an item."""
    return number(item.text("ResourceType"))


def number(text: str | None) -> int | None:
    """`text` as a natural number of up to 20 digits."""
    word = (text or "").strip()
    return int(word) if re.fullmatch(r"\d{1,20}", word, re.ASCII) else None


def name_of(item: Item) -> str:
    """What to call an item in a sentence."""
    text = item.text("ElementName") or item.text("Caption")
    if text:
        return f"item {text!r}" if len(text) <= 40 else f"item {text[:40] + '…'!r}"
    return f"item {item.text('InstanceID') or ''}".strip()


def can_coexist(first: Item, second: Item) -> bool:
    """Whether two items can be in one machine at once; deployment choices keep some apart."""
    if not first.configurations or not second.configurations:
        return bool(first.configurations) == bool(second.configurations)
    return bool(set(first.configurations) & set(second.configurations))


def same_choice(first: Item, second: Item) -> bool:
    """Whether two items belong to exactly the same deployment choices."""
    return set(first.configurations) == set(second.configurations)


def bus_of(item: Item) -> str | None:
    """The bus that a controller drives: ``ide``, ``scsi``, ``sata`` or ``nvme``."""
    kind = type_of(item)
    subtype = (item.text("ResourceSubType") or "").lower()
    if kind == IDE:
        return "ide"
    if kind == SCSI:
        return "scsi"
    if kind == STORAGE:
        if "nvme" in subtype:
            return "nvme"
        if "ahci" in subtype or "sata" in subtype:
            return "sata"
        return "scsi" if "scsi" in subtype else None
    return None


def hardware_version(section: Hardware) -> int | None:
    """The highest version of VMware's hardware among the system's types; None without any."""
    numbers = [
        int(found[1])
        for word in section.types
        if (found := re.fullmatch(r"vmx-(\d{1,3})", word, re.ASCII | re.IGNORECASE))
    ]
    return max(numbers, default=None)


def setting(section: Hardware, key: str) -> tuple[etree._Element, str] | None:
    """The ``vmw:Config`` line with this key, and its value."""
    for line in section.settings:
        if line.key == key:
            return line.element, line.value
    return None
