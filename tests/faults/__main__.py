"""Runs the matrix of faults and prints a table: ``python -m tests.faults --help``."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shlex
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from signal import Signals
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from tests.faults import child
from tests.faults.matrix import around, at_calls, at_random, power_cuts
from tests.faults.report import page, table
from tests.faults.scene import (
    BY_QEMU,
    NATIVE,
    PREALLOCATED,
    SET,
    Output,
    Stage,
    base_of,
    make_disk,
)
from vmport_formats.units import MIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.faults.tally import Tally

_SMALL: Final = 3 * MIB + 512
"""Bytes of the disk whose every call fails once."""


def _one(
    number: int, count: int, converted: int, output: Output, home: Path, given: argparse.Namespace
) -> list[Tally]:
    """All that one output meets, of `count` outputs, of which `converted` are no mere sets."""

    def share(cases: int, among: int = count) -> int:
        return cases // among + (number < cases % among)

    home = home / str(number)
    home.mkdir()
    small, large = home / "small.raw", home / "large.raw"
    make_disk(small, _SMALL, seed=1)
    make_disk(base_of(small), _SMALL // 2, seed=4)
    make_disk(large, given.mebibytes * MIB, seed=3)
    stage = Stage(output, small, home / "calls")
    rows = []
    if output.native:  # else most calls are those of another program
        rows.append(power_cuts(stage, share(given.cuts), given.seed))
        rows += [] if output.made_up else at_calls(stage, given.most)
    if not output.made_up:
        rows += around(stage, share(given.pairs, converted), given.seed)
    shutil.rmtree(stage.home)
    if output.made_up:
        return rows
    stage = Stage(output, large, home / "times")
    for signal, cases in (
        (Signals.SIGKILL, given.kills),
        (Signals.SIGINT, given.stops),
        (Signals.SIGTERM, given.stops),
    ):
        rows.append(at_random(stage, signal, share(cases, converted), given.seed))
    shutil.rmtree(home)
    return rows


def _run(given: argparse.Namespace, chosen: Sequence[Output], home: Path) -> list[Tally]:
    home.chmod(0o711)  # some runs are not root's
    converted = sum(not output.made_up for output in chosen)
    with ProcessPoolExecutor(
        len(os.sched_getaffinity(0)), multiprocessing.get_context("fork"), child.FIRED.renew
    ) as pool:
        work = [
            pool.submit(_one, number, len(chosen), converted, output, home, given)
            for number, output in enumerate(chosen)
        ]
        return [row for done in work for row in done.result()]


def main() -> int:
    """Run what the command line asks for; 1 if a promise was broken."""
    outputs = [*NATIVE, SET, *PREALLOCATED, *BY_QEMU]
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="SIGKILLs, of all outputs")
    parser.add_argument("--stops", type=int, default=200, help="SIGINTs, and as many SIGTERMs")
    parser.add_argument("--cuts", type=int, default=500, help="power cuts")
    parser.add_argument("--pairs", type=int, default=100, help="of runs at once")
    parser.add_argument("--most", type=int, help="calls of a kind that fail; all of them")
    parser.add_argument("--mebibytes", type=int, default=8, help="of the disk that is stopped")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--output",
        action="append",
        choices=[item.name for item in outputs],
        help="may be repeated; by default all that are not written by qemu-img",
    )
    parser.add_argument("--write", type=Path, help="a page with the figures")
    given = parser.parse_args()
    names = given.output or [item.name for item in (*NATIVE, SET)]
    chosen = [item for item in outputs if item.name in names]
    begin = time.monotonic()
    child.warm_up()
    with TemporaryDirectory() as name:
        rows = _run(given, chosen, Path(name))
    for line in table(rows):
        print(line)
    broken = [broken for row in rows for broken in row.broken]
    for line in broken:
        print(f"    {line}")
    if given.write:
        command = f"make faults ARGS={shlex.quote(shlex.join(sys.argv[1:]))}"
        if place := os.environ.get("TMPDIR"):
            command = f"TMPDIR={shlex.quote(place)} {command}"
        seconds = time.monotonic() - begin
        text = page(rows, command=command, small=_SMALL, large=given.mebibytes, seconds=seconds)
        given.write.write_text(text, encoding="utf-8")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
