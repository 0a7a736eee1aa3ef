"""Rules for the network cards of an OVF machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmport_converters.machine.rules import mac as macs
from vmport_converters.machine.rules.model import Found, Severity
from vmport_converters.machine.rules.ovf.view import (
    ALL,
    NIC,
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
    type_of,
)
from vmport_converters.machine.rules.vmware import (
    E1000E,
    VMXNET3,
    max_nics,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.machine.ovf.envelope import Envelope, Item


@RULES.rule("nic-count", Severity.ERROR, affects=VMWARE)
def nic_count(ovf: Envelope) -> Iterator[Found]:
    """There are more network cards than the machine can have: 10, or 4 below vmx-07.

    The machine does not power on.
    """
    for _, section in hardware_sections(ovf):
        version = hardware_version(section)
        most = max_nics(version)
        cards = [i for i in devices(section) if type_of(i) == NIC and not i.configurations]
        for item in cards[most : most + 1]:
            where = "" if version is None or most == 10 else f" of vmx-{version:02}"
            yield at(
                ovf,
                item.element,
                f"a machine{where} has at most {most} network cards; this one has {len(cards)}",
                "remove some",
            )


@RULES.rule("nic-hardware", Severity.ERROR, affects=VMWARE)
def nic_hardware(ovf: Envelope) -> Iterator[Found]:
    """A network card needs a newer hardware version than the machine's type.

    VmxNet3 came with vmx-07, E1000e with vmx-08.
    """
    for _, section in hardware_sections(ovf):
        version = hardware_version(section)
        for item in devices(section):
            element = item.first("ResourceSubType")
            if version is None or element is None or type_of(item) != NIC:
                continue
            words = (element.text or "").replace(",", " ").lower().split()
            feature = {"vmxnet3": VMXNET3, "e1000e": E1000E}.get(words[0] if words else "")
            if feature is not None and version < feature.since and len(words) == 1:
                yield at_text(
                    ovf,
                    element,
                    f"{name_of(item)} is {feature.label}, which needs vmx-{feature.since:02}; this "
                    f"is vmx-{version:02}",
                    f"write vmx-{feature.since:02} or higher as VirtualSystemType, or E1000",
                    expected="E1000 or PCNet32",
                )


@RULES.rule("network-undefined", Severity.ERROR, affects=ALL)
def network_undefined(ovf: Envelope) -> Iterator[Found]:
    """A network card is connected to a network that ``NetworkSection`` does not declare.

    Importers ask the user to map the declared networks only; the card is connected to nothing,
    or the import fails.
    """
    known = {network.name for network in ovf.networks}
    for item in items(ovf):
        if type_of(item) != NIC:
            continue
        for element in item.fields.get("Connection", ()):
            text = (element.text or "").strip()
            if text and text not in known:
                some = ", ".join(sorted(name for name in known if name)[:5])
                yield at_text(
                    ovf,
                    element,
                    f"there is no network {text!r} in NetworkSection",
                    f'add <Network ovf:name="{text}"/> to NetworkSection, or take a declared one',
                    expected=some or None,
                )


@RULES.rule("network-unused", Severity.NOTE, affects=ALL)
def network_unused(ovf: Envelope) -> Iterator[Found]:
    """A network is declared, but no network card is connected to it.

    Importers ask the user to map it all the same.
    """
    used = {
        (element.text or "").strip()
        for item in items(ovf)
        for element in item.fields.get("Connection", ())
    }
    for network in ovf.networks:
        if network.name and network.name not in used:
            yield at(
                ovf,
                network.element,
                f"no network card is connected to {network.name!r}",
                "remove it, or connect a card to it",
            )


def _is_number(text: str) -> bool:
    """Whether the address of a card is its place on a bus, as some products write it."""
    return text.isdigit() and len(text) != 12


def _addresses(ovf: Envelope) -> Iterator[tuple[Item, str]]:
    for item in items(ovf):
        text = item.text("Address")
        if type_of(item) == NIC and text and not _is_number(text):
            yield item, text


@RULES.rule("mac-format", Severity.ERROR, affects=ALL)
def mac_format(ovf: Envelope) -> Iterator[Found]:
    """The ``Address`` of a network card is no MAC address.

    Importers refuse it, or give the card another one.
    """
    for item, text in _addresses(ovf):
        element = item.first("Address")
        if element is not None and macs.parse_mac(text, bare=True) is None:
            yield at_text(
                ovf,
                element,
                f"{name_of(item)}: {text!r} is no MAC address",
                "write six bytes in hexadecimal with colons, as in 00:50:56:1a:2b:3c",
                expected="six bytes in hexadecimal with colons",
            )


@RULES.rule("mac-multicast", Severity.ERROR, affects="every hypervisor")
def mac_multicast(ovf: Envelope) -> Iterator[Found]:
    """A MAC address is that of a group: its first byte is odd.

    No card can have such an address.
    """
    for item, text in _addresses(ovf):
        element, mac = item.first("Address"), macs.parse_mac(text, bare=True)
        if element is not None and mac is not None and macs.is_multicast(mac):
            yield at_text(
                ovf,
                element,
                f"{name_of(item)}: the first byte, {mac[0]:02x}, is odd: a multicast address",
                "take an address whose first byte is even",
                expected="an even first byte",
            )


@RULES.rule("mac-duplicate", Severity.ERROR, affects="every hypervisor")
def mac_duplicate(ovf: Envelope) -> Iterator[Found]:
    """Two network cards of a machine have the same MAC address.

    Neither works when they are on the same network.
    """
    for _, section in hardware_sections(ovf):
        seen: dict[bytes, list[Item]] = {}
        for item in devices(section):
            text = item.text("Address") or ""
            element, mac = item.first("Address"), macs.parse_mac(text, bare=True)
            if type_of(item) != NIC or element is None or mac is None or _is_number(text):
                continue
            others = seen.setdefault(mac, [])
            first = next((other for other in others if can_coexist(other, item)), None)
            if first is not None:
                yield at_text(
                    ovf,
                    element,
                    f"{name_of(item)} has the MAC address of {name_of(first)}",
                    "give each card an address of its own",
                )
            elif len(others) < 16:
                others.append(item)
