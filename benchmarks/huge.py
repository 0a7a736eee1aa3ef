"""Disks of 1, 4 and 16 TiB with 2 GB of data here and there: ``python -m benchmarks.huge``.

The data are pieces of 1 MiB, all over the disk.  What is measured is one run each: memory hardly
varies.  Ext4 has no file of 16 TiB, so the largest disk is 1 MiB short of that.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

from benchmarks.debian_disk import CACHE
from benchmarks.images import MIB, scattered
from benchmarks.installed import program
from benchmarks.measure import Failed, Taken, run_once, warm
from benchmarks.page import run
from benchmarks.table import Chapter, Goal, Table

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.measure import Outcome
    from benchmarks.page import Options

TIB: Final = 1 << 40
DATA: Final = 2000 * MIB
LONGEST: Final = 120.0
"""Seconds that a peer may take."""
SIZES: Final = {
    "1 TiB": TIB,
    "2040 GiB": 2040 << 30,
    "4 TiB": 4 * TIB,
    "16 TiB": 16 * TIB - MIB,
}
OUTPUTS: Final = {
    "raw": ("raw", (), ("-O", "raw")),
    "qcow2": ("qcow2", (), ("-O", "qcow2")),
    "qcow2, deflate": ("qcow2", ("--compress", "fast"), None),
    "qcow2, zstd": ("qcow2", ("--compress", "zstd"), None),
    "VMDK": ("vmdk", (), ("-O", "vmdk")),
    "VMDK, streamOptimized": ("vmdk", ("-o", "subformat=streamOptimized"), None),
    "VHD": ("vhd", (), ("-O", "vpc", "-o", "force_size=on")),
    "VHD fixed": (
        "vhd",
        ("-o", "subformat=fixed"),
        ("-O", "vpc", "-o", "subformat=fixed,force_size=on"),
    ),
    "VHDX": ("vhdx", (), ("-O", "vhdx")),
    "VDI": ("vdi", (), ("-O", "vdi")),
}
"""Suffix; what to ask vmport for; and qemu-img, which is not asked where it takes minutes."""
MOST_MEMORY: Final = 300.0
"""MiB."""
MOST_SLOWER: Final = 1.5
"""Times as long as for the smallest disk with the same data."""


def chapter(options: Options) -> Chapter:
    """Every native output at every size that it can have."""
    data = DATA if options.size is None else options.size * MIB
    outcomes: dict[tuple[str, str], tuple[Outcome, Outcome, Outcome | None]] = {}
    folder = CACHE / "output"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        for size in SIZES:
            names = [
                name for name in OUTPUTS if _fits(name, size) and options.wants(f"{name} huge")
            ]
            if not names:
                continue
            source = folder / "source.raw"
            scattered(source, SIZES[size], data)
            warm(source)
            for name in names:
                outcomes[name, size] = _measured(name, source, folder)
            source.unlink()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _chapter(outcomes, data)


def _fits(name: str, size: str) -> bool:
    """A VHD ends at 2040 GiB; the others are measured at even sizes."""
    if name in {"VHD", "VHD fixed"}:
        return SIZES[size] <= 2040 << 30
    return size != "2040 GiB"


def _measured(name: str, source: Path, folder: Path) -> tuple[Outcome, Outcome, Outcome | None]:
    suffix, ours, theirs = OUTPUTS[name]
    target = folder / f"disk.{suffix}"
    files = (str(source), str(target))
    convert = (program("vmport"), "-q", "convert")
    verified = run_once((*convert, *ours, *files), target, watched=True)
    unverified = run_once((*convert, "--no-verify", *ours, *files), target, watched=True)
    if theirs is None:
        return verified, unverified, None
    best = ("qemu-img", "convert", "-f", "raw", *theirs, "-W", "-m", "16", "-t", "writeback")
    return verified, unverified, run_once((*best, *files), target, watched=True, longest=LONGEST)


def _chapter(
    outcomes: dict[tuple[str, str], tuple[Outcome, Outcome, Outcome | None]], data: int
) -> Chapter:
    rows, goals = [], []
    for name in OUTPUTS:
        sizes = [size for size in SIZES if (name, size) in outcomes]
        for size in sizes:
            verified, unverified, peer = outcomes[name, size]
            rows.append((name, size, _time(verified), _time(unverified), _memory(verified),
                         _time(peer), _memory(peer)))  # fmt: skip
        for size in sizes:
            memory = _peak(outcomes[name, size][0])
            goals.append(
                Goal(f"memory, {name}, {size}", "MiB", MOST_MEMORY, memory, at_least=False)
            )
        if len(sizes) > 1:
            small, large = (outcomes[name, size] for size in (sizes[0], sizes[-1]))
            goals.append(
                Goal(
                    f"time, {name}, {sizes[-1]} beside {sizes[0]}",
                    "times as long",
                    MOST_SLOWER,
                    _slower(small[1], large[1]),
                    _slower(small[0], large[0]),
                    at_least=False,
                )
            )
    columns = (
        "output", "disk", "vmport, s", "--no-verify, s", "vmport, MiB",
        "qemu-img -W -m 16 -t writeback, s", "qemu-img, MiB",
    )  # fmt: skip
    text = (
        f"Raw disks with {data / 1e9:.1f} GB of data in pieces of 1 MiB, evenly over the whole "
        "disk; one run each.  Ext4 has no file of 16 TiB, so that disk is 1 MiB short of it.  "
        "Memory is the peak of resident memory, of the whole tree of processes.  A VHD ends at "
        "2040 GiB."
    )
    return Chapter("Huge disks", text, (Table("", columns, tuple(rows), texts=2),), tuple(goals))


def _time(outcome: Outcome | None) -> str:
    if outcome is None:
        return ""
    return outcome.reason[:120] if isinstance(outcome, Failed) else f"{outcome.wall:.2f}"


def _peak(outcome: Outcome | None) -> float | None:
    return outcome.peak / MIB if isinstance(outcome, Taken) else None


def _memory(outcome: Outcome | None) -> str:
    peak = _peak(outcome)
    return "" if peak is None else f"{peak:.0f}"


def _slower(small: Outcome, large: Outcome) -> float | None:
    if isinstance(small, Taken) and isinstance(large, Taken):
        return large.wall / small.wall
    return None


if __name__ == "__main__":
    run([chapter], __doc__.splitlines()[0])
