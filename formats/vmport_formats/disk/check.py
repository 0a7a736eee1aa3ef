"""Whether a disk image is consistent in itself: every fault, each with its place.

Each format has a ``check`` module of its own that knows its tables; what has none is walked from
end to end as when it is read.  The metadata must be readable; all behind it is what is checked.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from typing import TYPE_CHECKING, Final, Protocol, cast

from vmport_formats.disk.model import DiskFormat
from vmport_formats.disk.probe import detect, reader
from vmport_formats.errors import (
    CorruptInput,
    InputError,
    LockedInput,
    UnsafeInput,
    UnsupportedFeature,
)
from vmport_formats.references import deny

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vmport_formats.disk.image import ContentReader
    from vmport_formats.disk.layer import Opener, Run
    from vmport_formats.disk.model import ImageInfo
    from vmport_formats.references import Resolver
    from vmport_formats.source import ByteSource

_KEPT: Final = 1000
"""Faults of a kind of severity that are told one by one; beyond that they are counted."""

_NEWS: Final = 1 / 512
"""Less progress is not told."""


class Severity(StrEnum):
    """What a fault means for who uses the image."""

    ERROR = "error"
    """Data is lost or will be: what is read may be wrong, or what is written destroys other."""
    LEAK = "leak"
    """Room in the file is lost, and nothing else."""
    WARNING = "warning"
    """Odd, and sound nevertheless."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong."""

    code: str
    """Stable and dotted, as those of errors."""
    severity: Severity
    at: int | str | None
    """Offset of what is wrong in its file, or a line; None when it concerns all of it."""
    text: str
    file: str
    """As the user or the image named it."""
    count: int = 1
    """Of how many clusters in a row this is true."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """How an image is used, in clusters, grains or blocks; None where the format has none."""

    total: int | None = None
    """That the disk has."""
    allocated: int | None = None
    """Of these, those that have room in the file."""
    compressed: int = 0
    fragmented: int | None = None
    """Of the allocated, those that do not follow the one before."""
    image_end: int | None = None
    """Offset behind the last cluster in use."""

    def __add__(self, other: Statistics) -> Statistics:
        """Of two files that make up one disk, where both have numbers."""
        return Statistics(
            total=(self.total or 0) + (other.total or 0),
            allocated=(self.allocated or 0) + (other.allocated or 0),
            compressed=self.compressed + other.compressed,
            fragmented=(self.fragmented or 0) + (other.fragmented or 0),
        )


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was found in one image."""

    name: str
    format: DiskFormat
    info: ImageInfo | None
    """None: the metadata is so broken that there is none."""
    faults: tuple[Fault, ...]
    """In the order in which they were met, the first 1000 of each severity."""
    counts: Counter[Severity]
    """All of them."""
    statistics: Statistics
    complete: bool
    """Whether all was looked at; a fault can hide what is behind it."""

    @property
    def sound(self) -> bool:
        """Whether there is neither an error nor a leak."""
        return not self.counts[Severity.ERROR] and not self.counts[Severity.LEAK]


class _Kept(Counter[Severity]):
    """How many faults of each severity are kept."""

    full = False
    """Whether no further error is."""


class Faults:
    """Hears what a check finds, and how far it is; however many faults, its memory is bounded."""

    def __init__(
        self,
        name: str,
        on_progress: Callable[[float], object] = lambda _share: None,
        *,
        deaf: bool = False,
    ) -> None:
        """`name` is the file they are in, unless they say otherwise.

        A `deaf` one is for who walks tables again, whose faults are known.
        """
        self.deaf = deaf
        self._on_progress = on_progress
        self._begin, self._share = 0.0, 1.0
        self._told = 0.0
        self.name = name
        self.found: list[Fault] = []
        self.counts: Counter[Severity] = Counter()
        self._kept = _Kept()
        self._kept.full = deaf
        self.complete = True

    @property
    def failed(self) -> bool:
        """Whether there is an error among them."""
        return bool(self.counts[Severity.ERROR])

    def within(self, name: str) -> Faults:
        """The same collection, for what is found in another file."""
        other = Faults(name, self.done)
        other.found, other.counts, other._kept = self.found, self.counts, self._kept
        return other

    def phase(self, begin: float, end: float) -> None:
        """From now on, `done` is about this part of all the work."""
        self._begin, self._share = begin, end - begin

    def done(self, share: float) -> None:
        """So much of the work, or of its present phase, is done: 0 to 1."""
        share = self._begin + self._share * share
        if share - self._told >= _NEWS:
            self._told = share
            self._on_progress(share)

    def add(self, fault: Fault) -> None:
        """One more."""
        if self._keeps(fault.severity, fault.count):
            self.found.append(fault)

    @property
    def full(self) -> bool:
        """Whether one more error would only be counted: who has many need not put them in words."""
        return self._kept.full

    def count(self, errors: int) -> None:
        """So many more errors, where `full` says that none of them would be kept."""
        if not self.deaf:
            self.counts[Severity.ERROR] += errors

    def _keeps(self, severity: Severity, count: int) -> bool:
        """Whether a fault that is true of so many clusters is kept; it is counted in any case."""
        if self.deaf:
            return False
        self.counts[severity] += count
        kept = self._kept[severity]
        if kept >= _KEPT:
            return False
        self._kept[severity] = kept + 1
        self._kept.full |= severity is Severity.ERROR and kept + 1 == _KEPT
        return True

    def error(self, code: str, at: int | str | None, text: str, count: int = 1) -> None:
        """Something that loses data."""
        if self._keeps(Severity.ERROR, count):
            self.found.append(Fault(code, Severity.ERROR, at, text, self.name, count))

    def leak(self, code: str, at: int | str | None, text: str, count: int = 1) -> None:
        """Something that loses room."""
        self.add(Fault(code, Severity.LEAK, at, text, self.name, count))

    def warn(self, code: str, at: int | str | None, text: str) -> None:
        """Something odd."""
        self.add(Fault(code, Severity.WARNING, at, text, self.name))

    def stop(self, error: InputError) -> None:
        """An error of data that ended the check, or a part of it."""
        self.complete = False
        self.take(error)

    def take(self, error: InputError) -> None:
        """An error of data, as raised by who reads it."""
        name = error.path or self.name
        self.add(Fault(error.code, Severity.ERROR, error.at, error.problem, name))


