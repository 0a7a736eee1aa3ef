"""Puts what was found into words: the tables of ``docs/faults.md``."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from tests.faults.scene import State
from tests.faults.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Sequence

_INTRO: Final = """\
# What becomes of a destination when something fails

`vmport convert` promises: **a destination is absent, as it was, or complete and verified, and the
exit code is 0 only then.**  Each case below is a conversion that meets one fault.  Afterwards the
destination is compared, byte by byte, with what was there and with what should be; the message must
be one line, with a hint at the most; nothing else may be left in the folder.  After a SIGKILL, a
power cut, or a failure of the clean-up itself, something may be left: then the next run to the same
destination must succeed and remove it.

Half of the cases have nothing at the destination, half replace an old file with `--force`.  Calls
are those that the process makes, on the files of the source and in the folder of the destination;
each gets its turn in a run of its own, but for the signals, which are sent at twelve calls of each
output, spread evenly.
"""
_NOTES: Final = """\
The disk has {small} bytes in calls and power cuts, {large} MiB at random times: random bytes, text,
zeros and holes.  *raw, by clones* and its neighbours are the ways in which the kernel copies a raw
disk where files can share blocks, which is played.  An error of a copy inside the
kernel does not say which file failed, so the rest is read and written instead, and the run may end
well.  Closing a file may fail unheard where what was written has been flushed by then.

For a power cut all that a run asks of the file system is written down, and cut at a point.  What
was flushed is there.  Of later writes to files any may be there, be lost, or be torn at sectors of
512 bytes.  Names follow one of three kinds of file system: all in their order, up to a point; each
folder's in their order, up to a point of its own; or all at once, before any data.  With the
flushes left out, the same cuts break the promise.  *A set of three files* is what a conversion by
qemu-img publishes: there the destination may be absent after a cut, and the next run brings the old
one back.

The full file system is an ext4 of a few MiB on a loop device, with room for 2, 20, 40, 60, 80 and
97 percent of the output; root alone can mount one.  "Slowest answer" is the time from a signal to
the end of the process.
"""


def merged(rows: Sequence[Tally]) -> list[Tally]:
    """One row a fault, of all outputs."""
    whole: dict[str, Tally] = {}
    for row in rows:
        whole.setdefault(row.fault, Tally(row.fault, "")).include(row)
    return [row for row in whole.values() if row.cases]


def table(rows: Sequence[Tally]) -> list[str]:
    """Of the faults, in Markdown."""
    lines = [
        "| fault | cases | absent | as it was | complete | exit codes | slowest answer | broken |",
        "|---|--:|--:|--:|--:|---|--:|--:|",
    ]
    for row in merged(rows):
        ends = ", ".join(f"{number:,} × {code}" for code, number in sorted(row.codes.items()))
        states = (f"{row.states[state]:,}" for state in State)
        slowest = "" if row.slowest is None else f"{row.slowest * 1000:.0f} ms"
        cells = (row.fault, f"{row.cases:,}", *states, ends, slowest, str(len(row.broken)))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def page(rows: Sequence[Tally], *, command: str, small: int, large: int, seconds: float) -> str:
    """The whole of it."""
    lines = [_INTRO, f"    {command}\n", *table(rows), "", "| output | cases | broken |"]
    lines.append("|---|--:|--:|")
    outputs: dict[str, Tally] = {}
    for row in rows:
        outputs.setdefault(row.where, Tally("", row.where)).include(row)
    for name, row in outputs.items():
        lines.append(f"| {name} | {row.cases:,} | {len(row.broken)} |")
    cases = sum(row.cases for row in rows)
    lines += ["", _NOTES.format(small=f"{small:,}", large=large)]
    processors = len(os.sched_getaffinity(0))
    lines.append(
        f"{cases:,} cases in {seconds / 60:.0f} minutes, {datetime.now(UTC):%Y-%m-%d}, with Python "
        f"{platform.python_version()} on Linux {platform.release().split('-')[0]}, "
        f"{processors} processors of a busy machine."
    )
    return "\n".join(lines) + "\n"
