"""Writes a raw image, where the kernel can do most of it: bytes stay what and where they are."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

from vmport_converters.disk.native.kernel_copy import KernelCopy
from vmport_converters.disk.native.output import OutputFile
from vmport_converters.disk.native.pipeline import prepared
from vmport_formats.disk.layer import Found, Run, sparse
from vmport_formats.errors import UnreadableInput
from vmport_formats.source import FileSource
from vmport_formats.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from vmport_formats.disk.composer import Composer
    from vmport_formats.disk.image import DiskImage

    OnProgress = Callable[[float], object]

_AT_A_TIME: Final = 8 * MIB
"""Bytes after which an interruption is heard."""


def can_be_shared(disk: DiskImage, path: Path) -> bool:
    """Whether the file system lets a file at `path` share the first stored bytes of `disk`."""
    for offset, run in _stored(disk):
        with OutputFile(path) as output:
            shared = KernelCopy(output.fileno()).share(
                _descriptor(run), run.at, min(_length(run), MIB), offset
            )
        path.unlink()
        return shared
    return False


def copy_raw(disk: DiskImage, composer: Composer, path: Path, *, on_progress: OnProgress) -> None:
    """Write `disk` to the new raw file `path`: what is stored by the kernel, the rest by us.

    What the kernel copies is not looked at: zeros that the source keeps are kept.

    Raises:
        InputError: the disk cannot be read.
        OSError: the file cannot be written.
    """
    with OutputFile(path) as output:
        output.set_length(composer.length)
        kernel = KernelCopy(output.fileno())
        runs = _after_copying(disk, kernel, output, on_progress)
        rest = prepared(disk, grain=composer.grain, hashed=False, runs=runs)
        with closing(rest):
            for done in rest:
                for offset, data, _ in done.pieces:
                    output.write(composer.add(offset, data))
                on_progress(min(1.0, done.end / disk.virtual_size))
    on_progress(1.0)


def _after_copying(
    disk: DiskImage, kernel: KernelCopy, output: OutputFile, on_progress: OnProgress
) -> Iterator[tuple[int, Run]]:
    """The runs of the disk; those that the kernel can copy are copied, and told to be zeros."""
    offset, share = 0, True
    for depth, whole in disk.runs():
        for run in sparse(whole):
            if _is_stored(run):
                length = min(_length(run), disk.virtual_size - offset)
                share = share and kernel.share(_descriptor(run), run.at, length, offset)
                if not share:
                    for start in range(0, length, _AT_A_TIME):
                        part = min(_AT_A_TIME, length - start)
                        _copy(kernel, run, start, part, offset + start)
                        output.written(part)
                        on_progress((offset + start) / disk.virtual_size)
                yield depth, Run(run.length, Found.ZERO)
            else:
                yield depth, run
            offset += run.length


def _copy(kernel: KernelCopy, run: Run, start: int, length: int, offset: int) -> None:
    try:
        kernel.copy(_descriptor(run), run.at + start, length, offset)
    except EOFError:
        assert run.source is not None  # noqa: S101 - it is stored
        raise UnreadableInput(
            run.source.name,
            code="source.changed",
            problem="is shorter now than when it was opened",
            hint="nothing may write to the file while it is read",
        ) from None


def _is_stored(run: Run) -> bool:
    return run.found is Found.STORED and run.cipher is None and isinstance(run.source, FileSource)


def _descriptor(run: Run) -> int:
    assert isinstance(run.source, FileSource)  # noqa: S101 - `_is_stored`
    return run.source.fileno()


def _length(run: Run) -> int:
    """Bytes that its file has of it; the last one may be cut short."""
    assert run.source is not None  # noqa: S101 - `_is_stored`
    return max(0, min(run.length, run.source.size - run.at))


def _stored(disk: DiskImage) -> Iterator[tuple[int, Run]]:
    offset = 0
    for _, whole in disk.runs():
        for run in sparse(whole):
            if _is_stored(run):
                yield offset, run
            offset += run.length
