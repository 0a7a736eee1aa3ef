"""Raw: the bytes of the disk itself, with no header.  Nothing marks it; anything can be read so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.disk.layer import Found, Run
from vmport_formats.disk.model import DiskFormat, ImageInfo
from vmport_formats.disk.partition_tables import look
from vmport_formats.units import SECTOR, Bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.layer import Opener
    from vmport_formats.source import ByteSource

_CONTENT: Final = (
    (0, b"LUKS\xba\xbe", "LUKS-encrypted disk"),
    (0, b"\x1f\x8b\x08", "gzip data"),
    (0, b"\xfd7zXZ\0", "xz data"),
    (0, b"\x28\xb5\x2f\xfd", "zstd data"),
    (0, b"BZh", "bzip2 data"),
    (0, b"PK\3\4", "ZIP archive"),
    (257, b"ustar", "tar archive"),
    (0, b"hsqs", "squashfs"),
    (0, b"XFSB", "XFS"),
    (3, b"NTFS    ", "NTFS"),
    (3, b"EXFAT   ", "exFAT"),
    (82, b"FAT32   ", "FAT"),
    (54, b"FAT1", "FAT"),
    (1080, b"\x53\xef", "ext2, ext3 or ext4"),
    (32769, b"CD001", "ISO 9660"),
    (65600, b"_BHRfS_M", "Btrfs"),
)
"""Offset, mark, what it is: to tell a reader what is in the disk, not to decide anything."""


def matches(source: ByteSource) -> bool:
    """Whether the content can be read as raw: always.  Callers ask every other format first."""
    return True


def read_info(source: ByteSource) -> ImageInfo:
    """The length of the file, rounded up to whole sectors as qemu does, as the disk's size.

    `details` names the ``content`` and the ``partition-table`` where they are plain to see;
    `concerns` says what is odd about the latter.
    """
    table = look(source)
    details: dict[str, object] = {}
    if table.kind is not None:
        details["partition-table"] = table.kind
    elif content := _content(source):
        details["content"] = content
    return ImageInfo(
        DiskFormat.RAW,
        variant="raw",
        virtual_size=Bytes(-(-source.size // SECTOR) * SECTOR),
        file_size=Bytes(source.size),
        concerns=table.concerns,
        details=details,
    )


class RawLayer:
    """The bytes of a file as those of a disk, filled up with zeros to whole sectors."""

    def __init__(self, source: ByteSource) -> None:
        self.info = read_info(source)
        self.size = int(self.info.virtual_size)
        self._source = source

    def runs(self, offset: int, length: int) -> Iterator[Run]:
        """See `layer.Layer.runs`."""
        yield Run(length, Found.STORED, self._source, offset)


def open_layer(source: ByteSource, opener: Opener) -> RawLayer:
    """The content of a raw image."""
    return RawLayer(source)


def _content(source: ByteSource) -> str | None:
    for offset, mark, what in _CONTENT:
        if source.read_at(offset, len(mark)) == mark:
            return what
    return None
