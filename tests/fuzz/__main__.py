"""Runs any number of cases of each family and prints a table: ``python -m tests.fuzz --help``."""

from __future__ import annotations

import argparse
import platform
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.fuzz import trial
from tests.fuzz.subjects import CHECK, FAMILIES

_PAGE: Final = """\
# Fuzzing

Small images of every format are damaged and read: the metadata, the whole map, and the content.
The damage knows the formats.  It puts extreme values into fields, exchanges and repeats entries of
tables, points them at headers, cuts and splices files, changes text, and makes the checksums right
again in three of four cases where the format has them over its metadata (VHD, VHDX).

Each case must end in a result or in an error of vmport's own, within {milliseconds} ms of
processor time and {mebibytes} MiB of memory.  A map must cover the disk, and what it calls zeros
must read as zeros.  Extents of a VMDK are granted; parents are in the family `chains` alone, where
the child or the parent is damaged.  In `vmdk-inside` the extents are, and the text is sound.

A family that ends in `-check` is checked in depth instead.  What is said to have no error must be
readable then: `refused` counts images with errors, `read` those without.

    {command}

| format | cases | refused | read | slowest, ms | peak, MiB | seconds |
|---|--:|--:|--:|--:|--:|--:|
{rows}

{verdict}  Measured {date} with Python {python} on one core of a busy machine.

- *Read* does not mean that damage went unnoticed: most bytes of an image are data, which has no
  checksum in most formats.  That broken pointers and checksums are noticed is the subject of
  `tests/formats/disk/test_damage_is_noticed.py`.
- *Slowest* is processor time; a case above the limit is repeated up to five times without memory
  tracing, and the shortest time counts.
- No case gets more than {mebibytes} MiB of address space, whatever for: the system then refuses,
  and that is a fault.  *Peak* is what Python allocated in the one case of {traced} that is traced.
  The whole process never held more than {resident} MiB.
- A LUKS disk that asks for more than 10,000 rounds of hashing is read without its passphrase.
  Rounds are what protects it, and the reader has a limit of its own for them.

What was found so far is in `fixtures/crashers`, and `make test` reads it each time.

`make fuzz` writes this page, after 20,000 cases of each.  `make soak N=1000000` runs any number,
with another seed each time.  `make test` runs {few} of each, always the same ones.  One case is run
again with

    python -m tests.fuzz --format vhdx --case 4711 --save damaged.vhdx
"""
TRACED: Final = 11
"""The memory of one case in so many is measured; that of all is limited."""
FEW: Final = 500
"""Cases of each family in ``make test``."""


@dataclass
class Tally:
    """What the cases of one family came to."""

    family: str
    cases: int = 0
    ends: dict[trial.End, int] = field(default_factory=lambda: dict.fromkeys(trial.End, 0))
    slowest: float = 0.0
    peak: int = 0
    seconds: float = 0.0
    """Of wall time."""
    faults: list[tuple[int, str]] = field(default_factory=list)

    def add(self, result: trial.Result) -> None:
        """One case that went well."""
        self.ends[result.end] += 1
        self.slowest = max(self.slowest, result.seconds)
        self.peak = max(self.peak, result.peak)


def declared(number: int) -> bool:
    """Whether a case is told its format; every fourth must find out."""
    return number % 4 != 3


def tally(family: str, seed: int, numbers: range, folder: Path, *, progress: bool = False) -> Tally:
    """Run these cases; faults are collected, not raised."""
    found = Tally(family)
    begin = shown = time.monotonic()
    for number in numbers:
        subject, data = trial.case(family, seed, number)
        found.cases += 1
        try:
            found.add(
                trial.run(
                    subject,
                    data,
                    folder,
                    declared=declared(number),
                    traced=number % TRACED == 0,
                    checked=family.endswith(CHECK),
                )
            )
        except trial.Fault as fault:
            found.faults.append((number, f"{subject.name}: {fault}"))
            if progress:
                print(f"\r{family} case {number}: {subject.name}: {fault}", file=sys.stderr)
        if progress and time.monotonic() - shown > 1:
            shown = time.monotonic()
            done = f"{found.cases:,} of {len(numbers):,}, {len(found.faults)} faults"
            print(f"\r{family}: {done}   ", end="", file=sys.stderr, flush=True)
    if progress:
        print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
    found.seconds = time.monotonic() - begin
    return found


def _row(found: Tally) -> str:
    cells = (
        found.family,
        f"{found.cases:,}",
        f"{found.ends[trial.End.REFUSED]:,}",
        f"{found.ends[trial.End.READ]:,}",
        f"{found.slowest * 1000:.1f}",
        f"{found.peak / (1 << 20):.1f}",
        f"{found.seconds:.0f}",
    )
    return "| " + " | ".join(cells) + " |"


def _page(tallies: list[Tally], command: str) -> str:
    faults = [fault for found in tallies for fault in found.faults]
    cases = sum(found.cases for found in tallies)
    verdict = (
        f"No case of {cases:,} broke a rule."
        if not faults
        else f"{len(faults)} of {cases:,} cases broke a rule."
    )
    return _PAGE.format(
        milliseconds=round(trial.SECONDS * 1000),
        mebibytes=trial.BYTES >> 20,
        command=command,
        rows="\n".join(map(_row, tallies)),
        verdict=verdict,
        date=time.strftime("%Y-%m-%d"),
        python=platform.python_version(),
        resident=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        few=FEW,
        traced=TRACED,
    )


def main() -> int:
    """Run what the command line asks for; 1 if a case broke a rule."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000, help="of each format")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--format", action="append", choices=FAMILIES, help="only this one")
    parser.add_argument("--case", type=int, help="only this case; its fault is shown in full")
    parser.add_argument("--save", type=Path, help="where to write the damaged image of --case")
    parser.add_argument("--write", type=Path, help="where to write the page about it")
    given = parser.parse_args()
    families = given.format or FAMILIES
    with TemporaryDirectory() as name:
        folder = Path(name)
        if given.case is not None:
            for family in families:
                _one(family, given.seed, given.case, given.save, folder)
            return 0
        numbers = range(given.first, given.first + given.cases)
        tallies = []
        for family in families:
            tallies.append(tally(family, given.seed, numbers, folder, progress=True))
            print(_row(tallies[-1]), flush=True)
            for number, fault in tallies[-1].faults:
                print(f"    case {number}: {fault}")
    if given.write is not None:
        command = " ".join(["python -m tests.fuzz", *sys.argv[1:]])
        given.write.write_text(_page(tallies, command))
    return 1 if any(found.faults for found in tallies) else 0


def _one(family: str, seed: int, number: int, save: Path | None, folder: Path) -> None:
    subject, data = trial.case(family, seed, number)
    if save is not None:
        save.write_bytes(data)
    print(f"{family} case {number}: {subject.name}, {len(data)} bytes")
    checked = family.endswith(CHECK)
    print(trial.run(subject, data, folder, declared=declared(number), checked=checked))


if __name__ == "__main__":
    sys.exit(main())
