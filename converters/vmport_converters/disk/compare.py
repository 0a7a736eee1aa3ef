"""Compares two disks, whatever their formats: the first byte that differs, if one does.

What the maps alone do not tell to be equal (`compare_spans`) is read, unpacked and compared by
several threads.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from threading import local
from typing import TYPE_CHECKING, Final

from vmport_converters.disk.compare_spans import differing_spans, jobs, pieces
from vmport_formats.ahead import in_order, processors
from vmport_formats.disk.granted import granted
from vmport_formats.disk.image import open_image
from vmport_formats.disk.layer import Found
from vmport_formats.errors import VmportError
from vmport_formats.units import MIB, SECTOR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from vmport_converters.disk.compare_spans import Place, Span
    from vmport_formats.disk.extents import Extent
    from vmport_formats.disk.image import DiskImage
    from vmport_formats.disk.model import Concern, DiskFormat, ImageInfo

_CHUNK: Final = 2 * MIB
"""Bytes of a disk that a thread compares at a time."""
_MOST_WORKERS: Final = 8
_AHEAD: Final = 4
"""Jobs that wait for each thread."""


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
    concerns: tuple[Concern, ...] = ()
    """What is odd about the images of its chain fitting together."""


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
    resolver = granted(allow)
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
                Image(first, one.info, one.virtual_size, one.concerns),
                Image(second, other.info, other.virtual_size, other.concerns),
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
    work = jobs(pieces(differing_spans(first.runs(), second.runs(), size), chunk))
    look = _Look(first, second, chunk).at
    workers = workers or processors(_MOST_WORKERS)
    found = in_order(
        lambda job: (job[-1].end, look(job)),
        work,
        workers=workers,
        ahead=_AHEAD * workers,
        name="vmport-compare",
    )
    with closing(found):
        for end, offset in found:
            on_progress(end / size)
            if offset is not None:
                return Difference(offset, (_side(first, offset), _side(second, offset)))
    return None


def _side(disk: DiskImage, offset: int) -> Side:
    found = disk.read(offset, 1)
    return Side(found[0] if found else None, next(disk.extents(offset, 1), None))


class _Look(local):
    """Compares parts of two disks.

    Each thread has its own buffers, and uses them again and again: fresh memory costs more than to
    compare it.
    """

    def __init__(self, first: DiskImage, second: DiskImage, chunk: int) -> None:
        self._disks = first, second
        self._buffers = bytearray(chunk), bytearray(chunk)
        self._zeros = bytes(chunk)

    def at(self, job: Iterable[Span]) -> int | None:
        """The offset of the first byte in which the disks differ, if one does.

        Raises:
            VmportError: one cannot be read, and what is before that place is equal.
        """
        for span in job:
            try:
                found = self._first(span)
            except VmportError:
                middle = (span.start + span.end) // 2
                if middle - span.start < SECTOR:
                    raise
                found = self.at((span._replace(end=middle), span._replace(start=middle)))
            if found is not None:
                return found
        return None

    def _first(self, span: Span) -> int | None:
        length = span.end - span.start
        first, second = (
            self._zeros if zero else self._filled(disk, buffer, span.start, length, place)
            for disk, buffer, zero, place in zip(
                self._disks, self._buffers, span.zeros, span.places, strict=True
            )
        )
        found = first_difference(first, second, length)
        return None if found is None else span.start + found

    def _filled(
        self, disk: DiskImage, buffer: bytearray, offset: int, length: int, place: Place | None
    ) -> bytearray:
        """`buffer`, beginning with `length` bytes of the disk from `offset`; `place` has them."""
        with memoryview(buffer) as view:
            if place is not None and place.run is not None and place.run.found is Found.STORED:
                run = place.run._replace(length=length, at=place.run.at + offset - place.start)
                disk.fill(view[:length], offset, run)
                return buffer
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
