"""Compares two disks, whatever their formats: the first byte that differs, if one does.

Both maps are walked in step.  What both know to be zeros, and what both find at the same place of
the same file (overlays of one backing file), needs no reading; the rest is read, unpacked and
compared by several threads.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from threading import local
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.disk.image import open_image
from vmport_formats.disk.layer import Found, sparse
from vmport_formats.errors import VmportError
from vmport_formats.references import Confined
from vmport_formats.source import FileSource
from vmport_formats.units import MIB, SECTOR

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from vmport_formats.disk.extents import Extent
    from vmport_formats.disk.image import DiskImage
    from vmport_formats.disk.layer import Run, Unit
    from vmport_formats.disk.model import DiskFormat, ImageInfo

_CHUNK: Final = 2 * MIB
"""Bytes of a disk that one thread compares at a time."""
_MOST_WORKERS: Final = 8
_AHEAD: Final = 4
"""Chunks that wait for each thread."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the disks where they differ."""

    value: int | None
    """The byte there; None where the disk has ended."""
    extent: Extent | None
    """Where that byte comes from, if it is there."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The first byte in which two disks differ."""

    offset: int
    """On the virtual disk."""
    sides: tuple[Side, Side]


@dataclass(frozen=True, slots=True)
class Wanted:
    """An image that is to be compared."""

    path: str
    format: DiskFormat | None = None
    """None: find out."""
    snapshot: str | None = None
    """An internal snapshot, by id or name, instead of the present."""


@dataclass(frozen=True, slots=True)
class Image:
    """One that was compared."""

    wanted: Wanted
    info: ImageInfo
    size: int
    """Of its disk, or the snapshot's, in bytes."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What came out."""

    images: tuple[Image, Image]
    difference: Difference | None
    """None: all that both have is equal, and what the longer one has more is zeros."""

    @property
    def same_size(self) -> bool:
        """Whether the disks are equally long."""
        return self.images[0].size == self.images[1].size


def _quiet(_: float) -> None:
    pass


def compare(
    first: Wanted,
    second: Wanted,
    *,
    allow: Sequence[str] = (),
    passphrase: bytes | None = None,
    on_progress: Callable[[float, int], object] = lambda _share, _size: None,
) -> Compared:
    """Compare two images; `on_progress` hears the share that is done, and the size in bytes.

    Raises:
        InputError: one of them cannot be read.
        UnsafeInput: one names files that lie in none of the folders `allow`.
    """
    resolver = Confined([Path(folder) for folder in allow])
    with ExitStack() as stack:
        one, other = (
            stack.enter_context(
                open_image(
                    wanted.path,
                    resolver,
                    declared=wanted.format,
                    snapshot=wanted.snapshot,
                    passphrase=passphrase,
                )
            )
            for wanted in (first, second)
        )
        size = max(one.virtual_size, other.virtual_size)
        difference = compare_disks(one, other, on_progress=lambda share: on_progress(share, size))
        return Compared(
            (
                Image(first, one.info, one.virtual_size),
                Image(second, other.info, other.virtual_size),
            ),
            difference,
        )


def compare_disks(
    first: DiskImage,
    second: DiskImage,
    *,
    on_progress: Callable[[float], object] = _quiet,
    chunk: int = _CHUNK,
    workers: int | None = None,
) -> Difference | None:
    """The first difference between two disks; beyond its end, the shorter one counts as zeros.

    Each of the `workers` threads (by default one a processor) holds twice `chunk` bytes, besides
    what the disks themselves keep.  `on_progress` hears the share that is done, 0 to 1.

    Raises:
        CorruptInput, TruncatedInput, UnreadableInput: a disk cannot be read, and everything before
            that place is equal.
    """
    size = max(first.virtual_size, second.virtual_size)
    spans = _portions(_differing_spans(first.runs(), second.runs(), size), chunk)
    look = _Look(first, second, chunk).at
    with closing(_looked_at(spans, look, size, workers or _processors())) as looked:
        for end, offset in looked:
            on_progress(end / size)
            if offset is not None:
                return Difference(offset, (_side(first, offset), _side(second, offset)))
    return None


def _side(disk: DiskImage, offset: int) -> Side:
    found = disk.read(offset, 1)
    return Side(found[0] if found else None, next(disk.extents(offset, 1), None))


# --- What has to be read ------------------------------------------------------------------------


class _Span(NamedTuple):
    """A stretch that has to be looked at."""

    start: int
    end: int
    zeros: tuple[bool, bool]
    """Which of the disks is known to hold zeros here; never both."""


class _Place(NamedTuple):
    """A run, and where its disk has it."""

    start: int
    end: int
    run: Run | None
    """None: zeros."""


def _places(runs: Iterable[tuple[int, Run]], end: int) -> Iterator[_Place]:
    """The runs, those of zeros reduced to nothing, filled up with zeros to `end`."""
    offset = 0
    for _, whole in runs:
        for run in sparse(whole):
            stop = offset + run.length
            data = run.found in (Found.STORED, Found.PACKED)
            yield _Place(offset, stop, run if data else None)
            offset = stop
    if offset < end:
        yield _Place(offset, end, None)


