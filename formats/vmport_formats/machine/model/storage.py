"""Controllers and drives, and what the drives hold."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vmport_formats.machine.model.units import PciAddress
    from vmport_formats.units import Bytes


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
