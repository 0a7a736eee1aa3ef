"""Runs benchmarks and prints what they come to; writes the page of the manual."""

from __future__ import annotations

import argparse
import os
import platform
import re
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.debian_disk import CACHE
from benchmarks.table import goals_table, markdown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.table import Chapter

_INTRO: Final = """\
# Benchmarks

Vmport beside its peers, a chapter a run: each measured on one machine, one after the other.

Each program is a process of its own, start-up included, on files that the page cache holds.  The
programs take turns, so that a busy machine troubles all alike, and between two runs everything is
brought to the medium.  *Processor, s* is the time of all threads and processes together: what
counts when the machine has other things to do.  Vmport is installed from its wheel into a virtual
environment of its own, as `pip install` does it: the finder of a checkout's editable install would
add some 15 ms to each start.

A program that converts has *flushed* when it brings its output to the medium before it says that it
is done.  Vmport always does, and so also in the rows called `--no-verify`.  Those without it read
the whole output back and compare its content with the source's, which no peer does.  `qemu-img
convert` by itself leaves the output in the page cache; with `-t writeback` it flushes.  *Times as
fast* is beside the first peer of each table, which the goals name; where that does not flush, it
has less to do than vmport.  *File* is what the output occupies.

`make bench` measures everything anew; `make bench ARGS="read compare"` those chapters alone.
"""

_TOO_SMALL: Final = (
    "**The goals are for the whole disk.  With `--size`, start-up outweighs the work, so that this "
    "table says nothing about them.**"
)


@dataclass(frozen=True, slots=True)
class Options:
    """What to run."""

    runs: int = 5
    size: int | None = None
    """MiB of data; None: as the goals want it."""
    only: str = ""
    """Rows whose names have this in them."""
    thorough: bool = False
    """Rows too that no goal asks for, and that take long."""

    def wants(self, name: str) -> bool:
        """Whether the row called `name` is to be measured."""
        return self.only.lower() in name.lower()


def run(benchmarks: Sequence[Callable[[Options], Chapter]], description: str) -> None:
    """Run those, as the command line says, and print what they come to."""
    options, page = _arguments(description)
    run_all(benchmarks, options, page)


def run_all(
    benchmarks: Sequence[Callable[[Options], Chapter]],
    options: Options,
    page: Path | None,
    *,
    whole: bool = False,
) -> None:
    """Run those, and put each into `page`, if there is to be one, in place of what it was there.

    `whole`: they are all that there are; what else stands in the page goes.
    """
    texts = {}
    for benchmark in benchmarks:
        watch = _Watch()
        chapter = benchmark(options)
        texts[chapter.title] = _text(chapter, options, watch.told())
        print(texts[chapter.title], end="\n\n", flush=True)
    if page is None:
        return
    before = {} if whole or not page.exists() else _chapters(page.read_text())
    page.write_text("\n\n".join((_INTRO.strip(), *(before | texts).values())) + "\n")
    print(f"\nwritten: {page}", file=sys.stderr)


def _chapters(page: str) -> dict[str, str]:
    """Those of a page, by their titles."""
    parts = re.split(r"^(?=## )", page, flags=re.MULTILINE)[1:]
    return {part.partition("\n")[0].removeprefix("## "): part.strip() for part in parts}


def parser(description: str) -> argparse.ArgumentParser:
    """The options of every benchmark."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--runs", type=int, default=5)
    made.add_argument("--size", type=int, help="MiB of data on a disk of this machine's files")
    made.add_argument("--only", default="", help="rows whose names have this in them")
    made.add_argument("--thorough", action="store_true", help="rows that no goal asks for, too")
    made.add_argument("--write", type=Path, metavar="PAGE", help="write a page of Markdown")
    return made


def options_of(chosen: argparse.Namespace) -> Options:
    """What was chosen."""
    return Options(chosen.runs, chosen.size, chosen.only, chosen.thorough)


def _arguments(description: str) -> tuple[Options, Path | None]:
    chosen = parser(description).parse_args()
    return options_of(chosen), chosen.write


def _text(chapter: Chapter, options: Options, machine: str) -> str:
    medians = f"- Numbers are medians of {options.runs} unless a row says otherwise."
    parts = [f"## {chapter.title}", f"    {_command()}", f"{machine}\n{medians}", chapter.text]
    if chapter.goals:
        parts.append(markdown(goals_table(chapter.goals)))
        if options.size is not None:
            parts.append(_TOO_SMALL)
    return "\n\n".join((*parts, *map(markdown, chapter.tables)))


def _command() -> str:
    module = Path(sys.argv[0])
    name = "benchmarks" if module.stem == "__main__" else f"benchmarks.{module.stem}"
    return " ".join(("python -m", name, *sys.argv[1:]))


class _Watch:
    """What else the machine did meanwhile."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._load = os.getloadavg()
        self._busy = _busy()
        self._own = _own()

    def told(self) -> str:
        """Of this machine and of this run, as a list."""
        seconds = time.monotonic() - self._begin
        processors = os.cpu_count() or 1
        others = max(0.0, _busy() - self._busy - (_own() - self._own))
        share = 100 * others / (seconds * processors)
        loads = [f"{load[0]:.1f} {load[1]:.1f} {load[2]:.1f}" for load in (self._load, _load())]
        return "\n".join(
            (
                f"- Measured on {datetime.now(UTC):%Y-%m-%d}, in {seconds / 60:.1f} minutes.",
                f"- {processors} processors: {_processor()}; {_memory()} GiB of memory; Linux "
                f"{platform.release()}; output on {_file_system()}.",
                f"- Python {platform.python_version()}; {_version('qemu-img')}; vmport at commit "
                f"{_commit()}.",
                f"- Load (of 1, 5 and 15 minutes) {loads[0]} at the start, {loads[1]} at the end.  "
                f"Other processes and the kernel's threads used {share:.0f} % of the processors "
                "meanwhile.",
            )
        )


def _load() -> tuple[float, float, float]:
    return os.getloadavg()


def _busy() -> float:
    """Seconds of processor time, of everything on this machine (proc(5): /proc/stat)."""
    user, nice, system, _idle, _wait, *rest = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    irq, soft, stolen = rest[:3]
    return (user + nice + system + irq + soft + stolen) / os.sysconf("SC_CLK_TCK")


def _own() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def _processor() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1].strip() if found else platform.machine()


def _memory() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30))


def _file_system() -> str:
    CACHE.mkdir(parents=True, exist_ok=True)
    return _said("stat", "-f", "-c", "%T", str(CACHE)).replace("ext2/ext3", "ext4")


def _version(tool: str) -> str:
    return _said(tool, "--version").splitlines()[0].replace(" version", "")


def _commit() -> str:
    here = Path(__file__).parent
    commit = _said("git", "-C", str(here), "rev-parse", "--short", "HEAD")
    sources = ("vmport", "formats", "converters")
    changed = _said("git", "-C", str(here.parent), "status", "--porcelain", "--", *sources)
    return f"{commit}, with changes since" if changed else commit


def _said(*argv: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return f"(no {argv[0]})"
    return done.stdout.strip()
