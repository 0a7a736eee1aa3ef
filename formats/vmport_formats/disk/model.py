"""What a disk image is, whatever its format: the models that every storey above speaks in."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vmport_formats.references import Reference
    from vmport_formats.units import Bytes


class DiskFormat(StrEnum):
    """A disk format; the value is qemu's name for it, which is what scripts know."""

    RAW = "raw"
    QCOW2 = "qcow2"
    VMDK = "vmdk"
    VHD = "vpc"
    VHDX = "vhdx"
    VDI = "vdi"
    QED = "qed"
    PARALLELS = "parallels"
    DMG = "dmg"
    CLOOP = "cloop"
    BOCHS = "bochs"

    @property
    def label(self) -> str:
        """The name that people use: ``VHD`` rather than ``vpc``."""
        return _LABELS.get(self, self.value.upper())


_LABELS = {
    DiskFormat.RAW: "raw",
    DiskFormat.QCOW2: "qcow2",
    DiskFormat.VHD: "VHD",
    DiskFormat.PARALLELS: "Parallels",
    DiskFormat.CLOOP: "cloop",
    DiskFormat.BOCHS: "Bochs",
}


@dataclass(frozen=True, slots=True)
class Concern:
    """Something about an image that makes it unsafe to hand to a program that trusts it."""

    code: str
    """Stable and dotted, such as ``qcow2.backing-file``."""
    text: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An internal snapshot."""

    id: str
    name: str
    vm_state_size: Bytes
    created: int
    """Seconds since 1970-01-01 UTC."""


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """The metadata of one image file.  Reading it opened nothing but that file."""

    format: DiskFormat
    variant: str
    """Which kind of the format, in its own words: ``v3``, ``streamOptimized``, ``dynamic``."""
    virtual_size: Bytes
    file_size: Bytes
    cluster_size: Bytes | None = None
    """Unit of allocation (cluster, grain, block); None where there is none."""
    references: tuple[Reference, ...] = ()
    """Every other file that this one names."""
    encrypted: bool = False
    dirty: bool = False
    """It was not closed cleanly: a log to replay, or a dirty bit."""
    corrupt: bool = False
    """The image itself says that it is corrupt."""
    snapshots: tuple[Snapshot, ...] = ()
    concerns: tuple[Concern, ...] = ()
    """What the format's own safety check found; see `safety` for the verdict."""
    details: Mapping[str, object] = field(default_factory=dict)
    """Fields that only this format has, JSON-ready, by their names in its specification."""
