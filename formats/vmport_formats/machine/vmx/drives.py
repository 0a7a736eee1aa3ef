"""Writes controllers, hard disks, CD and floppy drives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.machine.ledger import DiskConversion, Impact, Loss
from vmport_formats.machine.model import (
    ControllerKind,
    ControllerModel,
    DiskDevice,
    DiskSource,
    DiskSourceKind,
)

if TYPE_CHECKING:
    from vmport_formats.machine.model import Disk, Machine
    from vmport_formats.machine.vmware import DrivePlan, PlacedDrive
    from vmport_formats.machine.vmx.text import VmxLines

_SCSI_DEVICES: Final = {
    ControllerModel.BUSLOGIC: "buslogic",
    ControllerModel.LSILOGIC: "lsilogic",
    ControllerModel.LSISAS1068: "lsisas1068",
    ControllerModel.PVSCSI: "pvscsi",
}

_DISK_TYPES: Final = {
    ControllerKind.SCSI: "scsi-hardDisk",
    ControllerKind.IDE: "ata-hardDisk",
}

_PLACE: Final = ("bus", "target", "controller", "channel", "scsi_target", "unit", "pci")
"""Parts of a disk that say where it hangs."""

_NAME: Final = ("kind", "path", "pool", "volume", "protocol", "name", "format")
"""Parts of a disk's source that a file name stands for."""

_VMDK: Final = "vmdk"


def write_drives(
    vmx: VmxLines, machine: Machine, plan: DrivePlan, *, name: str
) -> tuple[DiskConversion, ...]:
    """Controllers and drives; gives the disks that must be converted for them."""
    _write_controllers(vmx, plan)
    names = _FileNames()
    conversions: list[DiskConversion] = []
    floppies = False
    for drive in plan.drives:
        disk = machine.disks[drive.index]
        path = f"disks[{drive.index}]"
        if drive.device is DiskDevice.DISK:
            conversions.extend(_write_disk(vmx, disk, drive, names, name=name))
        elif drive.device is DiskDevice.CDROM:
            _write_cd(vmx, disk, drive, names)
        else:
            floppies = True
            _write_floppy(vmx, disk, drive, names)
        vmx.books.kept(f"{path}.device", place=_key(drive))
        _account_for_place(vmx, disk, drive)
    if not floppies:
        vmx.defaulted("floppy0.present", False, "VMware shows a floppy drive unless told not to")
    for index, loss in plan.left_out.items():
        vmx.dropped(f"disks[{index}]", loss=loss)
    return tuple(conversions)


