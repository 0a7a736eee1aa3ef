"""Writes a disk as an overlay: only what is not the same in the base that it will lie on.

What the maps of both tell to be equal (zeros, or the same place of the same file) is not read.
The rest is read from both and compared, grain by grain, by several threads.
"""

from __future__ import annotations

from contextlib import closing
from itertools import groupby
from operator import itemgetter
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_converters.disk.compare_spans import Span, differing_spans, pieces
from vmport_converters.disk.native.content_digest import BLOCK, block_digests
from vmport_converters.disk.native.engine import Batch, write_batches
from vmport_converters.disk.native.zeros import data_spans, zeros
from vmport_formats.ahead import in_order, processors
from vmport_formats.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from vmport_converters.disk.native.output import OutputFile
    from vmport_formats.disk.composer import Data, OverlayComposer, Write
    from vmport_formats.disk.image import DiskImage

_CHUNK: Final = MIB
"""Bytes of each disk that a thread works on at a time."""
_MOST_WORKERS: Final = 16


class Change(NamedTuple):
    """Grains that the base has otherwise."""

    offset: int
    length: int
    data: Data | None
    """None: zeros."""
    packed: bool


class Changes(NamedTuple):
    """What came of one job; valid until the next one is asked for."""

    end: int
    """On the disk: all before it has been handed out."""
    changes: list[Change]
    """In ascending order."""
    blocks: list[tuple[int, bytes]]
    """Of the disk, for `ContentDigest.add`; empty when nothing is hashed."""
    buffers: tuple[bytearray, bytearray]
    """The first is what the changes are views of."""


def write_overlay(
    disk: DiskImage,
    base: DiskImage,
    composer: OverlayComposer,
    output: OutputFile,
    *,
    hashed: bool,
    on_progress: Callable[[float], object],
) -> str:
    """Write to `output`, which is new, what makes `disk` of `base`.

    Returns the digest of what was read of `disk`, if `hashed`; it is that of all of it only where
    the two have no file in common, or else what they share was not read.

    Raises:
        InputError: one of them cannot be read.
        OSError: the file cannot be written.
    """
    with closing(changes(disk, base, composer, hashed=hashed)) as work:
        batches = (Batch(done.end, _writes(composer, done.changes), done.blocks) for done in work)
        return write_batches(
            batches, composer, output, size=composer.virtual_size, on_progress=on_progress
        )


def _writes(composer: OverlayComposer, made: Iterable[Change]) -> Iterator[Write]:
    for offset, length, data, packed in made:
        if data is None:
            yield from composer.add_zeros(offset, length)
        elif packed:
            yield from composer.add_packed(offset, bytes(data))
        else:
            yield from composer.add(offset, data)


def differing_data(disk: DiskImage, base: DiskImage) -> int:
    """Bytes of `disk` that may have to be written, as far as the maps of both tell.

    Raises:
        InputError: as `DiskImage.runs`.
    """
    spans = _spans(disk, base, disk.virtual_size)
    return sum(span.end - span.start for span in spans if not span.zeros[0])


def changes(
    disk: DiskImage, base: DiskImage, composer: OverlayComposer, *, hashed: bool
) -> Generator[Changes, None, None]:
    """What is to be added to the composer, in order, worked on ahead by several threads.

    Memory is bounded by about four jobs a processor, each of two MiB or two grains.

    Raises:
        InputError: a disk cannot be read, once all jobs before that place were handed out.
    """
    unit = max(composer.grain, BLOCK)
    most = max(_CHUNK, unit)
    workers = processors(_MOST_WORKERS)
    ahead = 2 * workers
    work = _Work(disk, base, composer, hashed=hashed)
    for _ in range(ahead + 2):  # one for each job under way, and that of who asks
        work.buffers.put((bytearray(most), bytearray(most)))
    todo = _jobs(_spans(disk, base, composer.virtual_size), unit, most)
    made = in_order(work.done, todo, workers=workers, ahead=ahead, name="vmport-overlay")
    with closing(made):
        for done in made:
            yield done
            work.buffers.put(done.buffers)


