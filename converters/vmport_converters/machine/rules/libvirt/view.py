"""A libvirt domain as the rules look at it, and how they point into it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from vmport_converters.machine.rules.libvirt.vocabulary import vocabulary_of
from vmport_converters.machine.rules.model import Catalogue, Found, Severity
from vmport_formats.machine.dialect import Dialect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lxml import etree

    from vmport_converters.machine.rules.libvirt.vocabulary import Vocabulary
    from vmport_formats.xml import XmlDocument

RULES: Final = Catalogue["DomainView"](Dialect.LIBVIRT)

ALL: Final = "libvirt"
QEMU: Final = "libvirt with QEMU"
SCHEMA: Final = "virsh define --validate and virt-xml-validate"

_QEMU_TYPES: Final = frozenset({"qemu", "kvm", "kqemu", "hvf"})
_X86: Final = frozenset({"x86_64", "i686"})
_MAX_PATH: Final = 64
_COUNT_LIMIT: Final = 10_000

# What libvirt understands behind a number: a power of 1024, or of 1000 with a B.
_UNIT: Final = re.compile(r"(?:b|bytes?|([kmgtpe])(|b|ib))", re.IGNORECASE)


@dataclass(frozen=True)
class DomainView:
    """The document, and what the rules ask of it most."""

    document: XmlDocument

    @property
    def root(self) -> etree._Element:
        """The ``<domain>``."""
        return self.document.root

    @cached_property
    def is_qemu(self) -> bool:
        """Whether QEMU runs it, for which most rules hold."""
        return (self.root.get("type") or "") in _QEMU_TYPES

    @cached_property
    def os_type(self) -> etree._Element | None:
        """``<os><type>``."""
        return self.root.find("os/type")

    @cached_property
    def machine(self) -> str:
        """The machine type, such as ``pc-q35-7.2``; empty when the domain leaves it open."""
        return "" if self.os_type is None else (self.os_type.get("machine") or "")

    @cached_property
    def architecture(self) -> str:
        """The guest's instruction set; empty when the domain leaves it to the host."""
        return "" if self.os_type is None else (self.os_type.get("arch") or "")

    @cached_property
    def is_x86(self) -> bool:
        """Whether the guest is said to be a PC."""
        return self.architecture in _X86

    @cached_property
    def is_q35(self) -> bool:
        """Whether the machine has the Q35 chipset."""
        return self.machine == "q35" or self.machine.startswith("pc-q35")

    @cached_property
    def is_i440fx(self) -> bool:
        """Whether the machine is said to have the i440FX chipset."""
        return self.machine == "pc" or re.match(r"pc-(i440fx|\d)", self.machine) is not None

    @cached_property
    def devices(self) -> list[etree._Element]:
        """All devices, in order."""
        return [item for group in self.root.findall("devices") for item in group.iterchildren("*")]

    def each(self, name: str) -> list[etree._Element]:
        """The devices called `name`."""
        return [item for item in self.devices if item.tag == name]

    @cached_property
    def disks(self) -> list[etree._Element]:
        """``<disk>``, CDs and floppies too."""
        return self.each("disk")

    @cached_property
    def controllers(self) -> list[etree._Element]:
        """``<controller>``."""
        return self.each("controller")

    @cached_property
    def known(self) -> list[tuple[etree._Element, Vocabulary]]:
        """Each element that libvirt knows, with what it may hold; nothing below an unknown one."""
        found: list[tuple[etree._Element, Vocabulary]] = []
        pending: list[tuple[etree._Element, tuple[str, ...]]] = [(self.root, ("domain",))]
        while pending:
            element, path = pending.pop()
            held = vocabulary_of(path)
            if held.open:
                continue
            found.append((element, held))
            pending += [
                (child, (path[-1], str(child.tag)))
                for child in element.iterchildren("*")
                if child.tag in held.children
            ]
        return found

    def feature(self, name: str) -> etree._Element | None:
        """The element of that name in ``<features>``."""
        return self.root.find(f"features/{name}")

    # --- Pointing ----------------------------------------------------------------------------

    def at(
        self,
        element: etree._Element,
        problem: str,
        mend: str,
        *,
        attribute: str | None = None,
        expected: str | None = None,
        affects: str | None = None,
        severity: Severity | None = None,
    ) -> Found:
        """A finding about `element`, or about its attribute `attribute` if it has that."""
        where = xpath(element)
        found = None if attribute is None else element.get(attribute)
        if found is not None:
            where += f"/@{attribute}"
        position = self.document.position(element, attribute)
        return Found(position, where, problem, mend, found, expected, affects, severity)

    def at_text(
        self,
        element: etree._Element,
        problem: str,
        mend: str,
        *,
        expected: str | None = None,
        affects: str | None = None,
        severity: Severity | None = None,
    ) -> Found:
        """A finding about the text of `element`."""
        position = self.document.text_position(element)
        text = text_of(element)
        return Found(position, xpath(element), problem, mend, text, expected, affects, severity)

    def line(self, element: etree._Element) -> int:
        """The line in which `element` begins."""
        return self.document.position(element).line


