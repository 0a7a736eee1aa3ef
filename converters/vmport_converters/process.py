"""The only place that starts a program: explicit argv, limits, and it never outlives us."""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vmport_converters.interruption import held, owe, settle
from vmport_converters.sandbox import Sandbox, make_ruleset
from vmport_formats.errors import ToolFailed, ToolMissing, UnreadableInput
from vmport_formats.units import GIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_GUARD: Final = Path(__file__).with_name("_guard.py")
MOST_SECRET: Final = 4096
"""Bytes that the smallest pipe holds."""
_CHUNK: Final = 1 << 16
_KEPT_STDERR: Final = 1 << 16
_MAX_STDOUT: Final = 1 << 26
_LINGER: Final = 0.2
"""Seconds without output after which we look whether the program itself still lives."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on a program; None leaves one as it is.  A lower one that is set for us wins."""

    address_space: int | None = 4 * GIB
    """Bytes."""
    file_size: int | None = None
    """Bytes of each file that it writes."""
    open_files: int | None = None
    """At once."""

    def encode(self) -> str:
        """As `_guard` reads them."""
        pairs = {
            "CORE": 0,
            "AS": self.address_space,
            "FSIZE": self.file_size,
            "NOFILE": self.open_files,
        }
        return ",".join(f"{name}={value}" for name, value in pairs.items() if value is not None)


@dataclass(frozen=True, slots=True)
class Completed:
    """A program that has ended."""

    argv: tuple[str, ...]
    status: int
    """Its exit status; the negative signal number when a signal ended it."""
    stdout: bytes = field(repr=False)
    stderr: str = field(repr=False)

    def check(self, *, path: str | None = None, accept: Sequence[int] = (0,)) -> Completed:
        """Itself, when the status is one of `accept`.

        Raises:
            ToolFailed: with the last line that the program said, about `path`.
        """
        if self.status in accept:
            return self
        said = [line for line in self.stderr.splitlines() if line.strip()]
        how = f"signal {-self.status}" if self.status < 0 else f"status {self.status}"
        name = Path(self.argv[0]).name
        last = said[-1].strip().removeprefix(f"{name}: ") if said else "it said nothing"
        raise ToolFailed(path, code=f"tool.{name}", problem=f"{name} ended with {how}: {last}")


def find_tool(name: str, *, package: str, purpose: str) -> str:
    """The absolute path of program `name`, which Debian's `package` installs.

    Raises:
        ToolMissing: it is not on PATH; the hint says how to get it.
    """
    found = shutil.which(name)
    if found is None:
        raise ToolMissing(
            None,
            code=f"tool.{name}",
            problem=f"{name} is needed to {purpose}, but is not on PATH",
            hint=f"apt-get install {package}",
        )
    return str(Path(found).absolute())


@contextmanager
def secret_pipe(content: bytes) -> Iterator[int]:
    """A descriptor from which `content`, at most `MOST_SECRET` bytes, can be read once.

    For `run`, whose program finds it as ``/dev/fd/NUMBER``: so it is in no list of processes, and
    in no file.
    """
    assert len(content) <= MOST_SECRET  # noqa: S101 - more might wait for a reader for ever
    reading, writing = os.pipe()
    try:
        try:
            os.write(writing, content)
        finally:
            os.close(writing)
        yield reading
    finally:
        os.close(reading)


def run(
    argv: Sequence[str],
    *,
    on_output: Callable[[bytes], None] | None = None,
    limits: Limits = Limits(),
    sandbox: Sandbox | None = None,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    descriptors: Sequence[int] = (),
) -> Completed:
    """Run `argv` (its first item an absolute path) to its end, with an empty stdin.

    It has our `descriptors` too, under the same numbers.

    Each chunk of stdout goes to `on_output` as it comes; without one it is collected, up to 64 MiB.
    Of stderr the last 64 KiB are kept.  The program runs in a session of its own, so ^C at the
    terminal reaches only us; it and what it started are killed when this call is left by an
    exception, and the program by the kernel when the thread that called this dies.  `sandbox` holds
    where the kernel has Landlock; see `landlock_version`.

    Raises:
        ToolFailed: more output than that.
        UnreadableInput: a file of `sandbox` is not there.
    """
    collected = bytearray()
    stderr = bytearray()

    def collect(chunk: bytes) -> None:
        if len(collected) + len(chunk) > _MAX_STDOUT:
            raise ToolFailed(
                None,
                code=f"tool.{Path(argv[0]).name}",
                problem=f"{argv[0]} printed more than {_MAX_STDOUT} bytes",
            )
        collected.extend(chunk)

    def keep_the_end(chunk: bytes) -> None:
        stderr.extend(chunk)
        del stderr[:-_KEPT_STDERR]

    owed = None
    try:
        with held():  # or the program could be started, and nobody here know it
            child = _start(argv, limits, sandbox, folder, environment, descriptors)
            owed = owe(partial(_end, child))
        status = _attend(child, on_output or collect, keep_the_end)
    finally:
        if owed is not None:
            settle(owed)
    return Completed(
        tuple(argv), status, bytes(collected), stderr.decode(errors="backslashreplace")
    )


def _start(
    argv: Sequence[str],
    limits: Limits,
    sandbox: Sandbox | None,
    folder: Path | None,
    environment: Mapping[str, str] | None,
    descriptors: Sequence[int],
) -> subprocess.Popen[bytes]:
    try:
        ruleset = None if sandbox is None else make_ruleset(sandbox, argv[0])
    except OSError as error:
        raise UnreadableInput(
            error.filename, code="source.open", problem=f"cannot open: {error.strerror}"
        ) from error
    guarded = [
        sys.executable, "-I", "-S", str(_GUARD),
        str(os.getpid()), limits.encode(), str(-1 if ruleset is None else ruleset), *argv,
    ]  # fmt: skip
    try:
        return subprocess.Popen(
            guarded,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(*descriptors, *(() if ruleset is None else (ruleset,))),
            cwd=folder,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})},
            start_new_session=True,
        )
    finally:
        if ruleset is not None:
            os.close(ruleset)


def _attend(
    child: subprocess.Popen[bytes],
    on_output: Callable[[bytes], None],
    on_stderr: Callable[[bytes], None],
) -> int:
    """Read both pipes until the program has ended; its status.

    A process that it leaves behind in the background may hold the pipes open for ever: once the
    program is gone and they are quiet, they are left.
    """
    with selectors.DefaultSelector() as pipes:
        for pipe, take in ((child.stdout, on_output), (child.stderr, on_stderr)):
            assert pipe is not None  # noqa: S101 - PIPE was asked for
            pipes.register(pipe, selectors.EVENT_READ, take)
        while pipes.get_map():
            ready = pipes.select(_LINGER)
            if not ready and child.poll() is not None:
                break
            for key, _events in ready:
                if chunk := os.read(key.fd, _CHUNK):
                    key.data(chunk)
                else:
                    pipes.unregister(key.fileobj)
    return child.wait()


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill the program and all of its session, if it still runs; close the pipes."""
    if child.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.kill()
        child.wait()
    for pipe in (child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()
