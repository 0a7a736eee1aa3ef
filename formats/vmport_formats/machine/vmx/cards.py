"""Writes network cards, ports, sound, USB and the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.machine.ledger import Impact, Loss
from vmport_formats.machine.model import (
    ControllerKind,
    ControllerModel,
    NicModel,
    NicSource,
    NicSourceKind,
    PortBackend,
    PortRole,
    SoundModel,
)
from vmport_formats.machine.vmware import (
    MAX_NICS,
    MAX_NICS_OLD,
    MAX_PARALLELS,
    MAX_SERIALS,
    nic_model,
    sound_model,
)

if TYPE_CHECKING:
    from vmport_formats.machine.model import Machine, Nic, Port
    from vmport_formats.machine.vmx.text import VmxLines

_NICS: Final = {
    NicModel.PCNET: "vlance",
    NicModel.VMXNET: "vmxnet",
    NicModel.VMXNET2: "vmxnet",
    NicModel.VMXNET3: "vmxnet3",
    NicModel.E1000: "e1000",
    NicModel.E1000E: "e1000e",
}

_STATIC_MACS: Final = "00:50:56:"
"""The start of the addresses that an administrator may give; the fourth octet is at most 3f."""

_CONNECTIONS: Final = {
    NicSourceKind.NAT: "nat",
    NicSourceKind.HOST_ONLY: "hostonly",
    NicSourceKind.DIRECT: "bridged",
    NicSourceKind.NETWORK: "bridged",
    NicSourceKind.BRIDGE: "bridged",
}

_PORT_GROUP: Final = "VM Network"
"""What ESXi calls the port group that it comes with."""

_FOREIGN: Final = {
    NicSourceKind.DIRECT: "the interface is one of the old host",
    NicSourceKind.HOSTDEV: "a card of the old host was handed through; an emulated one replaces it",
    NicSourceKind.INTERNAL: "the network was one between machines of the old host",
    NicSourceKind.TUNNEL: "the cable led to another emulator on the old host",
}

_SOUNDS: Final = {
    SoundModel.HDA: "hdaudio",
    SoundModel.ES1370: "es1371",
    SoundModel.SB16: "sb16",
}

_PORT_DETAIL: Final = Loss(
    "VMware has no such setting of a port", "the host's end may behave otherwise"
)

_USB: Final = {
    None: ("usb",),
    ControllerModel.UHCI: ("usb",),
    ControllerModel.OHCI: ("usb",),
    ControllerModel.EHCI: ("usb", "ehci"),
    ControllerModel.XHCI: ("usb", "ehci", "usb_xhci"),
}


# --- Network ------------------------------------------------------------------------------------


def write_nics(vmx: VmxLines, machine: Machine, *, hardware: int) -> None:
    """The network cards, up to VMware's limit."""
    most = MAX_NICS if hardware >= 7 else MAX_NICS_OLD
    for index, nic in enumerate(machine.nics):
        if index >= most:
            loss = Loss(
                why=f"VMware has {most} network cards at most",
                effect="the guest lacks this card",
                action="reach its network through another card, by VLANs",
                impact=Impact.MAJOR,
            )
            vmx.dropped(f"nics[{index}]", loss=loss)
            continue
        _write_nic(vmx, machine, nic, index)


def _write_nic(vmx: VmxLines, machine: Machine, nic: Nic, index: int) -> None:
    key, path = f"ethernet{index}", f"nics[{index}]"
    vmx.line(f"{key}.present", True)
    model, change = nic_model(machine, nic)
    if nic.model is None:
        vmx.defaulted(f"{key}.virtualDev", _NICS[model], change.why if change is not None else "")
    elif change is None:
        vmx.kept(f"{key}.virtualDev", _NICS[model], f"{path}.model")
    else:
        vmx.adapted(
            f"{key}.virtualDev",
            _NICS[model],
            f"{path}.model",
            why=change.why,
            effect=change.effect,
            action=change.action,
            impact=change.impact,
        )
    _write_mac(vmx, nic, key, path)
    _write_connection(vmx, nic, key, path)


