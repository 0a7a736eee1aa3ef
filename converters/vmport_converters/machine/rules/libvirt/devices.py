"""Rules for the controllers, addresses and other devices of a libvirt domain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_converters.machine.rules.libvirt.disks import bus_of, place_of
from vmport_converters.machine.rules.libvirt.view import (
    ALL,
    QEMU,
    RULES,
    addresses,
    name_of,
    number,
)
from vmport_converters.machine.rules.model import Found, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lxml import etree

    from vmport_converters.machine.rules.libvirt.view import DomainView

_PCI: Final = {"domain": 0xFFFF, "bus": 0xFF, "slot": 0x1F, "function": 7}
_CCW: Final = {"cssid": 0xFE, "ssid": 3, "devno": 0xFFFF}
_XHCI: Final = frozenset({"nec-xhci", "qemu-xhci"})
_MAX_XHCI_PORTS: Final = 15
_ROOTS: Final = ("pci-root", "pcie-root")
_USB_DEVICES: Final = ("input", "hub", "redirdev", "sound", "smartcard")
_ONE_ONLY: Final = {"ide": "IDE", "fdc": "floppy"}


@RULES.rule("controller-index", Severity.ERROR, affects=ALL)
def controller_index(domain: DomainView) -> Iterator[Found]:
    """The index of a controller is no number, or that of another controller of its type.

    libvirt refuses the domain: "multiple controllers with index".  The companions of a USB 2
    controller share its index.
    """
    seen: dict[tuple[str, int], etree._Element] = {}
    for controller in domain.controllers:
        kind, text = controller.get("type") or "", controller.get("index")
        if text is None:
            continue
        index = number(text)
        if index is None:
            yield domain.at(
                controller,
                f"the index {text!r} is no number",
                "write 0 for the first controller of its type, 1 for the next",
                attribute="index",
                expected="a number",
            )
            continue
        if kind == "usb" and (controller.get("model") or "").startswith("ich9-"):
            continue
        first = seen.setdefault((kind, index), controller)
        if first is not controller:
            yield domain.at(
                controller,
                f"the controller in line {domain.line(first)} is {kind} {index} already",
                "give it another index, and correct the addresses of what hangs on it",
                attribute="index",
            )


@RULES.rule("controller-single", Severity.ERROR, affects=QEMU)
def controller_single(domain: DomainView) -> Iterator[Found]:
    """There is more than one IDE or floppy controller.

    A PC has one of each, with index 0; libvirt refuses further ones.
    """
    for controller in domain.controllers:
        label = _ONE_ONLY.get(controller.get("type") or "")
        index = number(controller.get("index"))
        if label is not None and index and domain.is_qemu and domain.is_x86:
            yield domain.at(
                controller,
                f"a PC has one {label} controller, with index 0",
                "remove it, and move its drives",
                attribute="index",
                expected="0",
            )


@RULES.rule("pci-root", Severity.ERROR, affects=QEMU)
def pci_root(domain: DomainView) -> Iterator[Found]:
    """The root of the PCI buses does not fit the machine.

    PCI controller 0 is ``pcie-root`` on Q35 and ``pci-root`` on i440FX, has no address, and is
    the only root.  libvirt refuses the domain otherwise.
    """
    if not domain.is_qemu or not (domain.is_q35 or domain.is_i440fx):
        return
    wanted = "pcie-root" if domain.is_q35 else "pci-root"
    for controller in domain.controllers:
        model, index = controller.get("model"), number(controller.get("index"))
        if controller.get("type") != "pci" or model is None:
            continue
        if model in _ROOTS and index not in (0, None):
            yield domain.at(
                controller,
                f"{model} has index 0",
                "write index='0', or take pcie-root-port",
                attribute="index",
                expected="0",
            )
        elif index == 0 and model != wanted:
            yield domain.at(
                controller,
                f"PCI controller 0 of {domain.machine} is {wanted}, not {model}",
                f"write model='{wanted}'; the PCI addresses of all devices may have to go",
                attribute="model",
                expected=wanted,
            )
        elif model in _ROOTS:
            for address in controller.findall("address"):
                yield domain.at(address, f"{model} has no address", "remove the <address>")


@RULES.rule("address-range", Severity.ERROR, affects=QEMU)
def address_range(domain: DomainView) -> Iterator[Found]:
    """A part of an address is no number, or too large.

    A PCI domain goes to 0xffff, a bus to 0xff, a slot to 0x1f, a function to 7.
    """
    for _device, address in addresses(domain):
        parts = {"pci": _PCI, "ccw": _CCW}.get(address.get("type") or "", {})
        for name, most in parts.items():
            text = address.get(name)
            value = number(text, base=0)
            if text is not None and (value is None or value > most):
                yield domain.at(
                    address,
                    f"{name} is {text!r}; it goes from 0 to {most:#x}",
                    "remove the <address>; libvirt assigns one",
                    attribute=name,
                    expected=f"0 to {most:#x}",
                )
                break


def _pci_key(address: etree._Element) -> tuple[object, ...] | None:
    parts = [number(address.get(name) or "0", base=0) for name in _PCI]
    return None if address.get("bus") is None and address.get("slot") is None else tuple(parts)


def _key(device: etree._Element, address: etree._Element) -> tuple[object, ...] | None:
    """What tells an address from all others; None when it leaves the choice to libvirt."""
    kind = address.get("type")
    if kind == "pci":
        found = _pci_key(address)
        return None if found is None else (kind, *found)
    if kind == "ccw":
        if address.get("devno") is None:
            return None
        return (kind, *(number(address.get(name) or "0", base=0) for name in _CCW))
    if kind == "drive":
        bus = bus_of(device) if device.tag == "disk" else "scsi"
        places = ("controller", "bus", "target", "unit")
        return (kind, bus, *(number(address.get(name) or "0") for name in places))
    if kind == "usb":
        return (
            None
            if address.get("port") is None
            else (kind, address.get("bus") or "0", address.get("port"))
        )
    if kind == "virtio-serial":
        port = address.get("port")
        if port in (None, "0"):
            return None
        return (kind, address.get("controller") or "0", address.get("bus") or "0", port)
    return None


@RULES.rule("address-duplicate", Severity.ERROR, affects=QEMU)
def address_duplicate(domain: DomainView) -> Iterator[Found]:
    """Two devices have the same address.

    libvirt refuses the domain: "attempted double use of PCI address", "found duplicate drive
    address".
    """
    seen: dict[tuple[object, ...], etree._Element] = {}
    if not domain.is_qemu:
        return
    for disk in domain.disks:  # an explicit address clashes with one that follows from a name
        place = place_of(disk) if disk.find("address") is None else None
        if place is not None:
            controller, bus, unit = place
            seen.setdefault(("drive", bus_of(disk), controller, bus, 0, unit), disk)
    for device, address in addresses(domain):
        key = _key(device, address)
        if key is None:
            continue
        first = seen.setdefault(key, device)
        twins = {first.tag, device.tag} == {"serial", "console"}  # two views of one port
        if first is not device and not twins:
            yield domain.at(
                address,
                f"{name_of(device)} has the address of {name_of(first)}, line {domain.line(first)}",
                "remove one <address>; libvirt assigns a free one",
            )


@RULES.rule("usb-disabled", Severity.ERROR, affects=QEMU)
def usb_disabled(domain: DomainView) -> Iterator[Found]:
    """USB is switched off (``model='none'``), but a device or controller needs it.

    libvirt refuses the domain: "USB is disabled for this domain".
    """
    off = next(
        (
            item
            for item in domain.controllers
            if item.get("type") == "usb" and item.get("model") == "none"
        ),
        None,
    )
    if off is None or not domain.is_qemu:
        return
    for device in domain.devices:
        second = device.tag == "controller" and device.get("type") == "usb" and device is not off
        plugged = device.tag in _USB_DEVICES and (
            device.get("bus") == "usb" or device.get("type") == "usb"
        )
        if second or plugged or (device.tag == "disk" and bus_of(device) == "usb"):
            yield domain.at(
                device,
                f"this {device.tag} needs USB, which line {domain.line(off)} switches off",
                "remove it, or give the USB controller another model, such as qemu-xhci",
            )


@RULES.rule("usb-controller", Severity.ERROR, affects=QEMU)
def usb_controller(domain: DomainView) -> Iterator[Found]:
    """A USB controller has too many ports, or companions without a master.

    USB 3 controllers have up to 15 ports; ``ich9-uhci`` belong to an ``ich9-ehci1`` of the same
    index.
    """
    usb = [item for item in domain.controllers if item.get("type") == "usb"]
    masters = {item.get("index") for item in usb if item.get("model") == "ich9-ehci1"}
    for item in usb if domain.is_qemu else ():
        model, ports = item.get("model") or "", number(item.get("ports"))
        if model in _XHCI and ports is not None and ports > _MAX_XHCI_PORTS:
            yield domain.at(
                item,
                f"{model} has at most {_MAX_XHCI_PORTS} ports",
                f"write ports='{_MAX_XHCI_PORTS}', or add a second controller",
                attribute="ports",
                expected=f"1 to {_MAX_XHCI_PORTS}",
            )
        elif model.startswith("ich9-uhci") and item.get("index") not in masters:
            yield domain.at(
                item,
                f"{model} belongs to an ich9-ehci1, and there is none with this index",
                "add <controller type='usb' model='ich9-ehci1'> with the same index",
                attribute="model",
            )


@RULES.rule("usb-bus-missing", Severity.ERROR, affects=QEMU)
def usb_bus_missing(domain: DomainView) -> Iterator[Found]:
    """A device is on a USB bus that no controller drives.

    libvirt refuses the domain: "USB bus requested but no controller with that index is present".
    """
    known = {item.get("index") or "0" for item in domain.controllers if item.get("type") == "usb"}
    for _device, address in addresses(domain):
        bus = address.get("bus")
        if address.get("type") != "usb" or bus in (None, "0") or bus in known:
            continue
        if domain.is_qemu:
            yield domain.at(
                address,
                f"there is no USB controller {bus}",
                f"add <controller type='usb' index='{bus}'/>, or write bus='0'",
                attribute="bus",
            )


@RULES.rule("hostdev-duplicate", Severity.ERROR, affects=QEMU)
def hostdev_duplicate(domain: DomainView) -> Iterator[Found]:
    """A PCI device of the host is handed to the guest twice.

    libvirt refuses the domain: "hostdev already exists in the domain configuration".
    """
    seen: dict[tuple[object, ...], etree._Element] = {}
    for item in domain.each("hostdev"):
        address = item.find("source/address")
        if address is None or item.get("type") != "pci":
            continue
        first = seen.setdefault(_pci_key(address) or (), address)
        if first is not address:
            yield domain.at(
                address,
                f"line {domain.line(first)} hands the same device to the guest",
                "remove one of the two <hostdev>",
            )


@RULES.rule("port-source", Severity.ERROR, affects=QEMU)
def port_source(domain: DomainView) -> Iterator[Found]:
    """A serial or parallel port does not say which file, pipe, socket or device it is.

    libvirt refuses the domain: "missing source path attribute for char device".
    """
    for item in (*domain.each("serial"), *domain.each("parallel")):
        source = item.find("source")
        if item.get("type") not in ("file", "dev", "pipe", "unix") or not domain.is_qemu:
            continue
        if source is None or not source.get("path"):
            yield domain.at(
                item if source is None else source,
                f"a {item.tag} port of type '{item.get('type')}' has no <source path>",
                "add <source path='…'/>",
            )


@RULES.rule("video", Severity.ERROR, affects=QEMU)
def video(domain: DomainView) -> Iterator[Found]:
    """There are two primary video cards, or one beside ``none``.

    libvirt refuses the domain.
    """
    cards = [(item, item.find("model")) for item in domain.each("video")]
    models = [(item, model) for item, model in cards if model is not None]
    primaries = [model for _, model in models if model.get("primary") == "yes"]
    for model in primaries[1:]:
        yield domain.at(
            model,
            f"the video card in line {domain.line(primaries[0])} is the primary one already",
            "remove primary='yes' from one of them",
            attribute="primary",
        )
    for _, model in models:
        if model.get("type") == "none" and len(cards) > 1:
            yield domain.at(
                model,
                "'none' must be the only video card",
                "remove the other cards, or this one",
                attribute="type",
            )


@RULES.rule("tpm-backend", Severity.ERROR, affects=ALL)
def tpm_backend(domain: DomainView) -> Iterator[Found]:
    """A TPM has no backend.

    libvirt refuses the domain: "missing TPM device backend".
    """
    for item in domain.each("tpm"):
        if item.find("backend") is None:
            yield domain.at(
                item,
                "the TPM has no <backend>",
                "add <backend type='emulator' version='2.0'/>",
            )
