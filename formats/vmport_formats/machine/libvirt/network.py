"""Reads the network cards of a libvirt domain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.machine.libvirt.values import (
    MAX_32,
    choice,
    mac,
    number,
    pci_address,
    raw,
    same,
    switch,
)
from vmport_formats.machine.model import (
    Bandwidth,
    Kilobytes,
    MacKind,
    Nic,
    NicModel,
    NicSource,
    NicSourceKind,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmport_formats.machine.reading import Node

_KINDS: Final = {
    "network": NicSourceKind.NETWORK,
    "bridge": NicSourceKind.BRIDGE,
    "user": NicSourceKind.NAT,
    "direct": NicSourceKind.DIRECT,
    "internal": NicSourceKind.INTERNAL,
    "ethernet": NicSourceKind.ETHERNET,
    "hostdev": NicSourceKind.HOSTDEV,
    "vdpa": NicSourceKind.HOSTDEV,
    "vhostuser": NicSourceKind.VHOST_USER,
    "server": NicSourceKind.TUNNEL,
    "client": NicSourceKind.TUNNEL,
    "mcast": NicSourceKind.TUNNEL,
    "udp": NicSourceKind.TUNNEL,
    "null": NicSourceKind.NONE,
}

_MODELS: Final = same(
    NicModel,
    virtio_transitional=NicModel.VIRTIO,
    virtio_non_transitional=NicModel.VIRTIO,
    **{"e1000-82540em": NicModel.E1000, "e1000-82545em": NicModel.E1000},
)


def read_nics(devices: Sequence[Node]) -> tuple[Nic, ...]:
    """The network cards, in order."""
    nodes = [node for parent in devices for node in parent.children("interface")]
    return tuple(_nic(node.into(f"nics[{index}]")) for index, node in enumerate(nodes))


def _nic(node: Node) -> Nic:
    address, model, link = node.child("mac"), node.child("model"), node.child("link")
    driver, boot, rom, mtu = (node.child(tag) for tag in ("driver", "boot", "rom", "mtu"))
    rules, port, target = (node.child(tag) for tag in ("filterref", "port", "target"))
    return Nic(
        model=None if model is None else choice(model, "type", _MODELS, NicModel.OTHER, "model"),
        mac=None if address is None else mac(address, "address", "mac"),
        mac_kind=None
        if address is None
        else choice(address, "type", same(MacKind), MacKind.OTHER, "mac_kind"),
        source=_source(node),
        connected=None if link is None else _connected(link),
        boot_order=None
        if boot is None
        else number(boot, "order", "boot_order", low=1, high=MAX_32),
        rom=None if rom is None else switch(rom, "enabled", "rom"),
        mtu=None if mtu is None else number(mtu, "size", "mtu", low=1, high=MAX_32),
        queues=None if driver is None else number(driver, "queues", "queues", high=MAX_32),
        driver=None if driver is None else raw(driver, "name", "driver"),
        filter=None if rules is None else raw(rules, "filter", "filter"),
        isolated=None if port is None else switch(port, "isolated", "isolated"),
        inbound=_bandwidth(node, "inbound"),
        outbound=_bandwidth(node, "outbound"),
        host_name=None if target is None else raw(target, "dev", "host_name"),
        pci=pci_address(node, "pci"),
    )


def _source(node: Node) -> NicSource | None:
    source, vlan = node.child("source"), node.child("vlan")
    node = node.into("source")
    found = None if source is None else source.into("source")
    tags = () if vlan is None else vlan.children("tag")
    # With several tags the card carries a trunk; no single number stands for it.
    tag = tags[0].into("source") if len(tags) == 1 else None
    result = NicSource(
        kind=choice(node, "type", _KINDS, NicSourceKind.OTHER, "kind"),
        network=None if found is None else raw(found, "network", "network"),
        portgroup=None if found is None else raw(found, "portgroup", "portgroup"),
        bridge=None if found is None else raw(found, "bridge", "bridge"),
        device=None if found is None else raw(found, "dev", "device"),
        mode=None if found is None else raw(found, "mode", "mode"),
        vlan=None if tag is None else number(tag, "id", "vlan", high=4095),
    )
    return None if result == NicSource() else result


def _connected(link: Node) -> bool | None:
    state = raw(link, "state", "connected")
    return None if state is None else state != "down"


def _bandwidth(node: Node, direction: str) -> Bandwidth | None:
    found = node.find("bandwidth", direction)
    if found is None:
        return None
    found = found.into(direction)
    result = Bandwidth(
        average=_rate(found, "average"),
        peak=_rate(found, "peak"),
        burst=_rate(found, "burst"),
        floor=_rate(found, "floor"),
    )
    return None if result == Bandwidth() else result


def _rate(node: Node, attribute: str) -> Kilobytes | None:
    value = number(node, attribute, attribute)
    return None if value is None else Kilobytes(value)
