"""Portions hold all data of a map and hardly more, in order, and fit their buffers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count, pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmport_converters.disk.native.portions import jobs
from vmport_formats.disk.layer import Found, Run, Unit
from vmport_formats.errors import CorruptInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vmport_converters.disk.native.portions import Job

KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True)
class Holey:
    """A source of any size, of which only the even multiples of `step` have blocks."""

    step: int
    name: str = "holey"
    size: int = 1 << 60

    def read_at(self, offset: int, length: int) -> bytes:
        raise AssertionError("a map is made without reading")

    def read_into(self, offset: int, target: memoryview) -> int:
        raise AssertionError("a map is made without reading")

    def data_ranges(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        end = offset + length
        while offset < end:
            stop = min(end, offset - offset % self.step + self.step)
            if offset // self.step % 2 == 0:
                yield offset, stop
            offset = stop


SOLID = Holey(1 << 61)


def unpack(_packed: bytes, _size: int) -> bytes:
    raise AssertionError("a map is made without unpacking")


@st.composite
def _runs(draw: st.DrawFn) -> list[Run]:
    lengths = st.one_of(
        st.integers(1, 3 * MIB),
        st.integers(1, 5000),
        st.integers(1, 40).map(lambda n: n * 64 * KIB),
        st.sampled_from((1, 511, 512, 4096, 64 * KIB, MIB - 1, MIB, MIB + 1, 2 * MIB, 9 * MIB)),
    )
    sources = st.sampled_from((SOLID, SOLID, Holey(512), Holey(4096), Holey(100_000), Holey(MIB)))
    made = []
    for length in draw(st.lists(lengths, max_size=40)):
        found = draw(st.sampled_from(Found))
        at = draw(st.integers(0, 1 << 40))
        match found:
            case Found.STORED:
                run = Run(length, found, draw(sources), at)
            case Found.PACKED:
                before = draw(st.integers(0, 1000))
                unit = Unit(0, before + length, SOLID, at, 7, unpack, "code")
                run = Run(length, found, unit=unit)
            case Found.ZERO:  # may have a place nevertheless
                run = Run(length, found, draw(st.none() | sources), at)
            case _:
                run = Run(length, found)
        made.append(run)
    return made


def data_of(runs: Sequence[Run]) -> list[tuple[int, int, Run, int]]:
    """Start and end of each stretch of data on the disk, with the run that it is of, and its place
    in the source less that on the disk.
    """
    found, offset = [], 0
    for run in runs:
        if run.found is Found.PACKED:
            found.append((offset, offset + run.length, run, 0))
        elif run.found is Found.STORED:
            assert run.source is not None
            shift = offset - run.at
            found += [
                (start + shift, stop + shift, run, -shift)
                for start, stop in run.source.data_ranges(run.at, run.length)
            ]
        offset += run.length
    return found


def check(made: Sequence[Job], runs: Sequence[Run], unit: int, most: int) -> None:
    """That `made` are good jobs for a disk of `runs`."""
    truth = data_of(runs)
    end = 0
    for job in made:
        assert job
        assert sum(portion.end - portion.start for portion in job) <= most
        for portion in job:
            assert end <= portion.start < portion.end
            assert portion.start % unit == portion.end % unit == 0
            end = place = portion.start
            for offset, run in portion.runs:
                assert place <= offset
                place = offset + run.length
            assert place <= portion.end
            end = portion.end
    told = [item for job in made for portion in job for item in portion.runs]
    # The same bytes in the same order, however the runs are divided.
    rest = iter(told)
    for start, stop, whole, shift in truth:
        while start < stop:
            offset, run = next(rest)
            assert offset == start
            assert run.length > 0
            assert (run.found, run.unit, run.source) == (whole.found, whole.unit, whole.source)
            if run.found is Found.STORED:
                assert run.at - offset == shift
            start += run.length
        assert start == stop
    assert next(rest, None) is None
    # No unit is read for nothing.
    units = {n for start, stop, *_ in truth for n in range(start // unit, -(-stop // unit))}
    read = [
        n
        for job in made
        for portion in job
        for n in range(portion.start // unit, portion.end // unit)
    ]
    assert read == sorted(units)


_UNITS = st.integers(0, 5).map(lambda power: 64 * KIB << power)


@given(runs=_runs(), unit=_UNITS, factor=st.sampled_from((1, 1, 2, 16)))
@settings(max_examples=200, deadline=None)
def test_all_data_and_no_unit_without(runs: list[Run], unit: int, factor: int) -> None:
    most = max(MIB, unit * factor)
    made = list(jobs(((0, run) for run in runs), unit=unit, most=most))
    check(made, runs, unit, most)
    # A job is not needlessly small: what comes next would not have fitted.
    for job, following in pairwise(made):
        size = sum(portion.end - portion.start for portion in job)
        assert size + following[0].end - following[0].start > most


@given(runs=_runs(), unit=_UNITS, data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_broken_map_is_told_last(runs: list[Run], unit: int, data: st.DataObject) -> None:
    good = data.draw(st.integers(0, len(runs)), label="good")

    def broken() -> Iterator[tuple[int, Run]]:
        yield from ((0, run) for run in runs[:good])
        raise CorruptInput("disk", code="a.table", problem="is broken")

    made: list[Job] = []
    with pytest.raises(CorruptInput, match="is broken"):
        made.extend(jobs(broken(), unit=unit, most=2 * MIB))
    check(made, runs[:good], unit, 2 * MIB)


def test_the_map_is_walked_no_further_than_needed() -> None:
    asked = count()
    endless = ((0, Run(MIB, Found.STORED, SOLID, MIB * next(asked))) for _ in iter(int, 1))
    made = jobs(endless, unit=64 * KIB, most=MIB)
    for _ in range(10):
        next(made)
    assert next(asked) <= 12
