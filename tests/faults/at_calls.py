"""Faults at single system calls: each call of a run gets its turn."""

from __future__ import annotations

import os
import pickle
import subprocess
from typing import TYPE_CHECKING, Final

from tests.faults import child
from tests.faults.calls import (
    CLEANING,
    COPIES,
    FLUSHES,
    READS,
    WRITES,
    Call,
    Counting,
    Failing,
    Kind,
    Meddling,
    Role,
)
from tests.faults.scene import Broken, Stage, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from tests.faults.tally import Tally

ERRORS: Final = (Kind.ENOSPC, Kind.EIO)
SIGNALS: Final = (Kind.SIGKILL, Kind.SIGINT, Kind.SIGTERM)


def calls_of(stage: Stage, *, old: bool) -> list[Call]:
    """Every call of a conversion that goes well."""
    counting = Counting()
    log = stage.home / "calls"

    def write_down() -> None:
        log.write_bytes(pickle.dumps(counting.calls))

    def prepare() -> None:
        import atexit

        atexit.register(write_down)  # before the command line's own, so it runs after these
        stage.through(counting)()

    stage.set_up(old=old)
    ended = child.run(stage.words(force=old), prepare)
    if stage.check(ended, old=old, codes={0}) is not State.COMPLETE:
        raise Broken("a run without a fault fails")
    found: list[Call] = pickle.loads(log.read_bytes())
    return found


def some(calls: Sequence[Call], most: int | None) -> list[Call]:
    """At most so many (None: all), spread evenly; the first and the last are among them."""
    if most is None or len(calls) <= most:
        return [*calls]
    return [calls[place * (len(calls) - 1) // max(1, most - 1)] for place in range(most)]


def outputs(calls: Iterable[Call], names: frozenset[str]) -> list[Call]:
    """Those on the side of the destination, of these names."""
    return [call for call in calls if call.role is Role.OUTPUT and call.name in names]


def fail_each(
    tally: Tally,
    stage: Stage,
    calls: Sequence[Call],
    kind: Kind,
    *,
    old: bool,
    codes: set[int],
    late: bool = False,
) -> None:
    """Let each of `calls` go wrong, one a run."""
    for call in calls:
        before = "old, " if old else ""
        name = f"{stage.output.name}, {before}{kind} at {call.role} {call.name} {call.number}"
        with tally.case(name):
            stage.set_up(old=old)
            hook = Failing(call, kind, child.FIRED.set, late=late)
            ended = child.run(stage.words(force=old), stage.through(hook))
            if not ended.fired:
                raise Broken("the call was never made")
            # What cannot be removed now is left to the next run, which must remove it.
            lingers = kind is Kind.SIGKILL or call.name in CLEANING
            state = stage.check(ended, old=old, codes=codes, killed=lingers)
            tally.add(ended, state)
            if lingers:
                stage.check_next()


def failing_output(calls: Iterable[Call]) -> list[Call]:
    """Calls on the destination's side that make it, its staging folder or its names."""
    names = frozenset(call.name for call in calls) - WRITES - READS - CLEANING - FLUSHES
    return outputs(calls, names)


def moments(calls: Iterable[Call]) -> list[Call]:
    """Calls by which bytes of the source come to us, or go where they shall."""
    return [
        call
        for call in calls
        if (call.role is Role.SOURCE and call.name in READS)
        or (call.role is Role.OUTPUT and call.name in COPIES)
    ]


def reads(calls: Iterable[Call], role: Role) -> list[Call]:
    """Calls that read the source, or what was written."""
    return [call for call in calls if call.role is role and call.name in READS]


# --- A source that others lay hands on -----------------------------------------------------------


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a file with its holes, which decide what a conversion reads."""
    command = ["cp", "--reflink=never", "--sparse=auto", "--remove-destination"]
    subprocess.run([*command, source, target], check=True)


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def _overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"changed")


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _exchange(path: Path) -> None:
    other = path.with_name("other")
    copy_sparse(path, other)
    other.replace(path)


MEDDLING: Final = {
    "removed": os.unlink,
    "made longer": _append,
    "written to": _overwrite,
    "cut": _cut,
    "exchanged for a copy": _exchange,
}


def meddle_each(
    tally: Tally, stage: Stage, calls: Sequence[Call], what: str, spoil: Callable[[Path], object]
) -> None:
    """Do something to the source just before each of `calls`, one a run."""
    kept = stage.home / "kept"
    copy_sparse(stage.source, kept)
    for call in calls:
        with tally.case(f"{stage.output.name}: source {what} before read {call.number}"):
            stage.set_up(old=False)
            hook = Meddling(call, lambda: spoil(stage.source), child.FIRED.set)
            ended = child.run(stage.words(force=False), stage.through(hook))
            copy_sparse(kept, stage.source)
            if not ended.fired:
                raise Broken("the call was never made")
            state = stage.check(ended, old=False, codes={3})
            if state is not State.ABSENT:
                raise Broken(f"it was published although its source was {what}")
            tally.add(ended, state)
