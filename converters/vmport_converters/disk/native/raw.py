"""Writes a raw image whose blocks the file system lets it share with the source.

Where it does not, several threads that read, and leave out zeros, are a sixth faster than the
kernel's own ways to copy; so these are for what of a disk cannot be shared, such as its end.
"""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Final

from vmport_converters.disk.native.kernel_copy import CannotRead, KernelCopy
from vmport_converters.disk.native.output import OutputFile
from vmport_converters.disk.native.pipeline import prepared
from vmport_formats.disk.layer import Found, Run, placed, sparse
from vmport_formats.errors import UnreadableInput
from vmport_formats.source import FileSource
from vmport_formats.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from vmport_formats.disk.composer import Composer
    from vmport_formats.disk.image import DiskImage

    OnProgress = Callable[[float], object]

_LOOKED_AT: Final = 256
"""Runs of a disk, of which one may be stored."""
_AT_A_TIME: Final = 8 * MIB
"""Bytes after which an interruption is heard."""


def can_be_shared(disk: DiskImage, path: Path) -> bool:
    """Whether the file system lets a file at `path` share the first stored bytes of `disk`.

    They are looked for at its beginning: a disk that is packed throughout has none.
    """
    for offset, run in islice(placed(run for _, run in disk.runs()), _LOOKED_AT):
        if not _is_stored(run):
            continue
        with OutputFile(path) as output:
            kernel = KernelCopy(output.fileno())
            shared = kernel.share(_descriptor(run), run.at, min(run.length, MIB), offset)
        path.unlink()
        return shared
    return False


def copy_raw(
    disk: DiskImage, composer: Composer, output: OutputFile, *, on_progress: OnProgress
) -> None:
    """Write `disk` to `output`, which is new: what is stored by the kernel, the rest by us.

    What is shared or copied is not looked at: zeros that the source stores are kept.

    Raises:
        InputError: the disk cannot be read.
        OSError: the file cannot be written.
    """
    furthest = 0.0

    def reached(offset: int) -> None:  # the kernel is ahead of us
        nonlocal furthest
        furthest = max(furthest, min(1.0, offset / disk.virtual_size))
        on_progress(furthest)

    output.set_length(composer.length)
    runs = _after_copying(disk, composer.grain, output, reached)
    rest = prepared(disk, grain=composer.grain, hashed=False, runs=runs)
    with closing(rest):
        for done in rest:
            for offset, data, _ in done.pieces:
                output.write(composer.add(offset, data))
            reached(done.end)
    on_progress(1.0)


def _after_copying(
    disk: DiskImage, grain: int, output: OutputFile, reached: Callable[[int], object]
) -> Iterator[tuple[int, Run]]:
    """The runs of the disk; what the kernel can copy of them is copied, and told to be zeros."""
    kernel, offset, share = KernelCopy(output.fileno()), 0, True
    for depth, whole in disk.runs():
        for run in sparse(whole):
            for part, is_ours in _parts(run, offset, disk.virtual_size, grain):
                if is_ours:
                    yield depth, part
                else:
                    descriptor = _descriptor(part)
                    share = share and kernel.share(descriptor, part.at, part.length, offset)
                    if not share:
                        _copy(kernel, part, offset, output, reached)
                    yield depth, Run(part.length, Found.ZERO)
                offset += part.length


def _parts(run: Run, offset: int, end: int, grain: int) -> Iterator[tuple[Run, bool]]:
    """`run`, in parts; with each, whether we have to read it ourselves.

    The kernel copies whole grains alone: of those that hold something else too, what we write would
    hide what it copied.
    """
    length = run.length
    start = min(length, -offset % grain)
    stop = length if offset + length == end else length - (offset + length) % grain
    if not _is_stored(run) or start >= stop:
        yield run, True
        return
    if start:
        yield run._replace(length=start), True
    yield run._replace(length=stop - start, at=run.at + start), False
    if stop < length:
        yield run._replace(length=length - stop, at=run.at + stop), True


def _copy(
    kernel: KernelCopy,
    run: Run,
    offset: int,
    output: OutputFile,
    reached: Callable[[int], object],
) -> None:
    for start in range(0, run.length, _AT_A_TIME):
        length = min(_AT_A_TIME, run.length - start)
        try:
            kernel.copy(_descriptor(run), run.at + start, length, offset + start)
        except CannotRead as error:
            assert run.source is not None  # noqa: S101 - it is stored
            raise UnreadableInput(
                run.source.name, code="source.read", problem=f"cannot read: {error.strerror}"
            ) from error
        except EOFError:
            assert run.source is not None  # noqa: S101 - it is stored
            raise UnreadableInput(
                run.source.name,
                code="source.changed",
                problem="is shorter now than when it was opened",
                hint="nothing may write to the file while it is read",
            ) from None
        output.written(length)
        reached(offset + start + length)


def _is_stored(run: Run) -> bool:
    return run.found is Found.STORED and run.cipher is None and isinstance(run.source, FileSource)


def _descriptor(run: Run) -> int:
    assert isinstance(run.source, FileSource)  # noqa: S101 - `_is_stored`
    return run.source.fileno()
