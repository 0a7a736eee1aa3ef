"""The kinds of values that libvirt writes: numbers, switches, names, sizes, addresses.

Each function takes a value out of a `Node` to the model paths `to`, and refuses what libvirt itself
could never have meant.  `attribute` None stands for the element's text.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import UUID

from vmport_formats.machine.model import CpuList, MacAddress, PciAddress
from vmport_formats.units import Bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vmport_formats.machine.reading import Node

Choice = TypeVar("Choice", bound=StrEnum)

MAX_32: Final = (1 << 32) - 1
MAX_64: Final = (1 << 64) - 1

MAX_CPUS: Final = 1 << 13
"""More than any hypervisor runs; a bound on the work that a list of CPUs can make."""

_LONGEST_CPU_LIST: Final = 4096

_FLAG_DETAILS: Final = ("eoi", "shareBacking")
"""Attributes of flags that go with them."""

_SWITCH: Final = {"yes": True, "on": True, "1": True, "no": False, "off": False, "0": False}

_POWERS: Final = "kmgtpe"


def raw(node: Node, attribute: str | None, *to: str) -> str | None:
    """The value as text; None when it is not stated or empty."""
    found = node.text(*to) if attribute is None else node.attribute(attribute, *to)
    return found or None


def number(
    node: Node, attribute: str | None, *to: str, low: int = 0, high: int = MAX_64
) -> int | None:
    """A decimal number (or one with ``0x``).

    Raises:
        CorruptInput: it is none, or outside `low` to `high`.
    """
    text = raw(node, attribute, *to)
    if text is None:
        return None
    try:
        # A longer text overflows anyway, and int() takes quadratic time.
        if len(text) > 40 or not text.isascii() or "_" in text:
            raise ValueError
        value = int(text, 16) if text.lower().startswith("0x") else int(text)
    except ValueError:
        raise _error(node, attribute, "number", f"{_quoted(text)} is not a number") from None
    if not low <= value <= high:
        problem = f"{value} is out of range; {low} to {high} is possible"
        raise _error(node, attribute, "range", problem)
    return value


def switch(node: Node, attribute: str, *to: str) -> bool | None:
    """``yes`` or ``on``, ``no`` or ``off``.

    Raises:
        CorruptInput: something else.
    """
    text = raw(node, attribute, *to)
    if text is None:
        return None
    if text not in _SWITCH:
        problem = f"{_quoted(text)} is neither yes (on) nor no (off)"
        raise _error(node, attribute, "switch", problem)
    return _SWITCH[text]


def flag(node: Node | None, tag: str, to: str) -> bool | None:
    """A child element that says yes by being there (``<acpi/>``), unless its ``state`` says no."""
    found = None if node is None else node.child(tag)
    if found is None:
        return None
    state = switch(found, "state", to)
    for more in _FLAG_DETAILS:
        found.attribute(more, to)
    return found.present(to) if state is None else state


def choice(
    node: Node, attribute: str | None, names: Mapping[str, Choice], other: Choice, *to: str
) -> Choice | None:
    """One of several names; `other` for one that vmport does not know."""
    text = raw(node, attribute, *to)
    return None if text is None else names.get(text, other)


def same(names: type[Choice], **more: Choice) -> dict[str, Choice]:
    """The table for names that libvirt spells as the model does, and `more`, ``_`` for ``-``."""
    table = {str(name): name for name in names if name != "other"}
    table.update({key.replace("_", "-"): value for key, value in more.items()})
    return table


def size(node: Node, attribute: str | None, *to: str, unit: str = "KiB") -> Bytes | None:
    """An amount of memory with its ``unit`` attribute; `unit` counts when there is none.

    Raises:
        CorruptInput: not a number, an unknown unit, or more than 2⁶⁴ bytes.
    """
    value = number(node, attribute, *to)
    stated = raw(node, "unit", *to) or unit
    if value is None:
        return None
    factor = scale(stated)
    if factor is None:
        problem = f"{_quoted(stated)} is not a unit of memory"
        hint = "libvirt knows b, KB, KiB, MB, MiB, GB, GiB, TB, TiB, ..."
        raise node.error("unit", problem, attribute="unit", hint=hint)
    if value * factor > MAX_64:
        problem = f"{value} {stated} is more than 2^64 bytes"
        raise _error(node, attribute, "range", problem)
    return Bytes(value * factor)


def scale(unit: str) -> int | None:
    """Bytes in a unit of libvirt's, in any case: ``k`` and ``KiB`` are 1024, ``KB`` is 1000."""
    text = unit.lower()
    if text in {"b", "byte", "bytes"}:
        return 1
    power = _POWERS.find(text[:1]) + 1 if text else 0
    base = {"": 1024, "ib": 1024, "b": 1000}.get(text[1:])
    return None if not power or base is None else int(base**power)


