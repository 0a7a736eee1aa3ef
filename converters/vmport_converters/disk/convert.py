"""Converts a disk: probe, plan, qemu-img, compare, publish."""

from __future__ import annotations

import json
import os
import re
import shlex
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vmport_converters.disk.chain import open_chain
from vmport_converters.disk.descriptors import write_descriptors
from vmport_converters.disk.options import read_options, target_format
from vmport_converters.disk.plan import plan_conversion
from vmport_converters.disk.qemu_img import (
    PACKAGE,
    Node,
    ProgressReader,
    compare_argv,
    convert_argv,
    explain_failure,
    explain_opening,
    measure_argv,
    size_argv,
    size_options,
    source_node,
)
from vmport_converters.process import Limits, find_tool, run
from vmport_converters.publish import publishing
from vmport_converters.sandbox import Sandbox, landlock_version
from vmport_formats.disk.model import DiskFormat
from vmport_formats.disk.probe import probe
from vmport_formats.errors import OutputError, ToolFailed, UnsafeInput, UsageError
from vmport_formats.references import Confined
from vmport_formats.source import open_source
from vmport_formats.units import GIB, KIB, MIB, SECTOR, Bytes, format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vmport_converters.disk.chain import Chain
    from vmport_converters.disk.plan import Conversion
    from vmport_converters.process import Completed
    from vmport_converters.publish import Staging
    from vmport_formats.disk.model import ImageInfo
    from vmport_formats.errors import VmportError

_ENGINE: Final = "qemu-img"

# Its 64 worker threads may each want an arena of 64 MiB of address space; two do as well.
_ENVIRONMENT: Final = {"MALLOC_ARENA_MAX": "2"}
_SMALLEST_FREE: Final = 64 * KIB
"""With less space left, a failing write has failed for lack of it."""

