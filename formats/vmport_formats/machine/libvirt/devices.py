"""Reads what hangs on a libvirt domain besides disks and network cards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.machine.libvirt.values import (
    MAX_32,
    choice,
    number,
    pci_address,
    raw,
    same,
    size,
    switch,
)
from vmport_formats.machine.model import (
    Balloon,
    Graphics,
    GraphicsKind,
    HostDevice,
    Input,
    InputBus,
    InputKind,
    Iommu,
    MemoryModule,
    Panic,
    Port,
    PortBackend,
    PortRole,
    Rng,
    SharedFolder,
    SmartCard,
    Sound,
    SoundModel,
    Tpm,
    TpmBackend,
    TpmModel,
    UsbRedirection,
    Video,
    VideoModel,
    Vsock,
    Watchdog,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmport_formats.machine.reading import Node

_BACKENDS: Final = same(PortBackend, dev=PortBackend.DEVICE, vc=PortBackend.WINDOW)
_ROLES: Final = {"bind": PortRole.SERVER, "connect": PortRole.CLIENT}
_HOST_ADDRESS: Final = ("domain", "bus", "slot", "function")


def _nodes(devices: Sequence[Node], tag: str, to: str) -> list[Node]:
    """All elements `tag`, each with its place in the model's list `to`."""
    found = [node for parent in devices for node in parent.children(tag)]
    return [node.into(f"{to}[{index}]") for index, node in enumerate(found)]


def _only(devices: Sequence[Node], tag: str, to: str) -> Node | None:
    found = [node for parent in devices if (node := parent.child(tag)) is not None]
    return found[0].into(to) if found else None


# --- Screen -------------------------------------------------------------------------------------


def read_graphics(devices: Sequence[Node]) -> tuple[Graphics, ...]:
    """The servers for the screen; no password is read."""
    return tuple(_graphics(node) for node in _nodes(devices, "graphics", "graphics"))


def _graphics(node: Node) -> Graphics:
    kind = choice(node, "type", same(GraphicsKind), GraphicsKind.OTHER, "kind")
    if kind is None:
        raise node.error("graphics", "graphics without a type")
    listen = raw(node, "listen", "listen")
    for place in node.children("listen"):
        stated = raw(place, "address", "listen")
        listen = listen or stated
    gl = node.child("gl")
    return Graphics(
        kind,
        listen=listen,
        port=_tcp_port(node, "port", "port"),
        auto_port=switch(node, "autoport", "auto_port"),
        tls_port=_tcp_port(node, "tlsPort", "tls_port"),
        websocket=_tcp_port(node, "websocket", "websocket"),
        keymap=raw(node, "keymap", "keymap"),
        accelerated=None if gl is None else switch(gl, "enable", "accelerated"),
    )


def _tcp_port(node: Node, attribute: str, to: str) -> int | None:
    """A port; -1 says that libvirt picks one."""
    return number(node, attribute, to, low=-1, high=65535)


def read_videos(devices: Sequence[Node]) -> tuple[Video, ...]:
    """The graphics cards."""
    return tuple(_video(node) for node in _nodes(devices, "video", "videos"))


def _video(node: Node) -> Video:
    model = node.child("model")
    pci = pci_address(node, "pci")
    if model is None:
        return Video(pci=pci)
    acceleration = model.child("acceleration")
    model.present("")
    return Video(
        model=choice(model, "type", same(VideoModel), VideoModel.OTHER, "model"),
        video_memory=size(model, "vram", "video_memory"),
        system_memory=size(model, "ram", "system_memory"),
        vga_memory=size(model, "vgamem", "vga_memory"),
        heads=number(model, "heads", "heads", high=MAX_32),
        primary=switch(model, "primary", "primary"),
        accelerated_3d=None
        if acceleration is None
        else switch(acceleration, "accel3d", "accelerated_3d"),
        accelerated_2d=None
        if acceleration is None
        else switch(acceleration, "accel2d", "accelerated_2d"),
        blob=switch(model, "blob", "blob"),
        pci=pci,
    )


def read_sounds(devices: Sequence[Node]) -> tuple[Sound, ...]:
    """The sound cards."""
    return tuple(
        Sound(
            model=choice(node, "model", same(SoundModel), SoundModel.OTHER, "model"),
            codecs=tuple(
                name
                for index, codec in enumerate(node.children("codec"))
                if (name := raw(codec, "type", f"codecs[{index}]")) is not None
            ),
            pci=pci_address(node, "pci"),
        )
        for node in _nodes(devices, "sound", "sounds")
    )


# --- Ports --------------------------------------------------------------------------------------


def read_ports(devices: Sequence[Node], tag: str, to: str) -> tuple[Port, ...]:
    """Serial and parallel ports, consoles, and channels."""
    return tuple(_port(node) for node in _nodes(devices, tag, to))


