"""What VMware's virtual hardware offers from which version on, in the words of a finding.

The facts are those by which vmport writes VMX and OVF: `vmport_formats.machine.vmware`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vmport_formats.machine.model import ControllerKind, ControllerModel, NicModel
from vmport_formats.machine.vmware import (
    CONTROLLER_HARDWARE,
    HARDWARE,
    NIC_HARDWARE,
    RESERVED_SCSI_UNIT,
    ROOM,
    SCSI_HARDWARE,
    SECURE_BOOT_HARDWARE,
    TPM_HARDWARE,
    UEFI_HARDWARE,
    USB3_HARDWARE,
    limits,
    max_nics,
)
from vmport_formats.machine.vmware import HOSTED_HARDWARE as HOSTED_ONLY
from vmport_formats.machine.vmware import NEWEST_HARDWARE as NEWEST
from vmport_formats.machine.vmware import max_units as _max_units

__all__ = [
    "E1000E",
    "HARDWARE",
    "HOSTED_ONLY",
    "MAX_CONTROLLERS",
    "NEWEST",
    "NVME",
    "PVSCSI",
    "RESERVED_SCSI_UNIT",
    "SAS",
    "SATA",
    "SECURE_BOOT",
    "TPM",
    "UEFI",
    "VMXNET3",
    "XHCI",
    "Feature",
    "limits",
    "max_nics",
    "max_units",
]


@dataclass(frozen=True, slots=True)
class Feature:
    """Something that needs a version of the virtual hardware."""

    label: str
    since: int


UEFI: Final = Feature("UEFI firmware", UEFI_HARDWARE)
SECURE_BOOT: Final = Feature("UEFI secure boot", SECURE_BOOT_HARDWARE)
TPM: Final = Feature("a virtual TPM", TPM_HARDWARE)
SATA: Final = Feature("a SATA controller", CONTROLLER_HARDWARE[ControllerKind.SATA])
NVME: Final = Feature("an NVMe controller", CONTROLLER_HARDWARE[ControllerKind.NVME])
PVSCSI: Final = Feature("a PVSCSI controller", SCSI_HARDWARE[ControllerModel.PVSCSI])
SAS: Final = Feature("an LSI Logic SAS controller", SCSI_HARDWARE[ControllerModel.LSISAS1068])
VMXNET3: Final = Feature("a vmxnet3 card", NIC_HARDWARE[NicModel.VMXNET3])
E1000E: Final = Feature("an e1000e card", NIC_HARDWARE[NicModel.E1000E])
XHCI: Final = Feature("a USB 3 controller", USB3_HARDWARE)

MAX_CONTROLLERS: Final = {
    str(kind): ROOM[kind].controllers
    for kind in (
        ControllerKind.SCSI,
        ControllerKind.SATA,
        ControllerKind.NVME,
        ControllerKind.IDE,
    )
}


def max_units(bus: str, model: str | None, hardware: int | None) -> int:
    """How many units a controller has; the highest number that is right for any, when in doubt.

    `bus` is ``scsi``, ``sata``, ``nvme`` or ``ide``; `model` the SCSI model as VMX writes it.
    """
    chip = ControllerModel.PVSCSI if model == "pvscsi" else None
    return _max_units(ControllerKind(bus), chip, hardware)
