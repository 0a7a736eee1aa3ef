"""What a disk image is, whatever its format: the models that every storey above speaks in.

They are `NamedTuple`s, as the records of the formats are: the import of `dataclasses` alone takes
as long as it takes to read a hundred images.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.references import Reference, ReferenceKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vmport_formats.units import Bytes


class DiskFormat(StrEnum):
    """A disk format; the value is qemu's name for it, which is what scripts know."""

    RAW = "raw"
    QCOW = "qcow"
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
    LUKS = "luks"

    @property
    def label(self) -> str:
        """The name that people use: ``VHD`` rather than ``vpc``."""
        return _LABELS.get(self, self.value.upper())

    @property
    def code(self) -> str:
        """The first part of its error and concern codes: ``vhd`` in ``vhd.footer-checksum``."""
        return self.label.lower()

    @classmethod
    def named(cls, name: str) -> DiskFormat:
        """The format that is called `name`, by qemu's name for it or by people's.

        Raises:
            ValueError: no format is called so.
        """
        for item in cls:
            if name.lower() in {item.value, item.code}:
                return item
        raise ValueError(name)


_LABELS = {
    DiskFormat.RAW: "raw",
    DiskFormat.QCOW: "qcow",
    DiskFormat.QCOW2: "qcow2",
    DiskFormat.VHD: "VHD",
    DiskFormat.PARALLELS: "Parallels",
    DiskFormat.CLOOP: "cloop",
    DiskFormat.BOCHS: "Bochs",
}


class Concern(NamedTuple):
    """Something about an image that makes it unsafe to hand to a program that trusts it."""

    code: str
    """Stable and dotted, such as ``qcow2.backing-file``."""
    text: str


class Snapshot(NamedTuple):
    """An internal snapshot."""

    id: str
    name: str
    vm_state_size: Bytes
    """Length of the saved memory; 0 for a snapshot of the disk alone."""
    created: int
    """Seconds since 1970-01-01 UTC."""
    created_nanoseconds: int = 0
    """What to add to `created`."""
    vm_clock: int = 0
    """How long the guest had been running, in nanoseconds."""
    virtual_size: Bytes | None = None
    """Length of the disk at that time; None where the format does not keep it."""


_NO_DETAILS: Final[Mapping[str, object]] = {}


class ImageInfo(NamedTuple):
    """The metadata of one image file.  Reading it opened nothing but that file."""

    format: DiskFormat
    variant: str
    """Which kind of the format, in its own words: ``v3``, ``streamOptimized``, ``dynamic``."""
    virtual_size: Bytes
    """Length of the disk that a guest sees; 0 to 2^63-1."""
    file_size: Bytes
    """Length of the image file itself, `ByteSource.size`."""
    cluster_size: Bytes | None = None
    """Unit of allocation (cluster, grain, block); None where there is none."""
    references: tuple[Reference, ...] = ()
    """Every other file that this one names, as written in it; never the file itself (so not the
    one extent of a monolithicSparse VMDK).  `safety.assess` turns each into a reason."""
    encrypted: bool = False
    dirty: bool = False
    """It was not closed cleanly: a log to replay, or a dirty bit."""
    corrupt: bool = False
    """The image itself says that it is corrupt."""
    snapshots: tuple[Snapshot, ...] = ()
    concerns: tuple[Concern, ...] = ()
    """What the format's own safety check found, beyond the fields above; `safety.assess` adds
    what follows from those (references, dirty, corrupt) and gives the verdict."""
    details: Mapping[str, object] = _NO_DETAILS
    """Fields that only this format has, JSON-ready: kebab-case, by the names that qemu-img gives
    them in ``format-specific`` where it has them, else by those of the specification."""

    @property
    def backing(self) -> Reference | None:
        """The image that this one overlays (a backing file or a parent), if it names one."""
        kinds = (ReferenceKind.BACKING, ReferenceKind.PARENT)
        return next((item for item in self.references if item.kind in kinds), None)