def _port(node: Node) -> Port:
    sources = node.children("source")
    # A UDP port has two: where it listens and where it sends; the latter says more.
    source = next((item for item in sources if item.peek("mode") == "connect"), None)
    source = source or next(iter(sources), None)
    protocol, log, target = node.child("protocol"), node.child("log"), node.child("target")
    model = None if target is None else target.child("model")
    path = None
    if source is not None:
        path = raw(source, "path", "path") or raw(source, "channel", "path")
    return Port(
        backend=choice(node, "type", _BACKENDS, PortBackend.OTHER, "backend"),
        path=path,
        host=None if source is None else raw(source, "host", "host"),
        service=None if source is None else raw(source, "service", "service"),
        role=None if source is None else choice(source, "mode", _ROLES, PortRole.OTHER, "role"),
        protocol=None if protocol is None else raw(protocol, "type", "protocol"),
        tls=None if source is None else switch(source, "tls", "tls"),
        append=None if source is None else switch(source, "append", "append"),
        log=None if log is None else raw(log, "file", "log"),
        target=None if target is None else raw(target, "type", "target"),
        model=None if model is None else raw(model, "name", "model"),
        index=None if target is None else number(target, "port", "index", high=MAX_32),
        name=None if target is None else raw(target, "name", "name"),
    )


def read_inputs(devices: Sequence[Node]) -> tuple[Input, ...]:
    """Mice, tablets, keyboards."""
    return tuple(_input(node) for node in _nodes(devices, "input", "inputs"))


def _input(node: Node) -> Input:
    kind = choice(node, "type", same(InputKind), InputKind.OTHER, "kind")
    if kind is None:
        raise node.error("input", "an input device without a type")
    source = node.child("source")
    device = None
    if source is not None:
        device = raw(source, "evdev", "device") or raw(source, "dev", "device")
    bus = choice(node, "bus", same(InputBus), InputBus.OTHER, "bus")
    return Input(kind, bus=bus, device=device)


# --- Helpers of the guest -----------------------------------------------------------------------


def read_tpm(devices: Sequence[Node]) -> Tpm | None:
    """The trusted platform module."""
    node = _only(devices, "tpm", "tpm")
    if node is None:
        return None
    backend = node.child("backend")
    device = None if backend is None else backend.child("device")
    node.present("")
    return Tpm(
        model=choice(node, "model", same(TpmModel), TpmModel.OTHER, "model"),
        backend=None
        if backend is None
        else choice(backend, "type", same(TpmBackend), TpmBackend.OTHER, "backend"),
        version=None if backend is None else raw(backend, "version", "version"),
        device=None if device is None else raw(device, "path", "device"),
        persistent_state=None
        if backend is None
        else switch(backend, "persistent_state", "persistent_state"),
    )


def read_rngs(devices: Sequence[Node]) -> tuple[Rng, ...]:
    """The sources of randomness."""
    return tuple(_rng(node) for node in _nodes(devices, "rng", "rngs"))


def _rng(node: Node) -> Rng:
    rate, backend = node.child("rate"), node.child("backend")
    return Rng(
        model=raw(node, "model", "model"),
        backend=None if backend is None else raw(backend, "model", "backend"),
        source=None if backend is None else backend.text("source"),
        rate_bytes=None if rate is None else number(rate, "bytes", "rate_bytes", high=MAX_32),
        rate_period_ms=None
        if rate is None
        else number(rate, "period", "rate_period_ms", high=MAX_32),
    )


def read_watchdogs(devices: Sequence[Node]) -> tuple[Watchdog, ...]:
    """The watchdogs."""
    return tuple(
        Watchdog(model=raw(node, "model", "model"), action=raw(node, "action", "action"))
        for node in _nodes(devices, "watchdog", "watchdogs")
    )


def read_balloon(devices: Sequence[Node]) -> Balloon | None:
    """The memory balloon."""
    node = _only(devices, "memballoon", "balloon")
    if node is None:
        return None
    stats = node.child("stats")
    return Balloon(
        model=raw(node, "model", "model"),
        auto_deflate=switch(node, "autodeflate", "auto_deflate"),
        free_page_reporting=switch(node, "freePageReporting", "free_page_reporting"),
        stats_period_s=None
        if stats is None
        else number(stats, "period", "stats_period_s", high=MAX_32),
    )


def read_panics(devices: Sequence[Node]) -> tuple[Panic, ...]:
    """The devices that report a crash."""
    panics = []
    for node in _nodes(devices, "panic", "panics"):
        node.present("")
        address = node.child("address")
        if address is not None:
            address.attribute("type", "")
        panics.append(Panic(model=raw(node, "model", "model")))
    return tuple(panics)


