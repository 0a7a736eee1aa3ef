"""Inspecting 1,000 images in one process, beside 1,000 `qemu-img info`; and empty disks of 16 TiB.

``python benchmarks/inspect_many.py``.  The images are of six formats, each made once and copied.
The cost of a 16 TiB disk is that of a fresh interpreter that opens it and walks its whole map,
less that of one that does nothing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING

from read import CACHE, measured

if TYPE_CHECKING:
    from pathlib import Path

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

VMPORT = """
import sys
from pathlib import Path
from vmport_formats.disk.probe import probe
from vmport_formats.source import open_source
for path in sorted(Path(sys.argv[1]).iterdir()):
    with open_source(path) as source:
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


def thousand(count: int) -> Path:
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


def inspect_many(count: int, runs: int) -> None:
    folder = thousand(count)
    theirs, ours = [], []
    for _ in range(runs):
        theirs.append(measured(["sh", "-c", QEMU, "sh", str(folder)])[0])
        ours.append(measured([sys.executable, "-c", VMPORT, str(folder)])[0])
    their, our = statistics.median(theirs), statistics.median(ours)
    print(f"| {count} × `qemu-img info`, s | vmport, one process, s | times as fast |")
    print("|---|---|---|")
    print(f"| {their:.2f} | {our:.2f} | {their / our:.1f} |\n")


def peak(program: str, *arguments: str) -> int:
    """KiB of memory at the most."""
    done = subprocess.run(
        [sys.executable, "-c", program + PEAK, *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return int(done.stdout)


def huge_disks(runs: int) -> None:
    print("| empty disk | seconds of processor time | MiB of memory |")
    print("|---|---|---|")
    idle = statistics.median(measured([sys.executable, "-c", "pass"])[1] for _ in range(runs))
    for name, (form, size) in HUGE.items():
        path = CACHE / f"huge.{form}"
        path.unlink(missing_ok=True)
        subprocess.run(["qemu-img", "create", "-q", "-f", form, str(path), size], check=True)
        walk = [sys.executable, "-c", WALK, str(path)]
        taken = [measured(walk)[1] for _ in range(runs)]
        memory = (peak(WALK, str(path)) - peak("pass")) / 1024
        print(f"| {name}, {size}iB | {statistics.median(taken) - idle:.2f} | {memory:.1f} |")
        path.unlink()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--count", type=int, default=1000)
    options.add_argument("--runs", type=int, default=5)
    chosen = options.parse_args()
    print(f"medians of {chosen.runs}, {os.cpu_count()} processors\n")
    inspect_many(chosen.count, chosen.runs)
    huge_disks(chosen.runs)


if __name__ == "__main__":
    main()
