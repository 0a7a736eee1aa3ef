"""Inspecting 1,000 images in one process, beside 1,000 `qemu-img info`; and empty disks of 16 TiB.

``python -m benchmarks.inspect_many``.  The images are of six formats, each made once and copied;
vmport is installed from its wheel, as its users have it.
The cost of a 16 TiB disk is that of a fresh interpreter that opens it and walks its whole map,
less that of one that does nothing.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING

from benchmarks.debian_disk import CACHE, Missing
from benchmarks.installed import installed
from benchmarks.measure import Program, Taken, faster, run_once, take_turns
from benchmarks.page import run
from benchmarks.table import Chapter, Goal, Table

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.page import Options

COUNT = 1000
PYTHON = ("env", "-u", "PYTHONDONTWRITEBYTECODE", sys.executable)
"""With modules that are compiled once, as whoever installs a program has them."""
SMALL = {
    "qcow2": ("qcow2",),
    "VMDK": ("vmdk",),
    "VMDK, streamOptimized": ("vmdk", "-o", "subformat=streamOptimized"),
    "VHD": ("vpc",),
    "VHDX": ("vhdx",),
    "VDI": ("vdi",),
}
HUGE = {
    "qcow2": ("qcow2", "16T"),
    "VMDK": ("vmdk", "16T"),
    "VHD": ("vpc", "2040G"),
    "VHDX": ("vhdx", "16T"),
    "VDI": ("vdi", "16T"),
    "QED": ("qed", "16T"),
    "Parallels": ("parallels", "16T"),
}
"""As far as the format goes: a VHD ends at 2040 GiB."""

LIBRARY = """
import os, sys
from vmport_formats.disk.probe import probe
from vmport_formats.source import open_source
for entry in os.scandir(sys.argv[1]):
    with open_source(entry.path) as source:
        probe(source)
"""
QEMU = 'for image in "$1"/*; do qemu-img info --output=json "$image" >/dev/null || exit 1; done'

WALK = """
import sys
from vmport_formats.disk.image import open_image
with open_image(sys.argv[1]) as disk:
    assert sum(1 for _ in disk.extents())
"""
PEAK = """
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


def chapter(options: Options) -> Chapter:
    """Many small images, and few huge ones."""
    tables: list[Table] = []
    goals: list[Goal] = []
    if options.wants("many"):
        tables.append(_many(COUNT if options.size is None else 60, options.runs, goals))
    names = [name for name in HUGE if options.wants(f"empty {name}")]
    if names:
        tables.append(_empty(names, options.runs, goals))
    text = (
        "The metadata of images, and the whole map of disks that are large and empty.  The "
        "library is one Python process that opens and probes each image; the command line prints "
        "what it finds, as `qemu-img info --output=json` does."
    )
    return Chapter("Inspecting", text, tuple(tables), tuple(goals))


def _many(count: int, runs: int, goals: list[Goal]) -> Table:
    folder = _folder(count)
    goal = f"inspect {count} images in one process"
    columns = (f"{count} images", "s", "processor, s", "times as fast")
    try:
        programs = installed()
    except Missing as why:
        goals.append(Goal(goal, "times as fast", 20, None))
        return Table(f"Not measured: {why}", columns, ())
    images = sorted(map(str, folder.iterdir()))
    peer = f"{count} × `qemu-img info`"
    ours = {
        "the library, one process": [str(programs / "python"), "-c", LIBRARY, str(folder)],
        "`vmport inspect --json`": [str(programs / "vmport"), "inspect", "--json", *images],
        "`vmport inspect`": [str(programs / "vmport"), "inspect", *images],
    }
    outcomes = take_turns(
        [
            Program(peer, ["sh", "-c", QEMU, "sh", str(folder)]),
            *(Program(name, argv) for name, argv in ours.items()),
        ],
        runs,
        label=f"inspect {count} images",
    )
    rows = []
    for name, one in outcomes.items():
        found = faster(outcomes, name, peer)
        cells = (f"{one.wall:.3f}", f"{one.work:.3f}") if isinstance(one, Taken) else ("", "")
        rows.append((name, *cells, "" if found is None else f"{found:.1f}"))
    library, *_ = ours
    found = faster(outcomes, library, peer)
    goals.append(Goal(goal, "times as fast", 20, found))
    return Table("", columns, tuple(rows))


def _empty(names: list[str], runs: int, goals: list[Goal]) -> Table:
    idle, idle_memory = _work([*PYTHON, "-c", "pass"], runs), _peak("pass")
    rows = []
    for name in names:
        form, size = HUGE[name]
        path = CACHE / f"huge.{form}"
        path.unlink(missing_ok=True)
        subprocess.run(["qemu-img", "create", "-q", "-f", form, str(path), size], check=True)
        work = _work([*PYTHON, "-c", WALK, str(path)], runs) - idle
        memory = (_peak(WALK, str(path)) - idle_memory) / 1024
        path.unlink()
        what = f"{name}, {size}iB"
        rows.append((what, f"{work:.2f}", f"{memory:.1f}"))
        goals.append(Goal(f"inspect and map an empty {what}", "s", 0.3, work, at_least=False))
        goals.append(Goal(f"memory for that, {what}", "MiB", 64, memory, at_least=False))
    return Table("", ("empty disk", "processor, s", "memory, MiB"), tuple(rows))


def _folder(count: int) -> Path:
    """A folder of `count` images of all formats, each with some data."""
    folder = CACHE / f"inspect-{count}"
    if folder.exists():
        return folder
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    raw = CACHE / "inspect-source.raw"
    raw.write_bytes(os.urandom(1 << 20) + bytes(7 << 20))
    for number in range(count):
        form, *options = list(SMALL.values())[number % len(SMALL)]
        path = partial / f"{number:04}.{form}"
        first = partial / f"{number % len(SMALL):04}.{form}"
        if number < len(SMALL):
            convert = ["qemu-img", "convert", "-f", "raw", "-O", form, *options]
            subprocess.run([*convert, str(raw), str(path)], check=True)
        else:
            shutil.copy(first, path)
    raw.unlink()
    partial.rename(folder)
    return folder


def _work(command: list[str], runs: int) -> float:
    """Seconds of processor time, the median."""
    outcomes = (run_once(command) for _ in range(runs))
    return statistics.median(one.work for one in outcomes if isinstance(one, Taken))


def _peak(program: str, *arguments: str) -> int:
    """KiB of memory at the most."""
    done = subprocess.run(
        [*PYTHON, "-c", program + PEAK, *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return int(done.stdout)


if __name__ == "__main__":
    run([chapter], __doc__.splitlines()[0])
