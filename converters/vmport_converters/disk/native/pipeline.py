"""Reads, hashes and packs a disk in several threads, and hands out what came of it in order."""

from __future__ import annotations

from contextlib import closing
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_converters.disk.native.content_digest import BLOCK, block_digests
from vmport_converters.disk.native.portions import jobs
from vmport_converters.disk.native.zeros import data_spans, zeros
from vmport_formats.ahead import in_order, processors
from vmport_formats.disk.fetch import read_packed
from vmport_formats.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from vmport_converters.disk.native.portions import Job, Portion
    from vmport_formats.disk.composer import Data
    from vmport_formats.disk.image import DiskImage
    from vmport_formats.disk.layer import Run

    Pack = Callable[[Data], bytes | None]

_CHUNK: Final = MIB
"""Bytes of the disk that a thread works on at a time: what fits the processor's cache."""
_MOST_WORKERS: Final = 16


class Piece(NamedTuple):
    """Grains that are not zeros."""

    offset: int
    data: Data
    packed: bool


class Prepared(NamedTuple):
    """What came of one job; its pieces are valid until the next one is asked for."""

    end: int
    """On the disk: all before it has been handed out."""
    pieces: list[Piece]
    """In ascending order; neighbours that are not packed are one."""
    blocks: list[tuple[int, bytes]]
    """For `ContentDigest.add`; empty when nothing is hashed."""
    buffer: bytearray
    """What the pieces are views of."""


def prepared(
    disk: DiskImage,
    *,
    grain: int,
    pack: Pack | None = None,
    hashed: bool = True,
    runs: Iterable[tuple[int, Run]] | None = None,
) -> Generator[Prepared, None, None]:
    """The data of `disk` in grains, zeros left out: in order, worked on ahead by several threads.

    `runs` stand in for those of the disk.

    Memory is bounded by about four jobs a processor, each of a MiB or a grain, whichever is more.

    Raises:
        InputError: the disk cannot be read, once all jobs before that place were handed out.
    """
    unit = max(grain, BLOCK)
    most = max(_CHUNK, unit)
    workers = processors(_MOST_WORKERS)
    ahead = 2 * workers
    work = _Work(disk, grain, pack, hashed=hashed)
    for _ in range(ahead + 2):  # one for each job under way, and that of who asks
        work.buffers.put(bytearray(most))
    todo = jobs(disk.runs() if runs is None else runs, unit=unit, most=most)
    made = in_order(work.done, todo, workers=workers, ahead=ahead, name="vmport-convert")
    with closing(made):
        for done in made:
            yield done
            work.buffers.put(done.buffer)


class _Work:
    """What a thread does with a job."""

    def __init__(self, disk: DiskImage, grain: int, pack: Pack | None, *, hashed: bool) -> None:
        self._disk = disk
        self._grain = grain
        self._pack = pack
        self._hashed = hashed
        self.buffers: SimpleQueue[bytearray] = SimpleQueue()
        """Those that nobody uses; each is as long as a job."""

    def done(self, job: Job) -> Prepared:
        """Read, hash and pack its portions; each has a part of a buffer of its own."""
        buffer = self.buffers.get()
        pieces: list[Piece] = []
        blocks: list[tuple[int, bytes]] = []
        at = 0
        view = memoryview(buffer)
        for portion in job:
            end = at + portion.end - portion.start
            self._read(portion, view[at:end])
            blocks_here = data_spans(buffer, at, end, BLOCK)
            if self._hashed:
                blocks += block_digests(portion.start - at, buffer, blocks_here)
            pieces += self._pieces(portion.start - at, buffer, blocks_here)
            at = end
        return Prepared(job[-1].end, pieces, blocks, buffer)

    def _read(self, portion: Portion, target: memoryview) -> None:
        done = 0
        packed = read_packed([run for _, run in portion.runs])
        for (offset, run), from_ in zip(portion.runs, packed, strict=True):
            start = offset - portion.start
            if done < start:
                target[done:start] = zeros(start - done)
            done = start + run.length
            self._disk.fill(target[start:done], offset, run, from_)
        if done < len(target):
            target[done:] = zeros(len(target) - done)

    def _pieces(
        self, shift: int, buffer: bytearray, spans: list[tuple[int, int]]
    ) -> Iterator[Piece]:
        """The grains of `spans` of the buffer, which are whole blocks, none of them zeros."""
        grain, view = self._grain, memoryview(buffer)
        for start, end in _grains(buffer, spans, grain):
            if self._pack is None:
                yield Piece(shift + start, view[start:end], packed=False)
                continue
            for place in range(start, end, grain):
                plain = view[place : place + grain]
                packed = self._pack(plain)
                yield Piece(shift + place, plain if packed is None else packed, packed is not None)


def _grains(
    buffer: bytearray, spans: list[tuple[int, int]], grain: int
) -> Iterator[tuple[int, int]]:
    if grain == BLOCK:
        yield from spans
    elif grain < BLOCK:
        for start, end in spans:
            yield from data_spans(buffer, start, end, grain)
    else:  # a grain is data when one of its blocks is
        last: tuple[int, int] | None = None
        for start, end in spans:
            start -= start % grain
            end = -(-end // grain) * grain
            if last is not None and start <= last[1]:
                last = last[0], max(last[1], end)
                continue
            if last is not None:
                yield last
            last = start, end
        if last is not None:
            yield last
