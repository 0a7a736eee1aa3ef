"""A disk read in order, ahead of who asks, by several threads."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from vmport_formats.disk.layer import Found, sparse
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
        workers = min(_MOST_WORKERS, len(os.sched_getaffinity(0)))
    with ThreadPoolExecutor(workers, thread_name_prefix="vmport-read") as pool:

        def fetched(job: _Job) -> list[Piece]:
            return [(place, fetcher.fetch(place, run)) for place, run in job]

        def submitted() -> Iterator[Future[list[Piece]]]:
            try:
                for job in _jobs(runs, offset, chunk):
                    yield pool.submit(fetched, job)
            except VmportError as error:  # it has its turn when all before it was yielded
                failed: Future[list[Piece]] = Future()
                failed.set_exception(error)
                yield failed

        ahead: deque[Future[list[Piece]]] = deque()
        try:
            for future in submitted():
                ahead.append(future)
                if len(ahead) > 2 * workers:
                    yield from ahead.popleft().result()
            while ahead:
                yield from ahead.popleft().result()
        finally:  # who asks may have lost interest
            for future in ahead:
                future.cancel()


def _jobs(runs: Iterable[Run], offset: int, chunk: int) -> Iterator[_Job]:
    """What holds data, in portions of about `chunk` bytes; a failure comes after the last."""
    job: _Job = []
    size = 0
    failure: VmportError | None = None
    try:
        for place, run in _data(runs, offset):
            for start, part in _parts(place, run, chunk):
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


def _data(runs: Iterable[Run], offset: int) -> Iterator[tuple[int, Run]]:
    """The runs that are not known to be zeros: neither by the image nor by its file's holes."""
    for run in runs:
        for part in sparse(run):
            if part.found in (Found.STORED, Found.PACKED):
                yield offset, part
            offset += part.length


def _parts(place: int, run: Run, chunk: int) -> Iterator[tuple[int, Run]]:
    """A run in parts that each fit a portion; the unit of a packed one stays whole."""
    if run.unit is not None or run.length <= chunk:
        yield place, run
        return
    first = chunk - place % chunk  # so that all others are aligned on the disk
    done, length = 0, min(first, run.length)
    while done < run.length:
        yield place + done, run._replace(length=length, at=run.at + done)
        done += length
        length = min(chunk, run.length - done)
