"""Rules for the firmware, the TPM, the PCI bridges and the ports of a VMX file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_converters.machine.rules.model import Found, Severity
from vmport_converters.machine.rules.spelling import nearest
from vmport_converters.machine.rules.vmware import SECURE_BOOT, TPM, UEFI, XHCI
from vmport_converters.machine.rules.vmx.view import ALL, RULES, as_bool, at_key, at_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_converters.machine.rules.vmx.view import VmxView
    from vmport_formats.machine.vmx.syntax import VmxEntry

_FIRMWARE: Final = frozenset({"bios", "efi"})
_PORTS: Final = {"floppy": 2, "serial": 32, "parallel": 3}
_PCIE_NICS: Final = frozenset({"vmxnet3", "e1000e"})
_PCIE_SCSI: Final = frozenset({"lsisas1068", "pvscsi"})


def _is_efi(vmx: VmxView) -> bool:
    return (vmx.document.value("firmware") or "").strip().lower() == "efi"


def _is_new_board(vmx: VmxView) -> bool:
    """Whether the machine has the board of ESXi 8, with other bridges and no lines about VMCI."""
    return (vmx.document.value("chipset.motherboardLayout") or "").lower() == "acpi"


def _switched_on(vmx: VmxView, key: str) -> VmxEntry | None:
    entry = vmx.document.get(key)
    return entry if entry is not None and as_bool(entry.value) is True else None


@RULES.rule("firmware", Severity.ERROR, affects=ALL)
def firmware(vmx: VmxView) -> Iterator[Found]:
    """``firmware`` is neither ``bios`` nor ``efi``.

    The machine starts with BIOS, and a guest that was installed with UEFI does not boot.
    """
    entry = vmx.document.get("firmware")
    if entry is not None and entry.value.strip().lower() not in _FIRMWARE | {""}:
        word = entry.value.strip().lower()
        meant = "efi" if word == "uefi" else nearest(word, _FIRMWARE)
        yield at_value(
            entry,
            f"there is no firmware {entry.value!r}" + (f"; did you mean {meant}?" if meant else ""),
            'write firmware = "efi" or "bios"',
            expected="efi or bios",
        )


@RULES.rule("firmware-hardware", Severity.ERROR, affects=ALL)
def firmware_hardware(vmx: VmxView) -> Iterator[Found]:
    """UEFI, secure boot, a TPM or USB 3 needs a newer hardware version.

    UEFI and USB 3 came with version 8, secure boot with 13, the TPM with 14.  The machine does
    not power on, or starts without.
    """
    if vmx.hardware is None:
        return
    wanted = (
        (vmx.document.get("firmware") if _is_efi(vmx) else None, UEFI),
        (_switched_on(vmx, "uefi.secureBoot.enabled"), SECURE_BOOT),
        (_switched_on(vmx, "vtpm.present"), TPM),
        (_switched_on(vmx, "usb_xhci.present"), XHCI),
    )
    for entry, feature in wanted:
        if entry is not None and vmx.hardware < feature.since:
            yield at_key(
                entry,
                f"{feature.label} needs hardware version {feature.since}; this is version "
                f"{vmx.hardware}",
                f'write virtualHW.version = "{feature.since}" or higher',
            )


@RULES.rule("secure-boot-bios", Severity.ERROR, affects=ALL)
def secure_boot_bios(vmx: VmxView) -> Iterator[Found]:
    """Secure boot is on, but the firmware is not UEFI.

    The machine starts with BIOS and without secure boot; a guest that was installed with UEFI
    does not boot.
    """
    entry = _switched_on(vmx, "uefi.secureBoot.enabled")
    if entry is not None and not _is_efi(vmx):
        yield at_key(
            entry,
            "secure boot is on, but the firmware is BIOS",
            'add firmware = "efi", or remove this line',
        )


@RULES.rule("tpm-needs", Severity.ERROR, affects=ALL)
def tpm_needs(vmx: VmxView) -> Iterator[Found]:
    """A TPM is present, but the firmware is not UEFI, or nothing is encrypted.

    VMware products give a TPM to UEFI machines only, and keep its secrets in an encrypted file:
    without ``encryption.keySafe`` the machine does not power on.
    """
    entry = _switched_on(vmx, "vtpm.present")
    if entry is None or vmx.encrypted:
        return
    software = (vmx.document.value("managedvm.autoAddVTPM") or "").lower() == "software"
    if not _is_efi(vmx):
        yield at_key(entry, "a TPM needs UEFI firmware", 'add firmware = "efi"')
    elif "encryption.keySafe" not in vmx.document and not software:
        yield at_key(
            entry,
            "a TPM needs an encrypted machine, and encryption.keySafe is missing",
            "remove this line and add the TPM in the product, or write "
            'managedvm.autoAddVTPM = "software" (Workstation, Fusion)',
        )


@RULES.rule("nvram-missing", Severity.WARNING, affects="UEFI guests")
def nvram_missing(vmx: VmxView) -> Iterator[Found]:
    """The firmware is UEFI, but no line names the NVRAM file.

    It holds the boot entries and secure boot's keys.  The product makes a new one, and a guest
    whose loader is not at the default place does not boot.
    """
    entry = vmx.document.get("firmware")
    if entry is not None and _is_efi(vmx) and not (vmx.document.value("nvram") or "").strip():
        yield at_value(
            entry,
            "the firmware is UEFI, but nvram is missing: boot entries and keys are lost",
            'bring the .nvram file along and add nvram = "name.nvram"',
        )


@RULES.rule("pci-bridge-missing", Severity.WARNING, affects=ALL)
def pci_bridge_missing(vmx: VmxView) -> Iterator[Found]:
    """PCI Express devices are present, but no PCI bridge is.

    From hardware version 7 on, vmxnet3, e1000e, PVSCSI, LSI Logic SAS, NVMe and USB 3 sit behind
    ``pciBridge4`` to ``pciBridge7``; without them there is no slot, and the device is missing or
    the machine does not power on.
    """
    if vmx.hardware is None or vmx.hardware < 7 or vmx.encrypted:
        return
    if _is_new_board(vmx):
        return
    if any(device.present for device in vmx.family("pcibridge")):
        return
    for device in (*vmx.controllers(), *vmx.nics()):
        model = (device.value("virtualDev") or "").strip().lower()
        express = device.family == "nvme" or model in _PCIE_NICS | _PCIE_SCSI
        if device.present and express:
            yield at_key(
                device.first,
                f"{device.name} needs a PCI Express slot, and no pciBridge is present",
                'add pciBridge0.present = "TRUE", and pciBridge4 to pciBridge7 with virtualDev = '
                '"pcieRootPort" and functions = "8"',
            )
            return


@RULES.rule("vmci-missing", Severity.NOTE, affects=ALL)
def vmci_missing(vmx: VmxView) -> Iterator[Found]:
    """No line says whether the machine has the VMCI device.

    From hardware version 7 on, VMware's tools talk to the host over it.  A machine made by hand
    often lacks it, and features of the tools with it.
    """
    if vmx.hardware is None or vmx.hardware < 7 or vmx.encrypted:
        return
    if vmx.device("vmci0") is None and not _is_new_board(vmx):
        entry = vmx.document.get("virtualHW.version")
        if entry is not None:
            yield at_key(entry, "vmci0.present is missing", 'add vmci0.present = "TRUE"')


@RULES.rule("port-range", Severity.ERROR, affects=ALL)
def port_range(vmx: VmxView) -> Iterator[Found]:
    """There are more floppy drives, serial or parallel ports than a machine can have.

    2 floppy drives, 32 serial ports (4 below hardware version 11) and 3 parallel ports, counted
    from 0.  Further ones are ignored.
    """
    for family, most in _PORTS.items():
        if family == "serial" and vmx.hardware is not None and vmx.hardware < 11:
            most = 4
        for device in vmx.family(family):
            if device.index >= most:
                yield at_key(
                    device.first,
                    f"{device.name}: there are only {family}0 to {family}{most - 1}",
                    "use a lower number, or remove the device",
                )
