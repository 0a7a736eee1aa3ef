"""16 bytes for the ids that VMDK, VHD, VHDX and VDI have, of which no two disks may share one.

The same conversion gives the same ones, in whatever folder, so they follow from what there is: the
destination's name, format and size, the source's name and its own ids, and the start of the disk
and of each partition.  There, file systems keep ids, and the times at which they were mounted:
clones of one machine differ in these as soon as they have run.
"""

from __future__ import annotations

from pathlib import Path
from struct import Struct, unpack_from
from typing import TYPE_CHECKING, Final

from blake3 import blake3

from vmport_formats.disk.model import DiskFormat
from vmport_formats.units import KIB, SECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vmport_converters.disk.plan import Conversion
    from vmport_formats.disk.image import DiskImage
    from vmport_formats.disk.model import ImageInfo

_LABEL: Final = 64 * KIB
"""Bytes of a disk from its start: boot sector, partition tables, their ids."""
_SAMPLE: Final = 4 * KIB
"""Bytes of a partition from its start: where XFS, ext4, NTFS and FAT describe themselves."""
_MOST: Final = 32
"""Partitions that are looked at."""
_OWN: Final[Mapping[DiskFormat, tuple[str, ...]]] = {
    DiskFormat.VDI: ("uuid-create",),
    DiskFormat.VHD: ("unique-id",),
    DiskFormat.VHDX: ("virtual-disk-id", "data-write-guid"),
    DiskFormat.VMDK: ("cid", "ddb"),
}
"""Details of an image that tell it from others."""

_MBR_ENTRY = Struct("<8xI4x")  # the first sector
_GPT_ENTRY = Struct("<16s16xQ")  # the type, all zeros where there is none, and the first sector


def identity_of(plan: Conversion, name: str, disk: DiskImage) -> bytes:
    """Of the file `name` that `plan` makes of `disk`.

    Raises:
        InputError: the disk cannot be read.
    """
    source = plan.source
    facts = (
        *(name, str(plan.target), str(plan.virtual_size)),
        *(Path(source.name).stem, source.snapshot or ""),
        *(own for info in source.infos for own in _own_ids(info)),
    )
    digest = blake3("\0".join(facts).encode(errors="surrogateescape"))
    label = disk.read(0, _LABEL)
    digest.update(label)
    for start in sorted(set(_partitions(label)))[:_MOST]:
        if _LABEL <= start < disk.virtual_size:
            digest.update(disk.read(start, _SAMPLE))
    return digest.digest()[:16]


def _own_ids(info: ImageInfo) -> Iterator[str]:
    for key in _OWN.get(info.format, ()):
        if value := info.details.get(key):
            yield f"{key}={value}"


def _partitions(label: bytes) -> Iterator[int]:
    """Where partitions begin, as the tables in the first bytes of a disk say, true or not."""
    label = label.ljust(_LABEL, b"\0")
    for (start,) in _MBR_ENTRY.iter_unpack(label[446:510]):
        yield start * SECTOR
    for sector in (SECTOR, 4 * KIB):
        if label[sector : sector + 8] != b"EFI PART":
            continue
        table, _, length = unpack_from("<QII", label, sector + 72)
        if length < _GPT_ENTRY.size:
            continue
        for at in range(table * sector, _LABEL - _GPT_ENTRY.size, length):
            kind, start = _GPT_ENTRY.unpack_from(label, at)
            if any(kind):
                yield start * sector
