"""Comparing two disks of 4 GiB, beside qemu-img: ``python -m benchmarks.compare``.

``--thorough`` adds all pairs of a disk that is full of data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.images import IMAGES, MIB, disk, full, made
from benchmarks.installed import program
from benchmarks.measure import Failed, Program, faster, take_turns, warm
from benchmarks.page import run
from benchmarks.table import Chapter, Goal, Table

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.page import Options

PAIRS = (
    ("raw", "qcow2"),
    ("qcow2", "VMDK"),
    ("VHD", "VHDX"),
    ("VDI", "VMDK"),
    ("raw", "qcow2, deflate"),
    ("qcow2", "qcow2, zstd"),
    ("qcow2, deflate", "VMDK, streamOptimized"),
)
ALWAYS_FULL = PAIRS[:2]


def chapter(options: Options) -> Chapter:
    """Both programs read both images to their ends, for they are equal."""
    rows, goals = [], []
    source = disk(options.size)
    for share, pairs in (("a quarter", PAIRS), ("all", PAIRS if options.thorough else ALWAYS_FULL)):
        for pair in pairs:
            name = f"{pair[0]} and {pair[1]}"
            if not options.wants(name):
                continue
            raw = source.path if share != "all" else full((options.size or 1024) * 4 * MIB)
            row, goal = _compared(pair, raw, share, options.runs)
            rows.append(row)
            goals.append(goal)
    columns = (
        "images",
        "data",
        "qemu-img, s (processor)",
        "vmport, s (processor)",
        "times as fast",
    )
    text = f"`vmport compare` beside `qemu-img compare`.  The disk: {source.what}; and a full one."
    return Chapter("Comparing", text, (Table("", columns, tuple(rows), texts=2),), tuple(goals))


def _compared(
    pair: tuple[str, str], raw: Path, share: str, runs: int
) -> tuple[tuple[str, ...], Goal]:
    name = f"{pair[0]} and {pair[1]}"
    images = [made(image, raw) for image in pair]
    for image in images:
        warm(image)
    told = ["-f", IMAGES[pair[0]][0], "-F", IMAGES[pair[1]][0], *map(str, images)]
    programs = (
        Program("qemu-img", ["qemu-img", "compare", *told]),
        Program("vmport", [program("vmport"), "compare", *told]),
    )
    outcomes = take_turns(programs, runs, label=f"compare {name}, {share}")
    found = faster(outcomes, "vmport", "qemu-img")
    goal = Goal(f"compare {name}, {share} of it data", "times as fast", 1.0, found)
    cells = [
        one.reason if isinstance(one, Failed) else f"{one.wall:.2f} ({one.work:.2f})"
        for one in outcomes.values()
    ]
    return (name, share, *cells, "" if found is None else f"{found:.2f}"), goal


if __name__ == "__main__":
    run([chapter], __doc__.splitlines()[0])
