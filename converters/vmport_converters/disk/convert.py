"""Converts a disk: open, plan, write by the better engine, read back, publish."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vmport_converters._posix import free_space
from vmport_converters.disk.base import data_to_write, over_base
from vmport_converters.disk.native.engine import write_image
from vmport_converters.disk.native.flush import Flush
from vmport_converters.disk.native.output import OutputFile
from vmport_converters.disk.native.targets import composer_for
from vmport_converters.disk.native.writing import write_natively
from vmport_converters.disk.options import (
    check_passphrase,
    encrypts,
    read_options,
    target_format,
)
from vmport_converters.disk.plan import (
    Compression,
    Engine,
    Wish,
    data_limit,
    doubt_of_room,
    plan_conversion,
    worst_case,
)
from vmport_converters.disk.presets import PRESETS, preset_options, preset_target
from vmport_converters.disk.source import measured_above, open_disk
from vmport_converters.disk.verification import Written, read_back
from vmport_converters.publish import publishing
from vmport_formats.disk.model import DiskFormat
from vmport_formats.disk.raw_composer import RawComposer
from vmport_formats.errors import OutputError, UsageError
from vmport_formats.units import SECTOR, Bytes, format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vmport_converters.disk.plan import Conversion
    from vmport_converters.disk.presets import Platform
    from vmport_converters.disk.source import Source
    from vmport_converters.disk.verification import ReadBack
    from vmport_converters.publish import Staging
    from vmport_formats.disk.composer import Composer
    from vmport_formats.disk.model import ImageInfo


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a conversion is."""

    phase: str
    """``converting`` and ``verifying``; with qemu-img also ``reading``, for the digest, and
    ``copying``, what it cannot read itself."""
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
    platform: Platform | None = None
    """Where the disk is meant to go, which says the format and some options."""
    options: Sequence[str] = ()
    """``KEY=VALUE``, by qemu-img's names."""
    compression: Compression | None = None
    engine: Engine | None = None
    """None: the better one."""
    allow: Sequence[str] = ()
    """Folders whose files the source may name."""
    snapshot: str | None = None
    """An internal snapshot of the source, to be read instead of its present."""
    passphrase: bytes | None = field(default=None, repr=False)
    """Of the source."""
    new_passphrase: bytes | None = field(default=None, repr=False)
    """Of the destination."""
    force: bool = False
    verify: bool = True


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A file that has appeared."""

    path: str
    size: Bytes
    allocated: Bytes


@dataclass(frozen=True, slots=True)
class Converted:
    """A conversion that is done and published."""

    conversion: Conversion
    source_files: tuple[str, ...]
    """All that were read; absolute."""
    destination: str
    info: ImageInfo
    """Of the destination, read back."""
    files: tuple[PublishedFile, ...]
    """The destination first."""
    sandboxed: bool
    """Qemu-img could open only the files that it was given, if it was used at all."""
    compared: bool
    """The content of what was written is that of what was read."""
    digest: str | None
    """Of the content, where all of it was looked at to compare it."""
    seconds: float
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ears:
    """Who hears what goes on."""

    on_progress: Callable[[Progress], object] = lambda _: None
    on_warning: Callable[[str], object] = lambda _: None
    on_step: Callable[[str], object] = lambda _: None
    """Each decision, and each command line before it is run."""


def plan(request: Request) -> Conversion:
    """What `convert` would do, from the source's metadata and map alone.

    Raises:
        UsageError, InputError, UnsafeInput: as `convert`.
    """
    wish = wish_of(request)
    with _opened(request, wish, measured=True) as source:
        conversion, _ = _planned(source, wish, Path(request.destination))
        return conversion


def convert(request: Request, ears: Ears = Ears()) -> Converted:
    """Do what `request` says.

    Raises:
        UsageError: the request makes no sense.
        InputError: the source cannot be read, or changed while it was.
        UnsafeInput: it names files that were not granted.
        ToolError: qemu-img is missing, or failed.
        OutputError: the destination exists, or cannot be written.
    """
    begin = time.monotonic()
    wish = wish_of(request)
    destination = Path(request.destination)
    with _opened(request, wish) as source:
        _check_apart(source, destination)
        conversion, composer = _planned(source, wish, destination)
        ears.on_step(f"engine {conversion.engine}: {'; '.join(conversion.reasons)}")
        with publishing(destination, force=request.force) as staging:
            work = _Work(request, conversion, source, staging, ears)
            work.check_space()
            digest, flush = work.write(composer)
            found = work.read_back(digest)
            flush.wait()
            source.stamps.check_unchanged()
            names = sorted(
                (path.name for path in staging.folder.iterdir()),
                key=lambda name: (name != destination.name, name),
            )
            for name in names:
                _check_apart(source, destination.parent / name)
            files = [_published(staging.folder / name, destination.parent / name) for name in names]
        notes = list(conversion.notes)
        size = found.info.virtual_size
        if size != conversion.virtual_size:
            notes.append(
                f"the disk grew from {conversion.virtual_size} to {size} bytes, "
                "as its geometry wants it"
            )
        return Converted(
            conversion,
            tuple(source.stamps),
            request.destination,
            found.info,
            tuple(files),
            sandboxed=work.sandboxed,
            compared=found.compared,
            digest=found.digest,
            seconds=time.monotonic() - begin,
            notes=tuple(notes),
        )


def files_of(request: Request) -> tuple[str, ...]:
    """Every file that `convert` would read, by its absolute path.

    Raises:
        UsageError, InputError, UnsafeInput: as `convert`.
    """
    with _opened(request, wish_of(request)) as source:
        return tuple(source.stamps)


def wish_of(request: Request) -> Wish:
    """What is asked for, as a plan takes it.

    Raises:
        UsageError: no format is named, or the options are wrong, or a passphrase is missing.
    """
    if request.platform is None:
        target = target_format(request.destination, request.target_name)
        options = read_options(target, request.options)
        wish = Wish(target, options, request.compression, request.engine)
    else:
        preset = PRESETS[request.platform]
        wish = Wish(
            preset_target(request.platform, request.destination, request.target_name),
            preset_options(request.platform, request.options),
            request.compression,
            request.engine,
            preset.size_multiple,
            preset.note,
        )
    check_passphrase(request.new_passphrase, wanted=encrypts(wish.target, wish.options))
    return wish


@contextmanager
def _opened(request: Request, wish: Wish, *, measured: bool = False) -> Iterator[Source]:
    allow, destination = request.allow, Path(request.destination)
    with (
        open_disk(
            request.source,
            declared=request.source_format,
            allow=allow,
            snapshot=request.snapshot,
            passphrase=request.passphrase,
            measured=measured,
        ) as disk,
        over_base(disk, wish.options, destination, allow=allow, measured=measured) as source,
    ):
        yield source


def _planned(source: Source, wish: Wish, destination: Path) -> tuple[Conversion, Composer | None]:
    """The plan, and who lays the file out when we write it: so the format has place for it."""
    base = source.base
    facts = measured_above(data_limit(wish.target, wish.options), source)
    conversion = plan_conversion(facts, wish, None if base is None else base.facts)
    if conversion.engine is Engine.QEMU_IMG:
        return conversion, None
    return conversion, composer_for(conversion, destination.name, source.disk)


def _check_apart(source: Source, destination: Path) -> None:
    if source.stamps.holds(destination):
        raise UsageError(
            str(destination),
            code="usage.same-file",
            problem="is part of the source, or of a base; it is not replaced by what comes of it",
            hint="name another destination",
        )


def _published(written: Path, published: Path) -> PublishedFile:
    status = written.stat()
    return PublishedFile(str(published), Bytes(status.st_size), Bytes(status.st_blocks * SECTOR))


class _Work:
    """One conversion, step by step."""

    def __init__(
        self,
        request: Request,
        conversion: Conversion,
        source: Source,
        staging: Staging,
        ears: Ears,
    ) -> None:
        self._request = request
        self._plan = conversion
        self._source = source
        self._staging = staging
        self._ears = ears
        self._destination = Path(request.destination)
        self.sandboxed = False

    def check_space(self) -> None:
        """That what is needed for certain is free; warn where it may not suffice.

        Raises:
            OutputError: it is not.
        """
        free = free_space(self._staging.folder)
        if doubt := doubt_of_room(self._plan):
            self._ears.on_warning(f"{self._destination}: {doubt}")
        if self._plan.reserved > free:
            raise OutputError(
                self._destination,
                code="output.space",
                problem=f"needs {format_size(self._plan.reserved)}, but its file system has "
                f"{format_size(free)} left",
            )
        at_most = self._plan.at_most
        if at_most > free and self._plan.source.data is None:
            copied = self._plan.copied_first is not None
            at_most = worst_case(data_to_write(self._source), copied_first=copied)
        if at_most > free:
            self._ears.on_warning(
                f"{self._destination}: up to {format_size(at_most)} may be needed, and "
                f"{format_size(free)} are free; blocks of zeros take none"
            )

    def write(self, composer: Composer | None) -> tuple[str | None, Flush]:
        """Write the destination into the staging folder; without a `composer`, by qemu-img.

        Returns:
            the digest of what was read, if it is known, and the flush that has begun.

        Raises:
            VmportError: as `convert`.
            OSError: the file cannot be written.
        """
        if composer is not None:
            return write_natively(
                self._plan,
                self._source,
                composer,
                self._staging.path,
                verify=self._request.verify,
                on_progress=self._reporter("converting"),
            )
        self._write_with_qemu()
        return None, Flush.of(self._staging.path)

    def _write_with_qemu(self) -> None:
        from vmport_converters.disk.qemu.engine import Job, write_with_qemu
        from vmport_converters.sandbox import landlock_version

        self.sandboxed = landlock_version() > 0
        if not self.sandboxed:
            self._ears.on_warning(
                "this kernel has no Landlock, so qemu-img is not confined to the files of the disk"
            )
        request, passphrase = self._request, None
        if self._plan.copied_first is None:
            path, declared = request.source, self._plan.source.top.format
            passphrase = request.passphrase
        else:
            self._ears.on_step(f"a raw copy for qemu-img, because {self._plan.copied_first}")
            path, declared = str(self._staging.scratch / "disk.raw"), DiskFormat.RAW
            with OutputFile(Path(path)) as output:
                write_image(
                    self._source.disk,
                    RawComposer(self._plan.virtual_size),
                    output,
                    hashed=False,
                    on_progress=self._reporter("copying"),
                )
        job = Job(
            self._plan, path, declared, request.allow, self._staging, self._destination,
            passphrase, request.new_passphrase,
        )  # fmt: skip
        write_with_qemu(
            job, on_progress=self._reporter("converting"), on_command=self._ears.on_step
        )

    def read_back(self, digest: str | None) -> ReadBack:
        """See `verification.read_back`; `digest` is that of what was read, where it is known."""
        path, passphrase = self._staging.path, self._request.new_passphrase
        written = Written(path, self._destination, self._plan, self._source, digest, passphrase)
        return read_back(written, verify=self._request.verify, reporter=self._reporter)

    def _reporter(self, phase: str) -> Callable[[float], object]:
        size = self._plan.virtual_size
        return lambda share: self._ears.on_progress(Progress(phase, share, size))
