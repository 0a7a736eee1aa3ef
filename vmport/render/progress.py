"""How far long work is, on stderr: a bar on a terminal, and otherwise a line now and then."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from vmport.render.errors import printable
from vmport_formats.units import format_size

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


_PAUSE: Final = 10.0
"""Seconds between two lines where there is no terminal; quick work says nothing."""


class ProgressDisplay:
    """A bar with share, rate and time left, one phase of the work after the other.

    It vanishes when the block ends, and what is said meanwhile appears above it.  Losing the
    terminal must not stop the work, so no error of its own leaves here.
    """

    def __init__(self, *, shown: bool, of: str | None = None) -> None:
        """`of`: what is worked on, where that is one thing of several."""
        self._bar: Progress | None = _bar() if shown and sys.stderr.isatty() else None
        self._of = "" if of is None else f"{printable(of)}: "
        self._next_line = time.monotonic() + _PAUSE if shown and self._bar is None else None
        self._phase: str | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._bar is not None and self._phase is not None:
            with suppress(OSError):
                self._bar.stop()

    def update(self, phase: str, share: float, size: int) -> None:
        """Show that `share`, 0 to 1, of `size` bytes has gone through `phase`."""
        if self._bar is None:
            self._update_lines(phase, share, size)
            return
        with suppress(OSError):
            if self._phase is None:
                self._bar.start()
            if self._task is None or phase != self._phase:
                if self._task is not None:
                    self._bar.remove_task(self._task)
                self._phase = phase
                self._task = self._bar.add_task(f"{self._of}{phase}", total=size)
            self._bar.update(self._task, completed=int(share * size))

    def _update_lines(self, phase: str, share: float, size: int) -> None:
        if self._next_line is None or time.monotonic() < self._next_line:
            return
        self._next_line = time.monotonic() + _PAUSE
        line = f"vmport: {self._of}{phase}: {share:.0%} of {format_size(size)}"
        with suppress(OSError):
            print(line, file=sys.stderr)  # noqa: T201

    def say(self, kind: str, text: str, *, wanted: bool = True) -> None:
        """Print a line to stderr; text out of a file is escaped, so that it drives no terminal."""
        if not wanted:
            return
        line = f"vmport: {kind}: {printable(text)}"
        with suppress(OSError):
            if self._bar is None:
                print(line, file=sys.stderr)  # noqa: T201
            else:
                self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
