"""What a virtual machine is, whatever hypervisor describes it.

One rule runs through all of it: a value that the descriptor does not state is None, never a guess,
so that a writer can tell a wish from a default.  Enumerations name what hypervisors offer; their
``OTHER`` is the honest hole for a value that was stated but that vmport does not know (the ledger
shows its text).  Tuples keep the order of the descriptor.

A *model path* such as ``disks[0].bus`` names one value; `vmport_formats.machine.ledger` follows
values from the source through these paths to the target.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NewType

if TYPE_CHECKING:
    from uuid import UUID

    from vmport_formats.units import Bytes

MacAddress = NewType("MacAddress", str)
"""Six octets in lower case with colons: ``52:54:00:12:34:56``."""

CpuList = NewType("CpuList", str)
"""Numbers of virtual CPUs in order, as ranges: ``0-3,8``."""

PciAddress = NewType("PciAddress", str)
"""Domain, bus, slot and function in hexadecimal: ``0000:00:1f.2``."""

Kilobytes = NewType("Kilobytes", int)
"""1000 bytes, the unit of network rates in libvirt (kilobytes a second)."""


# --- Identity and platform ----------------------------------------------------------------------


class Accelerator(StrEnum):
    """What runs the guest's instructions on the host that the descriptor was written for."""

    KVM = "kvm"
    TCG = "tcg"
    XEN = "xen"
    HVF = "hvf"
    VMWARE = "vmware"
    VIRTUALBOX = "virtualbox"
    HYPERV = "hyperv"
    OTHER = "other"


class Virtualization(StrEnum):
    """What the guest is told about its being one."""

    FULL = "full"  # an unchanged system sees hardware
    PARAVIRTUAL = "paravirtual"  # a system that is made for Xen
    OTHER = "other"


class Architecture(StrEnum):
    """The guest's instruction set, by the names that QEMU uses."""

    I686 = "i686"
    X86_64 = "x86_64"
    AARCH64 = "aarch64"
    ARMV7L = "armv7l"
    PPC64 = "ppc64"
    PPC64LE = "ppc64le"
    RISCV64 = "riscv64"
    S390X = "s390x"
    OTHER = "other"


class Chipset(StrEnum):
    """The board that is emulated."""

    I440FX = "i440fx"
    Q35 = "q35"
    MICROVM = "microvm"
    VIRT = "virt"  # the paravirtual board of ARM and RISC-V
    PIIX3 = "piix3"  # VirtualBox
    ICH9 = "ich9"  # VirtualBox
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class GenerationId:
    """The VM generation id: changes when a copy or an old state of the machine starts.

    It is in the order of RFC 4122 text; hypervisors differ in how they store its bytes.
    """

    id: UUID | None = None
    """None: the hypervisor is to make one."""


@dataclass(frozen=True, slots=True)
class GuestOs:
    """What the descriptor says about the operating system inside; each product has its own ids."""

    osinfo: str | None = None
    """A libosinfo id: ``http://debian.org/debian/12``."""
    vmware: str | None = None
    """VMX ``guestOS``: ``debian12-64``."""
    vsphere: str | None = None
    """vSphere guestId, also ``vmw:osType`` in OVF: ``debian12_64Guest``."""
    virtualbox: str | None = None
    """``vbox:OSType``: ``Debian12_64``."""
    cim: int | None = None
    """CIM operating-system id of OVF; from 114 up, products give one id to different systems."""
    version: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class SmbiosValue:
    """One string of the SMBIOS tables, such as a serial number that a licence hangs on."""

    block: str
    """``bios``, ``system``, ``baseBoard``, ``chassis`` or ``oemStrings``."""
    name: str
    value: str


# --- Firmware -----------------------------------------------------------------------------------


class FirmwareKind(StrEnum):
    """What starts the guest."""

    BIOS = "bios"
    UEFI = "uefi"
    DIRECT_KERNEL = "direct-kernel"  # the hypervisor loads a kernel itself
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Nvram:
    """The file that holds UEFI's variables: boot entries and secure-boot keys."""

    path: str | None = None
    template: str | None = None
    format: str | None = None


@dataclass(frozen=True, slots=True)
class Firmware:
    """How the guest is started, before its boot loader."""

    kind: FirmwareKind | None = None
    secure_boot: bool | None = None
    secure_boot_capable: bool | None = None
    """Whether the firmware image could do it; whether it does is up to the keys in the NVRAM."""
    enrolled_keys: bool | None = None
    """Whether the vendor's keys are in the NVRAM, without which secure boot enforces nothing."""
    loader: str | None = None
    """Path of the firmware image on the host."""
    loader_type: str | None = None
    """``pflash`` or ``rom``."""
    loader_read_only: bool | None = None
    nvram: Nvram | None = None
    kernel: str | None = None
    initrd: str | None = None
    command_line: str | None = None
    device_tree: str | None = None