class Checker(Protocol):
    """What a format's ``check`` module offers."""

    def check(
        self, source: ByteSource, opener: Opener, faults: Faults, *, deep: bool
    ) -> Statistics:
        """Look at all tables of the image in `source`; with `deep`, unpack what is compressed.

        Raises:
            CorruptInput: a fault that leaves no way to go on.
            UnsafeInput: an extent is not granted.
        """
        ...


CHECKERS: Final[dict[DiskFormat, str]] = {
    DiskFormat.QCOW2: "qcow2.check",
    DiskFormat.VMDK: "vmdk.check",
    DiskFormat.VHD: "vhd.check",
    DiskFormat.VHDX: "vhdx.check",
    DiskFormat.VDI: "vdi.check",
    DiskFormat.QED: "qed.check",
    DiskFormat.PARALLELS: "parallels.check",
    DiskFormat.DMG: "dmg.check",
}
"""The modules of formats with a check of their own."""


def check_image(
    source: ByteSource,
    opener: Opener,
    resolver: Resolver = deny,
    *,
    declared: DiskFormat | None = None,
    deep: bool = False,
    on_progress: Callable[[float], object] = lambda _share: None,
) -> CheckReport:
    """All faults of the image in `source`, which is of the `declared` format if that is given.

    The files that hold its extents are opened through `opener`.  That its parent is the one that
    it was made from is checked where `resolver` grants the parent; nothing else of that is.
    `on_progress` hears the share of the work that is done, 0 to 1.

    Raises:
        UnsupportedFeature: it uses something that is not known, so nothing can be said.
        UnsafeInput: an extent is not granted, or it carries the marks of several formats.
        InputError: it cannot be read.
    """
    disk_format = detect(source) if declared is None else declared
    faults = Faults(source.name, on_progress)
    info: ImageInfo | None = None
    broken: CorruptInput | None = None
    statistics = Statistics()
    try:
        info = reader(disk_format).read_info(source)
    except CorruptInput as error:
        broken = error
    else:
        for concern in info.concerns:
            if concern.code in TELLING:
                faults.warn(concern.code, None, concern.text)
        if info.dirty:
            faults.warn(f"{disk_format.code}.dirty", None, "was not closed cleanly")
        if info.corrupt:
            text = "is marked as corrupt by a program that used it"
            faults.warn(f"{disk_format.code}.corrupt", None, text)
    try:
        if disk_format in CHECKERS:
            name = f"vmport_formats.disk.{CHECKERS[disk_format]}"
            checker = cast("Checker", import_module(name))
            statistics = checker.check(source, opener, faults, deep=deep)
        elif broken is None:
            statistics = _walk(source, disk_format, opener, faults, deep=deep)
    except CorruptInput as error:
        faults.stop(error)
    if broken is not None and not faults.failed:
        faults.take(broken)
        faults.complete &= disk_format in CHECKERS
    if info is not None and info.backing is not None and not faults.failed:
        _check_parent(source, disk_format, resolver, faults)
    return CheckReport(
        source.name,
        disk_format,
        info,
        tuple(faults.found),
        faults.counts,
        statistics,
        faults.complete,
    )


TELLING: Final = frozenset(
    {"vmdk.footer-mismatch", "vmdk.compression-ambiguous", "vhd.fixed-size", "vdi.image-type"}
)
"""Concerns that are about consistency, and not about safety."""


def _walk(
    source: ByteSource, disk_format: DiskFormat, opener: Opener, faults: Faults, *, deep: bool
) -> Statistics:
    """Every run of the image; what it is told wrong is noticed where it is met first."""
    module = reader(disk_format)
    if not hasattr(module, "open_layer"):
        return Statistics()
    try:
        layer = cast("ContentReader", module).open_layer(source, opener)
    except LockedInput:
        return Statistics()  # the header was checked, and nothing else is structure
    return walk(layer.runs(0, layer.size), layer.size, faults, deep=deep)


def walk(runs: Iterable[Run], size: int, faults: Faults, *, deep: bool) -> Statistics:
    """What can be said of the runs alone of a disk of `size` bytes."""
    from vmport_formats.disk.fetch import unpack

    compressed = offset = 0
    try:
        for run in runs:
            offset += run.length
            faults.done(offset / size)
            if run.unit is None:
                continue
            compressed += 1
            if deep:
                try:
                    unpack(run.unit)
                except CorruptInput as error:
                    faults.take(error)
    except CorruptInput as error:
        faults.stop(error)
    return Statistics(compressed=compressed)


def _check_parent(
    source: ByteSource, disk_format: DiskFormat, resolver: Resolver, faults: Faults
) -> None:
    from vmport_formats.disk.image import open_image

    try:
        with open_image(source, resolver, declared=disk_format) as image:
            for concern in image.concerns:
                faults.warn(concern.code, None, concern.text)
    except (UnsafeInput, LockedInput, UnsupportedFeature) as error:
        if error.code != _DENIED:  # else nobody wanted it
            faults.warn(error.code, None, f"its parent was not looked at: {error.problem}")
    except InputError as error:  # it is missing, or several files could be it
        faults.take(error)


_DENIED: Final = "reference.denied"
"""What `references.deny` says."""