class _FileNames:
    """File names beside the VMX file, no two alike even where case does not count."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def pick(self, stem: str, suffix: str) -> str:
        number = 1
        name = f"{stem}{suffix}"
        while name.casefold() in self._taken:
            number += 1
            name = f"{stem}-{number}{suffix}"
        self._taken.add(name.casefold())
        return name


def _key(drive: PlacedDrive) -> str:
    slot = drive.slot
    return f"floppy{slot.unit}" if slot.kind is ControllerKind.FLOPPY else str(slot)


def _write_controllers(vmx: VmxLines, plan: DrivePlan) -> None:
    for controller in plan.controllers:
        if controller.kind is ControllerKind.IDE:  # always there
            continue
        key = f"{controller.kind}{controller.number}"
        chip = None if controller.model is None else _SCSI_DEVICES[controller.model]
        if controller.origin is None:
            vmx.line(f"{key}.present", True)
            suffix, value = ("present", True) if chip is None else ("virtualDev", chip)
            vmx.defaulted(f"{key}.{suffix}", value, "the drives on it need a controller")
            continue
        path = f"controllers[{controller.origin}]"
        vmx.kept(f"{key}.present", True, f"{path}.kind", f"{path}.index")
        if chip is None:
            continue
        if (change := controller.changed) is not None:
            vmx.adapted(
                f"{key}.virtualDev",
                chip,
                f"{path}.model",
                why=change.why,
                effect=change.effect,
                action=change.action,
                impact=change.impact,
            )
        else:
            vmx.kept(f"{key}.virtualDev", chip, f"{path}.model")


def _account_for_place(vmx: VmxLines, disk: Disk, drive: PlacedDrive) -> None:
    """Say what became of bus and address."""
    path = f"disks[{drive.index}]"
    paths = [f"{path}.{part}" for part in _PLACE]
    key = _key(drive)
    if drive.moved is not None:
        vmx.books.adapted(
            *paths,
            place=key,
            before=_called(disk),
            after=key,
            why=drive.moved.why,
            effect=drive.moved.effect,
            action=drive.moved.action,
            impact=drive.moved.impact,
        )
    elif drive.readdressed:
        vmx.books.adapted(
            *paths,
            place=key,
            before=_called(disk),
            after=key,
            why=drive.readdressed,
            effect="a guest that finds its disks by their place may mix them up",
            impact=Impact.MINOR,
        )
    else:
        vmx.books.kept(*paths, place=key, after=key)


def _called(disk: Disk) -> str:
    parts = [str(part) for part in (disk.bus, disk.target) if part is not None]
    return " ".join(parts) or "no bus"


def _write_disk(
    vmx: VmxLines, disk: Disk, drive: PlacedDrive, names: _FileNames, *, name: str
) -> list[DiskConversion]:
    key, path = _key(drive), f"disks[{drive.index}]"
    vmx.line(f"{key}.present", True)
    if (device_type := _DISK_TYPES.get(drive.slot.kind)) is not None:
        vmx.line(f"{key}.deviceType", device_type)
    _write_mode(vmx, disk, key, path)
    if disk.shareable and drive.slot.kind is ControllerKind.SCSI:
        vmx.kept(f"{key}.sharing", "multi-writer", f"{path}.shareable")
    if disk.rotation_rate == 1:
        vmx.kept(f"{key}.virtualSSD", 1, f"{path}.rotation_rate")
    source = disk.source or DiskSource()
    content = _content(source)
    if content is None:
        vmx.defaulted(
            f"{key}.fileName",
            names.pick(f"{name}-disk{drive.index + 1}", ".vmdk"),
            "the source does not say where the disk's content is",
            effect="the machine does not start without this file",
            action="create or copy the disk there, or remove it",
            impact=Impact.MAJOR,
        )
        loss = Loss("it says nothing without the place of the content", impact=Impact.NONE)
        vmx.dropped(f"{path}.source", loss=loss)
        return []
    file_name = names.pick(_stem(content), ".vmdk")
    stated = [f"{path}.source.{part}" for part in _NAME]
    if source.format == _VMDK and file_name == content:
        vmx.kept(f"{key}.fileName", file_name, *stated)
        return []
    if source.format == _VMDK:
        vmx.adapted(
            f"{key}.fileName",
            file_name,
            *stated,
            before=content,
            why="the disk is looked for beside the VMX file",
            action="copy the disk there",
        )
        return []
    vmx.adapted(
        f"{key}.fileName",
        file_name,
        *stated,
        before=f"{content} ({source.format or 'format not stated'})",
        why="VMware reads VMDK disks only; the new one is looked for beside the VMX file",
        action="convert the disk; on ESXi, clone the result into the datastore: vmkfstools -i",
    )
    backing = tuple(item.path for item in disk.backing if item.path is not None)
    local = source.path is not None
    return [DiskConversion(content, source.format, file_name, _VMDK, backing, local=local)]


def _write_mode(vmx: VmxLines, disk: Disk, key: str, path: str) -> None:
    mode = f"{key}.mode"
    if disk.transient:
        vmx.kept(mode, "independent-nonpersistent", f"{path}.transient", f"{path}.independent")
    elif disk.independent:
        vmx.kept(mode, "independent-persistent", f"{path}.independent")
    if disk.read_only and not disk.transient:
        vmx.adapted(
            mode,
            "independent-nonpersistent",
            f"{path}.read_only",
            why="VMware has no write-protected disks; changes are thrown away at power-off",
            effect="the guest can write to the disk, but not for long",
        )


def _write_cd(vmx: VmxLines, disk: Disk, drive: PlacedDrive, names: _FileNames) -> None:
    key, path = _key(drive), f"disks[{drive.index}]"
    vmx.line(f"{key}.present", True)
    vmx.books.kept(f"{path}.read_only", place=f"{key}.deviceType", after="a CD always is")
    _write_medium(vmx, disk, key, path, names, image="cdrom-image", drive="atapi-cdrom")


def _write_floppy(vmx: VmxLines, disk: Disk, drive: PlacedDrive, names: _FileNames) -> None:
    key, path = _key(drive), f"disks[{drive.index}]"
    vmx.line(f"{key}.present", True)
    if disk.read_only:
        vmx.kept(f"{key}.readonly", True, f"{path}.read_only")
    _write_medium(vmx, disk, key, path, names, image="file", drive="device")


def _write_medium(
    vmx: VmxLines, disk: Disk, key: str, path: str, names: _FileNames, *, image: str, drive: str
) -> None:
    type_key = f"{key}.{'fileType' if key.startswith('floppy') else 'deviceType'}"
    source = disk.source or DiskSource()
    content = _content(source)
    stated = [f"{path}.source.{part}" for part in _NAME]
    if content is None or source.kind in (DiskSourceKind.BLOCK, DiskSourceKind.PASSTHROUGH):
        vmx.line(type_key, drive)
        vmx.line(f"{key}.autodetect", True)
        vmx.line(f"{key}.startConnected", bool(disk.connected))
        if content is None:
            vmx.kept(f"{key}.fileName", "auto detect", *stated)
        else:
            vmx.adapted(
                f"{key}.fileName",
                "auto detect",
                *stated,
                before=content,
                why="the drive was one of the old host; VMware picks one of the new host's",
                action="connect it when it is needed",
            )
        vmx.books.kept(f"{path}.connected", place=f"{key}.startConnected")
        return
    vmx.line(type_key, image)
    stem, dot, suffix = _base(content).rpartition(".")
    file_name = names.pick(stem or suffix, f"{dot}{suffix}" if stem else "")
    if file_name == content:
        vmx.kept(f"{key}.fileName", file_name, *stated)
    else:
        vmx.adapted(
            f"{key}.fileName",
            file_name,
            *stated,
            before=content,
            why="the image is looked for beside the VMX file",
            action="copy the image there, or empty the drive",
        )
    connected = True if disk.connected is None else disk.connected
    vmx.line(f"{key}.startConnected", connected)
    vmx.books.kept(f"{path}.connected", place=f"{key}.startConnected")


def _content(source: DiskSource) -> str | None:
    """What names the content, for a person."""
    if source.path is not None:
        return source.path
    if source.volume is not None:
        return f"{source.pool}/{source.volume}" if source.pool is not None else source.volume
    if source.name is not None:
        return f"{source.protocol}:{source.name}" if source.protocol is not None else source.name
    if source.protocol is not None:
        server = next((host.name for host in source.hosts if host.name is not None), "")
        return f"{source.protocol}:{server}"
    return None


def _base(content: str) -> str:
    """The last part of a path or of a name on a server."""
    return content.replace("\\", "/").rstrip("/").rpartition("/")[2].rpartition(":")[2] or "disk"


def _stem(content: str) -> str:
    base = _base(content)
    stem, _, suffix = base.rpartition(".")
    return stem if stem and len(suffix) <= 6 and suffix.isalnum() else base
