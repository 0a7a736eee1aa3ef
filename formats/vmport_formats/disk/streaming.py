"""A disk read in order, ahead of who asks, by several threads."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

from vmport_formats.ahead import in_order, processors
from vmport_formats.disk.fetch import read_packed
from vmport_formats.disk.layer import divided, holds_data, placed
from vmport_formats.errors import VmportError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vmport_formats.disk.fetch import Fetcher
    from vmport_formats.disk.layer import Run

_MOST_WORKERS: Final = 8

Piece = tuple[int, bytes | bytearray | memoryview]
"""Offset on the disk, and what is there."""
_Job = list[tuple[int, "Run"]]
"""Runs with their offsets on the disk."""


def stream(
    runs: Iterable[Run], offset: int, fetcher: Fetcher, *, chunk: int, workers: int | None
) -> Iterator[Piece]:
    """See `image.DiskImage.stream`; `runs` begin at `offset`."""
    if workers is None:
        workers = processors(_MOST_WORKERS)

    def fetched(job: _Job) -> list[Piece]:
        packed = read_packed([run for _, run in job])
        return [
            (place, fetcher.fetch(place, run, from_))
            for (place, run), from_ in zip(job, packed, strict=True)
        ]

    work = _jobs(runs, offset, chunk)
    pieces = in_order(fetched, work, workers=workers, ahead=2 * workers, name="vmport-read")
    with closing(pieces):
        for some in pieces:
            yield from some


def _jobs(runs: Iterable[Run], offset: int, chunk: int) -> Iterator[_Job]:
    """What holds data, in portions of about `chunk` bytes; a failure comes after the last."""
    job: _Job = []
    size = 0
    failure: VmportError | None = None
    try:
        for place, run in placed(runs, offset):
            for start, part in _parts(place, run, chunk) if holds_data(run) else ():
                if job and size + part.length > chunk:
                    yield job
                    job, size = [], 0
                job.append((start, part))
                size += part.length
    except VmportError as error:
        failure = error
    if job:
        yield job
    if failure is not None:
        raise failure


def _parts(place: int, run: Run, chunk: int) -> Iterator[tuple[int, Run]]:
    """A run in parts that each fit a portion; the unit of a packed one stays whole."""
    if run.unit is not None or run.length <= chunk:
        return iter(((place, run),))
    return divided(place, run, chunk)