def _write_mac(vmx: VmxLines, nic: Nic, key: str, path: str) -> None:
    if nic.mac is None:
        vmx.defaulted(
            f"{key}.addressType", "generated", "the source states no address; VMware makes one"
        )
        return
    vmx.line(f"{key}.addressType", "static")
    vmx.kept(f"{key}.address", nic.mac, f"{path}.mac")
    vmx.books.kept(f"{path}.mac_kind", place=f"{key}.addressType")
    if not (nic.mac.startswith(_STATIC_MACS) and nic.mac[9:11] <= "3f"):
        # VMware refuses static addresses outside its own range, unless told not to look.
        vmx.line(f"{key}.checkMACAddress", False)


def _write_connection(vmx: VmxLines, nic: Nic, key: str, path: str) -> None:
    source = nic.source or NicSource()
    name = next((each for each in (source.portgroup, source.network, source.bridge) if each), None)
    connected = True if nic.connected is None else nic.connected
    if source.kind is NicSourceKind.NONE:
        connected = False
    vmx.line(f"{key}.startConnected", connected)
    vmx.books.kept(f"{path}.connected", place=f"{key}.startConnected")
    if source.kind is NicSourceKind.NONE:
        vmx.books.kept(f"{path}.source.kind", place=f"{key}.startConnected")
        return
    kind = _CONNECTIONS.get(source.kind) if source.kind is not None else None
    named = [
        f"{path}.source.{part}"
        for part in ("kind", "network", "portgroup", "bridge", "device", "mode")
    ]
    if name is not None:
        vmx.line(f"{key}.connectionType", kind or "bridged")
        vmx.adapted(
            f"{key}.networkName",
            name,
            *named,
            before=f"{source.kind} {name}",
            why="ESXi looks for a port group of this name; Workstation bridges to the host's "
            "network",
            effect="without such a port group the card is not connected",
            action="create the port group, or name another one",
            impact=Impact.MINOR,
        )
        return
    vmx.line(f"{key}.connectionType", kind or "bridged")
    if source.kind in (NicSourceKind.NAT, NicSourceKind.HOST_ONLY):
        vmx.adapted(
            f"{key}.networkName",
            _PORT_GROUP,
            *named,
            before=str(source.kind),
            why=f"Workstation has {source.kind} networks; ESXi looks for a port group",
            effect="on ESXi the guest is in the network of that port group",
            action="on ESXi, connect the card to the right port group",
        )
    elif source.kind is not None or source.device is not None:
        vmx.adapted(
            f"{key}.networkName",
            _PORT_GROUP,
            *named,
            before=" ".join(str(each) for each in (source.kind, source.device) if each),
            why=_FOREIGN.get(source.kind or NicSourceKind.OTHER, "VMware has no such connection")
            + "; ESXi looks for a port group, Workstation bridges to the host's network",
            effect="the guest may find itself in another network",
            action="connect the card to the right network on the new host",
            impact=Impact.MINOR,
        )
    else:
        vmx.defaulted(
            f"{key}.networkName", _PORT_GROUP, "the source does not say where the cable goes"
        )


# --- Serial and parallel ------------------------------------------------------------------------


def write_ports(vmx: VmxLines, machine: Machine, *, name: str) -> None:
    """Serial and parallel ports, up to VMware's limits; consoles that are serial ports."""
    for ports, most, kind in (
        (machine.serials, MAX_SERIALS, "serial"),
        (machine.parallels, MAX_PARALLELS, "parallel"),
    ):
        for index, port in enumerate(ports):
            path = f"{kind}s[{index}]"
            if index < most:
                _write_port(vmx, port, f"{kind}{index}", path, name)
                vmx.dropped(path, loss=_PORT_DETAIL)
            else:
                vmx.dropped(
                    path,
                    loss=Loss(
                        f"VMware has {most} {kind} ports at most", "the guest lacks this port"
                    ),
                )
    for index, console in enumerate(machine.consoles):
        # libvirt repeats the first serial port as a console.
        if console.target in (None, "serial") and machine.serials:
            vmx.books.kept(f"consoles[{index}]", place=f"serial{console.index or 0}")


