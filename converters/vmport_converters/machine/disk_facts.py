"""Looks at the disks that a descriptor names, where the user allows it: their sizes."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from vmport_formats.disk.model import DiskFormat
from vmport_formats.disk.probe import probe
from vmport_formats.errors import UnsafeInput, UsageError
from vmport_formats.machine.model import DiskDevice
from vmport_formats.machine.ovf.writer import DiskFacts
from vmport_formats.references import Confined, Reference, ReferenceKind
from vmport_formats.source import open_source
from vmport_formats.units import MAX_SIZE, Bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vmport_formats.machine.model import Disk, Machine

_SIZE: Final = re.compile(r"(\d{1,19})\s*([kmgtpe]?)(?:ib|b)?", re.IGNORECASE)
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5, "e": 6}


def parse_disk_sizes(options: Sequence[str]) -> dict[str, Bytes]:
    """``vda=20G`` and the like: the name of a disk and its size; K, M, G, T are powers of 1024.

    Raises:
        UsageError: something else.
    """
    sizes: dict[str, Bytes] = {}
    for option in options:
        name, _, text = option.partition("=")
        found = _SIZE.fullmatch(text.strip())
        size = 0 if found is None else int(found[1]) << (10 * _POWERS[found[2].lower()])
        if not name or not 0 < size <= MAX_SIZE:
            raise UsageError(
                None,
                code="translate.disk-size",
                problem=f"{option!r} is not the name of a disk and its size",
                hint="write --disk-size vda=20G",
            )
        sizes[name] = Bytes(size)
    return sizes


def look_at_disks(
    machine: Machine, *, named_by: str, folders: Sequence[Path], sizes: Mapping[str, Bytes]
) -> dict[int, DiskFacts]:
    """What is known of the hard disks of `machine`, by index.

    `sizes` states some by name.  Others are opened if they lie in one of `folders`, by their full
    path or else by their file name alone; `named_by` is the descriptor.

    Raises:
        UsageError: `sizes` names a disk that the machine has not.
        InputError: a disk that may be opened cannot be read.
    """
    names = {_name(disk, index): index for index, disk in _hard_disks(machine)}
    for name in sizes:
        if name not in names:
            raise UsageError(
                named_by,
                code="translate.disk-size",
                problem=f"has no disk called {name!r}",
                hint=f"its disks: {', '.join(names) or 'none'}",
            )
    facts: dict[int, DiskFacts] = {}
    for index, disk in _hard_disks(machine):
        stated = sizes.get(_name(disk, index))
        if stated is not None:
            facts[index] = DiskFacts(stated)
        elif (path := _find(disk, named_by, folders)) is not None:
            facts[index] = _look(path, disk)
    return facts


def _hard_disks(machine: Machine) -> Iterator[tuple[int, Disk]]:
    for index, disk in enumerate(machine.disks):
        if disk.device in (None, DiskDevice.DISK):
            yield index, disk


def _name(disk: Disk, index: int) -> str:
    return disk.target or f"disk{index + 1}"


def _find(disk: Disk, named_by: str, folders: Sequence[Path]) -> Path | None:
    """The disk's file, if it may be opened and is there."""
    stated = None if disk.source is None else disk.source.path
    if stated is None:
        return None
    allowed = Confined(tuple(folders))
    places = [stated, *(str(folder.resolve() / PurePosixPath(stated).name) for folder in folders)]
    for place in places:
        try:
            path = allowed(Reference(ReferenceKind.DISK, place), named_by=named_by)
        except UnsafeInput:
            continue
        if path.exists():
            return path
    return None


def _look(path: Path, disk: Disk) -> DiskFacts:
    stated = None if disk.source is None else disk.source.format
    try:
        # libvirt takes a disk without a format for raw, and never looks inside.
        declared = DiskFormat.named(stated or "raw")
    except ValueError:
        declared = None
    with open_source(path, allow_devices=True) as source:
        info = probe(source, declared=declared)
        ready = info.format is DiskFormat.VMDK and info.variant == "streamOptimized"
        return DiskFacts(info.virtual_size, info.file_size if ready else None)
