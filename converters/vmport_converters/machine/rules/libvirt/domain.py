"""Rules for a libvirt domain as a whole: name, type, memory, CPUs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from vmport_converters.machine.rules.libvirt.view import (
    ALL,
    QEMU,
    RULES,
    cpu_count,
    memory_bytes,
    number,
    text_of,
    unit_size,
)
from vmport_converters.machine.rules.model import Found, Layer, Severity
from vmport_converters.machine.rules.targets import wrong_dialect
from vmport_formats.machine.dialect import Dialect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_converters.machine.rules.libvirt.view import DomainView
    from vmport_converters.machine.rules.targets import Target

_UUID: Final = re.compile(r"\s*\{?\s*([0-9a-fA-F][\s-]*){32}\}?\s*")
_PLAIN_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}")
_MEMORY: Final = ("memory", "currentMemory", "maxMemory")
_LISTS: Final = (
    ("vcpu", "cpuset"),
    ("cputune/vcpupin", "cpuset"),
    ("cputune/emulatorpin", "cpuset"),
    ("cputune/iothreadpin", "cpuset"),
    ("cpu/numa/cell", "cpus"),
    ("numatune/memory", "nodeset"),
    ("numatune/memnode", "nodeset"),
)
_TOPOLOGY: Final = ("sockets", "dies", "clusters", "cores", "threads")


@RULES.target_rule("target-dialect", Severity.ERROR, affects="the named target")
def target_dialect(_domain: DomainView, target: Target) -> Iterator[Found]:
    """The target does not read libvirt's domain XML.

    The descriptor has to be translated first.
    """
    yield from wrong_dialect(Dialect.LIBVIRT, target)


@RULES.rule("type-missing", Severity.ERROR, affects=ALL, layer=Layer.STRUCTURE)
def type_missing(domain: DomainView) -> Iterator[Found]:
    """``<domain>`` does not say which hypervisor it is for (``type``).

    libvirt refuses it: "missing domain type attribute".
    """
    if not domain.root.get("type"):
        yield domain.at(domain.root, "<domain> has no type", "write <domain type='kvm'>")


@RULES.rule("name", Severity.ERROR, affects=ALL, layer=Layer.STRUCTURE)
def name(domain: DomainView) -> Iterator[Found]:
    """The domain has no name, or one that QEMU's driver refuses: with a slash or a line end.

    libvirt names files after it.
    """
    element = domain.root.find("name")
    if element is None:
        yield domain.at(domain.root, "the domain has no <name>", "add <name>…</name>")
        return
    text = element.text or ""
    if not text.strip():
        yield domain.at(element, "the name of the domain is empty", "write a name")
    elif "\n" in text:
        yield domain.at_text(element, "the name has a line end in it", "write it on one line")
    elif "/" in text and domain.is_qemu:
        yield domain.at_text(
            element, "the name has a slash in it", "take another sign, such as -", affects=QEMU
        )


@RULES.rule("uuid", Severity.ERROR, affects=ALL, layer=Layer.STRUCTURE)
def uuid(domain: DomainView) -> Iterator[Found]:
    """``<uuid>`` or ``<genid>`` is no UUID.

    libvirt refuses the domain: "malformed uuid element".  Without ``<uuid>`` it makes one.
    """
    for tag in ("uuid", "genid"):
        element = domain.root.find(tag)
        text = text_of(element)
        if element is None or (tag == "genid" and not text):
            continue
        if _UUID.fullmatch(text) is None:
            yield domain.at_text(
                element,
                f"<{tag}> is {text!r}, which is no UUID",
                "write 32 hexadecimal digits, or remove the element",
                expected="32 hexadecimal digits",
            )


@RULES.rule("smbios-uuid", Severity.ERROR, affects=QEMU)
def smbios_uuid(domain: DomainView) -> Iterator[Found]:
    """The UUID that SMBIOS shows to the guest is not that of the domain.

    libvirt refuses the domain: "UUID mismatch between <uuid> and <sysinfo>".
    """
    stated = text_of(domain.root.find("uuid")).lower().replace("-", "")
    for element in domain.root.findall("sysinfo/system/entry"):
        text = text_of(element).lower().replace("-", "")
        if element.get("name") == "uuid" and stated and text != stated:
            yield domain.at_text(
                element, "this is not the <uuid> of the domain", "write the same UUID in both"
            )


@RULES.rule("os-type-missing", Severity.ERROR, affects=ALL, layer=Layer.STRUCTURE)
def os_type_missing(domain: DomainView) -> Iterator[Found]:
    """The domain has no ``<os><type>``, and no boot loader of the host.

    libvirt refuses it: "an os <type> must be specified".
    """
    if not text_of(domain.os_type) and domain.root.find("bootloader") is None:
        holder = domain.root.find("os")
        yield domain.at(
            domain.root if holder is None else holder,
            "the domain does not say what kind of guest it is (<os><type>)",
            "add <os><type arch='x86_64' machine='q35'>hvm</type></os>",
        )


@RULES.rule("memory-missing", Severity.ERROR, affects=ALL, layer=Layer.STRUCTURE)
def memory_missing(domain: DomainView) -> Iterator[Found]:
    """Neither ``<memory>`` nor NUMA cells say how much memory the domain has.

    libvirt refuses it: "memory size must be specified".
    """
    if domain.root.find("memory") is None and not _has_cells(domain):
        yield domain.at(
            domain.root, "the domain has no <memory>", "add <memory unit='GiB'>2</memory>"
        )


@RULES.rule("memory-size", Severity.ERROR, affects=ALL)
def memory_size(domain: DomainView) -> Iterator[Found]:
    """An amount of memory is no number, or its unit is unknown.

    libvirt knows b, KiB to EiB (also k, M, G) and KB to EB; it refuses any other.
    """
    for tag in _MEMORY:
        for element in domain.root.findall(tag):
            if number(element.text) is None:
                yield domain.at_text(
                    element,
                    f"<{tag}> is {text_of(element)!r}, not a number",
                    "write a whole number, and the unit as an attribute",
                    expected="a whole number",
                )
            elif unit_size(element.get("unit")) is None:
                yield domain.at(
                    element,
                    f"libvirt has no unit {element.get('unit')!r}",
                    "write unit='KiB', 'MiB' or 'GiB'",
                    attribute="unit",
                    expected="KiB, MiB, GiB, ...",
                )
            elif tag == "memory" and number(element.text) == 0 and _lacks_memory(domain):
                yield domain.at_text(element, "the domain has no memory", "write its amount")


def _lacks_memory(domain: DomainView) -> bool:
    """Whether a memory of 0 is an error: QEMU needs some, from NUMA cells if not from here."""
    return domain.is_qemu and not _has_cells(domain)


def _has_cells(domain: DomainView) -> bool:
    """Whether the guest sees NUMA cells."""
    return domain.root.find("cpu/numa/cell") is not None


@RULES.rule("current-memory", Severity.WARNING, affects=ALL)
def current_memory(domain: DomainView) -> Iterator[Found]:
    """``<currentMemory>`` is more than ``<memory>``.

    libvirt takes ``<memory>`` for both without a word.
    """
    element = domain.root.find("currentMemory")
    most, wanted = memory_bytes(domain.root.find("memory")), memory_bytes(element)
    complex_memory = domain.root.find("maxMemory") is not None or domain.each("memory")
    if element is None or not most or wanted is None or complex_memory:
        return
    if wanted > most and not _has_cells(domain):
        yield domain.at_text(
            element,
            "the current memory is more than the most that the domain can have (<memory>)",
            "raise <memory>, or lower <currentMemory>",
        )


@RULES.rule("memory-hotplug-numa", Severity.ERROR, affects=QEMU)
def memory_hotplug_numa(domain: DomainView) -> Iterator[Found]:
    """Memory can be plugged in (``<maxMemory slots>``), but the guest has no NUMA cells.

    libvirt refuses the domain on PCs: "at least one numa node has to be configured".
    """
    element = domain.root.find("maxMemory")
    if element is None or not number(element.get("slots")) or not domain.is_qemu:
        return
    if domain.is_x86 and not _has_cells(domain):
        yield domain.at(
            element,
            "plugging in memory needs at least one NUMA cell",
            "add <numa><cell id='0' cpus='0-N' memory='…' unit='KiB'/></numa> to <cpu>",
            attribute="slots",
        )


@RULES.rule("vcpu", Severity.ERROR, affects=ALL)
def vcpu(domain: DomainView) -> Iterator[Found]:
    """The number of virtual CPUs is no number above 0, or less than are online at start.

    libvirt refuses the domain.
    """
    element = domain.root.find("vcpu")
    if element is None:
        return
    count = number(element.text) if text_of(element) else 1
    current = element.get("current")
    if not count:
        yield domain.at_text(
            element,
            f"<vcpu> is {text_of(element)!r}, not a number above 0",
            "write the number of virtual CPUs",
            expected="a number above 0",
        )
    elif current is not None and (not number(current) or (number(current) or 0) > count):
        yield domain.at(
            element,
            f"{current} of {count} virtual CPUs cannot be online",
            f"write a number from 1 to {count}",
            attribute="current",
            expected=f"1 to {count}",
        )


def _vcpus(domain: DomainView) -> int | None:
    element = domain.root.find("vcpu")
    return 1 if not text_of(element) else number(text_of(element))


@RULES.rule("topology", Severity.ERROR, affects=QEMU)
def topology(domain: DomainView) -> Iterator[Found]:
    """Sockets × dies × clusters × cores × threads is not the number of virtual CPUs.

    libvirt refuses the domain: "CPU topology doesn't match maximum vcpu count".
    """
    element = domain.root.find("cpu/topology")
    count = _vcpus(domain)
    if element is None or not count:
        return
    product = 1
    for level in _TOPOLOGY:
        text = element.get(level)
        if text is None:
            continue
        factor = number(text)
        if not factor:
            yield domain.at(
                element,
                f"{level} is {text!r}, not a number above 0",
                "write how many there are",
                attribute=level,
                expected="a number above 0",
            )
            return
        product *= factor
    if product != count:
        shown = " × ".join(
            f"{element.get(level)} {level}" for level in _TOPOLOGY if element.get(level)
        )
        yield domain.at(
            element,
            f"{shown} make {product} virtual CPUs, but <vcpu> is {count}",
            f"make the product {count}, or write <vcpu>{product}</vcpu>",
            expected=f"a product of {count}",
        )


@RULES.rule("numa-cpus", Severity.ERROR, affects=QEMU)
def numa_cpus(domain: DomainView) -> Iterator[Found]:
    """The NUMA cells hold more virtual CPUs than the domain has.

    libvirt refuses the domain: "number of CPUs in <numa> exceeds the desired maximum vcpu count".
    """
    count = _vcpus(domain)
    cells = domain.root.findall("cpu/numa/cell")
    counts = [cpu_count(cell.get("cpus") or "") or 0 for cell in cells]
    if count and sum(counts) > count:
        yield domain.at(
            cells[0],
            f"the NUMA cells hold {sum(counts)} virtual CPUs, but <vcpu> is {count}",
            f"share out the CPUs 0 to {count - 1} among the cells",
            attribute="cpus",
        )


@RULES.rule("cpu-list", Severity.ERROR, affects=ALL)
def cpu_list(domain: DomainView) -> Iterator[Found]:
    """A list of CPUs or NUMA nodes is not written as ``0-3,8,^2``.

    libvirt refuses the domain: "failed to parse bitmap".
    """
    for path, attribute in _LISTS:
        for element in domain.root.findall(path):
            text = element.get(attribute)
            if text is not None and cpu_count(text) is None:
                yield domain.at(
                    element,
                    f"{text!r} is no list of numbers",
                    "write numbers and ranges with commas, as in 0-3,8,^2",
                    attribute=attribute,
                    expected="0-3,8,^2",
                )


@RULES.rule("memnode-without-cells", Severity.ERROR, affects=QEMU)
def memnode_without_cells(domain: DomainView) -> Iterator[Found]:
    """``<numatune><memnode>`` places NUMA cells of the guest, and the guest has none.

    libvirt refuses the domain: "element 'memnode' is invalid without any guest NUMA cells".
    """
    element = domain.root.find("numatune/memnode")
    if element is not None and not _has_cells(domain):
        yield domain.at(
            element, "the guest has no NUMA cells to place", "use <memory> in <numatune> instead"
        )


@RULES.rule("iothread-undefined", Severity.ERROR, affects=QEMU)
def iothread_undefined(domain: DomainView) -> Iterator[Found]:
    """A disk or controller is served by an I/O thread that the domain does not have.

    libvirt refuses the domain: "IOThread not defined in iothreadid".
    """
    count = number(text_of(domain.root.find("iothreads"))) or 0
    stated = [number(item.get("id")) for item in domain.root.findall("iothreadids/iothread")]
    known = {thread for thread in stated if thread is not None}
    spare = iter(range(1, min(count, 10_000) + len(known) + 2))
    while len(known) < min(count, 10_000):
        known.add(next(spare))
    for device in (*domain.disks, *domain.controllers):
        driver = device.find("driver")
        thread = None if driver is None else number(driver.get("iothread"))
        if driver is not None and thread is not None and thread not in known:
            yield domain.at(
                driver,
                f"there is no I/O thread {thread}",
                f"raise <iothreads>, or take one of 1 to {len(known)}"
                if known
                else "add <iothreads>1</iothreads> to the domain",
                attribute="iothread",
            )
