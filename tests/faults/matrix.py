"""The matrix: which faults each output meets, and what may come of them."""

from __future__ import annotations

import os
import time
from random import Random
from signal import Signals
from typing import TYPE_CHECKING, Final

from tests.faults import child
from tests.faults.around import full, refusals, two_at_once
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
from tests.faults.calls import CLEANING, COPIES, FLUSHES, WHOLE_WRITES, WRITES, Kind, Role
from tests.faults.power import cuts, recorded
from tests.faults.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.faults.calls import Call
    from tests.faults.scene import Stage

_ANSWER: Final = 1.0
"""Seconds in which an interruption is answered."""
_STOPPED: Final = 12
"""Calls of a run at which signals come."""


def at_calls(stage: Stage, most: int | None) -> list[Tally]:
    """Each fault at each call of a kind, or at so many at the most."""
    name = stage.output.name
    rows = []

    def fail(row: Tally, calls: Sequence[Call], kind: Kind, codes: set[int]) -> None:
        fail_each(row, stage, some(calls, most), kind, old=old, codes=codes)

    for old in (False, True):
        calls = calls_of(stage, old=old)
        wrote, made = outputs(calls, WRITES), failing_output(calls)
        copied = outputs(calls, COPIES)
        full = Tally("ENOSPC at each call that writes", name)
        fail(full, wrote, Kind.ENOSPC, {6})
        errors = Tally("EIO at each call that writes, or flushes meanwhile", name)
        # A copy inside the kernel that fails is tried by reading and writing.
        for chosen, codes in ((copied, {0, 6}), ([*{*wrote} - {*copied}], {6})):
            fail(errors, chosen, Kind.EIO, codes)
        short = Tally("each write cut short", name)
        partly = outputs(calls, WRITES - WHOLE_WRITES)
        fail(short, partly, Kind.SHORT, {0})
        fail(errors, outputs(calls, FLUSHES), Kind.EIO, {6})
        # What lets go of things after the destination has appeared may fail unheard.
        making = Tally("ENOSPC or EIO at each call that makes, flushes, names or closes", name)
        kind = Kind.ENOSPC if old else Kind.EIO
        fail(making, made, kind, {0, 6})
        unread = Tally("EIO at each read of the source", name)
        fail(unread, reads(calls, Role.SOURCE), Kind.EIO, {3})
        back = Tally("EIO at each read of what was written", name)
        fail(back, reads(calls, Role.OUTPUT), Kind.EIO, {6})
        kept = Tally("EIO at each call that cleans up", name)
        fail(kept, outputs(calls, CLEANING), Kind.EIO, {0, 6})
        stopped = Tally("SIGKILL, SIGINT, SIGTERM at calls that write or make", name)
        for kind in SIGNALS:
            codes = {-9} if kind is Kind.SIGKILL else {0, 130}
            fail(stopped, some([*wrote, *made], _STOPPED), kind, codes)
        rows += [full, errors, short, making, unread, back, kept, stopped]
    meddled = Tally("source removed, changed, cut or exchanged in the middle", name)
    chosen = some(moments(calls_of(stage, old=False))[4:], 3)
    for what, spoil in MEDDLING.items():
        meddle_each(meddled, stage, chosen, what, spoil)
    return [*rows, meddled]


def at_random(stage: Stage, number: Signals, cases: int, seed: int) -> Tally:
    """Send a signal at random times of a conversion's life."""
    dice = Random(f"{seed} {number} {stage.output.name}")
    tally = Tally(f"{number.name} at random times", stage.output.name)
    life = _life(stage)
    for turn in range(cases):
        old, pause = turn % 2 == 1, dice.uniform(0, life * 1.1)
        with tally.case(f"{stage.output.name}, {number.name} after {pause * 1000:.1f} ms"):
            stage.set_up(old=old)
            running = child.start(stage.words(force=old), stage.prepare())
            time.sleep(pause)
            ended = running.wait(sent=running.send(number))
            # Before its first line it hears nothing; a signal ends it then.
            codes = {0, -number} | (set() if number is Signals.SIGKILL else {130})
            killed = ended.code == -number
            tally.add(ended, stage.check(ended, old=old, codes=codes, killed=killed))
            if number is not Signals.SIGKILL and ended.answer and ended.answer > _ANSWER:
                tally.broken.append(f"{number.name} was answered after {ended.answer:.2f} s")
            stage.check_next()
    return tally


def _life(stage: Stage) -> float:
    """Seconds that a conversion takes."""
    stage.set_up(old=False)
    return child.run(stage.words(force=False), stage.prepare()).seconds


def around(stage: Stage, cases: int, seed: int) -> list[Tally]:
    """What others do meanwhile, or have done before."""
    name = stage.output.name
    pair = Tally("two runs to one destination at once", name)
    two_at_once(pair, stage, cases, _life(stage), Random(f"{seed} pair {name}"))
    refused = Tally("a destination or folder that must not be touched", name)
    refusals(refused, stage)
    rows = [pair, refused]
    if os.geteuid() == 0:
        rows.append(Tally("a full ext4", name))
        full(rows[-1], stage)
    return rows


def power_cuts(stage: Stage, cases: int, seed: int) -> Tally:
    """Cut the power at so many points."""
    tally = Tally("power cut", stage.output.name)
    for old in (False, True):
        dice = Random(f"{seed} power {stage.output.name} {old}")
        run = recorded(stage, old=old)
        for cut, order in cuts(run, cases // 2 + (old and cases % 2), dice):
            name = f"{stage.output.name}, {'old, ' * old}cut at {cut}/{len(run.events)}, {order}"
            with tally.case(name):
                tally.states[run.check(cut, order, dice)] += 1
    return tally
