"""Rules for the firmware and the guest system of an OVF machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_converters.machine.rules.model import Found, Severity
from vmport_converters.machine.rules.ovf.view import (
    ALL,
    RULES,
    VMWARE,
    at,
    at_key,
    hardware_sections,
    hardware_version,
    number,
    setting,
)
from vmport_converters.machine.rules.vmware import (
    SECURE_BOOT,
    UEFI,
)
from vmport_formats.machine.guest_os import cim_meanings, vmware_guest
from vmport_formats.machine.ovf.envelope import VMW

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.machine.ovf.envelope import Envelope

_EFI: Final = "efi"
_SECURE_BOOT: Final = "bootOptions.efiSecureBootEnabled"


@RULES.rule("firmware", Severity.ERROR, affects=VMWARE)
def firmware(ovf: Envelope) -> Iterator[Found]:
    """``vmw:Config`` sets a firmware that is neither ``bios`` nor ``efi``.

    The machine starts with BIOS, and a guest that was installed with UEFI does not boot.
    """
    for _, section in hardware_sections(ovf):
        line = setting(section, "firmware")
        if line is not None and line[1].strip().lower() not in ("bios", _EFI, ""):
            yield at_key(
                ovf,
                line[0],
                f"{{{VMW}}}value",
                f"there is no firmware {line[1]!r}",
                "write efi or bios",
            )


@RULES.rule("firmware-hardware", Severity.ERROR, affects=VMWARE)
def firmware_hardware(ovf: Envelope) -> Iterator[Found]:
    """UEFI or secure boot needs a newer hardware version than the machine's type.

    UEFI came with vmx-08, secure boot with vmx-13.
    """
    for _, section in hardware_sections(ovf):
        version = hardware_version(section)
        if version is None:
            continue
        wanted = (("firmware", _EFI, UEFI), (_SECURE_BOOT, "true", SECURE_BOOT))
        for key, value, feature in wanted:
            line = setting(section, key)
            if line is None or line[1].strip().lower() != value or version >= feature.since:
                continue
            yield at(
                ovf,
                line[0],
                f"{feature.label} needs vmx-{feature.since:02}; this is vmx-{version:02}",
                f"write vmx-{feature.since:02} or higher as VirtualSystemType",
            )


@RULES.rule("secure-boot-bios", Severity.ERROR, affects=VMWARE)
def secure_boot_bios(ovf: Envelope) -> Iterator[Found]:
    """Secure boot is on, but the firmware is not UEFI.

    The machine starts with BIOS and without secure boot.
    """
    for _, section in hardware_sections(ovf):
        line, kind = setting(section, _SECURE_BOOT), setting(section, "firmware")
        if line is None or line[1].strip().lower() != "true":
            continue
        if kind is None or kind[1].strip().lower() != _EFI:
            yield at(
                ovf,
                line[0],
                "secure boot is on, but the firmware is BIOS",
                'add <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="efi"/>',
            )


@RULES.rule("guest-os-ambiguous", Severity.NOTE, affects=ALL)
def guest_os_ambiguous(ovf: Envelope) -> Iterator[Found]:
    """The number of the operating system means different systems in different products.

    From 114 up the products disagree.  With ``vmw:osType`` or ``vbox:OSType`` beside it, those
    products at least know what is meant.
    """
    for system in ovf.systems:
        for guest in system.guests:
            meanings = cim_meanings(number(guest.id) or 0)
            if len(meanings) > 1 and not guest.vmware and not guest.virtualbox:
                yield at(
                    ovf,
                    guest.element,
                    f"{guest.id} is {' or '.join(meanings)}, by product",
                    "add vmw:osType with VMware's name of the system",
                    attribute="id",
                )


@RULES.rule("guest-os-unknown", Severity.WARNING, affects=VMWARE)
def guest_os_unknown(ovf: Envelope) -> Iterator[Found]:
    """``vmw:osType`` is no name that VMware has for a system.

    VMware products take the guest for an unknown 32-bit one.
    """
    for system in ovf.systems:
        for guest in system.guests:
            name = guest.vmware
            if name and vmware_guest(name) is None and not name.lower().startswith("arm"):
                yield at_key(
                    ovf,
                    guest.element,
                    f"{{{VMW}}}osType",
                    f"VMware has no guest system called {name!r}",
                    "write the vSphere guestId, such as debian12_64Guest or otherGuest64",
                )
