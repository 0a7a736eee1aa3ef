"""From a folder or an archive to an image at its destination, checked before it appears."""

from __future__ import annotations

import gc
import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from vmport_converters.container.archive import STDIN, reading_archive
from vmport_converters.container.config import Defaults, RunConfig, look_for_defaults
from vmport_converters.container.folder import reading_folder
from vmport_converters.container.image import LATEST_TIME, Image, write_documents
from vmport_converters.container.layer import write_layer
from vmport_converters.container.rootfs import Limits, Note, Rootfs, check_content
from vmport_converters.container.selection import Removal, Selection, Wishes, select
from vmport_converters.container.store import LAYOUT_FILE, FolderStore, Store, writing_archive
from vmport_converters.container.validate import validate_image
from vmport_converters.publish import publishing
from vmport_formats.errors import OutputError, UsageError
from vmport_formats.filesystem.model import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vmport_converters.container.reference import ImageName


class ImageForm(StrEnum):
    """How an image lies on a disk."""

    OCI = "oci"
    """A folder: an OCI image layout."""
    OCI_ARCHIVE = "oci-archive"
    """A tar of that folder."""
    DOCKER_ARCHIVE = "docker-archive"
    """That tar, with the list that ``docker load`` reads: what ``docker save`` writes since 25."""


Progress: TypeAlias = "Callable[[str, float, int], None]"
"""Hears what is being done, the share of it that is behind (0 to 1), and how many bytes it is."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asks for."""

    source: str
    """A folder or an archive; ``-`` is standard input."""
    destination: Path
    form: ImageForm = ImageForm.OCI
    name: ImageName | None = None
    wishes: Wishes = field(default_factory=Wishes)
    run: RunConfig = field(default_factory=RunConfig)
    force: bool = False
    epoch: int | None = None
    """``SOURCE_DATE_EPOCH``: no time in the image is later."""
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Export:
    """A finished export."""

    request: Request
    image: Image
    defaults: Defaults
    entries: int
    removals: tuple[Removal, ...]
    notes: tuple[Note, ...]


def export_image(request: Request, progress: Progress | None = None) -> Export:
    """Make the image that `request` describes.

    Raises:
        UsageError: source and destination are one, or one lies in the other.
        InputError: the source cannot be read, or has something that no image can hold.
        UnsafeInput: the source holds more than was granted, or leads out of itself.
        OutputError: the image could not be written, or did not pass our own check.
    """
    progress = progress or _nobody
    _check_apart(request)
    with (
        _no_garbage_collection(),
        publishing(request.destination, force=request.force, folder_marker=LAYOUT_FILE) as staging,
    ):
        with _reading(request, staging.scratch, progress) as rootfs:
            selection = select(rootfs, request.wishes)
            check_content(rootfs.name, selection.content, request.limits)
            defaults = look_for_defaults(selection.entries, request.run)
            image = _write(request, rootfs, selection, defaults, staging.path, progress)
        findings = validate_image(
            staging.path, on_bytes=_Meter(progress, "checking", image.layer.size)
        )
        if findings:
            raise OutputError(
                request.destination,
                code="export.check",
                problem=f"the image did not pass our own check: {findings[0]}",
                hint="this is a fault of vmport: please report it",
            )
    return Export(
        request=request,
        image=image,
        defaults=defaults,
        entries=len(selection.entries),
        removals=tuple(selection.removals),
        notes=(*selection.notes, *defaults.notes),
    )


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Of millions of entries none is in a cycle, and to look through them again takes long."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _check_apart(request: Request) -> None:
    """Writing must not touch what is read."""
    if request.source == STDIN:
        return
    source = Path(os.path.realpath(request.source))
    destination = Path(os.path.realpath(request.destination.parent), request.destination.name)
    if source == destination or Path(os.path.realpath(destination)) == source:
        problem = "is the source itself"
    elif source in destination.parents:
        problem = f"lies inside the source {request.source}, and would become part of itself"
    elif destination in source.parents:
        problem = f"holds the source {request.source}, and would replace it"
    else:
        return
    raise UsageError(
        request.destination,
        code="export.overlap",
        problem=problem,
        hint="choose a destination outside the source",
    )


@contextmanager
def _reading(request: Request, spool: Path, progress: Progress) -> Iterator[Rootfs]:
    if request.source != STDIN and _is_folder(request.source):
        progress("listing", 0.0, 1)
        with reading_folder(Path(request.source), limits=request.limits) as rootfs:
            yield rootfs
    else:
        with reading_archive(
            request.source,
            limits=request.limits,
            spool=spool,
            on_bytes=_Meter(progress, "unpacking", _size_of(request.source)),
        ) as rootfs:
            yield rootfs


def _is_folder(source: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(source).st_mode)  # noqa: PTH116 - may fail in any way
    except OSError:
        return False  # opening it will tell why


def _size_of(source: str) -> int:
    """Bytes of the archive; 0, of which no share can be told, if it is a stream or cannot be."""
    if source == STDIN:
        return 0
    try:
        return Path(source).stat().st_size
    except OSError:
        return 0


def _write(
    request: Request,
    rootfs: Rootfs,
    selection: Selection,
    defaults: Defaults,
    path: Path,
    progress: Progress,
) -> Image:
    created = _created(selection, request.epoch)
    with _storing(request.form, path, created) as store:
        layer = store.add_layer(
            lambda sink: write_layer(
                selection.entries,
                sink,
                source=rootfs.name,
                newest=request.epoch,
                on_bytes=_Meter(progress, "writing", selection.content),
            )
        )
        return write_documents(
            store,
            layer,
            run=request.run,
            defaults=defaults,
            created=created,
            name=request.name,
            for_docker=request.form is ImageForm.DOCKER_ARCHIVE,
            always_tagged=request.form is ImageForm.OCI,
        )


@contextmanager
def _storing(form: ImageForm, path: Path, created: int) -> Iterator[Store]:
    if form is ImageForm.OCI:
        yield FolderStore(path)
    else:
        with writing_archive(path, mtime=created) as store:
            yield store


def _created(selection: Selection, epoch: int | None) -> int:
    """`epoch`, or the newest time in the image: the same source always makes the same image."""
    if epoch is not None:
        return min(max(epoch, 0), LATEST_TIME)
    newest = max((entry.mtime for entry in selection.entries), default=0)
    return min(max(newest // NANOSECONDS, 0), LATEST_TIME)


class _Meter:
    """Turns the lengths of pieces into shares of the whole, told once for each per mille."""

    __slots__ = ("_done", "_next", "_phase", "_progress", "_total")

    def __init__(self, progress: Progress, phase: str, total: int) -> None:
        self._progress = progress
        self._phase = phase
        self._total = total
        self._done = self._next = 0

    def __call__(self, length: int) -> None:
        self._done += length
        if self._total and self._done >= self._next:
            self._next = self._done + self._total // 1000
            self._progress(self._phase, min(self._done / self._total, 1.0), self._total)


def _nobody(_phase: str, _share: float, _size: int) -> None:
    pass
