"""Signals that ask us to stop are put off in the midst of threads and weak references alone."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from vmport import stopping
from vmport.stopping import Stopped
from vmport_converters.interruption import held

if TYPE_CHECKING:
    from collections.abc import Iterator

HEARD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in HEARD}
    for number in HEARD:
        signal.signal(number, signal.SIG_DFL)
    stopping.hear()
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in before.items():
        signal.signal(number, handler)


def interrupted(module: str, number: signal.Signals, done: list[str]) -> None:
    """A signal comes to a function of `module`, and some time goes by."""
    program = "def midst():\n    signal.raise_signal(number)\n    done.append('the function')\n"
    names: dict[str, Any] = {
        "__name__": module,  # which a function knows where it is by
        "signal": signal,
        "number": number,
        "done": done,
    }
    exec(program, names)
    names["midst"]()
    for _ in range(100):
        time.sleep(0.001)
    done.append("the rest")


@pytest.mark.parametrize("module", ["threading", "weakref", "_weakrefset"])
def test_it_is_put_off_where_it_would_do_harm(module: str) -> None:
    done: list[str] = []
    with pytest.raises(Stopped):
        interrupted(module, signal.SIGTERM, done)
    assert done == ["the function"]


def test_elsewhere_it_stops_at_once() -> None:
    done: list[str] = []
    with pytest.raises(Stopped):
        interrupted("anything", signal.SIGINT, done)
    assert done == []


@pytest.mark.parametrize("wait", ["event", "join"])
def test_who_waits_for_a_thread_is_stopped(wait: str) -> None:
    never = threading.Event()
    thread = threading.Thread(target=never.wait, daemon=True)
    thread.start()
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    begin = time.monotonic()
    with pytest.raises(Stopped):
        (never.wait if wait == "event" else thread.join)()
    assert time.monotonic() - begin < 1  # as long as an interruption may take to be answered
    never.set()
    thread.join()
    timer.join()


def test_who_holds_signals_back_holds_back_what_was_put_off() -> None:
    done: list[str] = []

    def work() -> None:
        with held():
            interrupted("threading", signal.SIGHUP, done)

    with pytest.raises(Stopped):
        work()
    assert done == ["the function", "the rest"]


def test_when_all_is_decided_nothing_comes() -> None:
    done: list[str] = []
    names: dict[str, Any] = {"__name__": "threading", "signal": signal}
    exec("def midst():\n    signal.raise_signal(signal.SIGINT)\n", names)
    names["midst"]()
    stopping.ignore()
    interrupted("anything", signal.SIGTERM, done)
    assert done == ["the function", "the rest"]
