"""Runs the command line in a forked child of a process that has loaded everything already.

A case takes no longer than the conversion itself.  The child does what the `vmport` script does,
from its first line to the interpreter's own end.
"""

from __future__ import annotations

import atexit
import mmap
import os
import pkgutil
import resource
import select
import signal
import sys
import time
import traceback
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import typer.main

from vmport_converters import interruption

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_TRACEBACK: Final = 99
_STUCK: Final = 120.0
"""Seconds after which a run is a hang."""


_HEARD: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that is over."""

    code: int
    """Its exit code; the negative number of the signal that ended it."""
    said: str
    """On stderr."""
    fired: bool
    """What was to go wrong did."""
    seconds: float
    answer: float | None = None
    """Seconds from the signal that was sent to the end."""


class Flag:
    """A byte that a child shares with us: whether something has happened."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Share no more with whom we were forked from."""
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)

    def set(self) -> None:
        self._memory[0] = 1

    def take(self) -> bool:
        """Whether it was set; it is not any more."""
        was, self._memory[0] = self._memory[0] == 1, 0
        return was


FIRED: Final = Flag()


def warm_up() -> None:
    """Load all code, so that children need not; no thread is left."""
    for root in ("vmport_formats", "vmport_converters", "vmport"):
        for module in pkgutil.walk_packages(import_module(root).__path__, root + "."):
            if not module.name.endswith("__main__") and not module.name.endswith("._guard"):
                import_module(module.name)
    import_module("vmport.__main__")
    from vmport.cli import run as run_command_line

    handlers = {number: signal.getsignal(number) for number in _HEARD}
    with Path(os.devnull).open("w") as nothing, redirect_stderr(nothing):
        run_command_line(["convert", "/nonexistent", "/nonexistent/too.raw"])
    for number, handler in handlers.items():
        signal.signal(number, handler)
    # Typer would build the tree of commands anew in each child.
    from vmport.cli import command_line

    tree = typer.main.get_command(command_line())
    setattr(typer.main, "get_command", lambda _: tree)  # noqa: B010


@dataclass(frozen=True, slots=True)
class Running:
    """A child that runs the command line."""

    pid: int
    begin: float
    stderr: int

    def send(self, number: signal.Signals) -> float:
        """Send it a signal; when that was."""
        os.kill(self.pid, number)
        return time.monotonic()

    def wait(self, *, sent: float | None = None) -> Ended:
        """Wait for its end."""
        handle = os.pidfd_open(self.pid)
        ready, _, _ = select.select([handle], [], [], _STUCK)
        os.close(handle)
        if not ready:
            os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        end = time.monotonic()
        size = os.fstat(self.stderr).st_size
        said = os.pread(self.stderr, size, 0).decode(errors="replace")
        os.close(self.stderr)
        code = os.waitstatus_to_exitcode(status)
        return Ended(
            code if ready else _TRACEBACK,
            said if ready else f"it hung\n{said}",
            FIRED.take(),
            end - self.begin,
            None if sent is None else end - sent,
        )


def start(
    words: Sequence[str | Path], prepare: Callable[[], object] = lambda: None, *, cold: bool = False
) -> Running:
    """Run ``vmport WORDS`` in a child, after `prepare`; `cold`: in a fresh interpreter."""
    stderr = os.memfd_create("stderr")
    begin = time.monotonic()
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)  # it is no process of its own yet
    pid = os.fork()
    if not pid:
        _become([*map(str, words)], prepare, stderr, cold=cold)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
    return Running(pid, begin, stderr)


def run(words: Sequence[str | Path], prepare: Callable[[], object] = lambda: None) -> Ended:
    """Run it to its end."""
    return start(words, prepare).wait()


def _become(
    words: list[str], prepare: Callable[[], object], stderr: int, *, cold: bool
) -> NoReturn:
    code = _TRACEBACK
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for number, target in ((0, nothing), (1, nothing), (2, stderr)):
            os.dup2(target, number)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.argv = ["vmport", *words]
        atexit._clear()  # of what its parent owes
        atexit.register(interruption._settle_all)
        prepare()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if cold:
            os.execv(sys.executable, [sys.executable, "-m", "vmport", *words])
        code = _command_line()
    except BaseException:  # noqa: BLE001 - the child must not go on as its parent
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            sys.stderr.flush()
        os._exit(code)


def _command_line() -> int:
    from vmport.__main__ import main

    try:
        main()
    except SystemExit as ended:
        code = ended.code
    atexit._run_exitfuncs()
    return code if isinstance(code, int) else _TRACEBACK
