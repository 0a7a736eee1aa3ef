"""Measures programs: each a process of its own, start-up included, taking turns."""

from __future__ import annotations

import contextlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LONGEST: Final = 900.0
"""Seconds after which a program has failed."""
_LOOKS: Final = 0.01
"""Seconds between two looks at a program's memory."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What one run, or the median of several, took."""

    wall: float
    """Seconds."""
    work: float
    """Seconds of processor time, of all threads and processes."""
    size: int = 0
    """Bytes of the output; of a sparse one, what it occupies."""
    peak: int = 0
    """Bytes of memory: the most that each process of the tree ever held, added up."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A program that did not do it."""

    reason: str


Outcome = Taken | Failed


@dataclass(frozen=True, slots=True)
class Program:
    """One way to do it."""

    name: str
    argv: Sequence[str]
    runs: int | None = None
    """At most so many; None: as all."""


def take_turns(
    programs: Sequence[Program], runs: int, target: Path | None = None, *, label: str = ""
) -> dict[str, Outcome]:
    """The medians of each, by name; `target` is what they write, and is removed before and after.

    Between two runs everything is brought to the medium, so that what one left there to be written
    does not slow down the next.
    """
    outcomes: dict[str, list[Taken]] = {program.name: [] for program in programs}
    failures: dict[str, Failed] = {}
    for turn in range(runs):
        for program in programs:
            if program.name in failures or turn >= (program.runs or runs):
                continue
            _say(f"{label}: {program.name}, {turn + 1} of {program.runs or runs}")
            outcome = run_once(program.argv, target)
            if isinstance(outcome, Failed):
                failures[program.name] = outcome
            else:
                outcomes[program.name].append(outcome)
    _say("")
    return {name: failures.get(name) or median(taken) for name, taken in outcomes.items()}


def run_once(
    argv: Sequence[str],
    target: Path | None = None,
    *,
    watched: bool = False,
    longest: float = LONGEST,
) -> Outcome:
    """Run a program once; its memory is looked at only if `watched`."""
    if target is not None:
        target.unlink(missing_ok=True)
    os.sync()
    memory = _Memory()
    with tempfile.TemporaryFile() as errors:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        begin = time.perf_counter()
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
        )
        # `wait` with a limit of its own would look every 50 ms, and the figures have such steps.
        limit = threading.Timer(longest, process.terminate)
        limit.start()
        with memory.watching(process.pid) if watched else contextlib.nullcontext():
            status = process.wait()
            wall = time.perf_counter() - begin
        late = limit.finished.is_set()
        limit.cancel()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip()
    size = 0
    if target is not None and target.exists():
        size = min(target.stat().st_size, target.stat().st_blocks * 512)
        target.unlink()
    if late:
        return Failed(f"more than {longest:.0f} s")
    if status:
        return Failed(" ".join(said.split()) or f"ended with status {status}")
    work = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Taken(wall, work, size, memory.peak)


def median(taken: Sequence[Taken]) -> Taken:
    """Of each number by itself."""
    return Taken(
        statistics.median(one.wall for one in taken),
        statistics.median(one.work for one in taken),
        round(statistics.median(one.size for one in taken)),
        max(one.peak for one in taken),
    )


def faster(outcomes: Mapping[str, Outcome], ours: str, theirs: str) -> float | None:
    """How many times as fast `ours` is as `theirs`; None if one of them is not known."""
    our, their = outcomes.get(ours), outcomes.get(theirs)
    if isinstance(our, Taken) and isinstance(their, Taken):
        return their.wall / our.wall
    return None


def larger(outcomes: Mapping[str, Outcome], ours: str, theirs: str) -> float | None:
    """How many times as large the output of `ours` is; None if one of them is not known."""
    our, their = outcomes.get(ours), outcomes.get(theirs)
    if isinstance(our, Taken) and isinstance(their, Taken) and their.size:
        return our.size / their.size
    return None


def warm(path: Path) -> None:
    """Into the page cache, all that is not a hole."""
    with path.open("rb", buffering=0) as file:
        end = path.stat().st_size
        while True:
            try:
                begin = os.lseek(file.fileno(), file.tell(), os.SEEK_DATA)
            except OSError:  # nothing but a hole follows
                return
            stop = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            file.seek(begin)
            while begin < min(stop, end):
                begin += len(file.read(min(1 << 20, stop - begin)))


@dataclass
class _Memory:
    """What the processes of a tree held at the most."""

    _peaks: dict[int, int] = field(default_factory=dict)

    @property
    def peak(self) -> int:
        return sum(self._peaks.values())

    @contextlib.contextmanager
    def watching(self, root: int) -> Iterator[None]:
        done = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(root, done))
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()

    def _watch(self, root: int, done: threading.Event) -> None:
        while not done.wait(_LOOKS):
            for process in _tree(root):
                with contextlib.suppress(OSError, StopIteration, ValueError):
                    status = Path(f"/proc/{process}/status").read_text()
                    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
                    self._peaks[process] = int(peak.split()[1]) << 10


def _tree(root: int) -> list[int]:
    """`root` and all that came of it."""
    found = [root]
    for process in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{process}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)
