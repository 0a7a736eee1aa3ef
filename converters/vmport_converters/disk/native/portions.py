"""What of a disk has to be read, in portions that a thread works on: pure, from the map alone.

A portion begins and ends at multiples of a unit, and holds every run of data inside.  What the
map, or a hole of the file, tells to be zeros is in a portion only where it shares a unit with data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vmport_formats.disk.layer import divided, holds_data, placed
from vmport_formats.errors import VmportError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vmport_formats.disk.layer import Run


class Portion(NamedTuple):
    """A stretch of the disk, and where its data is."""

    start: int
    end: int
    """May lie behind the end of the disk, by less than a unit."""
    runs: list[tuple[int, Run]]
    """Those of data, in order, each with its offset on the disk."""


Job = list[Portion]
"""Portions for one buffer."""


def jobs(
    runs: Iterable[tuple[int, Run]],
    *,
    unit: int,
    most: int,
) -> Iterator[Job]:
    """Portions, in order, of at most `most` bytes a job; that is a multiple of `unit`.

    `runs` are those of a whole disk, from its beginning.  Where they fail, what was found out
    before comes first.
    """
    job: Job = []
    size = 0
    failure: VmportError | None = None
    try:
        for portion in _portions(_data(runs, most), unit, most):
            length = portion.end - portion.start
            if job and size + length > most:
                yield job
                job, size = [], 0
            job.append(portion)
            size += length
    except VmportError as error:
        failure = error
    if job:
        yield job
    if failure is not None:
        raise failure


def _portions(data: Iterable[tuple[int, Run]], unit: int, most: int) -> Iterator[Portion]:
    start = end = 0
    runs: list[tuple[int, Run]] = []
    failure: VmportError | None = None
    try:
        for offset, run in data:
            first = offset - offset % unit
            stop = -(-(offset + run.length) // unit) * unit
            if runs and first <= end and first // most == start // most:
                runs.append((offset, run))
                end = max(end, stop)
                continue
            if runs:
                yield Portion(start, end, runs)
            start, end, runs = first, stop, [(offset, run)]
    except VmportError as error:
        failure = error
    if runs:
        yield Portion(start, end, runs)
    if failure is not None:
        raise failure


def _data(runs: Iterable[tuple[int, Run]], most: int) -> Iterator[tuple[int, Run]]:
    """The runs of data, cut where the disk's offset is a multiple of `most`."""
    for offset, run in placed(run for _, run in runs):
        if not holds_data(run):
            continue
        if offset % most + run.length <= most:
            yield offset, run
        else:
            yield from divided(offset, run, most)