def xpath(element: etree._Element) -> str:
    """The path of `element`; numbered where there are several of its name."""
    steps: list[str] = []
    step: etree._Element | None = element
    while step is not None and len(steps) < _MAX_PATH:
        number = sum(1 for _ in step.itersiblings(step.tag, preceding=True)) + 1
        alone = number == 1 and next(step.itersiblings(step.tag), None) is None
        steps.append(str(step.tag) + ("" if alone else f"[{number}]"))
        step = step.getparent()
    return "/" + "/".join(reversed(steps))


def text_of(element: etree._Element | None) -> str:
    """The text of `element` without space around; empty when there is none."""
    return "" if element is None else (element.text or "").strip()


def number(text: str | None, *, base: int = 10) -> int | None:
    """`text` as a natural number; with base 0, hexadecimal behind ``0x`` too.  None: it is none."""
    word = (text or "").strip()
    pattern = r"0[xX][0-9a-fA-F]{1,16}|\d{1,20}" if base == 0 else r"\d{1,20}"
    if re.fullmatch(pattern, word, re.ASCII) is None:
        return None
    return int(word, 16) if word[:2] in ("0x", "0X") else int(word)


def is_yes(text: str | None) -> bool:
    """Whether a switch is on; libvirt has ``yes`` and ``on``."""
    return text in ("yes", "on")


def unit_size(text: str | None) -> int | None:
    """How many bytes a unit of libvirt's stands for, KiB when there is none; None: no unit."""
    if not text:
        return 1024
    found = _UNIT.fullmatch(text.strip())
    if found is None:
        return None
    if found[1] is None:
        return 1
    power = "kmgtpe".index(found[1].lower()) + 1
    return int((1000 if found[2].lower() == "b" else 1024) ** power)


def memory_bytes(element: etree._Element | None) -> int | None:
    """The size that an element like ``<memory unit='GiB'>4</memory>`` states, in bytes."""
    if element is None:
        return None
    amount, unit = number(element.text), unit_size(element.get("unit"))
    return None if amount is None or unit is None else amount * unit


def cpu_count(text: str) -> int | None:
    """How many CPUs a list such as ``0-3,8,^2`` names; None when it is no such list."""
    chosen: set[int] = set()
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\^?)(\d{1,6})(?:-(\d{1,6}))?\s*", part, re.ASCII)
        if found is None:
            return None
        first, last = int(found[2]), int(found[3] or found[2])
        if last < first or last - first > _COUNT_LIMIT or len(chosen) > _COUNT_LIMIT:
            return None
        if found[1]:
            chosen -= set(range(first, last + 1))
        else:
            chosen |= set(range(first, last + 1))
    return len(chosen)


def addresses(domain: DomainView) -> Iterator[tuple[etree._Element, etree._Element]]:
    """Each device with the address that it states for itself in the guest."""
    for device in domain.devices:
        address = device.find("address")
        if address is not None:
            yield device, address


def name_of(device: etree._Element) -> str:
    """What to call a device in a sentence."""
    target = device.find("target")
    alias = device.find("alias")
    label = None
    if device.tag == "disk" and target is not None:
        label = target.get("dev")
    elif device.tag == "controller":
        label = f"{device.get('type')} {device.get('index') or ''}".strip()
    elif alias is not None:
        label = alias.get("name")
    return f"{device.tag} {label}" if label else str(device.tag)