class TpmModel(StrEnum):
    """How the guest sees its trusted platform module."""

    TIS = "tpm-tis"
    CRB = "tpm-crb"
    OTHER = "other"


class TpmBackend(StrEnum):
    """What stands behind it."""

    EMULATOR = "emulator"
    PASSTHROUGH = "passthrough"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Tpm:
    """A trusted platform module.  Its state (sealed keys) is not part of any descriptor."""

    model: TpmModel | None = None
    backend: TpmBackend | None = None
    version: str | None = None
    """``1.2`` or ``2.0``."""
    device: str | None = None
    """The host's device, when passed through."""
    persistent_state: bool | None = None


# --- Processor and memory -----------------------------------------------------------------------


class CpuMode(StrEnum):
    """Where the guest's processor model comes from."""

    CUSTOM = "custom"
    HOST_MODEL = "host-model"
    HOST_PASSTHROUGH = "host-passthrough"
    MAXIMUM = "maximum"
    OTHER = "other"


class CpuFeaturePolicy(StrEnum):
    """What is asked of one processor feature."""

    FORCE = "force"
    REQUIRE = "require"
    OPTIONAL = "optional"
    DISABLE = "disable"
    FORBID = "forbid"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class CpuFeature:
    """One flag of the processor, by its name in Linux: ``vmx``, ``aes``."""

    name: str
    policy: CpuFeaturePolicy | None = None


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processors.

    When a topology is stated, sockets × dies × clusters × cores × threads is `count`.
    """

    count: int | None = None
    """Virtual CPUs at most."""
    online: int | None = None
    """Virtual CPUs at start, when fewer; the rest can be plugged in."""
    sockets: int | None = None
    dies: int | None = None
    """Dies a socket."""
    clusters: int | None = None
    """Clusters a die."""
    cores: int | None = None
    """Cores a cluster (a die, a socket: whatever is the next level that is stated)."""
    threads: int | None = None
    """Threads a core."""
    mode: CpuMode | None = None
    model: str | None = None
    vendor: str | None = None
    features: tuple[CpuFeature, ...] = ()
    placement: CpuList | None = None
    """Host CPUs that the machine may run on."""
    hot_add: bool | None = None
    hot_remove: bool | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """The main memory."""

    size: Bytes | None = None
    """What the machine has at start, plugged modules included."""
    current: Bytes | None = None
    """What the balloon leaves of it at start, when less."""
    maximum: Bytes | None = None
    """To how much it can grow by plugging in modules."""
    slots: int | None = None
    """How many modules can be plugged in."""
    huge_pages: bool | None = None
    page_size: Bytes | None = None
    locked: bool | None = None
    """Never swapped out by the host."""
    shared: bool | None = None
    """Shared with other processes of the host, as virtiofs and vhost-user need."""
    source: str | None = None
    hot_add: bool | None = None


@dataclass(frozen=True, slots=True)
class MemoryModule:
    """A plugged-in memory device."""

    model: str | None = None
    """``dimm``, ``nvdimm``, ``virtio-mem``, ..."""
    size: Bytes | None = None
    node: int | None = None
    """The guest's NUMA cell."""
    path: str | None = None


@dataclass(frozen=True, slots=True)
class NumaDistance:
    """How far another cell is; 10 is the cell itself."""

    cell: int
    value: int


@dataclass(frozen=True, slots=True)
class NumaCell:
    """Processors and memory that are near each other, as the guest sees them."""

    id: int | None = None
    cpus: CpuList | None = None
    memory: Bytes | None = None
    distances: tuple[NumaDistance, ...] = ()


@dataclass(frozen=True, slots=True)
class Enlightenment:
    """One paravirtual help for a guest: Hyper-V's ``relaxed``, KVM's ``hidden``."""

    family: str
    """``hyperv``, ``kvm`` or ``xen``."""
    name: str
    enabled: bool | None = None
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Features:
    """Traits of the platform that are on or off."""

    acpi: bool | None = None
    apic: bool | None = None
    pae: bool | None = None
    smm: bool | None = None
    """System management mode, without which secure boot on QEMU protects nothing."""
    nested: bool | None = None
    """Whether the guest can run virtual machines itself."""
    pmu: bool | None = None
    """Performance counters."""
    vmport: bool | None = None
    """QEMU's emulation of VMware's backdoor port."""
    enlightenments: tuple[Enlightenment, ...] = ()


