"""What is damaged: a small image, with where its headers and tables are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fixtures.disks.image_file import ImageFile
    from vmport_formats.disk.model import DiskFormat

Order = Literal["little", "big"]
SECTOR: Final = 512


@dataclass(frozen=True)
class Region:
    """A header or table: numbers of `width` bytes in a row."""

    at: int
    length: int
    width: int
    order: Order
    table: bool = False
    """Whether its numbers are all of one kind, so that they can be exchanged."""


@dataclass(frozen=True)
class Subject:
    """A sound image."""

    name: str
    format: DiskFormat
    data: bytes
    regions: tuple[Region, ...]
    seal: Callable[[bytearray, bytes], None] | None = None
    """Makes the checksums right again of what differs from the sound image."""
    text: tuple[int, int] | None = None
    """Start and end of what is text in it."""
    files: Mapping[str, bytes] | None = None
    """The extents that it names, and what it rests on, by the names that it has for them."""
    parents: bool = False
    """Whether what it rests on is granted; extents always are."""
    front: bytes | None = None
    """What is opened instead, and names the damaged one: by the name `inner`."""
    inner: str = ""
    snapshot: str | None = None
    """The internal snapshot that is read, and not its present."""
    locked: bool = False
    """Whether it takes `luks.PASSPHRASE`."""


def in_bytes(file: ImageFile) -> bytes:
    return file.read_at(0, file.size)


def number_at(data: bytes, at: int, width: int, order: Order) -> int:
    return int.from_bytes(data[at : at + width], order)


def table_of(entries: Iterable[int], width: int, order: Order) -> tuple[Region, ...]:
    """The tables that entries at these offsets make up."""
    found: list[Region] = []
    for at in sorted(entries):
        last = found[-1] if found else None
        if last is not None and last.at + last.length == at:
            found[-1] = Region(last.at, last.length + width, width, order, table=True)
        else:
            found.append(Region(at, width, width, order, table=True))
    return tuple(found)
