"""A VMX document as the rules look at it: its devices gathered from their keys."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final

from vmport_converters.machine.rules.model import Catalogue, Found, Severity
from vmport_formats.machine.dialect import Dialect
from vmport_formats.position import Position

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vmport_formats.machine.vmx.syntax import VmxDocument, VmxEntry

RULES: Final = Catalogue["VmxView"](Dialect.VMX)

ALL: Final = "all VMware products"
ESXI: Final = "ESXi"

_DEVICE: Final = re.compile(r"([a-z_]+?)(\d{1,9})(?::(\d{1,9}))?\.(.+)")
_TRUE: Final = frozenset({"true", "yes", "on", "t", "y", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "f", "n", "0"})
BUSES: Final = ("scsi", "sata", "nvme", "ide")


@dataclass(frozen=True, slots=True)
class Device:
    """All lines about one device: ``scsi0``, ``scsi0:3``, ``ethernet1``."""

    name: str
    family: str
    """``scsi``, ``ethernet``, ..."""
    index: int
    unit: int | None
    """None for a controller or a device that hangs on none."""
    entries: Mapping[str, VmxEntry]
    """By what follows the name, in lower case: ``filename``."""

    @property
    def present(self) -> bool:
        """Whether the machine has it; a device without ``present`` is absent."""
        return as_bool(self.value("present")) is True

    @property
    def first(self) -> VmxEntry:
        """The line to point at when none in particular is at fault."""
        return self.entries.get("present") or next(iter(self.entries.values()))

    def get(self, name: str) -> VmxEntry | None:
        """The line that sets `name`."""
        return self.entries.get(name.lower())

    def value(self, name: str) -> str | None:
        """What `name` is set to."""
        entry = self.entries.get(name.lower())
        return None if entry is None else entry.value


@dataclass(frozen=True)
class VmxView:
    """The document, and its devices."""

    document: VmxDocument
    _devices: dict[str, Device] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        grouped: dict[tuple[str, int, int | None], dict[str, VmxEntry]] = {}
        for entry in self.document:
            found = _DEVICE.fullmatch(entry.folded)
            if found is None:
                continue
            unit = None if found[3] is None else int(found[3])
            lines = grouped.setdefault((found[1], int(found[2]), unit), {})
            lines.setdefault(found[4], entry)
        devices = {}
        for (family, index, unit), lines in grouped.items():
            name = f"{family}{index}" + ("" if unit is None else f":{unit}")
            devices[name] = Device(name, family, index, unit, lines)
        object.__setattr__(self, "_devices", devices)

    def lacks(self, key: str) -> bool:
        """Whether no line sets `key`, not even a broken or an encrypted one."""
        if key in self.document or self.encrypted:
            return False
        broken = (fault.key or "" for fault in self.document.faults)
        return not any(text.lower().startswith(key.lower()) for text in broken)

    @cached_property
    def encrypted(self) -> bool:
        """Whether most of the settings are hidden in an encrypted block."""
        return "encryption.data" in self.document

    @cached_property
    def hardware(self) -> int | None:
        """``virtualHW.version``; None when it is missing or no number."""
        return as_int(self.document.value("virtualHW.version"))

    def device(self, name: str) -> Device | None:
        """The device called `name`."""
        return self._devices.get(name)

    def controllers(self) -> list[Device]:
        """The disk controllers that have lines of their own, present or not."""
        return [d for d in self._devices.values() if d.family in BUSES and d.unit is None]

    def units(self) -> list[Device]:
        """Whatever is on the disk buses and present."""
        return [
            d
            for d in self._devices.values()
            if d.family in BUSES and d.unit is not None and d.present
        ]

    def nics(self) -> list[Device]:
        """The network cards that are present."""
        return self.family("ethernet")

    def family(self, name: str) -> list[Device]:
        """The devices of family `name` that are present and hang on nothing."""
        return [
            d for d in self._devices.values() if d.family == name and d.unit is None and d.present
        ]

    def is_true(self, key: str) -> bool:
        """Whether `key` is set to a word for yes."""
        return as_bool(self.document.value(key)) is True


def at_key(
    entry: VmxEntry,
    problem: str,
    mend: str,
    *,
    affects: str | None = None,
    severity: Severity | None = None,
) -> Found:
    """A finding about the key of a line."""
    return Found(entry.position, entry.key, problem, mend, affects=affects, severity=severity)


def at_value(
    entry: VmxEntry,
    problem: str,
    mend: str,
    *,
    expected: str | None = None,
    affects: str | None = None,
    severity: Severity | None = None,
) -> Found:
    """A finding about the value of a line."""
    return Found(
        entry.value_position, entry.key, problem, mend, entry.value, expected, affects, severity
    )


def at_top(key: str, problem: str, mend: str, *, severity: Severity | None = None) -> Found:
    """A finding about a line that should be there; the whole file is its place."""
    return Found(Position(1, 1), key, problem, mend, severity=severity)


def as_bool(text: str | None) -> bool | None:
    """What VMware takes the word `text` for; None when it is no word for yes or no."""
    word = (text or "").strip().lower()
    return True if word in _TRUE else False if word in _FALSE else None


def as_int(text: str | None) -> int | None:
    """`text` as a decimal number of up to 18 digits; None when it is none."""
    word = (text or "").strip()
    return int(word) if re.fullmatch(r"[+-]?\d{1,18}", word, re.ASCII) else None
