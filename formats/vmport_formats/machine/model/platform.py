"""What a machine runs on: instruction set, board, the system inside, and who it says it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID


class Accelerator(StrEnum):
    """What runs the guest's instructions on the host that the descriptor was written for."""

    KVM = "kvm"
    TCG = "tcg"
    XEN = "xen"
    HVF = "hvf"
    VMWARE = "vmware"
    VIRTUALBOX = "virtualbox"
    HYPERV = "hyperv"
    OTHER = "other"


class Virtualization(StrEnum):
    """What the guest is told about its being one."""

    FULL = "full"  # an unchanged system sees hardware
    PARAVIRTUAL = "paravirtual"  # a system that is made for Xen
    OTHER = "other"


class Architecture(StrEnum):
    """The guest's instruction set, by the names that QEMU uses."""

    I686 = "i686"
    X86_64 = "x86_64"
    AARCH64 = "aarch64"
    ARMV7L = "armv7l"
    PPC64 = "ppc64"
    PPC64LE = "ppc64le"
    RISCV64 = "riscv64"
    S390X = "s390x"
    OTHER = "other"


class Chipset(StrEnum):
    """The board that is emulated."""

    I440FX = "i440fx"
    Q35 = "q35"
    MICROVM = "microvm"
    VIRT = "virt"  # the paravirtual board of ARM and RISC-V
    PIIX3 = "piix3"  # VirtualBox
    ICH9 = "ich9"  # VirtualBox
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class GenerationId:
    """The VM generation id: changes when a copy or an old state of the machine starts.

    It is in the order of RFC 4122 text; hypervisors differ in how they store its bytes.
    """

    id: UUID | None = None
    """None: the hypervisor is to make one."""


@dataclass(frozen=True, slots=True)
class GuestOs:
    """What the descriptor says about the operating system inside; each product has its own ids."""

    osinfo: str | None = None
    """A libosinfo id: ``http://debian.org/debian/12``."""
    vmware: str | None = None
    """VMX ``guestOS``: ``debian12-64``."""
    vsphere: str | None = None
    """vSphere guestId, also ``vmw:osType`` in OVF: ``debian12_64Guest``."""
    virtualbox: str | None = None
    """``vbox:OSType``: ``Debian12_64``."""
    cim: int | None = None
    """CIM operating-system id of OVF; from 114 up, products give one id to different systems."""
    version: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class SmbiosValue:
    """One string of the SMBIOS tables, such as a serial number that a licence hangs on."""

    block: str
    """``bios``, ``system``, ``baseBoard``, ``chassis`` or ``oemStrings``."""
    name: str
    value: str