# --- Clock and power ----------------------------------------------------------------------------


class ClockBase(StrEnum):
    """What the guest's hardware clock shows at start."""

    UTC = "utc"
    LOCALTIME = "localtime"
    TIMEZONE = "timezone"
    VARIABLE = "variable"
    ABSOLUTE = "absolute"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Timer:
    """One of the machine's timers: ``rtc``, ``pit``, ``hpet``, ``tsc``, ``hypervclock``, ..."""

    name: str
    present: bool | None = None
    tick_policy: str | None = None
    track: str | None = None
    frequency: int | None = None
    """Hertz."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The hardware clock."""

    base: ClockBase | None = None
    timezone: str | None = None
    offset: int | None = None
    """Seconds from `base`; for `ClockBase.VARIABLE` from UTC, as the guest left it."""
    timers: tuple[Timer, ...] = ()


class PowerAction(StrEnum):
    """What the hypervisor does when the guest's state changes."""

    DESTROY = "destroy"
    RESTART = "restart"
    PRESERVE = "preserve"
    RENAME_RESTART = "rename-restart"
    COREDUMP_DESTROY = "coredump-destroy"
    COREDUMP_RESTART = "coredump-restart"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Power:
    """Reactions to power events."""

    on_power_off: PowerAction | None = None
    on_reboot: PowerAction | None = None
    on_crash: PowerAction | None = None
    suspend_to_memory: bool | None = None
    suspend_to_disk: bool | None = None
    autostart: bool | None = None


# --- Boot order ---------------------------------------------------------------------------------


class BootDevice(StrEnum):
    """A class of devices to boot from."""

    DISK = "disk"
    CDROM = "cdrom"
    FLOPPY = "floppy"
    NETWORK = "network"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Boot:
    """How the firmware picks what to boot.

    `order` ranks classes of devices; single devices carry a `boot_order` of their own instead.
    """

    order: tuple[BootDevice, ...] = ()
    menu: bool | None = None
    delay_ms: int | None = None
    """How long the menu or the prompt waits, in milliseconds."""
    serial_console: bool | None = None
    """Whether the firmware talks on the serial port too."""


# --- Storage ------------------------------------------------------------------------------------


class ControllerKind(StrEnum):
    """What hangs on a controller."""

    IDE = "ide"
    SATA = "sata"
    SCSI = "scsi"
    NVME = "nvme"
    FLOPPY = "floppy"
    USB = "usb"
    PCI = "pci"
    VIRTIO_SERIAL = "virtio-serial"
    CCID = "ccid"
    OTHER = "other"


class ControllerModel(StrEnum):
    """The chip that the guest needs a driver for."""

    # SCSI
    BUSLOGIC = "buslogic"
    LSILOGIC = "lsilogic"  # LSI 53c1030, parallel SCSI; VMware's "lsilogic", VirtualBox's too
    LSI53C895A = "lsi53c895a"  # QEMU's plain "lsi": another chip, another driver
    LSISAS1068 = "lsisas1068"
    LSISAS1078 = "lsisas1078"
    PVSCSI = "pvscsi"
    VIRTIO_SCSI = "virtio-scsi"
    IBMVSCSI = "ibmvscsi"
    # IDE and SATA
    PIIX3 = "piix3"
    PIIX4 = "piix4"
    ICH6 = "ich6"
    AHCI = "ahci"
    # USB
    UHCI = "uhci"  # USB 1
    OHCI = "ohci"
    EHCI = "ehci"  # USB 2
    XHCI = "xhci"  # USB 3
    NO_USB = "none"
    # PCI
    PCI_ROOT = "pci-root"
    PCIE_ROOT = "pcie-root"
    PCI_BRIDGE = "pci-bridge"
    PCIE_ROOT_PORT = "pcie-root-port"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Controller:
    """Something that devices hang on."""

    kind: ControllerKind
    index: int | None = None
    """Its number among those of its kind."""
    model: ControllerModel | None = None
    ports: int | None = None
    vectors: int | None = None
    queues: int | None = None
    io_thread: int | None = None
    pci: PciAddress | None = None
    shared_bus: bool | None = None
    """Whether other machines may use its disks too."""


class DiskDevice(StrEnum):
    """What the guest takes it for."""

    DISK = "disk"
    CDROM = "cdrom"
    FLOPPY = "floppy"
    LUN = "lun"  # a SCSI device of the host, commands passed through
    OTHER = "other"


class DiskBus(StrEnum):
    """What it hangs on."""

    VIRTIO = "virtio"  # virtio-blk: a PCI device of its own
    SCSI = "scsi"
    SATA = "sata"
    IDE = "ide"
    NVME = "nvme"
    USB = "usb"
    FDC = "fdc"
    XEN = "xen"
    SD = "sd"
    OTHER = "other"


