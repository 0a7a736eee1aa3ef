"""Writes the text that describes a VMDK, and decides what it says of the disk.

Sources: VMware, "Virtual Disk Format 5.0", section "The Descriptor File", for its lines; BusLogic's
and VMware's own disks for the geometry; qemu-img for the names of the options.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple
from zlib import crc32

from vmport_formats.disk.vmdk.descriptor import NO_PARENT
from vmport_formats.units import GIB, SECTOR, Sectors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LONGEST_NAME: Final = 255
"""Bytes of the name of a file."""
_NAME: Final = re.compile(r'[^\x00-\x1f\x7f"/\\]+')
_SAME_NAME: Final = "disk.vmdk"
_LAST_CID: Final = 0xFFFF_FFFD  # the two above it stand for no parent, and for no content yet
_UNMANAGED_TOOLS: Final = 0x7FFF_FFFF


class AdapterType(StrEnum):
    """The controller that a disk is made for; ``lsilogic`` is any SCSI one, PVSCSI too."""

    IDE = "ide"
    LSILOGIC = "lsilogic"
    BUSLOGIC = "buslogic"
    LEGACY_ESX = "legacyESX"


class Geometry(NamedTuple):
    """Cylinders, heads and sectors, as the guest's BIOS is told."""

    cylinders: int
    heads: int
    sectors: int


_IDE: Final = (16, 63)
_IDE_CYLINDERS: Final = 16383
"""What an IDE disk of 8 GB or more states, as ATA says."""
_SCSI: Final = ((1 * GIB, (64, 32)), (2 * GIB, (128, 32)))
_LARGE_SCSI: Final = (255, 63)


def geometry(adapter: AdapterType, sectors: Sectors) -> Geometry:
    """The geometry that VMware gives to a disk of `sectors` at this adapter.

    A SCSI disk has BusLogic's: one with fewer heads below 1 GiB and below 2 GiB.
    """
    if adapter is AdapterType.IDE:
        heads, track = _IDE
        return Geometry(min(_IDE_CYLINDERS, max(1, sectors // (heads * track))), heads, track)
    size = sectors * SECTOR
    heads, track = next((shape for end, shape in _SCSI if size < end), _LARGE_SCSI)
    return Geometry(max(1, sectors // (heads * track)), heads, track)


@dataclass(frozen=True, slots=True)
class Description:
    """What is said of a disk; the first five by qemu-img's names for its options."""

    adapter_type: str = AdapterType.IDE
    """One of `AdapterType`."""
    hwversion: int | None = None
    """Version of the virtual hardware, for ESX 3 and older.  None is 4, or 6 by `compat6`."""
    toolsversion: int = _UNMANAGED_TOOLS
    """Version of the VMware tools in the guest; by default "not managed by VMware"."""
    compat6: bool = False
    """For virtual hardware version 6."""
    zeroed_grain: bool = False
    """Whether whoever writes to the disk later may mark grains as zeros."""
    name: str = _SAME_NAME
    """Of the file, for it says it of itself, and some readers look for that.  See `plain_name`."""
    cid: int | None = None
    """The content's id.  None: one that is derived from the name and the size."""
    whole_grains: bool = False
    """Whether the disk's size is rounded up to a grain, as VMware's document advises."""

    def __post_init__(self) -> None:
        """Raises ValueError for a value that cannot be written."""
        adapters = [item.value for item in AdapterType]
        if self.adapter_type not in adapters:
            raise ValueError(f"adapter_type is one of {', '.join(adapters)}")
        if self.compat6 and self.hwversion is not None:
            raise ValueError("compat6 sets the hwversion; give one of them")
        if self.hwversion is not None and not 1 <= self.hwversion <= 99:
            raise ValueError("hwversion is 1 to 99")
        if not 0 <= self.toolsversion < 1 << 31:
            raise ValueError("toolsversion is 0 to 2147483647")
        if self.cid is not None and not 0 <= self.cid <= _LAST_CID:
            raise ValueError(f"cid is 0 to {_LAST_CID}")
        if plain_name(self.name) != self.name:
            raise ValueError(
                f"name is at most {_LONGEST_NAME} bytes, with no control character in it, "
                "nor a quote or slash"
            )

    def text(self, create_type: str, sectors: Sectors) -> bytes:
        """The descriptor of a disk of `sectors` that is all in one sparse file."""
        adapter = AdapterType(self.adapter_type)
        shape = geometry(adapter, sectors)
        cid = self.cid
        if cid is None:
            cid = crc32(f"{sectors} {self.name}".encode()) % (_LAST_CID + 1)
        version = self.hwversion or (6 if self.compat6 else 4)
        return descriptor_text(
            create_type,
            [f'RW {sectors} SPARSE "{self.name}"'],
            cid=cid,
            database={
                "virtualHWVersion": version,
                "geometry.cylinders": shape.cylinders,
                "geometry.heads": shape.heads,
                "geometry.sectors": shape.sectors,
                "adapterType": adapter.value,
                "toolsVersion": self.toolsversion,
            },
        ).encode()


def plain_name(name: str) -> str:
    """`name` where a descriptor can have it between quotes; else one that stands for any."""
    try:
        length = len(name.encode())
    except UnicodeEncodeError:  # it has bytes that are no text
        return _SAME_NAME
    return name if length <= _LONGEST_NAME and _NAME.fullmatch(name) else _SAME_NAME


def descriptor_text(
    create_type: str,
    extents: Iterable[str],
    *,
    cid: int,
    parent_cid: int = NO_PARENT,
    database: Mapping[str, object] | None = None,
) -> str:
    """A descriptor with these lines of `extents`; the keys of `database` lack their ``ddb.``.

    There is no blank line before an extent's, for qemu counts one after a blank line twice.
    """
    lines = [
        "# Disk DescriptorFile",
        "version=1",
        'encoding="UTF-8"',
        f"CID={cid:08x}",
        f"parentCID={parent_cid:08x}",
        f'createType="{create_type}"',
        "",
        "# Extent description",
        *extents,
    ]
    if database:
        lines += ["", "# The Disk Data Base", "#DDB", ""]
        lines += [f'ddb.{key} = "{value}"' for key, value in database.items()]
    return "\n".join(lines) + "\n"
