"""The disks of an OVF package: their files' names, sizes, and what must be converted first."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmport_formats.errors import UsageError
from vmport_formats.machine.ledger import DiskConversion, Impact
from vmport_formats.machine.model import DiskDevice, DiskSource, DiskSourceKind
from vmport_formats.units import SECTOR, Bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vmport_formats.machine.ledger import Books
    from vmport_formats.machine.model import Disk, Machine
    from vmport_formats.machine.vmware import DrivePlan


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """What the caller knows of a disk and the machine's descriptor does not say."""

    capacity: Bytes
    """The virtual size."""
    stream_optimized: Bytes | None = None
    """The file's length, when the file is a streamOptimized VMDK already and needs no conversion;
    None when it is anything else."""


@dataclass(frozen=True, slots=True)
class Package:
    """A hard disk as the package holds it."""

    file_id: str
    disk_id: str
    href: str | None
    """The file's name; None: a blank disk, which has no file."""
    capacity: Bytes
    size: Bytes | None
    """Of the file; None while it is still to be made."""


def plan_packages(
    machine: Machine, plan: DrivePlan, name: str, facts: Mapping[int, DiskFacts]
) -> dict[int, Package]:
    """The hard disks of the package, in the order of the plan."""
    packages: dict[int, Package] = {}
    unknown: list[tuple[int, Disk]] = []
    names: set[str] = set()
    for drive in plan.drives:
        if drive.device is not DiskDevice.DISK:
            continue
        disk = machine.disks[drive.index]
        known = facts.get(drive.index)
        capacity = known.capacity if known is not None else None
        if capacity is None and disk.source is not None:
            capacity = disk.source.capacity
        if capacity is None:
            unknown.append((drive.index, disk))
            continue
        number = len(packages) + 1
        ready = None if known is None else known.stream_optimized
        packages[drive.index] = Package(
            file_id=f"file{number}",
            disk_id=f"vmdisk{number}",
            href=None
            if is_blank(disk)
            else _file_name(disk, ready is not None, name, number, names),
            capacity=Bytes(-(-capacity // SECTOR) * SECTOR),
            size=ready,
        )
    if unknown:
        raise _capacity_unknown(unknown)
    return packages


def _capacity_unknown(disks: list[tuple[int, Disk]]) -> UsageError:
    called = [disk.target or f"disk{index + 1}" for index, disk in disks]
    paths = [disk.source.path for _, disk in disks if disk.source and disk.source.path]
    folders = sorted({path.rpartition("/")[0] or "." for path in paths})
    options = " ".join(f"--disk-size {item}=SIZE" for item in called)
    hint = f"add {options}"
    if len(paths) == len(disks):
        allow = " ".join(f"--allow {folder}" for folder in folders)
        hint = f"add {allow} to read the sizes from the disks, or {options}"
    return UsageError(
        None,
        code="ovf.capacity",
        problem=f"an OVF states the size of each disk, and this descriptor does not state that of "
        f"{', '.join(called)}",
        hint=hint,
    )


def _file_name(disk: Disk, ready: bool, package: str, number: int, taken: set[str]) -> str:
    """The name of a disk's file in the package: its own, with VMware's suffix; unique.

    A file that is still to be made gets a name that is the same written as a URI, since readers
    differ in whether they decode one; a file that is `ready` keeps its name.
    """
    source = disk.source or DiskSource()
    content = source.path or source.volume or source.name or ""
    base = content.replace("\\", "/").rpartition("/")[2]
    stem, dot, suffix = base.rpartition(".")
    stem = stem if dot and stem and len(suffix) <= 8 else base
    if not ready:
        stem = _plain(stem)
    if not stem.strip(". "):
        stem = f"{_plain(package) or 'machine'}-disk{number}"
    name = base if ready and base else f"{stem}.vmdk"
    count = 1
    while name.lower() in taken:
        name = f"{stem}-{count}.vmdk"
        count += 1
    taken.add(name.lower())
    return name


def _plain(text: str) -> str:
    """`text` in letters, digits and signs that a URI holds unescaped."""
    ascii_only = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._+@=-]+", "-", ascii_only).strip("-.")


def is_blank(disk: Disk) -> bool:
    """Whether the source names nothing that a disk's content could come from."""
    source = disk.source
    return source is None or not (source.path or source.volume or source.name)


def account_for_disk(
    machine: Machine, books: Books, index: int, package: Package
) -> DiskConversion | None:
    """Enter what became of a disk's source; the conversion that it needs."""
    disk = machine.disks[index]
    source = disk.source
    path = f"disks[{index}].source"
    place = f"File {package.file_id}/href"
    books.kept(f"{path}.capacity", place=f"Disk {package.disk_id}/capacity")
    if source is None or package.href is None:
        books.defaulted(
            place=f"Disk {package.disk_id}",
            after="a blank disk",
            why="the source does not say where the disk's content is",
            action="copy the content into the disk after the import",
            impact=Impact.MAJOR,
        )
        books.kept(path, place=f"Disk {package.disk_id}", after="a blank disk")
        return None
    if package.size is not None:
        books.kept(path, place=place, after=package.href)
        return None
    parts = [f"{path}.{part}" for part in ("kind", "path", "pool", "volume", "protocol", "name")]
    books.adapted(
        *parts,
        place=place,
        before=_called(source),
        after=package.href,
        why="a package holds its disks as streamOptimized VMDKs",
        action="convert the disk",
    )
    backing = tuple(item.path for item in disk.backing if item.path is not None)
    return DiskConversion(
        _called(source),
        source.format,
        package.href,
        "vmdk",
        backing,
        "streamOptimized",
        local=source.path is not None,
    )


def _called(source: DiskSource) -> str:
    """A disk's source in a few words."""
    if source.path:
        return source.path
    if source.kind is DiskSourceKind.VOLUME:
        return f"volume {source.volume} of pool {source.pool}"
    if source.name:
        return f"{source.protocol or 'network disk'} {source.name}"
    return "the disk"
