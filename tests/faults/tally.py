"""What the cases of one row of the table came to."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.faults.scene import Broken, State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.child import Ended


@dataclass
class Tally:
    """One row."""

    fault: str
    """What went wrong, in words."""
    where: str
    """In which outputs or inputs."""
    cases: int = 0
    states: Counter[State] = field(default_factory=Counter)
    """Of the destination, after it."""
    codes: Counter[int] = field(default_factory=Counter)
    slowest: float | None = None
    """Seconds from a signal to the end."""
    broken: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @contextmanager
    def case(self, name: str) -> Iterator[None]:
        """One case; a broken promise is written down, and the next case goes on."""
        self.cases += 1
        begin = time.monotonic()
        try:
            yield
        except Broken as broken:
            self.broken.append(f"{name}: {broken}")
        self.seconds += time.monotonic() - begin

    def include(self, other: Tally) -> None:
        """Count its cases as ours, too."""
        self.cases += other.cases
        self.states.update(other.states)
        self.codes.update(other.codes)
        self.broken += other.broken
        self.seconds += other.seconds
        self.slowest = max(filter(None, (self.slowest, other.slowest)), default=None)

    def add(self, ended: Ended, state: State) -> None:
        """How a case ended that kept the promise."""
        self.codes[ended.code] += 1
        self.states[state] += 1
        if ended.answer is not None:
            self.slowest = max(self.slowest or 0.0, ended.answer)
