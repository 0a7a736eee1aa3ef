"""Network cards and what they are connected to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vmport_formats.machine.model.units import Kilobytes, MacAddress, PciAddress


class NicModel(StrEnum):
    """The network chip that the guest needs a driver for."""

    VIRTIO = "virtio"
    E1000 = "e1000"
    E1000E = "e1000e"
    IGB = "igb"
    RTL8139 = "rtl8139"
    PCNET = "pcnet"
    NE2K_PCI = "ne2k_pci"
    VMXNET = "vmxnet"
    VMXNET2 = "vmxnet2"
    VMXNET3 = "vmxnet3"
    NETFRONT = "netfront"
    OTHER = "other"


class NicSourceKind(StrEnum):
    """What the other end of the cable is."""

    NETWORK = "network"  # a network that the hypervisor manages, by name
    BRIDGE = "bridge"  # a bridge of the host, by name
    NAT = "nat"  # shared with the host, behind its address
    HOST_ONLY = "host-only"
    DIRECT = "direct"  # on an interface of the host (macvtap, VMware's plain "bridged")
    INTERNAL = "internal"  # between machines only
    ETHERNET = "ethernet"  # a tap device that somebody else set up
    HOSTDEV = "hostdev"  # a network card of the host
    VHOST_USER = "vhost-user"
    TUNNEL = "tunnel"  # to another emulator over a socket
    NONE = "none"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class NicSource:
    """What a network card is connected to."""

    kind: NicSourceKind | None = None
    network: str | None = None
    """Name of the network."""
    portgroup: str | None = None
    bridge: str | None = None
    device: str | None = None
    """The host's interface."""
    mode: str | None = None
    """macvtap's ``bridge``, ``vepa``, ``private``, ``passthrough``."""
    vlan: int | None = None


class MacKind(StrEnum):
    """Who chose the address."""

    STATIC = "static"
    GENERATED = "generated"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Shaping in one direction; rates in kilobytes a second, `burst` in kilobytes."""

    average: Kilobytes | None = None
    peak: Kilobytes | None = None
    burst: Kilobytes | None = None
    floor: Kilobytes | None = None


@dataclass(frozen=True, slots=True)
class Nic:
    """One network card of a machine, as a hypervisor presents it."""

    model: NicModel | None = None
    mac: MacAddress | None = None
    mac_kind: MacKind | None = None
    source: NicSource | None = None
    connected: bool | None = None
    """Whether the cable is plugged in."""
    boot_order: int | None = None
    rom: bool | None = None
    """Whether its boot ROM is on."""
    mtu: int | None = None
    queues: int | None = None
    driver: str | None = None
    """``vhost`` or ``qemu``: what moves the packets on the host."""
    filter: str | None = None
    isolated: bool | None = None
    inbound: Bandwidth | None = None
    outbound: Bandwidth | None = None
    host_name: str | None = None
    """What the host calls its end: ``vnet0``."""
    pci: PciAddress | None = None
