"""Work in several threads comes out in order, bounded, and with its failures at their turn."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmport_formats.ahead import in_order
from vmport_formats.errors import CorruptInput

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "vmport-test"


def failure() -> CorruptInput:
    return CorruptInput("it", code="test.broken", problem="is broken")


def ours() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith(NAME)]


@given(
    delays=st.lists(st.sampled_from([0.0, 0.0, 0.002]), max_size=12),
    workers=st.integers(1, 4),
    ahead=st.integers(0, 5),
)
@settings(max_examples=40, deadline=None)
def test_results_are_in_the_order_of_the_jobs(
    delays: list[float], workers: int, ahead: int
) -> None:
    def work(job: tuple[int, float]) -> int:
        time.sleep(job[1])
        return job[0]

    jobs = enumerate(delays)
    found = list(in_order(work, jobs, workers=workers, ahead=ahead, name=NAME))
    assert found == list(range(len(delays)))
    assert ours() == []


@pytest.mark.parametrize("by_the_work", [False, True])
def test_a_failure_comes_after_all_that_was_before_it(by_the_work: bool) -> None:
    def jobs() -> Iterator[int]:
        yield from range(7)
        if not by_the_work:
            raise failure()
        yield from range(7, 20)

    def work(job: int) -> int:
        time.sleep(0.002 * (job == 0))
        if job == 7:
            raise failure()
        return job

    found: list[int] = []
    with pytest.raises(CorruptInput):
        found.extend(in_order(work, jobs(), workers=3, ahead=6, name=NAME))
    assert found == list(range(7))
    assert ours() == []


def test_no_more_is_taken_than_may_be_ahead() -> None:
    taken = 0

    def jobs() -> Iterator[int]:
        nonlocal taken
        while taken < 100:
            taken += 1
            yield taken

    with closing(in_order(lambda job: job, jobs(), workers=2, ahead=3, name=NAME)) as results:
        for given_out, result in enumerate(results, 1):
            assert result == given_out
            assert taken <= given_out + 3
            if given_out == 50:
                break
    assert ours() == []