def _differing_spans(
    first: Iterable[tuple[int, Run]], second: Iterable[tuple[int, Run]], end: int
) -> Iterator[_Span]:
    """The parts of two disks, `end` bytes long, that the maps alone do not tell to be equal."""
    if not end:
        return
    ours, theirs = _places(first, end), _places(second, end)
    one, other = next(ours), next(theirs)
    while True:
        start, stop = max(one.start, other.start), min(one.end, other.end)
        if not _known_equal(one, other):
            yield _Span(start, stop, (one.run is None, other.run is None))
        if stop == end:
            return
        if one.end == stop:
            one = next(ours)
        if other.end == stop:
            other = next(theirs)


def _known_equal(one: _Place, other: _Place) -> bool:
    """Whether both are zeros, or the same bytes of the same file."""
    first, second = one.run, other.run
    if first is None or second is None:
        return first is second
    if first.found is not second.found or first.cipher is not None or second.cipher is not None:
        return False
    if first.unit is not None and second.unit is not None:
        return _packed(first.unit) == _packed(second.unit) and _same_file(
            first.unit.source, second.unit.source
        )
    return first.at - one.start == second.at - other.start and _same_file(
        first.source, second.source
    )


def _packed(unit: Unit) -> tuple[object, ...]:
    return unit.start, unit.size, unit.at, unit.packed, unit.unpack


def _same_file(first: object, second: object) -> bool:
    return (
        isinstance(first, FileSource)
        and isinstance(second, FileSource)
        and first.identity is not None
        and first.identity == second.identity
    )


def _portions(spans: Iterable[_Span], chunk: int) -> Iterator[_Span]:
    """The same, cut at the multiples of `chunk`, with all that lies between two of them made one.

    A failure to find out comes after all that was found out before.
    """
    start = end = 0
    zeros = (True, True)
    failure: VmportError | None = None
    try:
        for span in spans:
            place = span.start
            while place < span.end:
                stop = min(span.end, (place // chunk + 1) * chunk)
                if start < end and place // chunk != start // chunk:
                    yield _Span(start, end, zeros)
                    end = start
                if start >= end:
                    start, zeros = place, (True, True)
                end = stop
                zeros = zeros[0] and span.zeros[0], zeros[1] and span.zeros[1]
                place = stop
    except VmportError as error:
        failure = error
    if start < end:
        yield _Span(start, end, zeros)
    if failure is not None:
        raise failure


# --- Reading it ---------------------------------------------------------------------------------


def _processors() -> int:
    return min(_MOST_WORKERS, len(os.sched_getaffinity(0)))


def _looked_at(
    spans: Iterable[_Span], look: Callable[[_Span], int | None], size: int, workers: int
) -> Generator[tuple[int, int | None], None, None]:
    """For each span, in order, its end and where it differs; several are looked at ahead."""
    with ThreadPoolExecutor(workers, thread_name_prefix="vmport-compare") as pool:

        def submitted() -> Iterator[tuple[int, Future[int | None]]]:
            try:
                for span in spans:
                    yield span.end, pool.submit(look, span)
            except VmportError as error:  # it has its turn when all before it was looked at
                failed: Future[int | None] = Future()
                failed.set_exception(error)
                yield size, failed

        ahead: deque[tuple[int, Future[int | None]]] = deque()
        try:
            for item in submitted():
                ahead.append(item)
                if len(ahead) > _AHEAD * workers:
                    end, future = ahead.popleft()
                    yield end, future.result()
            while ahead:
                end, future = ahead.popleft()
                yield end, future.result()
        finally:  # who asks has what it wants
            for _, future in ahead:
                future.cancel()


class _Look(local):
    """Compares parts of two disks.

    Each thread has its own buffers, and uses them again and again: fresh memory costs more than to
    compare it.
    """

    def __init__(self, first: DiskImage, second: DiskImage, chunk: int) -> None:
        self._disks = first, second
        self._buffers = bytearray(chunk), bytearray(chunk)
        self._zeros = bytes(chunk)

    def at(self, span: _Span) -> int | None:
        """The offset of the first byte of `span` in which the disks differ.

        Raises:
            VmportError: one cannot be read, and what is before that place is equal.
        """
        try:
            return self._first(span)
        except VmportError:
            middle = (span.start + span.end) // 2
            if middle - span.start < SECTOR:
                raise
        found = self.at(span._replace(end=middle))
        return self.at(span._replace(start=middle)) if found is None else found

    def _first(self, span: _Span) -> int | None:
        length = span.end - span.start
        first, second = (
            self._zeros if zero else self._filled(disk, buffer, span.start, length)
            for disk, buffer, zero in zip(self._disks, self._buffers, span.zeros, strict=True)
        )
        found = first_difference(first, second, length)
        return None if found is None else span.start + found

    def _filled(self, disk: DiskImage, buffer: bytearray, offset: int, length: int) -> bytearray:
        """`buffer`, which begins with `length` bytes of the disk from `offset`."""
        with memoryview(buffer) as view:
            done = disk.readinto(offset, view[:length])
            view[done:length] = self._zeros[done:length]  # behind its end
        return buffer


def first_difference(
    first: bytes | bytearray, second: bytes | bytearray, length: int
) -> int | None:
    """Where the first `length` bytes begin to differ.

    `startswith` compares without a copy and at the speed of memory; views compare byte by byte.
    """
    with memoryview(second) as view:
        if first.startswith(view[:length]):
            return None
        low, high = 0, length
        while high - low > 1:
            middle = (low + high) // 2
            if first.startswith(view[low:middle], low):
                low = middle
            else:
                high = middle
    return low
