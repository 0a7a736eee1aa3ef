"""Reads the disks of a libvirt domain and what they hang on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from vmport_formats.machine.libvirt.values import (
    MAX_32,
    choice,
    flag,
    number,
    pci_address,
    raw,
    same,
    switch,
)
from vmport_formats.machine.model import (
    Backing,
    Controller,
    ControllerKind,
    ControllerModel,
    Disk,
    DiskBus,
    DiskDevice,
    DiskSource,
    DiskSourceKind,
    IoLimits,
    NetworkHost,
)
from vmport_formats.units import Bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vmport_formats.machine.reading import Node

_KINDS: Final = {
    "ide": ControllerKind.IDE,
    "sata": ControllerKind.SATA,
    "scsi": ControllerKind.SCSI,
    "nvme": ControllerKind.NVME,
    "fdc": ControllerKind.FLOPPY,
    "usb": ControllerKind.USB,
    "pci": ControllerKind.PCI,
    "virtio-serial": ControllerKind.VIRTIO_SERIAL,
    "ccid": ControllerKind.CCID,
}

_MODELS: Final = {
    "buslogic": ControllerModel.BUSLOGIC,
    "lsilogic": ControllerModel.LSILOGIC,
    "lsisas1068": ControllerModel.LSISAS1068,
    "lsisas1078": ControllerModel.LSISAS1078,
    "vmpvscsi": ControllerModel.PVSCSI,
    "virtio-scsi": ControllerModel.VIRTIO_SCSI,
    "virtio-transitional": ControllerModel.VIRTIO_SCSI,
    "virtio-non-transitional": ControllerModel.VIRTIO_SCSI,
    "ibmvscsi": ControllerModel.IBMVSCSI,
    "piix3": ControllerModel.PIIX3,
    "piix4": ControllerModel.PIIX4,
    "ich6": ControllerModel.ICH6,
    "piix3-uhci": ControllerModel.UHCI,
    "piix4-uhci": ControllerModel.UHCI,
    "vt82c686b-uhci": ControllerModel.UHCI,
    "ich9-uhci1": ControllerModel.UHCI,
    "ich9-uhci2": ControllerModel.UHCI,
    "ich9-uhci3": ControllerModel.UHCI,
    "pci-ohci": ControllerModel.OHCI,
    "ehci": ControllerModel.EHCI,
    "ich9-ehci1": ControllerModel.EHCI,
    "nec-xhci": ControllerModel.XHCI,
    "qemu-xhci": ControllerModel.XHCI,
    "none": ControllerModel.NO_USB,
    "pci-root": ControllerModel.PCI_ROOT,
    "pcie-root": ControllerModel.PCIE_ROOT,
    "pci-bridge": ControllerModel.PCI_BRIDGE,
    "dmi-to-pci-bridge": ControllerModel.PCI_BRIDGE,
    "pcie-to-pci-bridge": ControllerModel.PCI_BRIDGE,
    "pcie-root-port": ControllerModel.PCIE_ROOT_PORT,
}

# QEMU's "lsilogic" is the "lsi" device, a 53c895a; elsewhere it is the 53c1030 that VMware has.
_QEMU_MODELS: Final = {**_MODELS, "lsilogic": ControllerModel.LSI53C895A}
_QEMU_TYPES: Final = frozenset({"kvm", "qemu", "hvf"})

# The companions of a USB 2 controller share its number.
_SHARED_INDEX: Final = frozenset({"usb"})

# "If omitted, the bus type is inferred from the style of the device name" (formatdomain).
_BUS_OF_NAME: Final = (
    ("vd", DiskBus.VIRTIO),
    ("sd", DiskBus.SCSI),
    ("hd", DiskBus.IDE),
    ("fd", DiskBus.FDC),
    ("xvd", DiskBus.XEN),
    ("nvme", DiskBus.NVME),
)

_SOURCE_KINDS: Final = {
    "file": DiskSourceKind.FILE,
    "block": DiskSourceKind.BLOCK,
    "network": DiskSourceKind.NETWORK,
    "volume": DiskSourceKind.VOLUME,
    "dir": DiskSourceKind.DIRECTORY,
    "nvme": DiskSourceKind.NVME,
    "vhostuser": DiskSourceKind.VHOST_USER,
}

_LIMITS: Final = {
    "total_bytes": "total_bytes_sec",
    "read_bytes": "read_bytes_sec",
    "write_bytes": "write_bytes_sec",
    "total_operations": "total_iops_sec",
    "read_operations": "read_iops_sec",
    "write_operations": "write_iops_sec",
}

_MAX_INDEX: Final = 255


def read_controllers(devices: Sequence[Node]) -> tuple[Controller, ...]:
    """The controllers.

    Raises:
        CorruptInput: two of a kind with one number.
    """
    controllers: list[Controller] = []
    seen: set[tuple[str, int]] = set()
    for found in _all(devices, "controller"):
        node = found.into(f"controllers[{len(controllers)}]")
        controller = _controller(node)
        kind = node.peek("type") or ""
        if controller.index is not None and kind not in _SHARED_INDEX:
            if (kind, controller.index) in seen:
                problem = f"a second {kind} controller {controller.index}"
                raise node.error("duplicate-controller", problem, attribute="index")
            seen.add((kind, controller.index))
        controllers.append(controller)
    return tuple(controllers)


def _controller(node: Node) -> Controller:
    kind = choice(node, "type", _KINDS, ControllerKind.OTHER, "kind")
    if kind is None:
        raise node.error("controller", "a controller without a type")
    driver = node.child("driver")
    domain_type = node.recorder.document.root.get("type", "")
    models = _QEMU_MODELS if domain_type in _QEMU_TYPES else _MODELS
    return Controller(
        kind=kind,
        index=number(node, "index", "index", high=_MAX_INDEX),
        model=choice(node, "model", models, ControllerModel.OTHER, "model"),
        ports=number(node, "ports", "ports", high=MAX_32),
        vectors=number(node, "vectors", "vectors", high=MAX_32),
        queues=None if driver is None else number(driver, "queues", "queues", high=MAX_32),
        io_thread=None if driver is None else number(driver, "iothread", "io_thread", high=MAX_32),
        pci=pci_address(node, "pci"),
    )


def read_disks(devices: Sequence[Node]) -> tuple[Disk, ...]:
    """Hard disks, CD and floppy drives.

    Raises:
        CorruptInput: two disks of one name or at one address, or an impossible value.
    """
    disks: list[Disk] = []
    names: set[str] = set()
    places: set[tuple[object, ...]] = set()
    for found in _all(devices, "disk"):
        node = found.into(f"disks[{len(disks)}]")
        disk = _disk(node)
        if disk.target is not None:
            if disk.target in names:
                raise node.error("duplicate-disk", f"a second disk called {disk.target}")
            names.add(disk.target)
        if disk.unit is not None:
            place = (disk.bus, disk.controller, disk.channel, disk.scsi_target, disk.unit)
            if place in places:
                problem = f"a second disk on {disk.bus} at the address of another"
                raise node.error("duplicate-address", problem)
            places.add(place)
        disks.append(disk)
    return tuple(disks)


def _disk(node: Node) -> Disk:
    target, driver = node.child("target"), node.child("driver")
    name = None if target is None else raw(target, "dev", "target")
    address = node.child("address")
    if address is not None and address.peek("type") != "drive":
        address = None
    boot, block = node.child("boot"), node.child("blockio")
    source = node.child("source")
    snapshot = None if source is None else source.child("snapshot")
    encryption = node.child("encryption") or (
        None if source is None else source.child("encryption")
    )
    if address is not None:
        for to in ("unit", "controller", "channel", "scsi_target"):
            address.attribute("type", to)
    return Disk(
        device=choice(node, "device", same(DiskDevice), DiskDevice.OTHER, "device"),
        bus=_bus(node, target, name),
        target=name,
        controller=_drive(address, "controller", "controller"),
        channel=_drive(address, "bus", "channel"),
        scsi_target=_drive(address, "target", "scsi_target"),
        unit=_drive(address, "unit", "unit"),
        pci=pci_address(node, "pci"),
        source=_source(node.into("source"), source, driver),
        backing=tuple(_backing(node)),
        snapshot_source=None if snapshot is None else raw(snapshot, "name", "snapshot_source"),
        boot_order=None
        if boot is None
        else number(boot, "order", "boot_order", low=1, high=MAX_32),
        read_only=flag(node, "readonly", "read_only"),
        shareable=flag(node, "shareable", "shareable"),
        transient=flag(node, "transient", "transient"),
        tray_open=None if target is None else _tray(target),
        serial=_text(node, "serial"),
        wwn=_wwn(node),
        vendor=_text(node, "vendor"),
        product=_text(node, "product"),
        removable=None if target is None else switch(target, "removable", "removable"),
        rotation_rate=None
        if target is None
        else number(target, "rotation_rate", "rotation_rate", high=65535),
        cache=_driver(driver, "cache"),
        io=_driver(driver, "io"),
        discard=_driver(driver, "discard"),
        detect_zeroes=_driver(driver, "detect_zeroes"),
        error_policy=_driver(driver, "error_policy"),
        queues=None if driver is None else number(driver, "queues", "queues", high=MAX_32),
        io_thread=None if driver is None else number(driver, "iothread", "io_thread", high=MAX_32),
        logical_block=_block(block, "logical_block_size", "logical_block"),
        physical_block=_block(block, "physical_block_size", "physical_block"),
        limits=_limits(node),
        encryption=None if encryption is None else raw(encryption, "format", "encryption"),
    )


def _bus(node: Node, target: Node | None, name: str | None) -> DiskBus | None:
    stated = None
    if target is not None:
        stated = choice(target, "bus", same(DiskBus), DiskBus.OTHER, "bus")
    if stated is not None or target is None or name is None:
        return stated
    if node.peek("device") == "floppy":
        node.attribute("device", "bus")
        return DiskBus.FDC
    for prefix, bus in _BUS_OF_NAME:
        if name.startswith(prefix):
            target.attribute("dev", "bus")
            return bus
    return None


def _source(node: Node, source: Node | None, driver: Node | None) -> DiskSource | None:
    """Where the content lies; None for a drive without a medium."""
    if source is None and driver is None and node.peek("type") is None:
        return None
    kind = choice(node, "type", _SOURCE_KINDS, DiskSourceKind.OTHER, "kind")
    file_format = None if driver is None else raw(driver, "type", "source.format")
    if source is None:
        return DiskSource(kind=kind, format=file_format)
    source = source.into("source")
    attribute = {"block": "dev", "dir": "dir"}.get(node.peek("type") or "", "file")
    hosts = tuple(_host(host, index) for index, host in enumerate(source.children("host")))
    return DiskSource(
        kind=kind,
        path=raw(source, attribute, "path"),
        format=file_format,
        pool=raw(source, "pool", "pool"),
        volume=raw(source, "volume", "volume"),
        protocol=raw(source, "protocol", "protocol"),
        name=raw(source, "name", "name"),
        hosts=hosts,
    )


def _host(node: Node, index: int) -> NetworkHost:
    to = f"hosts[{index}]"
    return NetworkHost(
        name=raw(node, "name", f"{to}.name"),
        port=raw(node, "port", f"{to}.port"),
        transport=raw(node, "transport", f"{to}.transport"),
    )


def _backing(node: Node) -> Iterator[Backing]:
    """The files under the disk, nearest first."""
    found, index = node.child("backingStore"), 0
    while found is not None:
        to = f"backing[{index}]"
        source, file_format = found.child("source"), found.child("format")
        if source is None and file_format is None:
            return
        path = None
        for attribute in ("file", "dev", "name", "volume"):
            if source is not None and path is None:
                path = raw(source, attribute, f"{to}.path")
        yield Backing(
            path=path,
            format=None if file_format is None else raw(file_format, "type", f"{to}.format"),
        )
        found, index = found.child("backingStore"), index + 1


def _limits(node: Node) -> IoLimits | None:
    found = node.child("iotune")
    if found is None:
        return None
    stated: dict[str, int | None] = {}
    for to, tag in _LIMITS.items():
        child = found.child(tag)
        stated[to] = None if child is None else number(child, None, f"limits.{to}")
    limits = IoLimits(**stated)
    return None if limits == IoLimits() else limits


def _wwn(node: Node) -> str | None:
    found = node.child("wwn")
    text = None if found is None else found.text("wwn")
    if found is not None and text is not None and not re.fullmatch(r"(0x)?[0-9A-Fa-f]{16}", text):
        raise found.error("wwn", f"{text[:40]!r} is not a world-wide name of 16 hexadecimal digits")
    return text


def _tray(target: Node) -> bool | None:
    state = raw(target, "tray", "tray_open")
    return None if state is None else state == "open"


def _drive(address: Node | None, attribute: str, to: str) -> int | None:
    return None if address is None else number(address, attribute, to, high=MAX_32)


def _driver(driver: Node | None, attribute: str) -> str | None:
    return None if driver is None else raw(driver, attribute, attribute)


def _block(block: Node | None, attribute: str, to: str) -> Bytes | None:
    if block is None:
        return None
    value = number(block, attribute, to, high=MAX_32)
    return None if value is None else Bytes(value)


def _text(node: Node, tag: str) -> str | None:
    found = node.child(tag)
    return None if found is None else found.text(tag)


def _all(devices: Sequence[Node], tag: str) -> Iterator[Node]:
    for parent in devices:
        yield from parent.children(tag)