def uuid(node: Node, *to: str) -> UUID | None:
    """The element's text as a UUID; hyphens may be missing.

    Raises:
        CorruptInput: not 32 hexadecimal digits.
    """
    text = node.text(*to)
    if text is None:
        return None
    digits = re.sub(r"[\s-]", "", text)
    if not re.fullmatch(r"[0-9A-Fa-f]{32}", digits):
        raise _error(node, None, "uuid", f"{_quoted(text)} is not a UUID")
    return UUID(hex=digits)


def mac(node: Node, attribute: str, *to: str) -> MacAddress | None:
    """A network card's address.

    Raises:
        CorruptInput: not six octets, or one of a group of cards.
    """
    text = raw(node, attribute, *to)
    if text is None:
        return None
    if not re.fullmatch(r"([0-9A-Fa-f]{1,2}:){5}[0-9A-Fa-f]{1,2}", text):
        problem = f"{_quoted(text)} is not a MAC address"
        raise _error(node, attribute, "mac", problem, hint="six octets: 52:54:00:12:34:56")
    octets = [int(octet, 16) for octet in text.split(":")]
    if octets[0] & 1:
        problem = f"{text} is a multicast address; no card can have it"
        raise _error(node, attribute, "mac", problem)
    return MacAddress(":".join(f"{octet:02x}" for octet in octets))


def cpu_list(node: Node, attribute: str, *to: str) -> CpuList | None:
    """CPU numbers as libvirt writes them: ``0-3,^2,8``.

    Raises:
        CorruptInput: not such a list, over 4096 characters, or with a number over 8191.
    """
    text = raw(node, attribute, *to)
    if text is None:
        return None
    if len(text) > _LONGEST_CPU_LIST:
        problem = f"a list of CPUs of {len(text)} characters; at most {_LONGEST_CPU_LIST} are read"
        raise _error(node, attribute, "cpus", problem)
    chosen: set[int] = set()
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\^?)(\d{1,6})(?:-(\d{1,6}))?\s*", part)
        if found is None:
            raise _error(node, attribute, "cpus", f"{_quoted(text)} is not a list of CPUs")
        first, last = int(found[2]), int(found[3] or found[2])
        if last < first or last >= MAX_CPUS:
            problem = f"{_quoted(part.strip())} is not a range of CPUs (0 to {MAX_CPUS - 1})"
            raise _error(node, attribute, "cpus", problem)
        numbers = range(first, last + 1)
        if found[1]:
            chosen.difference_update(numbers)
        else:
            chosen.update(numbers)
    return ranges(chosen)


def ranges(numbers: set[int]) -> CpuList:
    """A set of CPU numbers in the model's form: ``0-3,8``."""
    parts: list[list[int]] = []
    for item in sorted(numbers):
        if parts and item == parts[-1][1] + 1:
            parts[-1][1] = item
        else:
            parts.append([item, item])
    return CpuList(",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts))


def pci_address(node: Node, *to: str) -> PciAddress | None:
    """The ``<address type='pci'>`` of a device; None when it has none of that type."""
    address = node.child("address")
    if address is None or address.peek("type") != "pci":
        return None
    raw(address, "type", *to)
    domain = number(address, "domain", *to, high=MAX_32) or 0
    bus = number(address, "bus", *to, high=0xFF) or 0
    slot = number(address, "slot", *to, high=0x1F)
    function = number(address, "function", *to, high=7) or 0
    raw(address, "multifunction", *to)
    if slot is None:
        return None
    return PciAddress(f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}")


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def _error(
    node: Node, attribute: str | None, code: str, problem: str, *, hint: str | None = None
) -> Exception:
    return node.error(code, problem, attribute=attribute, hint=hint)
