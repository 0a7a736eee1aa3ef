"""Comparing two disks of 4 GiB, beside qemu-img: ``python benchmarks/compare.py``.

Each comparison is a process of its own, start-up included, of images that the page cache holds.
The programs take turns, so that a busy machine troubles all alike; the table has medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

from read import CACHE, MIB, content, measured, source

VMPORT = str(Path(sys.executable).with_name("vmport"))

IMAGES = {
    "raw": ("raw",),
    "qcow2": ("qcow2",),
    "qcow2, deflate": ("qcow2", "-c"),
    "qcow2, zstd": ("qcow2", "-c", "-o", "compression_type=zstd"),
    "VMDK": ("vmdk",),
    "VMDK, streamOptimized": ("vmdk", "-o", "subformat=streamOptimized"),
    "VHD": ("vpc", "-o", "force_size=on"),
    "VHDX": ("vhdx",),
    "VDI": ("vdi",),
}
"""What to ask `qemu-img convert` for: format, options."""

PAIRS = (
    ("raw", "qcow2"),
    ("qcow2", "VMDK"),
    ("VHD", "VHDX"),
    ("VDI", "VMDK"),
    ("raw", "qcow2, deflate"),
    ("qcow2", "qcow2, zstd"),
    ("qcow2, deflate", "VMDK, streamOptimized"),
)


def full(size: int) -> Path:
    """A raw disk of `size` bytes, all of them data."""
    path = CACHE / f"full-{size // MIB}.raw"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            for data in content(size):
                file.write(data)
            file.truncate(size)
        partial.replace(path)
    return path


def made(name: str, raw: Path) -> Path:
    """The image called `name`, with the content of `raw`."""
    if name == "raw":
        return raw
    disk_format, *options = IMAGES[name]
    letters = "".join(sign for sign in name if sign.isalnum())
    path = raw.with_name(f"compare-{raw.stem}-{letters}.{disk_format}")
    if not path.exists():
        partial = path.with_suffix(".partial")
        command = ["qemu-img", "convert", "-m", "8", "-f", "raw", "-O", disk_format, *options]
        subprocess.run([*command, raw, partial], check=True)
        partial.replace(path)
    return path


def row(first: Path, second: Path, formats: tuple[str, str], runs: int) -> list[str]:
    """Medians of both programs, and how many times faster ours is."""
    images = ["-f", formats[0], "-F", formats[1], str(first), str(second)]
    ours, theirs = [VMPORT, "compare", *images], ["qemu-img", "compare", *images]
    for image in (first, second):  # into the page cache
        subprocess.run(["cat", image], check=True, stdout=subprocess.DEVNULL)
    times: list[list[tuple[float, float]]] = [[], []]
    for _ in range(runs):
        for command, taken in zip((theirs, ours), times, strict=True):
            taken.append(measured(command))
    (their_time, their_work), (our_time, our_work) = (
        [statistics.median(column) for column in zip(*taken, strict=True)] for taken in times
    )
    return [
        f"{their_time:.2f} ({their_work:.2f})",
        f"{our_time:.2f} ({our_work:.2f})",
        f"{their_time / our_time:.2f}",
    ]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--size", type=int, default=4096, help="MiB of the disks")
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--only", default="", help="pairs whose names have this in them")
    chosen = options.parse_args()
    print(f"Disks of {chosen.size} MiB, medians of {chosen.runs}, {os.cpu_count()} processors\n")
    print(
        "| images | data | qemu-img, s (of processor) | vmport, s (of processor) | times as fast |"
    )
    print("|---|---|---|---|---|")
    for share, raw in (
        ("a quarter", source(chosen.size // 4 * MIB)),
        ("all", full(chosen.size * MIB)),
    ):
        for pair in PAIRS:
            name = f"{pair[0]} and {pair[1]}"
            if chosen.only not in name:
                continue
            first, second = (made(image, raw) for image in pair)
            cells = row(first, second, (IMAGES[pair[0]][0], IMAGES[pair[1]][0]), chosen.runs)
            print("|", " | ".join([name, share, *cells]), "|", flush=True)


if __name__ == "__main__":
    main()
