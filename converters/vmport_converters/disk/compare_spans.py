"""Which parts of two disks have to be looked at to tell whether they are equal.

Both maps are walked in step.  What both know to be zeros, and what both find at the same place of
the same file (overlays of one backing file), is equal without a look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.disk.layer import holds_data, placed
from vmport_formats.errors import VmportError
from vmport_formats.source import FileSource
from vmport_formats.units import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vmport_formats.disk.layer import Run, Unit

_GAP: Final = 128 * KIB
"""To read that much for nothing takes less than to begin anew."""
_JOB: Final = 8 * MIB
"""Bytes that a thread compares before it asks for more."""
_PIECES: Final = 256
"""And in how many pieces at the most."""


class Place(NamedTuple):
    """A run, and where its disk has it."""

    start: int
    end: int
    run: Run | None
    """None: zeros."""


class Span(NamedTuple):
    """A stretch that has to be looked at."""

    start: int
    end: int
    zeros: tuple[bool, bool]
    """Which of the disks is known to hold zeros here; never both."""
    places: tuple[Place | None, Place | None] = (None, None)
    """Of each disk the one that holds all of it, where that is known."""


def _places(runs: Iterable[tuple[int, Run]], end: int) -> Iterator[Place]:
    """The runs, those of zeros reduced to nothing, filled up with zeros to `end`."""
    stop = 0
    for offset, run in placed(run for _, run in runs):
        stop = offset + run.length
        yield Place(offset, stop, run if holds_data(run) else None)
    if stop < end:
        yield Place(stop, end, None)


def differing_spans(
    first: Iterable[tuple[int, Run]], second: Iterable[tuple[int, Run]], end: int
) -> Iterator[Span]:
    """The parts of two disks, `end` bytes long, that the maps alone do not tell to be equal."""
    if not end:
        return
    ours, theirs = _places(first, end), _places(second, end)
    one, other = next(ours), next(theirs)
    while True:
        start, stop = max(one.start, other.start), min(one.end, other.end)
        if not _known_equal(one, other):
            yield Span(start, stop, (one.run is None, other.run is None), (one, other))
        if stop == end:
            return
        if one.end == stop:
            one = next(ours)
        if other.end == stop:
            other = next(theirs)


def _known_equal(one: Place, other: Place) -> bool:
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


def pieces(spans: Iterable[Span], most: int) -> Iterator[Span]:
    """The same, cut at the multiples of `most`, with what is close together made one.

    A failure to find out comes after all that was found out before.
    """
    last: Span | None = None
    failure: VmportError | None = None
    try:
        for span in spans:
            for piece in _cut(span, most):
                if last is None:
                    last = piece
                elif piece.start - last.end <= _GAP and piece.start // most == last.start // most:
                    zeros = last.zeros[0] and piece.zeros[0], last.zeros[1] and piece.zeros[1]
                    last = Span(last.start, piece.end, zeros)
                else:
                    yield last
                    last = piece
    except VmportError as error:
        failure = error
    if last is not None:
        yield last
    if failure is not None:
        raise failure


def _cut(span: Span, most: int) -> Iterator[Span]:
    start = span.start
    while start < span.end:
        end = min(span.end, (start // most + 1) * most)
        yield span._replace(start=start, end=end)
        start = end


def jobs(pieces: Iterable[Span]) -> Iterator[list[Span]]:
    """The same in portions that are worth handing to a thread; a failure comes last, as above."""
    job: list[Span] = []
    size = 0
    failure: VmportError | None = None
    try:
        for piece in pieces:
            job.append(piece)
            size += piece.end - piece.start
            if size >= _JOB or len(job) == _PIECES:
                yield job
                job, size = [], 0
    except VmportError as error:
        failure = error
    if job:
        yield job
    if failure is not None:
        raise failure
