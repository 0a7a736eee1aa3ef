"""Rules for the network cards of a libvirt domain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_converters.machine.rules import mac as macs
from vmport_converters.machine.rules.libvirt.view import ALL, QEMU, RULES
from vmport_converters.machine.rules.model import Found, Severity
from vmport_converters.machine.rules.spelling import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lxml import etree

    from vmport_converters.machine.rules.libvirt.view import DomainView

# What the source of a card has to name, by the type of the card.
_SOURCES: Final = {"network": "network", "bridge": "bridge", "direct": "dev", "vdpa": "dev"}

_MODELS: Final = frozenset(
    """
    virtio virtio-transitional virtio-non-transitional e1000 e1000-82544gc e1000-82545em e1000e
    igb rtl8139 pcnet ne2k_pci ne2k_isa i82550 i82551 i82557b i82559er usb-net vmxnet3 lan9118
    smc91c111 xen netfront spapr-vlan sungem tulip
    """.split()  # noqa: SIM905 - a table to read
)


def _macs(domain: DomainView) -> Iterator[tuple[etree._Element, str]]:
    for card in domain.each("interface"):
        element = card.find("mac")
        text = None if element is None else element.get("address")
        if element is not None and text is not None:
            yield element, text


@RULES.rule("mac-format", Severity.ERROR, affects=ALL)
def mac_format(domain: DomainView) -> Iterator[Found]:
    """A MAC address is not six bytes in hexadecimal.

    libvirt refuses the domain: "unable to parse mac address".
    """
    for element, text in _macs(domain):
        if macs.parse_mac(text) is None:
            yield domain.at(
                element,
                f"{text!r} is no MAC address",
                "write six bytes with colons, as in 52:54:00:1a:2b:3c",
                attribute="address",
                expected="six bytes in hexadecimal with colons",
            )


@RULES.rule("mac-multicast", Severity.ERROR, affects=ALL)
def mac_multicast(domain: DomainView) -> Iterator[Found]:
    """A MAC address is that of a group: its first byte is odd.

    libvirt refuses the domain: "expected unicast mac address, found multicast".
    """
    for element, text in _macs(domain):
        mac = macs.parse_mac(text)
        if mac is not None and macs.is_multicast(mac):
            yield domain.at(
                element,
                f"the first byte, {mac[0]:02x}, is odd: a multicast address",
                "take an address whose first byte is even, such as 52",
                attribute="address",
                expected="an even first byte",
            )


@RULES.rule("mac-duplicate", Severity.WARNING, affects="the guest's network")
def mac_duplicate(domain: DomainView) -> Iterator[Found]:
    """Two network cards of the domain have the same MAC address.

    libvirt takes it, as a team of two cards needs it; on one network neither works.
    """
    teamed = any(card.find("teaming") is not None for card in domain.each("interface"))
    seen: dict[bytes, etree._Element] = {}
    for element, text in _macs(domain):
        mac = macs.parse_mac(text)
        if mac is None or teamed:
            continue
        first = seen.setdefault(mac, element)
        if first is not element:
            yield domain.at(
                element,
                f"line {domain.line(first)} has the same MAC address",
                "give each card an address of its own, or remove <mac> from one",
                attribute="address",
            )


@RULES.rule("interface-source", Severity.ERROR, affects=ALL)
def interface_source(domain: DomainView) -> Iterator[Found]:
    """A network card does not say what it is connected to.

    libvirt refuses the domain: "no <source> 'network' attribute specified".
    """
    for card in domain.each("interface"):
        wanted = _SOURCES.get(card.get("type") or "")
        source = card.find("source")
        if wanted is None or (source is not None and source.get(wanted)):
            continue
        yield domain.at(
            card if source is None else source,
            f"a card of type '{card.get('type')}' has no <source {wanted}>",
            f"add <source {wanted}='…'/>",
        )


@RULES.rule("interface-model", Severity.WARNING, affects=QEMU)
def interface_model(domain: DomainView) -> Iterator[Found]:
    """The model of a network card is nearly a known one, but not quite.

    QEMU refuses to start a domain with a card that it does not know.
    """
    for card in domain.each("interface"):
        element = card.find("model")
        model = None if element is None else element.get("type")
        if element is None or not model or model.lower() in _MODELS or not domain.is_qemu:
            continue
        meant = nearest(model, _MODELS)
        if meant is not None:
            yield domain.at(
                element,
                f"QEMU has no network card {model!r}; did you mean {meant}?",
                f"write type='{meant}'",
                attribute="type",
                expected=meant,
            )