class DiskSourceKind(StrEnum):
    """Where the content of a disk lies."""

    FILE = "file"
    BLOCK = "block"  # a block device of the host
    NETWORK = "network"
    VOLUME = "volume"  # of a storage pool
    DIRECTORY = "directory"
    NVME = "nvme"  # an NVMe controller of the host, passed through
    VHOST_USER = "vhost-user"
    PASSTHROUGH = "passthrough"  # a drive of the host, such as its CD
    CLIENT = "client"  # a drive of whoever looks at the console
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class NetworkHost:
    """A server that a disk's content is fetched from."""

    name: str | None = None
    port: str | None = None
    transport: str | None = None


@dataclass(frozen=True, slots=True)
class DiskSource:
    """Where the content of a disk lies.  An empty drive has none."""

    kind: DiskSourceKind | None = None
    path: str | None = None
    """The file or the host's device, as the descriptor names it; never opened."""
    format: str | None = None
    """As the descriptor declares it: ``qcow2``, ``raw``, ``vmdk``."""
    pool: str | None = None
    volume: str | None = None
    protocol: str | None = None
    name: str | None = None
    """The name on the server: of an export, an image, a target."""
    hosts: tuple[NetworkHost, ...] = ()
    capacity: Bytes | None = None
    """The virtual size, where the descriptor states it (OVF)."""


@dataclass(frozen=True, slots=True)
class Backing:
    """A file under a disk that holds what the disk itself does not: the disk is a delta."""

    path: str | None = None
    format: str | None = None


@dataclass(frozen=True, slots=True)
class IoLimits:
    """How much a disk may do a second."""

    total_bytes: int | None = None
    read_bytes: int | None = None
    write_bytes: int | None = None
    total_operations: int | None = None
    read_operations: int | None = None
    write_operations: int | None = None


@dataclass(frozen=True, slots=True)
class Disk:
    """A hard disk, CD or floppy drive of the machine."""

    device: DiskDevice | None = None
    bus: DiskBus | None = None
    target: str | None = None
    """The name that the hypervisor suggests to the guest: ``vda``."""
    controller: int | None = None
    """Which controller of its bus."""
    channel: int | None = None
    """IDE's primary (0) or secondary (1), SCSI's bus."""
    scsi_target: int | None = None
    """The id on the bus, where a controller speaks of targets and LUNs."""
    unit: int | None = None
    """IDE's master (0) or slave (1), SATA's port, SCSI's LUN (VMware: its id), NVMe's namespace."""
    pci: PciAddress | None = None
    """Its own address, for virtio-blk."""
    source: DiskSource | None = None
    backing: tuple[Backing, ...] = ()
    snapshot_source: str | None = None
    boot_order: int | None = None
    """1 is first."""
    read_only: bool | None = None
    shareable: bool | None = None
    transient: bool | None = None
    """Changes are thrown away at power-off."""
    independent: bool | None = None
    """Snapshots leave it out."""
    connected: bool | None = None
    """Whether a removable medium is in the drive at start."""
    tray_open: bool | None = None
    serial: str | None = None
    wwn: str | None = None
    """World-wide name: 16 hexadecimal digits."""
    vendor: str | None = None
    product: str | None = None
    removable: bool | None = None
    rotation_rate: int | None = None
    """Revolutions a minute; 1 is a solid-state disk."""
    cache: str | None = None
    io: str | None = None
    discard: str | None = None
    detect_zeroes: str | None = None
    error_policy: str | None = None
    queues: int | None = None
    io_thread: int | None = None
    logical_block: Bytes | None = None
    physical_block: Bytes | None = None
    limits: IoLimits | None = None
    encryption: str | None = None
    """``luks`` or ``qcow``: what the content is encrypted with.  No key is ever read."""


# --- Network ------------------------------------------------------------------------------------


class NicModel(StrEnum):
    """The network chip that the guest needs a driver for."""

    VIRTIO = "virtio"
    E1000 = "e1000"
    E1000E = "e1000e"
    IGB = "igb"
    RTL8139 = "rtl8139"
    PCNET = "pcnet"
    NE2K_PCI = "ne2k_pci"
    VMXNET = "vmxnet"
    VMXNET2 = "vmxnet2"
    VMXNET3 = "vmxnet3"
    NETFRONT = "netfront"
    OTHER = "other"


