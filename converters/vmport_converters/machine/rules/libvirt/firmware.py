"""Rules for the firmware and boot order of a libvirt domain."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from vmport_converters.machine.rules.libvirt.view import (
    QEMU,
    RULES,
    number,
    text_of,
)
from vmport_converters.machine.rules.model import Found, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lxml import etree

    from vmport_converters.machine.rules.libvirt.view import DomainView

_UEFI_IMAGE: Final = re.compile(r"OVMF|AAVMF|edk2|/ovmf|uefi", re.IGNORECASE)


def _os(domain: DomainView) -> etree._Element | None:
    return domain.root.find("os") if domain.is_qemu else None


def _feature(domain: DomainView, name: str) -> etree._Element | None:
    for element in domain.root.findall("os/firmware/feature"):
        if element.get("name") == name:
            return element
    return None


def _secure_boot(domain: DomainView) -> tuple[etree._Element, str] | None:
    """The element and attribute that ask for secure boot."""
    loader = domain.root.find("os/loader")
    if loader is not None and loader.get("secure") == "yes":
        return loader, "secure"
    feature = _feature(domain, "secure-boot")
    if feature is not None and feature.get("enabled") == "yes":
        return feature, "enabled"
    return None


def _is_uefi(domain: DomainView) -> bool:
    holder = domain.root.find("os")
    if holder is None:
        return False
    loader = holder.find("loader")
    if holder.get("firmware") == "efi":
        return True
    return loader is not None and loader.get("type") == "pflash"


@RULES.rule("secure-boot-machine", Severity.ERROR, affects=QEMU)
def secure_boot_machine(domain: DomainView) -> Iterator[Found]:
    """Secure boot is on, but the machine is not a Q35.

    libvirt refuses the domain: "secure boot is supported with q35 machine types only".
    """
    found = _secure_boot(domain)
    if found is not None and domain.is_qemu and domain.is_i440fx and domain.os_type is not None:
        yield domain.at(
            domain.os_type,
            f"secure boot needs a Q35 machine; this one is {domain.machine}",
            "write machine='q35'; disks on IDE have to move to SATA",
            attribute="machine",
            expected="q35",
        )


@RULES.rule("secure-boot-smm", Severity.ERROR, affects=QEMU)
def secure_boot_smm(domain: DomainView) -> Iterator[Found]:
    """Secure boot is on, but system management mode (SMM) is not.

    Without it the guest could change the keys.  libvirt refuses the domain: "secure boot requires
    SMM feature enabled"; when it picks the firmware itself, it turns SMM on unless told not to.
    """
    found = _secure_boot(domain)
    if found is None or not domain.is_qemu:
        return
    element, attribute = found
    smm = domain.feature("smm")
    state = None if smm is None else smm.get("state", "on")
    if smm is not None and state == "off":
        yield domain.at(
            smm,
            "secure boot needs SMM, which is off",
            "write <smm state='on'/>",
            attribute="state",
            expected="on",
        )
    elif smm is None and element.tag == "loader" and domain.root.get("firmware") is None:
        holder = domain.root.find("os")
        if holder is not None and holder.get("firmware") is None:
            yield domain.at(
                element,
                "secure boot needs SMM, which is not on",
                "add <smm state='on'/> to <features>",
                attribute=attribute,
            )


@RULES.rule("enrolled-keys", Severity.ERROR, affects=QEMU)
def enrolled_keys(domain: DomainView) -> Iterator[Found]:
    """Enrolled keys are asked for, but secure boot is off.

    libvirt refuses the domain.
    """
    keys, secure = _feature(domain, "enrolled-keys"), _feature(domain, "secure-boot")
    if keys is None or secure is None or not domain.is_qemu:
        return
    if keys.get("enabled") == "yes" and secure.get("enabled") == "no":
        yield domain.at(
            keys,
            "keys are enrolled for secure boot, which is off",
            "write enabled='no', or turn secure-boot on",
            attribute="enabled",
        )


@RULES.rule("secure-boot-without-keys", Severity.NOTE, affects=QEMU)
def secure_boot_without_keys(domain: DomainView) -> Iterator[Found]:
    """Secure boot is on, but enrolled keys are not asked for.

    Firmware without keys enforces nothing until somebody enrolls them.
    """
    secure = _feature(domain, "secure-boot")
    if secure is None or secure.get("enabled") != "yes" or not domain.is_qemu:
        return
    if _feature(domain, "enrolled-keys") is None:
        yield domain.at(
            secure,
            "secure boot is on, but no keys are asked for",
            "add <feature enabled='yes' name='enrolled-keys'/>",
        )


@RULES.rule("firmware-features", Severity.ERROR, affects=QEMU)
def firmware_features(domain: DomainView) -> Iterator[Found]:
    """Firmware features are asked for, but libvirt is not to pick the firmware.

    ``<firmware><feature>`` works with ``<os firmware='efi'>`` only; libvirt refuses it otherwise.
    """
    holder = _os(domain)
    element = None if holder is None else holder.find("firmware")
    if holder is not None and element is not None and holder.get("firmware") is None:
        yield domain.at(
            element,
            "<firmware> has features, but <os> does not say firmware='efi'",
            "write <os firmware='efi'> and remove <loader>",
        )


@RULES.rule("loader", Severity.ERROR, affects=QEMU)
def loader_path(domain: DomainView) -> Iterator[Found]:
    """``<loader>`` names no file, and libvirt is not to pick the firmware.

    libvirt refuses the domain: "no loader path specified and firmware auto selection disabled".
    """
    holder = _os(domain)
    loader = None if holder is None else holder.find("loader")
    if holder is None or loader is None or text_of(loader):
        return
    if holder.get("firmware") is None:
        yield domain.at(
            loader,
            "<loader> names no firmware image",
            "write <os firmware='efi'>, or the path of the image",
        )


@RULES.rule("nvram", Severity.ERROR, affects=QEMU)
def nvram(domain: DomainView) -> Iterator[Found]:
    """The domain has an NVRAM file, but firmware that has none.

    Only UEFI in pflash keeps variables in a file; libvirt refuses it for BIOS, for a ``rom``
    loader and for a stateless one.
    """
    holder = _os(domain)
    element = None if holder is None else holder.find("nvram")
    if holder is None or element is None:
        return
    loader = holder.find("loader")
    why = None
    if holder.get("firmware") == "bios":
        why = "the firmware is BIOS"
    elif loader is not None and loader.get("type") == "rom":
        why = "the loader is a ROM"
    elif loader is not None and loader.get("stateless") == "yes":
        why = "the loader is stateless"
    elif loader is None and holder.get("firmware") is None:
        why = "no firmware is chosen"
    if why is not None:
        yield domain.at(
            element,
            f"the domain has an <nvram>, but {why}",
            "remove <nvram>, or choose UEFI: <os firmware='efi'>",
        )


@RULES.rule("loader-not-pflash", Severity.WARNING, affects=QEMU)
def loader_not_pflash(domain: DomainView) -> Iterator[Found]:
    """``<loader>`` looks like UEFI, but is not loaded as pflash.

    As a ROM the firmware has no NVRAM: boot entries and secure boot's keys are lost at every
    stop.
    """
    holder = _os(domain)
    loader = None if holder is None else holder.find("loader")
    if loader is None or loader.get("type", "rom") != "rom":
        return
    if _UEFI_IMAGE.search(text_of(loader)) and loader.get("stateless") != "yes":
        yield domain.at(
            loader,
            "this UEFI image is loaded as a ROM, without NVRAM",
            "write <loader readonly='yes' type='pflash'>, and add <nvram>",
            attribute="type",
            expected="pflash",
        )


@RULES.rule("uefi-acpi", Severity.ERROR, affects=QEMU)
def uefi_acpi(domain: DomainView) -> Iterator[Found]:
    """The firmware is UEFI, but ACPI is off.

    libvirt refuses the domain on PCs: "UEFI requires ACPI on this architecture".
    """
    holder = _os(domain)
    if holder is None or not domain.is_x86 or not _is_uefi(domain):
        return
    if domain.feature("acpi") is None:
        loader = holder.find("loader")
        yield domain.at(
            holder if loader is None else loader,
            "UEFI needs ACPI, which is off",
            "add <acpi/> to <features>",
            attribute="firmware" if loader is None else "type",
        )


@RULES.rule("uefi-i440fx", Severity.NOTE, affects=QEMU)
def uefi_i440fx(domain: DomainView) -> Iterator[Found]:
    """The firmware is UEFI on an i440FX machine.

    It works, but without secure boot, and the guests that people install with UEFI expect the
    PCI Express of a Q35.
    """
    if not domain.is_qemu or not domain.is_i440fx or _secure_boot(domain) is not None:
        return
    if _is_uefi(domain) and domain.os_type is not None:
        yield domain.at(
            domain.os_type,
            f"UEFI on {domain.machine}; Q35 is the usual machine for it",
            "write machine='q35' for a new guest; one that is installed may not boot then",
            attribute="machine",
        )


@RULES.rule("acpi-missing", Severity.NOTE, affects=QEMU)
def acpi_missing(domain: DomainView) -> Iterator[Found]:
    """A PC has no ACPI.

    The guest does not notice ``virsh shutdown``, and current Windows does not boot.
    """
    kind = domain.os_type
    if kind is None or not domain.is_qemu or not domain.is_x86:
        return
    if domain.feature("acpi") is None and not _is_uefi(domain):
        mend = "add <acpi/> to <features>"
        yield domain.at(kind, "ACPI is off: <features> has no <acpi/>", mend)


# --- Boot order ---------------------------------------------------------------------------------


@RULES.rule("boot-mixed", Severity.ERROR, affects=QEMU)
def boot_mixed(domain: DomainView) -> Iterator[Found]:
    """The boot order is given in ``<os>`` and in devices.

    libvirt refuses the domain: "per-device boot elements cannot be used together with os/boot
    elements".
    """
    first = domain.root.find("os/boot")
    if first is None:
        return
    for device in domain.devices:
        element = device.find("boot")
        if element is not None and element.get("order") is not None:
            yield domain.at(
                element,
                f"the boot order is in <os> already, line {domain.line(first)}",
                "remove <boot> from <os>, or from the devices",
            )
            return


@RULES.rule("boot-order", Severity.ERROR, affects=QEMU)
def boot_order(domain: DomainView) -> Iterator[Found]:
    """A device's place in the boot order is no number above 0, or taken by another.

    libvirt refuses the domain: "boot order used for more than one device".
    """
    seen: dict[int, etree._Element] = {}
    for device in domain.devices:
        element = device.find("boot")
        text = None if element is None else element.get("order")
        if element is None or text is None:
            continue
        order = number(text)
        if not order:
            yield domain.at(
                element,
                f"the boot order {text!r} is no number above 0",
                "write 1 for the first device, 2 for the next",
                attribute="order",
                expected="a number above 0",
            )
            continue
        first = seen.setdefault(order, element)
        if first is not element:
            yield domain.at(
                element,
                f"the device in line {domain.line(first)} has boot order {order} already",
                "give each device a place of its own",
                attribute="order",
            )
