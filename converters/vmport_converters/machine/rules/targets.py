"""The products that a descriptor can be checked for by name, and what each accepts: a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vmport_converters.machine.rules.model import Found
from vmport_converters.machine.rules.vmware import HARDWARE, HOSTED_ONLY
from vmport_formats.errors import UsageError
from vmport_formats.machine.dialect import Dialect
from vmport_formats.machine.ovf.envelope import OvfVersion
from vmport_formats.position import Position

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Target:
    """One product at one version."""

    name: str
    """As the user types it: ``esxi-8.0``."""
    label: str
    """As a person calls it: ``ESXi 8.0``."""
    reads: frozenset[Dialect]
    hardware: frozenset[int] | None = None
    """The versions of VMware's virtual hardware that it runs; None: it does not look at them."""
    ovf: frozenset[OvfVersion] = frozenset(OvfVersion)
    """The versions of OVF that it reads."""
    system_types: tuple[str, ...] | None = None
    """Prefixes of the ``VirtualSystemType``s that it accepts; None: it does not look at them."""
    vmdk_only: bool = False
    """Whether it takes no disk of an OVF but VMDK."""
    memory_in_megabytes: bool = False
    """Whether it takes every memory size of an OVF for megabytes, whatever unit is stated."""
    keeps_ovf_mac: bool = True
    """Whether it gives a card the MAC address that an OVF states."""
    boots_lsi_with_uefi: bool = True
    """Whether its UEFI firmware has a driver for LSI Logic controllers."""
    checks_static_mac: bool = False
    """Whether it refuses static MAC addresses of a VMX outside VMware's range."""
    unknown_types: frozenset[int] = frozenset()
    """``ResourceType``s of an OVF at which it stops."""


def wrong_dialect(dialect: Dialect, target: Target) -> Iterator[Found]:
    """A finding about the whole file, when `target` does not read `dialect` at all."""
    if dialect not in target.reads:
        reads = " and ".join(sorted(known.label for known in target.reads))
        yield Found(
            Position(1, 1),
            "",
            f"{target.label} does not read {dialect.label}",
            "translate the descriptor first: vmport translate SOURCE DESTINATION",
            dialect.label,
            reads,
            target.label,
        )


_VMWARE_TYPES: Final = frozenset({32768})


def _esxi(version: str, newest: int) -> Target:
    runs = frozenset(n for n in HARDWARE if 4 <= n <= newest) - HOSTED_ONLY
    return Target(
        f"esxi-{version.lower().replace(' ', '')}",
        f"ESXi {version}",
        frozenset({Dialect.VMX, Dialect.OVF}),
        hardware=runs,
        ovf=frozenset({OvfVersion.V0_9, OvfVersion.V1}),
        system_types=("vmx-",),
        vmdk_only=True,
        unknown_types=_VMWARE_TYPES,
    )


def _hosted(name: str, label: str, newest: int) -> Target:
    return Target(
        name,
        label,
        frozenset({Dialect.VMX, Dialect.OVF}),
        hardware=frozenset(n for n in HARDWARE if n <= newest),
        ovf=frozenset({OvfVersion.V0_9, OvfVersion.V1}),
        system_types=("vmx-",),
        vmdk_only=True,
        checks_static_mac=True,
        unknown_types=_VMWARE_TYPES,
    )


_ALL: Final = (
    _esxi("6.5", 13),
    _esxi("6.7", 14),
    _esxi("6.7 U2", 15),
    _esxi("7.0", 17),
    _esxi("7.0 U1", 18),
    _esxi("7.0 U2", 19),
    _esxi("8.0", 20),
    _esxi("8.0 U2", 21),
    _esxi("9.0", 22),
    _hosted("workstation-16", "Workstation 16", 19),
    _hosted("workstation-17", "Workstation 17", 21),
    _hosted("workstation-25h2", "Workstation 25H2", 22),
    _hosted("fusion-13", "Fusion 13", 21),
    Target(
        "virtualbox-7",
        "VirtualBox 7",
        frozenset({Dialect.OVF}),
        keeps_ovf_mac=False,
    ),
    Target("libvirt", "libvirt with QEMU", frozenset({Dialect.LIBVIRT})),
    Target(
        "virt-v2v",
        "virt-v2v",
        frozenset({Dialect.VMX, Dialect.OVF, Dialect.LIBVIRT}),
        memory_in_megabytes=True,
    ),
    Target(
        "proxmox-8",
        "Proxmox VE 8",
        frozenset({Dialect.OVF}),
        vmdk_only=True,
        memory_in_megabytes=True,
        keeps_ovf_mac=False,
        boots_lsi_with_uefi=False,
    ),
)

TARGETS: Final = {target.name: target for target in _ALL}

ALIASES: Final = {
    "qemu": "libvirt",
    "kvm": "libvirt",
    "virtualbox": "virtualbox-7",
    "proxmox": "proxmox-8",
}
"""Shorter ways to say the same."""


def find_target(name: str) -> Target:
    """The target called `name`, in any case.

    Raises:
        UsageError: there is none; the hint lists all.
    """
    folded = name.strip().lower()
    found = TARGETS.get(ALIASES.get(folded, folded))
    if found is None:
        raise UsageError(
            None,
            code="validate.target",
            problem=f"no target is called {name!r}",
            hint=f"one of {', '.join(TARGETS)}",
        )
    return found