def _write_port(vmx: VmxLines, port: Port, key: str, path: str, name: str) -> None:
    vmx.line(f"{key}.present", True)
    vmx.books.kept(f"{path}.index", f"{path}.target", f"{path}.model", place=f"{key}.present")
    backend = port.backend
    server = port.role is not PortRole.CLIENT
    stated = [
        f"{path}.{part}" for part in ("backend", "path", "host", "service", "role", "protocol")
    ]
    if backend is PortBackend.FILE and port.path is not None:
        vmx.line(f"{key}.fileType", "file")
        _write_port_file(vmx, f"{key}.fileName", port.path, stated)
    elif backend is PortBackend.DEVICE and port.path is not None:
        vmx.line(f"{key}.fileType", "device")
        vmx.kept(f"{key}.fileName", port.path, *stated)
    elif backend is PortBackend.TCP and port.service is not None and key.startswith("serial"):
        scheme = "telnet" if port.protocol == "telnet" else "tcp"
        if port.tls:
            scheme = f"{scheme}s"
            stated.append(f"{path}.tls")
        vmx.line(f"{key}.fileType", "network")
        vmx.kept(f"{key}.fileName", f"{scheme}://{port.host or ''}:{port.service}", *stated)
        vmx.line(f"{key}.network.endPoint", "server" if server else "client")
    elif key.startswith("parallel"):
        vmx.line(f"{key}.fileType", "file")
        vmx.adapted(
            f"{key}.fileName",
            f"{name}-{key}.out",
            *stated,
            why="VMware's parallel ports end in a file or a device of the host",
            impact=Impact.MINOR,
        )
    else:
        vmx.line(f"{key}.fileType", "pipe")
        vmx.line(f"{key}.pipe.endPoint", "server" if server else "client")
        vmx.line(f"{key}.tryNoRxLoss", False)
        kept = backend in (PortBackend.PIPE, PortBackend.UNIX) and port.path is not None
        pipe = _base(port.path) if kept and port.path is not None else f"{name}-{key}"
        vmx.adapted(
            f"{key}.fileName",
            pipe,
            *stated,
            before=" ".join(str(each) for each in (backend, port.path) if each),
            why="VMware connects serial ports to named pipes, files, devices and the network",
            action="reach the port through this pipe of the new host",
        )


def _write_port_file(vmx: VmxLines, key: str, path: str, stated: list[str]) -> None:
    base = _base(path)
    if base == path:
        vmx.kept(key, path, *stated)
    else:
        vmx.adapted(key, base, *stated, before=path, why="the file is written beside the VMX file")


def _base(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2] or "port"


# --- Sound, USB, screen -------------------------------------------------------------------------


def write_sound(vmx: VmxLines, machine: Machine) -> None:
    """The first sound card that VMware has a twin of."""
    for index, sound in enumerate(machine.sounds):
        model, change = sound_model(sound)
        if model is None:
            continue
        path = f"sounds[{index}]"
        vmx.line("sound.present", True)
        vmx.line("sound.autodetect", True)
        vmx.line("sound.fileName", "-1")
        if change is None:
            vmx.kept("sound.virtualDev", _SOUNDS[model], f"{path}.model")
        else:
            vmx.adapted(
                "sound.virtualDev",
                _SOUNDS[model],
                path if sound.model is None else f"{path}.model",
                why=change.why,
                effect=change.effect,
                action=change.action,
                impact=change.impact,
            )
        vmx.dropped(
            f"{path}.codecs", loss=Loss("VMware's sound cards have one codec", impact=Impact.NONE)
        )
        return


def write_usb(vmx: VmxLines, machine: Machine) -> None:
    """The USB controllers; VMware has one of each generation."""
    written: set[str] = set()
    for index, controller in enumerate(machine.controllers):
        keys = _USB.get(controller.model)
        if controller.kind is not ControllerKind.USB or keys is None:
            continue
        path = f"controllers[{index}]"
        stated = [f"{path}.kind", f"{path}.index", f"{path}.model"]
        if set(keys) <= written:
            vmx.books.adapted(
                *stated,
                place=f"{keys[-1]}.present",
                after="the one that there is",
                why="VMware has one USB controller of each generation",
            )
            continue
        for key in keys:
            vmx.line(f"{key}.present", True)
        written.update(keys)
        vmx.books.kept(*stated, place=f"{keys[-1]}.present", after="TRUE")


def write_screen(vmx: VmxLines, machine: Machine) -> None:
    """The graphics card's number of screens and its 3D."""
    if not machine.videos:
        return
    video = machine.videos[0]
    if video.heads is not None:
        if video.heads > 1:
            vmx.line("svga.autodetect", False)
        vmx.kept("svga.numDisplays", max(1, min(video.heads, 10)), "videos[0].heads")
    if video.accelerated_3d is not None:
        vmx.kept("mks.enable3d", video.accelerated_3d, "videos[0].accelerated_3d")