# A disk of 2 TiB in extents of 2 GiB is of a thousand files.
_LIMITS: Final = Limits(address_space=Bytes(8 * GIB), open_files=1 << 16)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a conversion is."""

    phase: str
    """``converting`` or ``comparing``."""
    share: float
    """Of this phase, 0 to 1."""
    size: Bytes
    """Of the disk."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asks for."""

    source: str
    destination: str
    source_format: DiskFormat | None = None
    """None: find out."""
    target_name: str | None = None
    """A format's name; None: the destination's suffix says it."""
    options: Sequence[str] = ()
    """``KEY=VALUE``, by qemu-img's names."""
    allow: Sequence[str] = ()
    """Folders whose files the source may name."""
    force: bool = False
    verify: bool = True


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file that has appeared."""

    path: str
    size: Bytes
    allocated: Bytes


@dataclass(frozen=True, slots=True)
class Converted:
    """A conversion that is done and published."""

    conversion: Conversion
    destination: str
    info: ImageInfo
    """Of the destination, read back."""
    files: tuple[OutputFile, ...]
    """The destination first."""
    engine: str
    sandboxed: bool
    """It could open only the files that it was given."""
    verified: bool
    seconds: float
    notes: tuple[str, ...]


def _quiet(_: object) -> None:
    pass


def convert(
    request: Request,
    *,
    on_progress: Callable[[Progress], object] = _quiet,
    on_warning: Callable[[str], object] = _quiet,
    on_command: Callable[[str], object] = _quiet,
) -> Converted:
    """Do what `request` says.

    `on_command` hears each command line before it is run.

    Raises:
        UsageError: the request makes no sense.
        InputError: the source cannot be read, or changed while it was.
        UnsafeInput: it names files that were not granted.
        ToolError: qemu-img is missing, or failed.
        OutputError: the destination exists, or cannot be written.
    """
    begin = time.monotonic()
    target = target_format(request.destination, request.target_name)
    options = read_options(target, request.options)
    destination = Path(request.destination)
    chain = open_chain(
        request.source,
        declared=request.source_format,
        resolver=Confined([Path(folder) for folder in request.allow]),
    )
    _check_apart(chain, destination)
    conversion = plan_conversion(chain, target, options)
    sandboxed = landlock_version() > 0
    if not sandboxed:
        on_warning(
            "this kernel has no Landlock, so qemu-img is not confined to the files of the disk"
        )
    with publishing(destination, force=request.force) as staging:
        work = _Work(conversion, staging, destination, on_progress, on_command)
        work.check_source()
        work.check_space(on_warning)
        work.write()
        info = work.read_back()
        if request.verify:
            work.compare(info)
        chain.check_unchanged()
        names = sorted(
            (path.name for path in staging.folder.iterdir()),
            key=lambda name: (name != destination.name, name),
        )
        for name in names:
            _check_apart(chain, destination.parent / name)
        files = [_output_file(staging.folder / name, destination.parent / name) for name in names]
    notes = list(conversion.notes)
    if info.virtual_size != conversion.virtual_size:
        notes.append(
            f"the disk grew from {conversion.virtual_size} to {info.virtual_size} bytes, "
            "as its geometry wants it"
        )
    return Converted(
        conversion,
        request.destination,
        info,
        tuple(files),
        engine=_ENGINE,
        sandboxed=sandboxed,
        verified=request.verify,
        seconds=time.monotonic() - begin,
        notes=tuple(notes),
    )


def _check_apart(chain: Chain, destination: Path) -> None:
    if chain.holds(destination):
        raise UsageError(
            str(destination),
            code="usage.same-file",
            problem="is part of the source; it is not replaced by itself",
            hint="name another destination",
        )


def _output_file(written: Path, published: Path) -> OutputFile:
    status = written.stat()
    return OutputFile(str(published), Bytes(status.st_size), Bytes(status.st_blocks * SECTOR))


class _Work:
    """One conversion, step by step."""

    def __init__(
        self,
        conversion: Conversion,
        staging: Staging,
        destination: Path,
        on_progress: Callable[[Progress], object],
        on_command: Callable[[str], object],
    ) -> None:
        self._plan = conversion
        self._chain = conversion.source
        self._staging = staging
        self._destination = destination
        self._on_progress = on_progress
        self._on_command = on_command
        self._tool = find_tool(
            "qemu-img", package=PACKAGE, purpose=f"write {conversion.target.label} images"
        )
        self._source = source_node(self._chain, write_descriptors(self._chain, staging.scratch))
        self._name = _safe_name(conversion, destination)
        files = (Path(path) for path, _ in self._chain.stamps)
        self._sandbox = Sandbox((*files, staging.scratch), (staging.folder,))

    def check_source(self) -> None:
        """That qemu-img sees the same disk as we do.

        Raises:
            InputError: it cannot open it.
            UnsafeInput: it sees one of another size.
        """
        said = self._run(size_argv(self._tool, self._source))
        if said.status != 0:
            raise explain_opening(self._chain, said.stderr)
        seen = json.loads(said.stdout)["required"]
        if seen != self._plan.virtual_size:
            raise UnsafeInput(
                self._chain.name,
                code="convert.size-ambiguous",
                problem=f"is a disk of {self._plan.virtual_size} bytes, but qemu-img sees {seen}",
                hint="pass --from FORMAT if it is of another format than was found",
            )

    def check_space(self, on_warning: Callable[[str], object]) -> None:
        """That what is needed for certain is free; warn where it may not suffice.

        Raises:
            OutputError: it is not.
        """
        free = _free(self._staging.folder)
        if self._plan.reserved > free:
            raise OutputError(
                self._destination,
                code="output.space",
                problem=f"needs {format_size(self._plan.reserved)}, but its file system has "
                f"{format_size(free)} left",
            )
        if self._plan.virtual_size + self._plan.virtual_size // 64 + MIB < free:
            return
        said = self._run(measure_argv(self._tool, self._source))
        if said.status == 0 and (needed := json.loads(said.stdout)["required"]) > free:
            on_warning(
                f"{self._destination}: up to {format_size(needed)} may be needed, and "
                f"{format_size(free)} are free; blocks of zeros take none"
            )

    def write(self) -> None:
        """Let qemu-img write the destination into the staging folder.

        Raises:
            InputError, OutputError, ToolFailed: as far as its words tell them apart.
        """
        done = self._run(
            convert_argv(self._tool, self._plan, self._source, self._name), phase="converting"
        )
        if done.status != 0:
            raise self._failure(done)
        written = self._staging.folder / self._name
        if self._plan.length is not None:
            os.truncate(written, self._plan.length)
        written.rename(self._staging.path)

    def read_back(self) -> ImageInfo:
        """What our own parser makes of the destination.

        Raises:
            ToolFailed: it is not the disk that was planned.
        """
        with open_source(self._staging.path) as source:
            info = probe(source, declared=self._plan.target)
        wanted = self._plan.virtual_size
        if info.virtual_size != wanted and not (self._plan.may_grow and info.virtual_size > wanted):
            raise ToolFailed(
                self._destination,
                code="convert.size",
                problem=f"qemu-img wrote a disk of {info.virtual_size} bytes instead of {wanted}; "
                "nothing was published",
            )
        return info

    def compare(self, info: ImageInfo) -> None:
        """That source and destination have the same content, read again from both.

        Raises:
            ToolFailed: they differ.
            InputError: the source cannot be read any more, or has changed.
        """
        written = Node(self._plan.target, str(self._staging.path), size_options(info))
        done = self._run(compare_argv(self._tool, self._source, written), phase="comparing")
        if done.status == 0:
            return
        if done.status != 1:
            raise self._failure(done)
        self._chain.check_unchanged()
        place = re.search(rb"mismatch at offset (\d+)", done.stdout)
        raise ToolFailed(
            self._destination,
            at=int(place[1]) if place else None,
            code="convert.differs",
            problem="what qemu-img wrote differs from the source; nothing was published",
        )

    def _failure(self, done: Completed) -> VmportError:
        """Why the program failed, after what its words say; a change of the source explains all."""
        self._chain.check_unchanged()
        full = _free(self._staging.folder) < _SMALLEST_FREE
        said = explain_failure(self._chain, str(self._destination), done.stderr, full=full)
        if said is not None:
            return said
        try:
            done.check(path=self._chain.name)
        except ToolFailed as error:
            return error
        raise AssertionError("unreachable")

    def _run(self, argv: Sequence[str], *, phase: str | None = None) -> Completed:
        """Run qemu-img in the folder that it writes to, with its limits."""
        self._on_command(shlex.join(argv))
        start = partial(
            run,
            argv,
            limits=_LIMITS,
            sandbox=self._sandbox,
            folder=self._staging.folder,
            environment=_ENVIRONMENT,
        )
        if phase is None:
            return start()
        report = partial(Progress, phase, size=self._plan.virtual_size)
        reader = ProgressReader()
        self._on_progress(report(share=0.0))

        def heard(piece: bytes) -> None:
            if (share := reader.feed(piece)) is not None:
                self._on_progress(report(share=share))

        done = start(on_output=heard)
        return replace(done, stdout=reader.rest)


def _safe_name(conversion: Conversion, destination: Path) -> str:
    """The name to write under: the destination's, except where that cannot stand in the file.

    A VMDK names its extents, or itself, in quotes.

    Raises:
        UsageError: it is of several files, whose names follow from this one.
    """
    name = destination.name
    if conversion.target is not DiskFormat.VMDK or (name.isprintable() and '"' not in name):
        return name
    if dict(conversion.options)["subformat"] in {"monolithicSparse", "streamOptimized"}:
        return "disk.vmdk"
    raise UsageError(
        str(destination),
        code="usage.name",
        problem="has signs in its name that a VMDK of several files cannot have",
        hint='choose a name without quotes (") and control characters, in UTF-8',
    )


def _free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
