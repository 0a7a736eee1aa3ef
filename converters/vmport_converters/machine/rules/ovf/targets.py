"""Rules for one importer of an OVF, named by the user."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from vmport_converters.machine.rules import mac as macs
from vmport_converters.machine.rules.model import Found, Severity
from vmport_converters.machine.rules.ovf.view import (
    MEMORY,
    NIC,
    RULES,
    SCSI,
    at,
    at_text,
    devices,
    hardware_sections,
    items,
    name_of,
    setting,
    type_of,
)
from vmport_converters.machine.rules.targets import wrong_dialect
from vmport_converters.machine.rules.vmware import HARDWARE
from vmport_formats.machine.dialect import Dialect
from vmport_formats.machine.ovf.units import bytes_in
from vmport_formats.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_converters.machine.rules.targets import Target
    from vmport_formats.machine.ovf.envelope import Envelope

THE_TARGET = "the named target"


@RULES.target_rule("target-dialect", Severity.ERROR, affects=THE_TARGET)
def target_dialect(_ovf: Envelope, target: Target) -> Iterator[Found]:
    """The target does not read OVF.

    The descriptor has to be translated first.
    """
    yield from wrong_dialect(Dialect.OVF, target)


@RULES.target_rule("target-version", Severity.ERROR, affects=THE_TARGET)
def target_version(ovf: Envelope, target: Target) -> Iterator[Found]:
    """The target does not read this version of OVF.

    VMware products read OVF 0.9 and 1.x only.
    """
    if ovf.version not in target.ovf:
        yield at(
            ovf,
            ovf.element,
            f"{target.label} does not read OVF {ovf.version.value}",
            "write the envelope as OVF 1.1",
            expected=f"OVF {' or '.join(sorted(version.value for version in target.ovf))}",
            affects=target.label,
        )


@RULES.target_rule("target-hardware", Severity.ERROR, affects=THE_TARGET)
def target_hardware(ovf: Envelope, target: Target) -> Iterator[Found]:
    """The target accepts none of the machine's ``VirtualSystemType``s.

    The import stops with "unsupported hardware family".
    """
    if target.system_types is None or target.hardware is None:
        return
    newest = max(target.hardware)
    for _, section in hardware_sections(ovf):
        element = section.types_element
        if element is None or not section.types:
            continue
        numbers = [
            int(found[1])
            for word in section.types
            if (found := re.fullmatch(r"vmx-(\d{1,3})", word, re.ASCII | re.IGNORECASE))
        ]
        if any(number in target.hardware for number in numbers):
            continue
        known = [number for number in numbers if number in HARDWARE]
        why = f", which came with {HARDWARE[min(known)].since}" if known else ""
        yield at_text(
            ovf,
            element,
            f"{target.label} does not accept {' '.join(section.types[:4])}{why}",
            f"write vmx-{newest:02} or lower, or list it beside the present one",
            expected=f"vmx-04 to vmx-{newest:02}",
            affects=target.label,
        )


@RULES.target_rule("target-disk-format", Severity.ERROR, affects=THE_TARGET)
def target_disk_format(ovf: Envelope, target: Target) -> Iterator[Found]:
    """The target takes VMDK only, and a disk is in another format.

    The import stops, or the disk is unreadable.
    """
    if not target.vmdk_only:
        return
    for disk in ovf.disks:
        if disk.file_ref and disk.format and "vmdk" not in disk.format.lower():
            yield at(
                ovf,
                disk.element,
                f"{target.label} takes VMDK only; disk {disk.id!r} is {disk.format}",
                "convert the disk: vmport convert DISK DISK.vmdk -o subformat=streamOptimized",
                attribute="format",
                affects=target.label,
            )


@RULES.target_rule("target-resource-type", Severity.ERROR, affects=THE_TARGET)
def target_resource_type(ovf: Envelope, target: Target) -> Iterator[Found]:
    """The target stops at an item of this ``ResourceType``.

    VMware products know no 32768, the NVRAM of newer VirtualBox.
    """
    for item in items(ovf):
        element = item.first("ResourceType")
        if element is not None and item.required and type_of(item) in target.unknown_types:
            yield at_text(
                ovf,
                element,
                f"{target.label} stops at {name_of(item)}, ResourceType {type_of(item)}",
                "remove the item, and give the machine its NVRAM file by hand",
                affects=target.label,
            )


@RULES.target_rule("target-memory-unit", Severity.ERROR, affects=THE_TARGET)
def target_memory_unit(ovf: Envelope, target: Target) -> Iterator[Found]:
    """The target takes memory for megabytes, whatever the unit, and it is stated in another.

    The machine gets a thousand times more or less.
    """
    if not target.memory_in_megabytes:
        return
    for item in items(ovf):
        element, unit = item.first("AllocationUnits"), item.text("AllocationUnits")
        if element is None or type_of(item) != MEMORY or bytes_in(unit or "") in (None, MIB):
            continue
        yield at_text(
            ovf,
            element,
            f"{target.label} takes the memory for megabytes, whatever the unit",
            "state it in byte * 2^20",
            expected="byte * 2^20",
            affects=target.label,
        )


@RULES.target_rule("target-mac", Severity.WARNING, affects=THE_TARGET)
def target_mac(ovf: Envelope, target: Target) -> Iterator[Found]:
    """The target ignores the MAC addresses that an OVF states.

    A guest whose network settings hang on its address has no network after the import.
    """
    if target.keeps_ovf_mac:
        return
    for item in items(ovf):
        element, text = item.first("Address"), item.text("Address")
        if element is None or type_of(item) != NIC or not text:
            continue
        if macs.parse_mac(text) is not None:
            yield at_text(
                ovf,
                element,
                f"{target.label} gives {name_of(item)} another MAC address",
                "set the address after the import",
                affects=target.label,
            )


@RULES.target_rule("target-lsi-uefi", Severity.ERROR, affects=THE_TARGET)
def target_lsi_uefi(ovf: Envelope, target: Target) -> Iterator[Found]:
    """The machine boots with UEFI from an LSI Logic controller, which the target's UEFI lacks.

    The firmware finds no disk to boot from.
    """
    if target.boots_lsi_with_uefi:
        return
    for _, section in hardware_sections(ovf):
        line = setting(section, "firmware")
        if line is None or line[1].strip().lower() != "efi":
            continue
        for item in devices(section):
            element, text = item.first("ResourceSubType"), item.text("ResourceSubType") or ""
            if element is not None and type_of(item) == SCSI and "lsi" in text.lower():
                yield at_text(
                    ovf,
                    element,
                    f"the UEFI of {target.label} has no driver for an LSI Logic controller",
                    "switch the controller after the import: qm set VMID --scsihw virtio-scsi-pci, "
                    "or put the disk on SATA",
                    affects=target.label,
                )
