"""The only place that starts a program: explicit argv, limits, and it never outlives us."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import IO, TYPE_CHECKING, Final

from vmport_formats.errors import ToolFailed, ToolMissing
from vmport_formats.units import GIB

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_GUARD: Final = Path(__file__).with_name("_guard.py")
_CHUNK: Final = 1 << 16
_KEPT_STDERR: Final = 1 << 16
_MAX_STDOUT: Final = 1 << 26


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on a program, in bytes; None leaves one open."""

    address_space: int | None = 4 * GIB
    file_size: int | None = None

    def encode(self) -> str:
        """As `_guard` reads them."""
        pairs = {"CORE": 0, "AS": self.address_space, "FSIZE": self.file_size}
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
        raise ToolFailed(
            path,
            code=f"tool.{name}",
            problem=f"{name} ended with {how}: {said[-1] if said else 'it said nothing'}",
        )


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


def run(
    argv: Sequence[str],
    *,
    on_output: Callable[[bytes], None] | None = None,
    limits: Limits = Limits(),
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Completed:
    """Run `argv` (its first item an absolute path) to its end, with an empty stdin.

    Each chunk of stdout goes to `on_output` as it comes; without one it is collected, up to 64 MiB.
    The program is killed when this call is left by an exception, and by the kernel when we die.
    It runs in a session of its own, so ^C at the terminal reaches only us.
    """
    collected = bytearray()
    stderr = bytearray()
    guarded = [
        sys.executable, "-I", "-S", str(_GUARD),
        str(os.getpid()), limits.encode(), *argv,
    ]  # fmt: skip
    child = subprocess.Popen(
        guarded,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env={**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})},
        start_new_session=True,
    )
    assert child.stdout is not None  # noqa: S101 - PIPE was asked for
    assert child.stderr is not None  # noqa: S101
    drain = Thread(target=_drain, args=(child.stderr, stderr), daemon=True)
    try:
        drain.start()
        while chunk := os.read(child.stdout.fileno(), _CHUNK):
            if on_output is not None:
                on_output(chunk)
            elif len(collected) + len(chunk) <= _MAX_STDOUT:
                collected += chunk
            else:
                raise ToolFailed(
                    None,
                    code=f"tool.{Path(argv[0]).name}",
                    problem=f"{argv[0]} printed more than {_MAX_STDOUT} bytes",
                )
        status = child.wait()
        drain.join()
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        drain.join()
        child.stdout.close()
        child.stderr.close()
    return Completed(tuple(argv), status, bytes(collected), stderr.decode(errors="replace"))


def _drain(pipe: IO[bytes], into: bytearray) -> None:
    while chunk := os.read(pipe.fileno(), _CHUNK):
        into += chunk
        del into[:-_KEPT_STDERR]
