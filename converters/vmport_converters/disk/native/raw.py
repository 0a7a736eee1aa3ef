"""Writes a raw image, where the kernel can do most of it: bytes stay what and where they are."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

from vmport_converters.disk.native.kernel_copy import CannotRead, KernelCopy
from vmport_converters.disk.native.output import OutputFile
from vmport_converters.disk.native.pipeline import prepared
from vmport_converters.disk.native.zeros import data_spans
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

_AT_A_TIME: Final = 8 * MIB
"""Bytes after which an interruption is heard."""


def can_be_shared(disk: DiskImage, path: Path) -> bool:
    """Whether the file system lets a file at `path` share the first stored bytes of `disk`."""
    for offset, run in placed(run for _, run in disk.runs()):
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

    What is shared is not looked at; of what is copied, zeros are left out.

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
    copier, offset, share = _Copier(output, grain, reached), 0, True
    for depth, whole in disk.runs():
        for run in sparse(whole):
            for part, is_ours in _parts(run, offset, disk.virtual_size, grain):
                if is_ours:
                    yield depth, part
                else:
                    share = share and copier.share(part, offset)
                    if not share:
                        copier.copy(part, offset)
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


class _Copier:
    """Copies runs that are stored to the same place of `output`."""

    def __init__(self, output: OutputFile, grain: int, reached: Callable[[int], object]) -> None:
        self._output = output
        self._grain = grain
        self._reached = reached
        self._kernel = KernelCopy(output.fileno())
        self._buffer = bytearray()

    def share(self, run: Run, offset: int) -> bool:
        """As `KernelCopy.share`."""
        return self._kernel.share(_descriptor(run), run.at, run.length, offset)

    def copy(self, run: Run, offset: int) -> None:
        """Copy what is not zeros."""
        self._buffer = self._buffer or bytearray(_AT_A_TIME)
        for start in range(0, run.length, _AT_A_TIME):
            length = min(_AT_A_TIME, run.length - start)
            for begin, end in self._data(run, start, length):
                self._copy(run, start + begin, min(end, length) - begin, offset + start + begin)
            self._reached(offset + start + length)

    def _data(self, run: Run, start: int, length: int) -> list[tuple[int, int]]:
        """Where data lies in a part of `run`; read once here, and by the kernel from memory."""
        assert run.source is not None  # noqa: S101 - it is stored
        found = run.source.read_into(run.at + start, memoryview(self._buffer)[:length])
        end = -(-length // self._grain) * self._grain
        self._buffer[found:end] = bytes(end - found)
        return data_spans(self._buffer, 0, end, self._grain)

    def _copy(self, run: Run, start: int, length: int, offset: int) -> None:
        assert run.source is not None  # noqa: S101 - it is stored
        try:
            self._kernel.copy(_descriptor(run), run.at + start, length, offset)
        except CannotRead as error:
            raise UnreadableInput(
                run.source.name, code="source.read", problem=f"cannot read: {error.strerror}"
            ) from error
        except EOFError:
            raise UnreadableInput(
                run.source.name,
                code="source.changed",
                problem="is shorter now than when it was opened",
                hint="nothing may write to the file while it is read",
            ) from None
        self._output.written(length)


def _is_stored(run: Run) -> bool:
    return run.found is Found.STORED and run.cipher is None and isinstance(run.source, FileSource)


def _descriptor(run: Run) -> int:
    assert isinstance(run.source, FileSource)  # noqa: S101 - `_is_stored`
    return run.source.fileno()
