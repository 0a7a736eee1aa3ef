"""What a signal that asks us to stop does: it raises, but not where that would do harm.

Python runs a handler between any two instructions.  In the midst of `threading` an exception leaves
locks in disorder, and in a callback of `weakref` it is printed and forgotten.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    Handler = Callable[[int, FrameType | None], object]

_HEARD: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_DELICATE: Final = frozenset({"threading", "weakref", "_weakrefset"})
"""Modules."""
_SOON: Final = 0.001
"""Seconds."""
_seen: tuple[int, int] | None = None
"""Where a signal was put off last: the frame, and the instruction there."""


class Stopped(KeyboardInterrupt):
    """A signal asks us to stop; every temporary is removed on the way out.

    A class of its own: where a plain KeyboardInterrupt has passed through an import, the
    interpreter ends by SIGINT whoever catches it, and not with our exit code.
    """


def hear() -> None:
    """From now on let signals raise `Stopped`, but those that are ignored, as nohup asks."""
    _handle(_on_stop)


def ignore() -> None:
    """From now on let them pass; one that was put off, too."""
    _handle(signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0)


def _handle(handler: Handler | signal.Handlers) -> None:
    for number in _HEARD:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _on_stop(number: int, frame: FrameType | None) -> None:
    global _seen
    if frame is None or frame.f_globals.get("__name__") not in _DELICATE:
        raise Stopped
    before, _seen = _seen, (id(frame), frame.f_lasti)
    if before == _seen:  # it has not moved on: it waits, and expects to be interrupted
        raise Stopped
    signal.signal(signal.SIGALRM, lambda _, later: _come_again(number, later))
    signal.setitimer(signal.ITIMER_REAL, _SOON)


def _come_again(number: int, frame: FrameType | None) -> None:
    handler = signal.getsignal(number)  # which may have been wrapped since, or be none
    if callable(handler):
        handler(number, frame)
