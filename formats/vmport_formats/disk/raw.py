"""Raw: the bytes of the disk itself, with no header.  Nothing marks it; anything can be read so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmport_formats.disk.model import DiskFormat, ImageInfo
from vmport_formats.units import SECTOR, Bytes

if TYPE_CHECKING:
    from vmport_formats.source import ByteSource


def matches(source: ByteSource) -> bool:
    """Whether the content can be read as raw: always.  Callers ask every other format first."""
    return True


def read_info(source: ByteSource) -> ImageInfo:
    """The length of the file, rounded up to whole sectors as qemu does, as the disk's size."""
    return ImageInfo(
        DiskFormat.RAW,
        variant="raw",
        virtual_size=Bytes(-(-source.size // SECTOR) * SECTOR),
        file_size=Bytes(source.size),
    )
