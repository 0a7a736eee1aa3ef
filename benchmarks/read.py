"""Reading a disk from its first byte to its last, beside qemu-img: ``python benchmarks/read.py``.

Each image is read by a process of its own, start-up included, to nowhere and to a sparse raw file.
The programs take turns, so that a busy machine troubles all alike; the table has medians.  The
processor time is that of all threads: what counts when the machine has other things to do.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Command = Callable[[Path, str, Path], list[str]]

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "benchmarks"
MIB = 1 << 20

IMAGES = {
    "raw": ("raw",),
    "qcow2": ("qcow2",),
    "qcow2, deflate": ("qcow2", "-c"),
    "qcow2, zstd": ("qcow2", "-c", "-o", "compression_type=zstd"),
    "VMDK, streamOptimized": ("vmdk", "-o", "subformat=streamOptimized"),
}
"""What to ask `qemu-img convert` for: format, options."""


def _qemu_to_nowhere(image: Path, disk_format: str, target: Path) -> list[str]:
    size = _virtual_size(image)
    sink = ["-n", "--target-image-opts", str(image), f"driver=null-co,size={size},read-zeroes=on"]
    return ["qemu-img", "convert", "-f", disk_format, *sink]


def _qemu_to_file(image: Path, disk_format: str, target: Path) -> list[str]:
    return ["qemu-img", "convert", "-f", disk_format, "-O", "raw", str(image), str(target)]


def _vmport_to_nowhere(image: Path, disk_format: str, target: Path) -> list[str]:
    return [sys.executable, "-c", _TO_NOWHERE, str(image)]


def _vmport_to_file(image: Path, disk_format: str, target: Path) -> list[str]:
    return [sys.executable, "-c", _TO_FILE, str(image), str(target)]


_TO_NOWHERE = """
import sys
from vmport_formats.disk.image import open_image
with open_image(sys.argv[1]) as disk:
    for _ in disk.stream():
        pass
"""
_TO_FILE = """
import os, sys
from vmport_formats.disk.image import open_image
with open_image(sys.argv[1]) as disk:
    target = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.ftruncate(target, disk.virtual_size)
    for offset, piece in disk.stream():
        os.pwrite(target, piece, offset)
"""

RUNS: dict[str, tuple[Command, Command]] = {
    "to nowhere": (_qemu_to_nowhere, _vmport_to_nowhere),
    "to a raw file": (_qemu_to_file, _vmport_to_file),
}
"""What qemu-img does, and what vmport does."""


def content(limit: int) -> Iterator[bytes]:
    """Bytes as disks have them: the files of this machine, in order."""
    left = limit
    for path in sorted(Path("/usr").rglob("*")):
        if left <= 0:
            return
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()[: min(left, 16 * MIB)]
            left -= len(data)
            yield data


def source(size: int) -> Path:
    """A raw disk with `size` bytes of data, and three times as much of nothing around them."""
    path = CACHE / f"source-{size // MIB}.raw"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            file.truncate(4 * size)
            since = 0
            for data in content(size):
                file.write(data)
                file.seek(-file.tell() % 4096, os.SEEK_CUR)
                since += len(data)
                if since > 16 * MIB:
                    file.seek(48 * MIB, os.SEEK_CUR)
                    since = 0
        partial.replace(path)
    return path


def made(name: str, raw: Path) -> Path:
    """The image called `name`."""
    if name == "raw":
        return raw
    disk_format, *options = IMAGES[name]
    path = raw.with_name(f"{raw.stem}-{''.join(c for c in name if c.isalnum())}.{disk_format}")
    if not path.exists():
        partial = path.with_suffix(".partial")
        convert = ["qemu-img", "convert", "-W", "-m", "8", "-f", "raw", "-O", disk_format]
        subprocess.run([*convert, *options, raw, partial], check=True)
        partial.replace(path)
    return path


def _virtual_size(image: Path) -> int:
    from vmport_formats.disk.image import open_image

    with open_image(image) as disk:
        return disk.virtual_size


def measured(command: list[str]) -> tuple[float, float]:
    """Seconds that went by, and seconds of processor time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--size", type=int, default=1024, help="MiB of data on the disk")
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--only", help="images whose name has this in it")
    chosen = options.parse_args()
    raw = source(chosen.size * MIB)
    print(f"{chosen.size} MiB of data, medians of {chosen.runs}, {os.cpu_count()} processors\n")
    print("| image | | qemu-img, s (CPU) | vmport, s (CPU) | vmport, MiB/s | times as fast (CPU) |")
    print("|---|---|---|---|---|---|")
    target = CACHE / "target.raw"
    for name, (disk_format, *_) in IMAGES.items():
        if chosen.only and chosen.only not in name:
            continue
        image = made(name, raw)
        for where, commands in RUNS.items():
            argvs = [command(image, disk_format, target) for command in commands]
            runs: list[list[tuple[float, float]]] = [[], []]
            for _ in range(chosen.runs):
                for argv, taken in zip(argvs, runs, strict=True):
                    target.unlink(missing_ok=True)
                    taken.append(measured(argv))
            (their_wall, their_cpu), (wall, cpu) = (
                map(statistics.median, zip(*taken, strict=True)) for taken in runs
            )
            print(
                f"| {name} | {where} | {their_wall:.2f} ({their_cpu:.2f}) | {wall:.2f} ({cpu:.2f}) "
                f"| {chosen.size / wall:.0f} | {their_wall / wall:.2f} ({their_cpu / cpu:.2f}) |",
                flush=True,
            )
    target.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