def read_vsock(devices: Sequence[Node]) -> Vsock | None:
    """The socket between guest and host."""
    node = _only(devices, "vsock", "vsock")
    if node is None:
        return None
    cid = node.child("cid")
    node.present("")
    return Vsock(
        model=raw(node, "model", "model"),
        auto_cid=None if cid is None else switch(cid, "auto", "auto_cid"),
        cid=None if cid is None else number(cid, "address", "cid", low=3, high=MAX_32),
    )


def read_iommu(devices: Sequence[Node]) -> Iommu | None:
    """The virtual IOMMU."""
    node = _only(devices, "iommu", "iommu")
    if node is None:
        return None
    driver = node.child("driver")
    return Iommu(
        model=raw(node, "model", "model"),
        interrupt_remapping=None
        if driver is None
        else switch(driver, "intremap", "interrupt_remapping"),
        caching=None if driver is None else switch(driver, "caching_mode", "caching"),
    )


def read_memory_modules(devices: Sequence[Node]) -> tuple[MemoryModule, ...]:
    """Plugged-in memory."""
    return tuple(_memory_module(node) for node in _nodes(devices, "memory", "memory_modules"))


def _memory_module(node: Node) -> MemoryModule:
    amount, cell = node.find("target", "size"), node.find("target", "node")
    path = node.find("source", "path")
    return MemoryModule(
        model=raw(node, "model", "model"),
        size=None if amount is None else size(amount, None, "size"),
        node=None if cell is None else number(cell, None, "node", high=MAX_32),
        path=None if path is None else path.text("path"),
    )


# --- Of the host --------------------------------------------------------------------------------


def read_host_devices(devices: Sequence[Node]) -> tuple[HostDevice, ...]:
    """Devices of the host that are handed to the guest."""
    return tuple(_host_device(node) for node in _nodes(devices, "hostdev", "host_devices"))


def _host_device(node: Node) -> HostDevice:
    source, boot, rom = node.child("source"), node.child("boot"), node.child("rom")
    driver = node.child("driver")
    vendor = None if source is None else source.child("vendor")
    product = None if source is None else source.child("product")
    return HostDevice(
        kind=raw(node, "type", "kind"),
        address=None if source is None else _host_address(source),
        vendor=None if vendor is None else raw(vendor, "id", "vendor"),
        product=None if product is None else raw(product, "id", "product"),
        managed=switch(node, "managed", "managed"),
        driver=None if driver is None else raw(driver, "name", "driver"),
        boot_order=None
        if boot is None
        else number(boot, "order", "boot_order", low=1, high=MAX_32),
        rom=None if rom is None else switch(rom, "enabled", "rom"),
    )


def _host_address(source: Node) -> str | None:
    address = source.child("address")
    adapter = source.child("adapter")
    parts: list[str] = []
    if adapter is not None and (name := raw(adapter, "name", "address")) is not None:
        parts.append(name)
    if address is not None:
        stated = [raw(address, name, "address") for name in _HOST_ADDRESS]
        if stated[2] is not None:  # PCI: each part in hexadecimal
            domain, bus, slot, function = ((part or "0").removeprefix("0x") for part in stated)
            parts.append(f"{domain:>04}:{bus:>02}:{slot:>02}.{function}")
        else:
            more = ("device", "uuid", "target", "unit")
            stated += [raw(address, name, "address") for name in more]
            parts.extend(part for part in stated if part is not None)
    return ":".join(parts) or None


def read_shared_folders(devices: Sequence[Node]) -> tuple[SharedFolder, ...]:
    """Folders of the host that the guest mounts."""
    return tuple(_shared_folder(node) for node in _nodes(devices, "filesystem", "shared_folders"))


def _shared_folder(node: Node) -> SharedFolder:
    driver, source, target = node.child("driver"), node.child("source"), node.child("target")
    read_only = node.child("readonly")
    path = None
    for attribute in ("dir", "file", "dev", "name", "volume", "socket"):
        if source is not None and path is None:
            path = raw(source, attribute, "source")
    return SharedFolder(
        kind=raw(node, "type", "kind"),
        driver=None if driver is None else raw(driver, "type", "driver"),
        source=path,
        tag=None if target is None else raw(target, "dir", "tag"),
        access=raw(node, "accessmode", "access"),
        read_only=None if read_only is None else read_only.present("read_only"),
    )


def read_usb_redirections(devices: Sequence[Node]) -> tuple[UsbRedirection, ...]:
    """USB sockets whose other end is at the viewer's."""
    return tuple(
        UsbRedirection(bus=raw(node, "bus", "bus"), backend=raw(node, "type", "backend"))
        for node in _nodes(devices, "redirdev", "usb_redirections")
    )


def read_smart_cards(devices: Sequence[Node]) -> tuple[SmartCard, ...]:
    """Smart-card readers."""
    return tuple(
        SmartCard(mode=raw(node, "mode", "mode"), backend=raw(node, "type", "backend"))
        for node in _nodes(devices, "smartcard", "smart_cards")
    )
