"""^C waits for the end of a held block, and what is owed is done however the interpreter ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from vmport_converters.interruption import held, owe, settle


def test_an_interrupt_waits_for_the_outermost_block() -> None:
    done: list[str] = []

    def interrupted() -> None:
        with held():
            with held():
                os.kill(os.getpid(), signal.SIGINT)
                done.append("inner")
            done.append("outer")
        done.append("never")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == ["inner", "outer"]


def test_outside_a_block_an_interrupt_comes_at_once() -> None:
    with held():
        pass
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_an_exception_in_the_block_is_the_context_of_the_interrupt() -> None:
    def failing() -> None:
        with held():
            signal.raise_signal(signal.SIGINT)
            raise ZeroDivisionError

    with pytest.raises(KeyboardInterrupt) as caught:
        failing()
    assert isinstance(caught.value.__context__, ZeroDivisionError)


def test_a_thread_holds_nothing_up() -> None:
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with held():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(10)
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        leave.set()
        thread.join()


def test_a_debt_is_settled_once() -> None:
    done: list[int] = []
    debt = owe(lambda: done.append(1))
    settle(debt)
    settle(debt)
    assert done == [1]


def test_debts_are_settled_at_the_end_latest_first_and_not_by_a_fork() -> None:
    code = f"""
import os, sys
sys.path[:0] = {sys.path!r}
from vmport_converters.interruption import owe
owe(lambda: print("first", flush=True))
owe(lambda: 1 / 0)
owe(lambda: print("last", flush=True))
if os.fork() == 0:
    sys.exit()
os.wait()
sys.exit(130)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "last\nfirst\n", "")
