"""Reads back what was written, with our own readers, and compares it with what was read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vmport_converters.disk.native.engine import digest_of
from vmport_formats.disk.image import open_image
from vmport_formats.errors import InputError, OutputError, ToolFailed
from vmport_formats.references import Confined

if TYPE_CHECKING:
    from collections.abc import Callable

    from vmport_converters.disk.compare import Difference
    from vmport_converters.disk.plan import Conversion
    from vmport_converters.disk.source import Source
    from vmport_formats.disk.image import DiskImage
    from vmport_formats.disk.model import ImageInfo

    Reporter = Callable[[str], Callable[[float], object]]
    """For a phase of the work, who hears how far it is."""


@dataclass(frozen=True, slots=True)
class Written:
    """A file that is written, but not yet published."""

    path: Path
    """Where it is now."""
    destination: Path
    """Where it will be."""
    plan: Conversion
    source: Source
    digest: str | None
    """Of what was read, where all of it was when it was written."""
    passphrase: bytes | None = field(default=None, repr=False)
    """Of what was written, where that is encrypted."""


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What came of it."""

    info: ImageInfo
    compared: bool
    """Its content is that of the source."""
    digest: str | None
    """Of the content, where all of it was looked at."""


def read_back(written: Written, *, verify: bool, reporter: Reporter) -> ReadBack:
    """What our own readers make of the file; with `verify` its content is compared.

    Raises:
        ToolFailed: it is not the disk that was planned.
        OutputError: it cannot be read.
        InputError: the source cannot be read any more, or has changed.
    """
    base = written.source.base
    folder = written.path.parent
    files = Confined([folder]) if base is None else base.below(written.path)
    try:
        with open_image(
            written.path, files, declared=written.plan.target, passphrase=written.passphrase
        ) as disk:
            _check_size(written, disk.info.virtual_size)
            if not verify:
                return ReadBack(disk.info, compared=False, digest=None)
            if base is not None and base.shared:
                _compare(written, disk, reporter)
                return ReadBack(disk.info, compared=True, digest=None)
            digest = _compare_digests(written, disk, reporter)
            return ReadBack(disk.info, compared=True, digest=digest)
    except InputError as error:
        if Path(error.path or "").parent != folder:
            raise
        raise OutputError(
            written.destination,
            at=error.at,
            code="output.read-back",
            problem=f"cannot be read back after it was written: {error.problem}",
        ) from error


def _check_size(written: Written, size: int) -> None:
    wanted = written.plan.virtual_size
    if size != wanted and not (written.plan.may_grow and size > wanted):
        raise _failed(written, "convert.size", f"a disk of {size} bytes instead of {wanted}")


def _compare_digests(written: Written, disk: DiskImage, reporter: Reporter) -> str:
    source = written.source.disk
    digest = written.digest
    if digest is None:
        digest = digest_of(source, on_progress=reporter("reading"))
    if digest_of(disk, on_progress=reporter("verifying")) != digest:
        from vmport_converters.disk.compare import compare_disks

        raise _differs(written, compare_disks(source, disk))
    return digest


def _compare(written: Written, disk: DiskImage, reporter: Reporter) -> None:
    """Byte by byte; what both find at the same place of the same file is not read."""
    from vmport_converters.disk.compare import compare_disks

    report = reporter("verifying")
    place = compare_disks(written.source.disk, disk, on_progress=report)
    if place is not None:
        raise _differs(written, place)


def _differs(written: Written, place: Difference | None) -> ToolFailed:
    written.source.stamps.check_unchanged()
    what = "content that differs from the source's"
    return _failed(written, "convert.differs", what, None if place is None else place.offset)


def _failed(written: Written, code: str, what: str, at: int | None = None) -> ToolFailed:
    return ToolFailed(
        written.destination,
        code=code,
        at=at,
        problem=f"{written.plan.engine} wrote {what}; nothing was published",
    )
