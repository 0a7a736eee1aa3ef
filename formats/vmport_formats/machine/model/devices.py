"""Screens, ports, sound, input, and all other devices."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vmport_formats.machine.model.units import PciAddress
    from vmport_formats.units import Bytes


class GraphicsKind(StrEnum):
    """How the screen is reached."""

    VNC = "vnc"
    SPICE = "spice"
    RDP = "rdp"
    SDL = "sdl"
    DESKTOP = "desktop"
    EGL_HEADLESS = "egl-headless"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Graphics:
    """A server for the screen.  Its password is never read."""

    kind: GraphicsKind
    listen: str | None = None
    port: int | None = None
    auto_port: bool | None = None
    tls_port: int | None = None
    websocket: int | None = None
    keymap: str | None = None
    accelerated: bool | None = None


class VideoModel(StrEnum):
    """The graphics card that the guest sees."""

    VGA = "vga"
    CIRRUS = "cirrus"
    QXL = "qxl"
    VIRTIO = "virtio"
    VMVGA = "vmvga"  # VMware SVGA II
    BOCHS = "bochs"
    RAMFB = "ramfb"
    XEN = "xen"
    VBOXVGA = "vboxvga"
    VBOXSVGA = "vboxsvga"
    NONE = "none"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Video:
    """A graphics card."""

    model: VideoModel | None = None
    video_memory: Bytes | None = None
    system_memory: Bytes | None = None
    """QXL's second memory region."""
    vga_memory: Bytes | None = None
    heads: int | None = None
    primary: bool | None = None
    accelerated_3d: bool | None = None
    accelerated_2d: bool | None = None
    blob: bool | None = None
    pci: PciAddress | None = None


class PortBackend(StrEnum):
    """What the host's end of a serial or parallel port is."""

    PTY = "pty"
    FILE = "file"
    DEVICE = "device"
    PIPE = "pipe"
    UNIX = "unix"
    TCP = "tcp"
    UDP = "udp"
    NULL = "null"
    STDIO = "stdio"
    WINDOW = "window"
    SPICE_AGENT = "spicevmc"
    SPICE_PORT = "spiceport"
    QEMU_VDAGENT = "qemu-vdagent"
    OTHER = "other"


class PortRole(StrEnum):
    """Which end waits for the other."""

    SERVER = "server"
    CLIENT = "client"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Port:
    """A serial, parallel, console or channel port."""

    backend: PortBackend | None = None
    path: str | None = None
    host: str | None = None
    service: str | None = None
    """TCP or UDP port on `host`."""
    role: PortRole | None = None
    protocol: str | None = None
    """``raw`` or ``telnet``."""
    tls: bool | None = None
    append: bool | None = None
    log: str | None = None
    target: str | None = None
    """What the guest sees: ``isa-serial``, ``virtio``, ``pci-serial``."""
    model: str | None = None
    index: int | None = None
    name: str | None = None
    """A channel's name: ``org.qemu.guest_agent.0``."""


class SoundModel(StrEnum):
    """The sound card that the guest sees."""

    AC97 = "ac97"
    ES1370 = "es1370"
    SB16 = "sb16"
    ICH6_HDA = "ich6"
    ICH9_HDA = "ich9"
    HDA = "hda"
    USB = "usb"
    PC_SPEAKER = "pcspk"
    VIRTIO = "virtio"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Sound:
    """A sound card."""

    model: SoundModel | None = None
    codecs: tuple[str, ...] = ()
    pci: PciAddress | None = None


class InputKind(StrEnum):
    """What the user's hand is on."""

    MOUSE = "mouse"
    TABLET = "tablet"
    KEYBOARD = "keyboard"
    PASSTHROUGH = "passthrough"
    EVDEV = "evdev"
    OTHER = "other"


class InputBus(StrEnum):
    """What an input device hangs on."""

    PS2 = "ps2"
    USB = "usb"
    VIRTIO = "virtio"
    XEN = "xen"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Input:
    """A mouse, tablet or keyboard."""

    kind: InputKind
    bus: InputBus | None = None
    device: str | None = None


@dataclass(frozen=True, slots=True)
class Rng:
    """A source of randomness for the guest."""

    model: str | None = None
    backend: str | None = None
    source: str | None = None
    rate_bytes: int | None = None
    rate_period_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Watchdog:
    """Resets a guest that hangs."""

    model: str | None = None
    action: str | None = None


@dataclass(frozen=True, slots=True)
class Balloon:
    """A device by which the host takes memory back."""

    model: str | None = None
    auto_deflate: bool | None = None
    free_page_reporting: bool | None = None
    stats_period_s: int | None = None


@dataclass(frozen=True, slots=True)
class Panic:
    """A device by which the guest reports that it has crashed."""

    model: str | None = None


@dataclass(frozen=True, slots=True)
class Vsock:
    """A socket between guest and host; VMware's VMCI serves the same end."""

    model: str | None = None
    auto_cid: bool | None = None
    cid: int | None = None


@dataclass(frozen=True, slots=True)
class Iommu:
    """A virtual IOMMU."""

    model: str | None = None
    interrupt_remapping: bool | None = None
    caching: bool | None = None


@dataclass(frozen=True, slots=True)
class HostDevice:
    """A device of the host, handed to the guest."""

    kind: str | None = None
    """``pci``, ``usb``, ``scsi``, ``mdev``, ..."""
    address: str | None = None
    """The host's address: PCI, USB bus and device, SCSI nexus or UUID."""
    vendor: str | None = None
    product: str | None = None
    managed: bool | None = None
    driver: str | None = None
    boot_order: int | None = None
    rom: bool | None = None


@dataclass(frozen=True, slots=True)
class SharedFolder:
    """A folder of the host that the guest mounts."""

    kind: str | None = None
    driver: str | None = None
    source: str | None = None
    tag: str | None = None
    """The name by which the guest mounts it."""
    access: str | None = None
    read_only: bool | None = None


@dataclass(frozen=True, slots=True)
class UsbRedirection:
    """A USB socket whose other end is at the viewer's desk."""

    bus: str | None = None
    backend: str | None = None


@dataclass(frozen=True, slots=True)
class SmartCard:
    """A smart-card reader."""

    mode: str | None = None
    backend: str | None = None
