"""The words of OVF: resource types, the subtypes that hypervisors put in them, and URIs.

Sources: CIM_ResourceAllocationSettingData.ResourceType (2.22), and what VMware's and VirtualBox's
own exports say; the numbers above 33 are those products' own.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from vmport_formats.machine.model import ControllerKind, ControllerModel, NicModel, SoundModel

if TYPE_CHECKING:
    from collections.abc import Mapping


class ResourceType(IntEnum):
    """What an item is."""

    OTHER = 1
    CPU = 3
    MEMORY = 4
    IDE = 5
    SCSI = 6
    NIC = 10
    FLOPPY = 14
    CD = 15
    DVD = 16
    DISK = 17
    STORAGE = 20
    """Any other storage controller: SATA, NVMe."""
    SERIAL = 21
    PARALLEL = 22
    USB = 23
    GRAPHICS = 24
    TPM = 34
    """VMware's; a reader that does not know it passes it over."""
    SOUND = 35
    """VirtualBox's; VMware has its sound cards among the others."""
    NVRAM = 32768
    """VirtualBox's, from 7.0."""


CONTROLLER_TYPES: Final[Mapping[ControllerKind, ResourceType]] = {
    ControllerKind.IDE: ResourceType.IDE,
    ControllerKind.SCSI: ResourceType.SCSI,
    ControllerKind.SATA: ResourceType.STORAGE,
    ControllerKind.NVME: ResourceType.STORAGE,
}

STORAGE: Final = (*CONTROLLER_TYPES, ControllerKind.FLOPPY)
"""The kinds of controllers that drives hang on."""

CONTROLLER_NAMES: Final[Mapping[ControllerKind, str]] = {
    ControllerKind.IDE: "IDE controller",
    ControllerKind.SCSI: "SCSI controller",
    ControllerKind.SATA: "SATA controller",
    ControllerKind.NVME: "NVMe controller",
}

SCSI_SUBTYPES: Final[Mapping[ControllerModel, str]] = {
    ControllerModel.BUSLOGIC: "buslogic",
    ControllerModel.LSILOGIC: "lsilogic",
    ControllerModel.LSISAS1068: "lsilogicsas",
    ControllerModel.PVSCSI: "VirtualSCSI",
}
SATA_SUBTYPE: Final = "vmware.sata.ahci"
"""VirtualBox writes ``AHCI``, and reads both."""
NVME_SUBTYPE: Final = "vmware.nvme.controller"

NIC_SUBTYPES: Final[Mapping[NicModel, str]] = {
    NicModel.PCNET: "PCNet32",
    NicModel.VMXNET: "Vmxnet",
    NicModel.VMXNET2: "VmxNet2",
    NicModel.VMXNET3: "VmxNet3",
    NicModel.E1000: "E1000",
    NicModel.E1000E: "E1000e",
}

SOUND_SUBTYPES: Final[Mapping[SoundModel, str]] = {
    SoundModel.HDA: "vmware.soundcard.hdaudio",
    SoundModel.ES1370: "vmware.soundcard.ensoniq1371",
    SoundModel.SB16: "vmware.soundcard.sb16",
}

USB2_SUBTYPE: Final = "vmware.usb.ehci"
USB3_SUBTYPE: Final = "vmware.usb.xhci"
CD_SUBTYPE: Final = "vmware.cdrom.remotepassthrough"
"""A drive that is empty until somebody puts a medium in."""
FLOPPY_SUBTYPE: Final = "vmware.floppy.remotedevice"
SERIAL_SUBTYPE: Final = "vmware.serialport.device"
PARALLEL_SUBTYPE: Final = "vmware.parallelport.device"
TPM_SUBTYPE: Final = "vmware.vtpm"
VMCI_SUBTYPE: Final = "vmware.vmci"

MEBIBYTE: Final = "byte * 2^20"
"""The unit of memory; written just so, since some readers compare the text."""

STREAM_OPTIMIZED: Final = (
    "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
)
"""The format of a disk that a package carries: compressed, to be read once from front to back."""
