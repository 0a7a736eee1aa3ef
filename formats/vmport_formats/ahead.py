"""Work in several threads, some way ahead of who asks, whose results come in order."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from vmport_formats.errors import VmportError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

Job = TypeVar("Job")
Result = TypeVar("Result")


def processors(most: int) -> int:
    """How many processors we may use, `most` at the most."""
    return min(most, len(os.sched_getaffinity(0)))


def in_order(
    work: Callable[[Job], Result], jobs: Iterable[Job], *, workers: int, ahead: int, name: str
) -> Generator[Result, None, None]:
    """What `work` makes of each of `jobs`, in their order.

    Jobs are taken from `jobs` in the thread of who asks; up to `ahead` results wait for them,
    besides the one that they have.  The `workers` threads are called `name`, and have ended when
    the generator is closed.

    Raises:
        VmportError: of `jobs` or `work`, once all results before it were yielded.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix=name) as pool:

        def submitted() -> Iterator[Future[Result]]:
            try:
                for job in jobs:
                    yield pool.submit(work, job)
            except VmportError as error:  # it has its turn when all before it was yielded
                failed: Future[Result] = Future()
                failed.set_exception(error)
                yield failed

        waiting: deque[Future[Result]] = deque()
        try:
            for future in submitted():
                waiting.append(future)
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # who asks may have lost interest
            for future in waiting:
                future.cancel()
