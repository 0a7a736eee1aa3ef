"""Puts ^C and a polite kill off while something must not be left half done.

Python raises `KeyboardInterrupt` between any two instructions of the main thread, those of a
``finally`` included.  Inside ``with held():`` it waits for the end of the block.  Between the start
of a ``finally`` and its ``with held()`` there is still a gap; so what must be cleaned up is also
written down, by `owe`, and what is still owed when the interpreter ends is done then.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Wrapped:
    """A signal handler that holds back the one that was there before, while anybody asks."""

    __slots__ = ("previous",)

    def __init__(self, previous: Callable[[int, FrameType | None], object]) -> None:
        self.previous = previous

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if _state.depth:
            _state.pending = number
        else:
            self.previous(number, frame)


class _State:
    __slots__ = ("depth", "pending")

    def __init__(self) -> None:
        self.depth = 0
        self.pending: int | None = None


_state: Final = _State()


class held:  # noqa: N801 - reads as a verb, like the context managers of contextlib
    """A block that no signal with a Python handler breaks into; it is handled at the block's end.

    May be nested.  Only the main thread is ever interrupted; elsewhere this does nothing.  Signals
    without a Python handler (SIGKILL, a SIGTERM that nobody catches) end the process as ever.
    """

    __slots__ = ("_counts",)

    def __enter__(self) -> Self:
        self._counts = threading.current_thread() is threading.main_thread()
        if self._counts:
            _wrap_handlers()
            _state.depth += 1
        return self

    def __exit__(self, *_exception: object) -> None:
        if not self._counts:
            return
        _state.depth -= 1
        if _state.depth == 0 and _state.pending is not None:
            number, _state.pending = _state.pending, None
            signal.raise_signal(number)


_owed: Final[dict[int, tuple[int, Callable[[], None]]]] = {}
"""Of each debt the process that made it (a fork inherits the list, not the debts), and what."""
_numbers: Final = count()


def owe(action: Callable[[], None]) -> int:
    """Write down that `action` must be done; call it in the `held` block that made it needed.

    Returns:
        what to `settle` it by.
    """
    number = next(_numbers)
    _owed[number] = (os.getpid(), action)
    return number


def settle(number: int) -> None:
    """Do what is owed under `number` now; once, however often this is called."""
    with held():
        process, action = _owed.pop(number, (0, None))
        if action is not None and process == os.getpid():
            action()


@atexit.register
def _settle_all() -> None:
    with held():
        for number in sorted(_owed, reverse=True):
            with suppress(Exception):
                settle(number)


def _wrap_handlers() -> None:
    # Installed once and left there: taking them off again would open gaps of its own.
    for number in _SIGNALS:
        handler = signal.getsignal(number)
        if callable(handler) and not isinstance(handler, _Wrapped | signal.Handlers):
            signal.signal(number, _Wrapped(handler))