class NicSourceKind(StrEnum):
    """What the other end of the cable is."""

    NETWORK = "network"  # a network that the hypervisor manages, by name
    BRIDGE = "bridge"  # a bridge of the host, by name
    NAT = "nat"  # shared with the host, behind its address
    HOST_ONLY = "host-only"
    DIRECT = "direct"  # on an interface of the host (macvtap, VMware's plain "bridged")
    INTERNAL = "internal"  # between machines only
    ETHERNET = "ethernet"  # a tap device that somebody else set up
    HOSTDEV = "hostdev"  # a network card of the host
    VHOST_USER = "vhost-user"
    TUNNEL = "tunnel"  # to another emulator over a socket
    NONE = "none"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class NicSource:
    """What a network card is connected to."""

    kind: NicSourceKind | None = None
    network: str | None = None
    """Name of the network."""
    portgroup: str | None = None
    bridge: str | None = None
    device: str | None = None
    """The host's interface."""
    mode: str | None = None
    """macvtap's ``bridge``, ``vepa``, ``private``, ``passthrough``."""
    vlan: int | None = None


class MacKind(StrEnum):
    """Who chose the address."""

    STATIC = "static"
    GENERATED = "generated"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Shaping in one direction; rates in kilobytes a second, `burst` in kilobytes."""

    average: Kilobytes | None = None
    peak: Kilobytes | None = None
    burst: Kilobytes | None = None
    floor: Kilobytes | None = None


@dataclass(frozen=True, slots=True)
class Nic:
    """One network card of a machine, as a hypervisor presents it."""

    model: NicModel | None = None
    mac: MacAddress | None = None
    mac_kind: MacKind | None = None
    source: NicSource | None = None
    connected: bool | None = None
    """Whether the cable is plugged in."""
    boot_order: int | None = None
    rom: bool | None = None
    """Whether its boot ROM is on."""
    mtu: int | None = None
    queues: int | None = None
    driver: str | None = None
    """``vhost`` or ``qemu``: what moves the packets on the host."""
    filter: str | None = None
    isolated: bool | None = None
    inbound: Bandwidth | None = None
    outbound: Bandwidth | None = None
    host_name: str | None = None
    """What the host calls its end: ``vnet0``."""
    pci: PciAddress | None = None


# --- Console, ports and the rest ----------------------------------------------------------------


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


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A named earlier state of the machine."""

    id: str | None = None
    name: str | None = None
    description: str | None = None
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """A virtual machine: everything that a descriptor says of it."""

    name: str | None = None
    title: str | None = None
    annotation: str | None = None
    """Free text for people."""
    uuid: UUID | None = None
    genid: GenerationId | None = None
    guest_os: GuestOs | None = None
    accelerator: Accelerator | None = None
    virtualization: Virtualization | None = None
    architecture: Architecture | None = None
    chipset: Chipset | None = None
    machine_type: str | None = None
    """The board with its version, in the hypervisor's own words: ``pc-q35-7.2``."""
    hardware_version: int | None = None
    """VMware's ``virtualHW.version``, or the number in OVF's ``vmx-19``."""
    smbios: tuple[SmbiosValue, ...] = ()
    smbios_mode: str | None = None
    """Where those strings come from: ``emulate``, ``host``, ``sysinfo``."""
    firmware: Firmware | None = None
    boot: Boot | None = None
    tpm: Tpm | None = None
    cpu: Cpu | None = None
    memory: Memory | None = None
    memory_modules: tuple[MemoryModule, ...] = ()
    numa: tuple[NumaCell, ...] = ()
    io_threads: int | None = None
    features: Features | None = None
    clock: Clock | None = None
    power: Power | None = None
    controllers: tuple[Controller, ...] = ()
    disks: tuple[Disk, ...] = ()
    """Hard disks, CD and floppy drives, in the order of the descriptor."""
    nics: tuple[Nic, ...] = ()
    graphics: tuple[Graphics, ...] = ()
    videos: tuple[Video, ...] = ()
    serials: tuple[Port, ...] = ()
    parallels: tuple[Port, ...] = ()
    consoles: tuple[Port, ...] = ()
    channels: tuple[Port, ...] = ()
    sounds: tuple[Sound, ...] = ()
    inputs: tuple[Input, ...] = ()
    rngs: tuple[Rng, ...] = ()
    watchdogs: tuple[Watchdog, ...] = ()
    balloon: Balloon | None = None
    panics: tuple[Panic, ...] = ()
    vsock: Vsock | None = None
    iommu: Iommu | None = None
    host_devices: tuple[HostDevice, ...] = ()
    shared_folders: tuple[SharedFolder, ...] = ()
    usb_redirections: tuple[UsbRedirection, ...] = ()
    smart_cards: tuple[SmartCard, ...] = ()
    snapshots: tuple[Snapshot, ...] = ()
