"""What starts a machine: BIOS or UEFI with its NVRAM, and the TPM."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
