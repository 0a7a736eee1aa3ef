"""Rules for the hardware family, CPUs and memory of an OVF machine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from vmport_converters.machine.rules.model import Found, Severity
from vmport_converters.machine.rules.ovf.view import (
    ALL,
    CPU,
    MEMORY,
    RULES,
    VMWARE,
    at,
    at_text,
    can_coexist,
    devices,
    hardware_sections,
    hardware_version,
    items,
    name_of,
    number,
    type_of,
)
from vmport_converters.machine.rules.vmware import (
    HARDWARE,
    HOSTED_ONLY,
    NEWEST,
    limits,
)
from vmport_formats.machine.ovf.units import bytes_in
from vmport_formats.units import MIB, format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.machine.ovf.envelope import Envelope, Hardware, Item

_VMX: Final = re.compile(r"vmx-(\d{1,3})", re.ASCII | re.IGNORECASE)
_BOUNDS: Final = ("normal", "min", "max")


# --- Hardware family ----------------------------------------------------------------------------


@RULES.rule("system-type-missing", Severity.WARNING, affects=VMWARE)
def system_type_missing(ovf: Envelope) -> Iterator[Found]:
    """A machine does not say which virtual hardware it was made for (``VirtualSystemType``).

    Importers take their default, and devices that need newer hardware are refused.
    """
    for _, section in hardware_sections(ovf):
        if not section.types:
            yield at(
                ovf,
                section.element,
                "the machine has no VirtualSystemType",
                "add <System> with <vssd:VirtualSystemType>vmx-13</vssd:VirtualSystemType>",
            )


@RULES.rule("hardware-version", Severity.ERROR, affects=VMWARE)
def hardware_version_known(ovf: Envelope) -> Iterator[Found]:
    """The only hardware versions of VMware that a machine names were never released.

    There is no vmx-05.  One newer than any that vmport knows is a warning.
    """
    for _, section in hardware_sections(ovf):
        found = [int(hit[1]) for word in section.types if (hit := _VMX.fullmatch(word))]
        if section.types_element is None or not found or any(n in HARDWARE for n in found):
            continue
        newer = NEWEST < max(found) < 100
        yield at_text(
            ovf,
            section.types_element,
            f"vmx-{max(found):02} is newer than the newest known, vmx-{NEWEST}"
            if newer
            else f"there is no hardware version vmx-{max(found):02}",
            "take a version that the product runs; vmx-13 is ESXi 6.5 and later",
            expected=f"vmx-03, vmx-04, vmx-06 to vmx-{NEWEST}",
            severity=Severity.WARNING if newer else None,
        )


@RULES.rule("hardware-hosted-only", Severity.NOTE, affects="ESXi")
def hardware_hosted_only(ovf: Envelope) -> Iterator[Found]:
    """The hardware version exists in Workstation and Fusion only: vmx-06, vmx-12 or vmx-16.

    ESXi does not run it.
    """
    for _, section in hardware_sections(ovf):
        found = {int(hit[1]) for word in section.types if (hit := _VMX.fullmatch(word))}
        if section.types_element is not None and found and found <= HOSTED_ONLY:
            version = max(found)
            yield at_text(
                ovf,
                section.types_element,
                f"vmx-{version:02} runs in Workstation and Fusion only",
                f"write vmx-{version + 1:02}, or list another version beside it",
                expected="a version that ESXi has too",
            )


@RULES.rule("no-vmware-type", Severity.NOTE, affects=VMWARE)
def no_vmware_type(ovf: Envelope) -> Iterator[Found]:
    """A machine is made for other hypervisors than VMware's, by its ``VirtualSystemType``.

    VMware products refuse it: "unsupported hardware family virtualbox-2.2".
    """
    for _, section in hardware_sections(ovf):
        found = [word for word in section.types if _VMX.fullmatch(word)]
        if section.types_element is not None and section.types and not found:
            yield at_text(
                ovf,
                section.types_element,
                f"VMware products refuse the hardware family {' '.join(section.types[:4])}",
                "write vmx-13 for VMware, or list it beside the present one",
                expected="vmx-NN",
            )


# --- CPUs and memory ----------------------------------------------------------------------------


@RULES.rule("cpu-missing", Severity.WARNING, affects=ALL)
def cpu_missing(ovf: Envelope) -> Iterator[Found]:
    """A machine states no CPUs (an item of type 3).

    Importers give it one.
    """
    yield from _missing(ovf, CPU, "CPUs", "an Item of ResourceType 3 with VirtualQuantity")


@RULES.rule("memory-missing", Severity.WARNING, affects=ALL)
def memory_missing(ovf: Envelope) -> Iterator[Found]:
    """A machine states no memory (an item of type 4).

    Importers give it what they think right, as little as 32 MB.
    """
    yield from _missing(ovf, MEMORY, "memory", "an Item of ResourceType 4 with VirtualQuantity")


def _missing(ovf: Envelope, kind: int, what: str, mend: str) -> Iterator[Found]:
    for _, section in hardware_sections(ovf):
        if section.items and not any(type_of(item) == kind for item in section.items):
            yield at(ovf, section.element, f"the machine states no {what}", f"add {mend}")


@RULES.rule("quantity", Severity.ERROR, affects=ALL)
def quantity(ovf: Envelope) -> Iterator[Found]:
    """CPUs or memory have no ``VirtualQuantity``, or one that is no number above 0.

    Nothing says how much the machine gets; the import fails.  When it is missing, which is a
    warning, importers take their default.
    """
    for item in items(ovf):
        if type_of(item) not in (CPU, MEMORY):
            continue
        element, text = item.first("VirtualQuantity"), item.text("VirtualQuantity") or ""
        mend = "write the amount as a whole number"
        if element is None:
            problem = f"{name_of(item)} has no VirtualQuantity"
            yield at(ovf, item.element, problem, mend, severity=Severity.WARNING)
        elif not number(text) and not text.startswith("${"):
            problem = f"the VirtualQuantity of {name_of(item)} is {text!r}"
            yield at_text(ovf, element, problem, mend, expected="a number above 0")


@RULES.rule("cpu-count", Severity.ERROR, affects=VMWARE)
def cpu_count(ovf: Envelope) -> Iterator[Found]:
    """A machine has more CPUs than its hardware version allows.

    The machine does not power on.
    """
    for section, item, count in _quantities(ovf, CPU):
        version = hardware_version(section)
        element = item.first("VirtualQuantity")
        if version is None or element is None:
            continue
        most = limits(version).max_cpus
        if count > most:
            yield at_text(
                ovf,
                element,
                f"vmx-{version:02} has at most {most} virtual CPUs",
                "take fewer CPUs, or a newer VirtualSystemType",
                expected=f"1 to {most}",
            )


@RULES.rule("cores-per-socket", Severity.ERROR, affects=VMWARE)
def cores_per_socket(ovf: Envelope) -> Iterator[Found]:
    """``vmw:CoresPerSocket`` does not divide the number of CPUs.

    The machine does not power on.
    """
    for _section, item, count in _quantities(ovf, CPU):
        element = item.first("CoresPerSocket")
        if element is None:
            continue
        cores = number(element.text)
        if not cores or count % cores:
            yield at_text(
                ovf,
                element,
                f"{count} virtual CPUs cannot be put into sockets of {element.text} cores",
                "take a number that divides the number of CPUs",
                expected=f"a divisor of {count}",
            )


@RULES.rule("memory-units", Severity.ERROR, affects=ALL)
def memory_units(ovf: Envelope) -> Iterator[Found]:
    """The ``AllocationUnits`` of a machine's memory are no unit of size.

    The machine gets another amount of memory than was meant, or the import fails.
    """
    for item in items(ovf):
        element = item.first("AllocationUnits")
        if type_of(item) != MEMORY or element is None or not element.text:
            continue
        if bytes_in(element.text) is None:
            yield at_text(
                ovf,
                element,
                f"{item.text('AllocationUnits')!r} is no unit of size",
                "write byte * 2^20 for MiB, or byte * 2^30 for GiB",
                expected="byte * 2^20",
            )


@RULES.rule("memory-without-unit", Severity.WARNING, affects=ALL)
def memory_without_unit(ovf: Envelope) -> Iterator[Found]:
    """The memory of a machine has no unit (``AllocationUnits``).

    Some importers count megabytes then, others bytes.
    """
    for item in items(ovf):
        element = item.first("VirtualQuantity")
        if type_of(item) == MEMORY and element is not None and not item.text("AllocationUnits"):
            yield at_text(
                ovf,
                element,
                f"the memory of the machine is {item.text('VirtualQuantity')}, without a unit",
                "add <rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits> if MiB are meant",
            )


@RULES.rule("memory-size", Severity.ERROR, affects=VMWARE)
def memory_size(ovf: Envelope) -> Iterator[Found]:
    """The memory of a machine is no multiple of 4 MiB, or more than its hardware version allows.

    The machine does not power on.
    """
    for section, item, amount in _quantities(ovf, MEMORY):
        element, version = item.first("VirtualQuantity"), hardware_version(section)
        unit = bytes_in(item.text("AllocationUnits") or "")
        if element is None or unit is None or version is None:
            continue
        size, most = amount * unit, limits(version).max_memory * MIB
        if size % (4 * MIB):
            yield at_text(
                ovf,
                element,
                f"{format_size(size)} of memory are no multiple of 4 MiB",
                "take a multiple of 4 MiB",
                expected="a multiple of 4 MiB",
            )
        elif size > most:
            yield at_text(
                ovf,
                element,
                f"vmx-{version:02} has at most {format_size(most)} of memory",
                "take less memory, or a newer VirtualSystemType",
                expected=f"at most {format_size(most)}",
            )


def _quantities(ovf: Envelope, kind: int) -> Iterator[tuple[Hardware, Item, int]]:
    """The items of a type that state a whole number, and the number."""
    for _, section in hardware_sections(ovf):
        for item in devices(section):
            amount = number(item.text("VirtualQuantity"))
            if type_of(item) == kind and amount:
                yield section, item, amount


@RULES.rule("bound", Severity.ERROR, affects=ALL)
def bound(ovf: Envelope) -> Iterator[Found]:
    """``ovf:bound`` is none of ``normal``, ``min`` and ``max``, or stands alone or twice.

    A minimum or maximum belongs to an item of the same ``InstanceID`` without bound, and there is
    one of each at most.
    """
    for _, section in hardware_sections(ovf):
        plain = {item.text("InstanceID") for item in devices(section)}
        seen: dict[tuple[str | None, str], list[Item]] = {}
        for item in section.items:
            if item.bound is None or item.bound == "normal":
                continue
            problem = None
            if item.bound not in _BOUNDS:
                problem = f"there is no bound {item.bound!r}"
            elif item.text("InstanceID") not in plain:
                problem = f"no item states the normal amount of {name_of(item)}"
            else:
                others = seen.setdefault((item.text("InstanceID"), item.bound), [])
                if any(can_coexist(other, item) for other in others):
                    problem = f"{name_of(item)} has a second {item.bound}imum"
                elif len(others) < 16:
                    others.append(item)
            if problem is not None:
                yield at(
                    ovf,
                    item.element,
                    problem,
                    "write one item without ovf:bound, and at most one each with min and max",
                    attribute="bound",
                    expected="normal, min or max",
                )
