"""Rules for the network cards of a VMX file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_converters.machine.rules import mac as macs
from vmport_converters.machine.rules.model import Found, Severity
from vmport_converters.machine.rules.spelling import nearest
from vmport_converters.machine.rules.vmware import E1000E, VMXNET3, max_nics
from vmport_converters.machine.rules.vmx.view import (
    ALL,
    RULES,
    as_bool,
    at_key,
    at_value,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_converters.machine.rules.targets import Target
    from vmport_converters.machine.rules.vmx.view import Device, VmxView
    from vmport_formats.machine.vmx.syntax import VmxEntry

NIC_MODELS: Final = frozenset(
    {"vlance", "vmxnet", "vmxnet2", "vmxnet3", "e1000", "e1000e", "flexible", "vrdma"}
)
_ADDRESS_TYPES: Final = frozenset({"static", "generated", "vpx"})
_CONNECTIONS: Final = frozenset(
    {"bridged", "nat", "hostonly", "custom", "pvn", "none", "monitor_dev"}
)


def _addresses(vmx: VmxView) -> Iterator[tuple[Device, VmxEntry, str]]:
    """The MAC address of each card that states one, and who chose it."""
    for nic in vmx.nics():
        kind = (nic.value("addressType") or "").strip().lower()
        if not kind:
            kind = "static" if nic.get("address") else "generated"
        entry = nic.get("address" if kind == "static" else "generatedAddress")
        if entry is not None and entry.value.strip():
            yield nic, entry, kind


@RULES.rule("nic-count", Severity.ERROR, affects=ALL)
def nic_count(vmx: VmxView) -> Iterator[Found]:
    """There are more network cards than the machine can have.

    10, counted from 0, or 4 below hardware version 7.  Further ones are ignored or keep the
    machine from powering on.
    """
    most = max_nics(vmx.hardware)
    for nic in vmx.nics():
        if nic.index >= most:
            yield at_key(
                nic.first,
                f"{nic.name}: there are only ethernet0 to ethernet{most - 1}"
                + (f" in hardware version {vmx.hardware}" if most == 4 else ""),
                "use a lower number, or remove the card",
            )


@RULES.rule("nic-model", Severity.ERROR, affects=ALL)
def nic_model(vmx: VmxView) -> Iterator[Found]:
    """The ``virtualDev`` of a network card is nearly a known model, but not quite.

    The machine does not power on, or has another card than the guest has a driver for.
    """
    for nic in vmx.nics():
        entry = nic.get("virtualDev")
        if entry is None or entry.value.strip().lower() in NIC_MODELS | {""}:
            continue
        meant = nearest(entry.value, NIC_MODELS)
        if meant is not None:
            yield at_value(
                entry,
                f"there is no network card {entry.value!r}; did you mean {meant}?",
                f'write {entry.key} = "{meant}"',
                expected="vmxnet3, e1000e, e1000 or vlance",
            )


@RULES.rule("nic-hardware", Severity.ERROR, affects=ALL)
def nic_hardware(vmx: VmxView) -> Iterator[Found]:
    """A network card needs a newer hardware version.

    vmxnet3 came with version 7, e1000e with 8.  The machine does not power on.
    """
    if vmx.hardware is None:
        return
    for nic in vmx.nics():
        entry = nic.get("virtualDev")
        model = "" if entry is None else entry.value.strip().lower()
        feature = {"vmxnet3": VMXNET3, "e1000e": E1000E}.get(model)
        if entry is not None and feature is not None and vmx.hardware < feature.since:
            yield at_value(
                entry,
                f"{nic.name} is {feature.label}, which needs hardware version {feature.since}; "
                f"this is version {vmx.hardware}",
                f'write virtualHW.version = "{feature.since}" or higher, or e1000',
                expected="e1000 or vlance",
            )


@RULES.rule("address-type", Severity.WARNING, affects=ALL)
def address_type(vmx: VmxView) -> Iterator[Found]:
    """The ``addressType`` of a network card is not static, generated or vpx.

    VMware products then make a new MAC address, and a guest whose network settings hang on the
    old one has no network.
    """
    for nic in vmx.nics():
        entry = nic.get("addressType")
        if entry is not None and entry.value.strip().lower() not in _ADDRESS_TYPES | {""}:
            meant = nearest(entry.value, _ADDRESS_TYPES)
            yield at_value(
                entry,
                f"{entry.value!r} is no type of MAC address"
                + (f"; did you mean {meant}?" if meant else ""),
                "write static, generated or vpx",
                expected="static, generated or vpx",
            )


@RULES.rule("connection-type", Severity.WARNING, affects="Workstation and Fusion")
def connection_type(vmx: VmxView) -> Iterator[Found]:
    """The ``connectionType`` of a network card is nearly a known one, but not quite.

    The card is connected to nothing, or to another network than was meant.
    """
    for nic in vmx.nics():
        entry = nic.get("connectionType")
        if entry is None or entry.value.strip().lower() in _CONNECTIONS | {""}:
            continue
        meant = nearest(entry.value, _CONNECTIONS)
        if meant is not None:
            yield at_value(
                entry,
                f"there is no connection type {entry.value!r}; did you mean {meant}?",
                f'write {entry.key} = "{meant}"',
                expected="bridged, nat, hostonly or custom",
            )


@RULES.rule("mac-missing", Severity.ERROR, affects=ALL)
def mac_missing(vmx: VmxView) -> Iterator[Found]:
    """A network card has a static MAC address, but no line states it.

    The machine does not power on, or the card gets an address at random.
    """
    for nic in vmx.nics():
        entry = nic.get("addressType")
        stated = (nic.value("address") or "").strip()
        if entry is not None and entry.value.strip().lower() == "static" and not stated:
            yield at_value(
                entry,
                f"{nic.name} has a static MAC address, but {nic.name}.address is missing",
                f'add {nic.name}.address = "00:50:56:xx:xx:xx", or write generated here',
            )


@RULES.rule("mac-format", Severity.ERROR, affects=ALL)
def mac_format(vmx: VmxView) -> Iterator[Found]:
    """A MAC address is not six bytes in hexadecimal.

    The machine does not power on: "invalid Ethernet address".
    """
    for nic, entry, _kind in _addresses(vmx):
        if macs.parse_mac(entry.value) is None:
            yield at_value(
                entry,
                f"{nic.name}: {entry.value!r} is no MAC address",
                "write six bytes in hexadecimal with colons, as in 00:50:56:1a:2b:3c",
                expected="six bytes in hexadecimal with colons",
            )


@RULES.rule("mac-multicast", Severity.ERROR, affects="every hypervisor")
def mac_multicast(vmx: VmxView) -> Iterator[Found]:
    """A MAC address is that of a group: its first byte is odd.

    No card can have such an address.
    """
    for nic, entry, _kind in _addresses(vmx):
        mac = macs.parse_mac(entry.value)
        if mac is not None and macs.is_multicast(mac):
            yield at_value(
                entry,
                f"{nic.name}: the first byte, {mac[0]:02x}, is odd: a multicast address",
                "take an address whose first byte is even",
                expected="an even first byte",
            )


@RULES.rule("mac-duplicate", Severity.ERROR, affects="every hypervisor")
def mac_duplicate(vmx: VmxView) -> Iterator[Found]:
    """Two network cards of the machine have the same MAC address.

    Neither works when they are on the same network.
    """
    seen: dict[bytes, VmxEntry] = {}
    for nic, entry, _kind in _addresses(vmx):
        mac = macs.parse_mac(entry.value)
        if mac is None:
            continue
        first = seen.setdefault(mac, entry)
        if first is not entry:
            yield at_value(
                entry,
                f"{nic.name} has the same MAC address as line {first.position.line}",
                "give each card an address of its own",
            )


@RULES.rule("mac-static-range", Severity.WARNING, affects="Workstation, Fusion, ESXi by itself")
def mac_static_range(vmx: VmxView) -> Iterator[Found]:
    """A static MAC address lies outside 00:50:56:00:00:00 to 00:50:56:3f:ff:ff.

    Workstation and Fusion refuse to power on with any other, and so does ESXi unless vCenter or
    NSX gave it out; ``checkMACAddress = "FALSE"`` lets it pass everywhere.
    """
    for nic, entry in _static_outside(vmx):
        yield at_value(
            entry,
            f"{nic.name}: {entry.value} is outside the range for static addresses",
            f'add {nic.name}.checkMACAddress = "FALSE" to keep the address',
            expected="00:50:56:00:00:00 to 00:50:56:3f:ff:ff",
        )


@RULES.target_rule("target-mac-range", Severity.ERROR, affects="the named target")
def target_mac_range(vmx: VmxView, target: Target) -> Iterator[Found]:
    """The target refuses a static MAC address outside VMware's range.

    Workstation and Fusion do not power on: "the MAC address is not an allowed static address".
    """
    if not target.checks_static_mac:
        return
    for nic, entry in _static_outside(vmx):
        yield at_value(
            entry,
            f"{target.label} refuses {entry.value} as a static address",
            f'add {nic.name}.checkMACAddress = "FALSE" to keep the address',
            expected="00:50:56:00:00:00 to 00:50:56:3f:ff:ff",
            affects=target.label,
        )


def _static_outside(vmx: VmxView) -> Iterator[tuple[Device, VmxEntry]]:
    """The cards with a static address that no VMware product would let a person choose."""
    for nic, entry, kind in _addresses(vmx):
        mac = macs.parse_mac(entry.value)
        unchecked = as_bool(nic.value("checkMACAddress")) is False
        if kind != "static" or mac is None or unchecked or macs.is_multicast(mac):
            continue
        if not macs.is_vmware_static(mac):
            yield nic, entry


@RULES.rule("mac-generated-range", Severity.WARNING, affects=ALL)
def mac_generated_range(vmx: VmxView) -> Iterator[Found]:
    """A generated MAC address lies outside the ranges that VMware generates.

    The product makes a new one at the next start, and a guest whose network settings hang on the
    old one has no network.
    """
    for nic, entry, kind in _addresses(vmx):
        mac = macs.parse_mac(entry.value)
        if kind == "generated" and mac is not None and not macs.is_vmware_generated(mac):
            yield at_value(
                entry,
                f"{nic.name}: {entry.value} is no address that VMware generates; "
                "it will be replaced",
                f'write {nic.name}.addressType = "static", {nic.name}.address = "{entry.value}" '
                f'and {nic.name}.checkMACAddress = "FALSE" to keep it',
                expected="00:0c:29:xx:xx:xx, or 00:50:56:80 to bf",
            )
