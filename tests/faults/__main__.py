"""Runs the matrix of faults and prints a table: ``python -m tests.faults --help``."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path
from random import Random
from signal import Signals
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from tests.faults import child
from tests.faults.at_calls import (
    MEDDLING,
    SIGNALS,
    calls_of,
    fail_each,
    failing_output,
    meddle_each,
    moments,
    outputs,
    reads,
    some,
)
from tests.faults.calls import CLEANING, COPIES, WHOLE_WRITES, WRITES, Kind, Role
from tests.faults.scene import NATIVE, Output, Stage, make_disk
from tests.faults.tally import Tally
from vmport_formats.units import MIB

if TYPE_CHECKING:
    from collections.abc import Sequence

_ANSWER: Final = 1.0
"""Seconds in which an interruption is answered."""


def _at_calls(stage: Stage) -> list[Tally]:
    name = stage.output.name
    rows = []
    for old in (False, True):
        calls = calls_of(stage, old=old)
        wrote, made = outputs(calls, WRITES), failing_output(calls)
        copied = outputs(calls, COPIES)
        full = Tally("ENOSPC at each call that writes", name)
        fail_each(full, stage, wrote, Kind.ENOSPC, old=old, codes={6})
        errors = Tally("EIO at each call that writes, or waits for it", name)
        # A copy inside the kernel that fails is tried by reading and writing.
        for chosen, codes in ((copied, {0, 6}), ([*{*wrote} - {*copied}], {6})):
            fail_each(errors, stage, chosen, Kind.EIO, old=old, codes=codes)
        short = Tally("each write cut short", name)
        partly = outputs(calls, WRITES - WHOLE_WRITES)
        fail_each(short, stage, partly, Kind.SHORT, old=old, codes={0})
        unheard = outputs(calls, frozenset({"start_writeback"}))
        fail_each(errors, stage, unheard, Kind.EIO, old=old, codes={0})
        awaited = outputs(calls, frozenset({"await_writeback"}))
        fail_each(errors, stage, awaited, Kind.EIO, old=old, codes={6})
        # What lets go of things after the destination has appeared may fail unheard.
        making = Tally("ENOSPC or EIO at each call that makes, flushes, names or closes", name)
        kind = Kind.ENOSPC if old else Kind.EIO
        fail_each(making, stage, made, kind, old=old, codes={0, 6})
        unread = Tally("EIO at each read of the source", name)
        fail_each(unread, stage, reads(calls, Role.SOURCE), Kind.EIO, old=old, codes={3})
        back = Tally("EIO at each read of what was written", name)
        fail_each(back, stage, reads(calls, Role.OUTPUT), Kind.EIO, old=old, codes={6})
        kept = Tally("EIO at each call that cleans up", name)
        fail_each(kept, stage, outputs(calls, CLEANING), Kind.EIO, old=old, codes={0, 6})
        stopped = Tally("SIGKILL, SIGINT, SIGTERM at calls that write or make", name)
        for kind in SIGNALS:
            codes = {-9} if kind is Kind.SIGKILL else {0, 130}
            fail_each(stopped, stage, some([*wrote, *made], 12), kind, old=old, codes=codes)
        rows += [full, errors, short, making, unread, back, kept, stopped]
    meddled = Tally("source removed, changed, cut or exchanged in the middle", name)
    chosen = some(moments(calls_of(stage, old=False))[4:], 3)
    for what, spoil in MEDDLING.items():
        meddle_each(meddled, stage, chosen, what, spoil)
    return [*rows, meddled]


def _at_random(stage: Stage, number: Signals, cases: int, seed: int) -> Tally:
    """Send a signal at random times of a conversion's life."""
    dice = Random(f"{seed} {number} {stage.output.name}")
    tally = Tally(f"{number.name} at random times", stage.output.name)
    stage.set_up(old=False)
    life = child.run(stage.words(force=False)).seconds
    for turn in range(cases):
        old, pause = turn % 2 == 1, dice.uniform(0, life * 1.1)
        with tally.case(f"{stage.output.name}, {number.name} after {pause * 1000:.1f} ms"):
            stage.set_up(old=old)
            running = child.start(stage.words(force=old))
            time.sleep(pause)
            ended = running.wait(sent=running.send(number))
            codes = {0, -number} | (set() if number is Signals.SIGKILL else {130})
            killed = ended.code == -number
            tally.add(ended, stage.check(ended, old=old, codes=codes, killed=killed))
            if number is not Signals.SIGKILL and ended.answer and ended.answer > _ANSWER:
                tally.broken.append(f"{number.name} was answered after {ended.answer:.2f} s")
            stage.check_next()
    return tally


def _merged(rows: Sequence[Tally]) -> list[Tally]:
    whole: dict[str, Tally] = {}
    for row in rows:
        into = whole.setdefault(row.fault, Tally(row.fault, ""))
        into.cases += row.cases
        into.states.update(row.states)
        into.codes.update(row.codes)
        into.broken += row.broken
        into.seconds += row.seconds
        into.slowest = max(filter(None, (into.slowest, row.slowest)), default=None)
    return [*whole.values()]


def _cells(row: Tally) -> str:
    ends = ", ".join(f"{number} × {code}" for code, number in sorted(row.codes.items()))
    slowest = "" if row.slowest is None else f"{row.slowest * 1000:.0f}"
    cells = (row.fault, f"{row.cases:,}", ends, slowest, str(len(row.broken)), f"{row.seconds:.0f}")
    return "| " + " | ".join(cells) + " |"


def _run(given: argparse.Namespace, chosen: Sequence[Output], home: Path) -> list[Tally]:
    small, large = home / "in.raw", home / "large.raw"
    make_disk(small, 3 * MIB + 512, seed=1)
    make_disk(large, given.mebibytes * MIB, seed=3)
    rows: list[Tally] = []
    for number, output in enumerate(chosen):
        rows += _at_calls(Stage(output, small, home / f"calls{number}"))
        shutil.rmtree(home / f"calls{number}")
        stage = Stage(output, large, home / f"times{number}")
        for signal, cases in ((Signals.SIGKILL, given.kills), (Signals.SIGINT, given.stops),
                              (Signals.SIGTERM, given.stops)):  # fmt: skip
            share = cases // len(chosen) + (number < cases % len(chosen))
            rows.append(_at_random(stage, signal, share, given.seed))
        shutil.rmtree(stage.home)
    return _merged(rows)


def main() -> int:
    """Run what the command line asks for; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="SIGKILLs, of all outputs")
    parser.add_argument("--stops", type=int, default=200, help="SIGINTs, and as many SIGTERMs")
    parser.add_argument("--mebibytes", type=int, default=32, help="of the disk that is stopped")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", action="append", choices=[item.name for item in NATIVE])
    given = parser.parse_args()
    chosen = [item for item in NATIVE if not given.output or item.name in given.output]
    child.warm_up()
    with TemporaryDirectory() as name:
        rows = _run(given, chosen, Path(name))
    print("| fault | cases | exit codes | slowest answer, ms | broken | seconds |")
    print("|---|--:|---|--:|--:|--:|")
    for row in rows:
        print(_cells(row))
    for row in rows:
        for broken in row.broken:
            print(f"    {broken}")
    return 1 if any(row.broken for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
