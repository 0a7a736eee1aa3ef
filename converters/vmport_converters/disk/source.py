"""The disk that is to be converted: opened by our own readers, with all that it rests on."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from vmport_converters.disk.stamps import Stamps
from vmport_converters.disk.supported import check_sound
from vmport_formats.disk.granted import granted
from vmport_formats.disk.image import open_image
from vmport_formats.disk.layer import holds_data, placed
from vmport_formats.errors import UnreadableInput, UnsafeInput
from vmport_formats.references import ReferenceKind
from vmport_formats.units import KIB, SECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from vmport_converters.disk.base import Base
    from vmport_formats.disk.image import DiskImage
    from vmport_formats.disk.model import DiskFormat, ImageInfo
    from vmport_formats.references import Reference, Resolver


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a disk before its content is read: all that a plan depends on."""

    name: str
    """The image's path, as the user gave it."""
    infos: tuple[ImageInfo, ...]
    """Of the image, then of those that it rests on, each on the next."""
    virtual_size: int
    """Bytes."""
    data: int | None = None
    """Bytes that hold data, as far as the map tells; None: it was not walked for that."""
    snapshot: str | None = None
    """The internal snapshot that is read instead of the present."""
    has_gpt: bool = False
    """It is partitioned with a GPT, which has a second table at the end of the disk."""

    @property
    def top(self) -> ImageInfo:
        """The metadata of the image that was named."""
        return self.infos[0]


@dataclass(frozen=True, slots=True)
class Source:
    """An open disk."""

    facts: Facts
    disk: DiskImage
    stamps: Stamps
    """Of all files that are read, those of `base` included."""
    base: Base | None = None
    """What the destination will rest on."""


@contextmanager
def open_disk(
    name: str,
    *,
    declared: DiskFormat | None = None,
    allow: Sequence[str] = (),
    snapshot: str | None = None,
    passphrase: bytes | None = None,
    measured: bool = False,
) -> Iterator[Source]:
    """Open the image `name`; what it names is opened only in the folders `allow`.

    `measured`: walk the map, to know how much data there is.

    Raises:
        InputError: as `vmport_formats.disk.image.open_image`; or a running machine writes to it.
        UnsafeInput: it names files that were not granted, or programs disagree on what it holds.
    """
    stamps = Stamps()
    stamps.remember(name)
    with open_image(
        name,
        _only_files(stamps.noting(granted(allow))),
        declared=declared,
        snapshot=snapshot,
        passphrase=passphrase,
    ) as disk:
        stamps.check_unused()
        for info in disk.chain:
            check_sound(name, info)
        data = data_size(disk) if measured else None
        facts = Facts(name, disk.chain, disk.virtual_size, data, snapshot, _has_gpt(disk))
        yield Source(facts, disk, stamps)


def _has_gpt(disk: DiskImage) -> bool:
    """Whether there is one, with sectors of 512 bytes or 4 KiB.

    Raises:
        InputError: there the disk cannot be read.
    """
    return any(
        disk.read(sector, 8) == b"EFI PART"
        for sector in (SECTOR, 4 * KIB)
        if sector + 8 <= disk.virtual_size
    )


_SCHEME: Final = re.compile(r"[^:/\\]{2,}:")
"""What makes of a name, for qemu, something else than a file: ``nbd:``, ``json:``, ``fat:``."""

# A parent is looked for: in the names of one, a colon may follow a drive.
_LITERAL: Final = frozenset({ReferenceKind.BACKING, ReferenceKind.DATA, ReferenceKind.EXTENT})


def _only_files(resolver: Resolver) -> Resolver:
    """The same resolver, for names that mean a file; of one that is missing it says whose it is."""

    def resolve(reference: Reference, *, named_by: str) -> Path:
        if reference.kind not in _LITERAL:
            return resolver(reference, named_by=named_by)
        if _SCHEME.match(reference.name):
            raise UnsafeInput(
                named_by,
                code="reference.not-a-file",
                problem=f"its {reference.kind} is {reference.name!r}, which is not the path of a "
                "file; vmport opens only files",
            )
        try:
            return resolver(reference, named_by=named_by)
        except UnreadableInput as error:
            raise UnreadableInput(
                named_by,
                code="reference.missing",
                problem=f"its {reference.kind} {reference.name!r}: {error.problem}",
            ) from error

    return resolve


def measured_above(limit: int | None, source: Source) -> Facts:
    """The facts of a disk, with how much data it has if it has `limit` bytes or more.

    Raises:
        InputError: as `data_size`.
    """
    facts = source.facts
    if facts.data is not None or limit is None or facts.virtual_size < limit:
        return facts
    return replace(facts, data=data_size(source.disk))


def data_size(disk: DiskImage) -> int:
    """Bytes of `disk` that hold data, as far as its map tells; the rest reads as zeros.

    Raises:
        InputError: as `DiskImage.runs`.
    """
    runs = placed(run for _, run in disk.runs())
    return sum(run.length for _, run in runs if holds_data(run))