def _spans(disk: DiskImage, base: DiskImage, size: int) -> Iterator[Span]:
    return differing_spans(disk.runs(0, size), base.runs(0, size), size)


def _jobs(spans: Iterable[Span], unit: int, most: int) -> Iterator[list[Span]]:
    """The spans in whole units, and in portions that fit a buffer of `most` bytes."""
    job: list[Span] = []
    size = 0
    for piece in pieces(_whole(spans, unit), most):
        length = piece.end - piece.start
        if size + length > most:
            yield job
            job, size = [], 0
        job.append(piece)
        size += length
    if job:
        yield job


def _whole(spans: Iterable[Span], unit: int) -> Iterator[Span]:
    last = 0
    for span in spans:
        start = max(last, span.start // unit * unit)
        last = max(last, -(-span.end // unit) * unit)
        if start < last:
            yield Span(start, last, (False, False))


class _Work:
    """What a thread does with a job."""

    def __init__(
        self, disk: DiskImage, base: DiskImage, composer: OverlayComposer, *, hashed: bool
    ) -> None:
        self._disk = disk
        self._base = base
        self._size = composer.virtual_size
        self._grain = composer.grain
        self._pack = composer.pack
        self._hashed = hashed
        self.buffers: SimpleQueue[tuple[bytearray, bytearray]] = SimpleQueue()
        """Those that nobody uses; each is as long as a job."""

    def done(self, job: list[Span]) -> Changes:
        """Read it from both, hash and compare; each span has a part of the buffers of its own."""
        ours, theirs = buffers = self.buffers.get()
        made: list[Change] = []
        blocks: list[tuple[int, bytes]] = []
        at = 0
        for start, end, *_ in job:
            stop = at + end - start
            self._fill(self._disk, start, memoryview(ours)[at:stop])
            self._fill(self._base, start, memoryview(theirs)[at:stop])
            if self._hashed:
                blocks += block_digests(start - at, ours, data_spans(ours, at, stop, BLOCK))
            if not ours.startswith(memoryview(theirs)[at:stop], at, stop):
                made += self._changes(start - at, buffers, at, stop)
            at = stop
        return Changes(job[-1].end, made, blocks, buffers)

    def _fill(self, disk: DiskImage, offset: int, target: memoryview) -> None:
        """Behind the end of either, or of the overlay, there are zeros."""
        done = disk.readinto(offset, target[: max(0, self._size - offset)])
        target[done:] = zeros(len(target) - done)

    def _changes(
        self, shift: int, buffers: tuple[bytearray, bytearray], at: int, stop: int
    ) -> Iterator[Change]:
        grain, view = self._grain, memoryview(buffers[0])
        stop = min(stop, self._size - shift)
        for kind, found in groupby(self._grains(buffers, at, stop), itemgetter(1)):
            if kind is None:
                continue
            places = [place for place, _kind in found]
            if kind and self._pack is not None:
                for place in places:
                    plain = view[place : place + grain]
                    packed = self._pack(plain)
                    yield Change(shift + place, grain, packed or plain, bool(packed))
                continue
            length = places[-1] + grain - places[0]
            data = view[places[0] : places[0] + length] if kind else None
            yield Change(shift + places[0], length, data, packed=False)

    def _grains(
        self, buffers: tuple[bytearray, bytearray], at: int, stop: int
    ) -> Iterator[tuple[int, bool | None]]:
        """Each grain, with None where both are equal, else whether ours is not all zeros."""
        ours, theirs = buffers[0], memoryview(buffers[1])
        nothing = zeros(self._grain)
        for place in range(at, stop, self._grain):
            if ours.startswith(theirs[place : place + self._grain], place):
                yield place, None
            else:
                yield place, not ours.startswith(nothing, place)
