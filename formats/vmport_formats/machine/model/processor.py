"""Processors, memory and how they lie to each other (NUMA), and what the processor shows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vmport_formats.machine.model.units import CpuList
    from vmport_formats.units import Bytes


class CpuMode(StrEnum):
    """Where the guest's processor model comes from."""

    CUSTOM = "custom"
    HOST_MODEL = "host-model"
    HOST_PASSTHROUGH = "host-passthrough"
    MAXIMUM = "maximum"
    OTHER = "other"


class CpuFeaturePolicy(StrEnum):
    """What is asked of one processor feature."""

    FORCE = "force"
    REQUIRE = "require"
    OPTIONAL = "optional"
    DISABLE = "disable"
    FORBID = "forbid"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class CpuFeature:
    """One flag of the processor, by its name in Linux: ``vmx``, ``aes``."""

    name: str
    policy: CpuFeaturePolicy | None = None


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processors.

    When a topology is stated, sockets × dies × clusters × cores × threads is `count`.
    """

    count: int | None = None
    """Virtual CPUs at most."""
    online: int | None = None
    """Virtual CPUs at start, when fewer; the rest can be plugged in."""
    sockets: int | None = None
    dies: int | None = None
    """Dies a socket."""
    clusters: int | None = None
    """Clusters a die."""
    cores: int | None = None
    """Cores a cluster (a die, a socket: whatever is the next level that is stated)."""
    threads: int | None = None
    """Threads a core."""
    mode: CpuMode | None = None
    model: str | None = None
    vendor: str | None = None
    features: tuple[CpuFeature, ...] = ()
    placement: CpuList | None = None
    """Host CPUs that the machine may run on."""
    hot_add: bool | None = None
    hot_remove: bool | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """The main memory."""

    size: Bytes | None = None
    """What the machine has at start, plugged modules included."""
    current: Bytes | None = None
    """What the balloon leaves of it at start, when less."""
    maximum: Bytes | None = None
    """To how much it can grow by plugging in modules."""
    slots: int | None = None
    """How many modules can be plugged in."""
    huge_pages: bool | None = None
    page_size: Bytes | None = None
    locked: bool | None = None
    """Never swapped out by the host."""
    shared: bool | None = None
    """Shared with other processes of the host, as virtiofs and vhost-user need."""
    source: str | None = None
    hot_add: bool | None = None


@dataclass(frozen=True, slots=True)
class MemoryModule:
    """A plugged-in memory device."""

    model: str | None = None
    """``dimm``, ``nvdimm``, ``virtio-mem``, ..."""
    size: Bytes | None = None
    node: int | None = None
    """The guest's NUMA cell."""
    path: str | None = None


@dataclass(frozen=True, slots=True)
class NumaDistance:
    """How far another cell is; 10 is the cell itself."""

    cell: int
    value: int


@dataclass(frozen=True, slots=True)
class NumaCell:
    """Processors and memory that are near each other, as the guest sees them."""

    id: int | None = None
    cpus: CpuList | None = None
    memory: Bytes | None = None
    distances: tuple[NumaDistance, ...] = ()


@dataclass(frozen=True, slots=True)
class Enlightenment:
    """One paravirtual help for a guest: Hyper-V's ``relaxed``, KVM's ``hidden``."""

    family: str
    """``hyperv``, ``kvm`` or ``xen``."""
    name: str
    enabled: bool | None = None
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Features:
    """Traits of the platform that are on or off."""

    acpi: bool | None = None
    apic: bool | None = None
    pae: bool | None = None
    smm: bool | None = None
    """System management mode, without which secure boot on QEMU protects nothing."""
    nested: bool | None = None
    """Whether the guest can run virtual machines itself."""
    pmu: bool | None = None
    """Performance counters."""
    vmport: bool | None = None
    """QEMU's emulation of VMware's backdoor port."""
    enlightenments: tuple[Enlightenment, ...] = ()
