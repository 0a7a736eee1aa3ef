"""Rules for the disks and disk controllers of a VMX file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from vmport_converters.machine.rules.model import Found, Severity
from vmport_converters.machine.rules.spelling import nearest
from vmport_converters.machine.rules.vmware import (
    MAX_CONTROLLERS,
    NVME,
    PVSCSI,
    RESERVED_SCSI_UNIT,
    SAS,
    SATA,
    max_units,
)
from vmport_converters.machine.rules.vmx.view import ALL, RULES, as_bool, at_key, at_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_converters.machine.rules.vmx.view import Device, VmxView

SCSI_MODELS: Final = frozenset({"auto", "buslogic", "lsilogic", "lsisas1068", "pvscsi"})
_DISK_TYPES: Final = frozenset({"disk", "harddisk", "scsi-harddisk", "ata-harddisk", "rawdisk"})
_REMOVABLE_TYPES: Final = frozenset(
    {
        "cdrom-image",
        "cdrom-raw",
        "atapi-cdrom",
        "scsi-passthru",
        "scsi-nonpassthru-rdm",
        "scsi-passthru-rdm",
        "ata-nonpassthru-rdm",
        "plainfile",
    }
)
_DEVICE_TYPES: Final = _DISK_TYPES | _REMOVABLE_TYPES
_DELTA: Final = re.compile(r"-\d{6}\.vmdk$", re.IGNORECASE)
_ABSOLUTE: Final = re.compile(r"^(/|[A-Za-z]:[\\/]|\\\\)")


def is_disk(unit: Device) -> bool:
    """Whether a unit is a hard disk, by its type or, without one, by its file."""
    kind = (unit.value("deviceType") or "").strip().lower()
    name = (unit.value("fileName") or "").strip().lower()
    return kind in _DISK_TYPES or (not kind and not name.endswith((".iso", ".flp")))


@RULES.rule("scsi-reserved-unit", Severity.ERROR, affects=ALL)
def scsi_reserved_unit(vmx: VmxView) -> Iterator[Found]:
    """A device is at unit 7 of a SCSI controller.

    7 is the controller's own id on its bus; the machine does not power on.
    """
    for unit in vmx.units():
        if unit.family == "scsi" and unit.unit == RESERVED_SCSI_UNIT:
            yield at_key(
                unit.first,
                f"{unit.name}: unit 7 of a SCSI controller is the controller itself",
                f"move the device to another unit, such as scsi{unit.index}:8",
            )


@RULES.rule("unit-range", Severity.ERROR, affects=ALL)
def unit_range(vmx: VmxView) -> Iterator[Found]:
    """A device is at a unit that its controller does not have.

    SCSI has 0 to 15 (63 with PVSCSI from hardware version 14), SATA 0 to 29, NVMe 0 to 14 (63
    from version 21), IDE 0 and 1.  The machine does not power on, or the device is not seen.
    """
    for unit in vmx.units():
        controller = vmx.device(f"{unit.family}{unit.index}")
        model = None if controller is None else (controller.value("virtualDev") or "").lower()
        most = max_units(unit.family, model, vmx.hardware)
        if unit.unit is not None and unit.unit >= most:
            kind = f"a {model} controller" if model else f"a {_label(unit.family)} controller"
            yield at_key(
                unit.first,
                f"{unit.name}: {kind} has units 0 to {most - 1}",
                "move the device to a free unit, or to another controller",
            )


@RULES.rule("controller-range", Severity.ERROR, affects=ALL)
def controller_range(vmx: VmxView) -> Iterator[Found]:
    """There are more controllers of a kind than a machine can have.

    At most 4 SCSI, 4 SATA and 4 NVMe controllers and 2 IDE channels, counted from 0.  Further
    ones are ignored, and so are the disks on them.
    """
    seen: set[str] = set()
    for device in (*vmx.controllers(), *vmx.units()):
        name = f"{device.family}{device.index}"
        most = MAX_CONTROLLERS[device.family]
        if device.index >= most and device.present and name not in seen:
            seen.add(name)
            yield at_key(
                device.first,
                f"{name}: there are only {device.family}0 to {device.family}{most - 1}",
                f"move its devices to one of {device.family}0 to {device.family}{most - 1}",
            )


@RULES.rule("controller-missing", Severity.ERROR, affects=ALL)
def controller_missing(vmx: VmxView) -> Iterator[Found]:
    """A device hangs on a controller that is not there.

    The machine starts without the device: a disk "is gone".  IDE needs no line of its own.
    """
    for unit in vmx.units():
        if unit.family == "ide":
            continue
        name = f"{unit.family}{unit.index}"
        controller = vmx.device(name)
        if unit.index < MAX_CONTROLLERS[unit.family] and not (controller and controller.present):
            why = "no line makes it present"
            if controller is not None and as_bool(controller.value("present")) is False:
                why = f"line {controller.first.position.line} says that it is not present"
            yield at_key(
                unit.first,
                f"{unit.name} hangs on controller {name}, but {why}",
                f'add {name}.present = "TRUE"',
            )


@RULES.rule("scsi-model", Severity.ERROR, affects=ALL)
def scsi_model(vmx: VmxView) -> Iterator[Found]:
    """The ``virtualDev`` of a SCSI controller is none of the four models.

    The machine does not power on, or starts with a controller that the guest has no driver for.
    """
    for device in vmx.controllers():
        entry = device.get("virtualDev")
        if device.family != "scsi" or not device.present or entry is None:
            continue
        if entry.value.strip().lower() not in SCSI_MODELS | {""}:
            meant = nearest(entry.value, SCSI_MODELS)
            yield at_value(
                entry,
                f"there is no SCSI controller {entry.value!r}"
                + (f"; did you mean {meant}?" if meant else ""),
                "write one of lsilogic, lsisas1068, pvscsi and buslogic",
                expected="lsilogic, lsisas1068, pvscsi or buslogic",
            )


@RULES.rule("buslogic-64", Severity.ERROR, affects=ALL)
def buslogic_64(vmx: VmxView) -> Iterator[Found]:
    """A 64-bit guest has a BusLogic controller.

    VMware has none for 64-bit systems, and the machine does not power on.
    """
    if not (vmx.document.value("guestOS") or "").lower().endswith("-64"):
        return
    for device in vmx.controllers():
        entry = device.get("virtualDev")
        if device.family != "scsi" or not device.present or entry is None:
            continue
        if entry.value.strip().lower() == "buslogic":
            yield at_value(
                entry,
                "a BusLogic controller works with 32-bit guests only",
                f'write {entry.key} = "lsilogic"; the guest needs a driver for it',
                expected="lsilogic, lsisas1068 or pvscsi",
            )


@RULES.rule("controller-hardware", Severity.ERROR, affects=ALL)
def controller_hardware(vmx: VmxView) -> Iterator[Found]:
    """A controller needs a newer hardware version.

    SATA came with version 10, NVMe with 13, PVSCSI and LSI Logic SAS with 7.  The machine does
    not power on, or starts without the controller.
    """
    if vmx.hardware is None:
        return
    models = {"pvscsi": PVSCSI, "lsisas1068": SAS}
    for device in vmx.controllers():
        entry = device.get("virtualDev")
        feature = {"sata": SATA, "nvme": NVME}.get(device.family)
        if device.family == "scsi" and entry is not None:
            feature = models.get(entry.value.strip().lower())
        if feature is not None and device.present and vmx.hardware < feature.since:
            yield at_key(
                device.first,
                f"{device.name} is {feature.label}, which needs hardware version {feature.since}; "
                f"this is version {vmx.hardware}",
                f'write virtualHW.version = "{feature.since}" or higher, or use another controller',
            )


@RULES.rule("device-type", Severity.WARNING, affects=ALL)
def device_type(vmx: VmxView) -> Iterator[Found]:
    """The ``deviceType`` of a device is nearly a known one, but not quite.

    A device of an unknown type is taken for something else, or the machine does not power on.
    """
    for unit in vmx.units():
        entry = unit.get("deviceType")
        if entry is None or entry.value.strip().lower() in _DEVICE_TYPES | {""}:
            continue
        meant = nearest(entry.value, _DEVICE_TYPES)
        if meant is not None:
            yield at_value(
                entry,
                f"there is no device type {entry.value!r}; did you mean {meant}?",
                f'write {entry.key} = "{meant}"',
                expected=meant,
            )


@RULES.rule("disk-without-file", Severity.ERROR, affects=ALL)
def disk_without_file(vmx: VmxView) -> Iterator[Found]:
    """A hard disk is present but names no file.

    The machine does not power on: there is nothing to open.
    """
    for unit in vmx.units():
        entry = unit.get("fileName")
        if is_disk(unit) and not (entry is not None and entry.value.strip()):
            mend = f'add {unit.name}.fileName = "disk.vmdk", or set {unit.name}.present = "FALSE"'
            problem = f"{unit.name} is a hard disk without a file"
            yield (
                at_key(unit.first, problem, mend)
                if entry is None
                else at_value(entry, problem, mend)
            )


@RULES.rule("disk-file-twice", Severity.ERROR, affects=ALL)
def disk_file_twice(vmx: VmxView) -> Iterator[Found]:
    """Two disks of the machine are the same file.

    The first one locks it, and the machine does not power on.  Disks that are shared on purpose
    (``sharing``, ``sharedBus``) are left alone.
    """
    seen: dict[str, Device] = {}
    for unit in vmx.units():
        entry = unit.get("fileName")
        if entry is None or not is_disk(unit) or not entry.value.strip():
            continue
        first = seen.setdefault(entry.value.strip().lower(), unit)
        if first is not unit and not _shared(vmx, first) and not _shared(vmx, unit):
            yield at_value(
                entry,
                f"{unit.name} is the same file as {first.name}",
                "name another file, or remove one of the two disks",
            )


@RULES.rule("delta-disk", Severity.NOTE, affects="every program that takes one file for the disk")
def delta_disk(vmx: VmxView) -> Iterator[Found]:
    """A disk is the delta of a snapshot, by its name (``-000001.vmdk``).

    Its content is spread over a chain of files.  A move that takes only the named one loses the
    rest; one that takes the base disk goes back in time.
    """
    for unit in vmx.units():
        entry = unit.get("fileName")
        if entry is not None and is_disk(unit) and _DELTA.search(entry.value.strip()):
            yield at_value(
                entry,
                f"{unit.name} is the delta of a snapshot",
                "delete the snapshots (which merges them) before a move, or move the whole chain",
            )


@RULES.rule("absolute-path", Severity.NOTE, affects="the machine on another host")
def absolute_path(vmx: VmxView) -> Iterator[Found]:
    """A disk is named with its whole path.

    The path does not exist on another host, and the machine does not find its disk there.
    """
    for unit in vmx.units():
        entry = unit.get("fileName")
        if entry is not None and is_disk(unit) and _ABSOLUTE.match(entry.value.strip()):
            yield at_value(
                entry,
                f"{unit.name} is named with its whole path",
                "put the disk beside this file and write its name alone",
            )


def _shared(vmx: VmxView, unit: Device) -> bool:
    """Whether others may have the disk open too."""
    controller = vmx.device(f"{unit.family}{unit.index}")
    bus = None if controller is None else controller.value("sharedBus")
    words = {(unit.value("sharing") or "").lower(), (bus or "").lower()}
    return (
        bool(words & {"multi-writer", "virtual", "physical"})
        or as_bool(unit.value("shared")) is True
    )


def _label(family: str) -> str:
    return "NVMe" if family == "nvme" else family.upper()
