"""Reading a disk from its first byte to its last, beside qemu-img: ``python -m benchmarks.read``.

Without ``--thorough`` only what is compressed is read, to a raw file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.debian_disk import CACHE
from benchmarks.images import IMAGES, disk, made
from benchmarks.installed import program
from benchmarks.measure import Failed, Program, Taken, faster, take_turns, warm
from benchmarks.page import run
from benchmarks.table import Chapter, Goal, Table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.page import Options

    Command = Callable[[Path, str, Path], list[str]]

READ = ("raw", "qcow2", "qcow2, deflate", "qcow2, zstd", "VMDK, streamOptimized")
WANTED = {"qcow2, deflate": 2.0, "qcow2, zstd": 1.0, "VMDK, streamOptimized": 2.0}
"""Times as fast as qemu-img, to a raw file; zstd unpacks as fast there as here."""


def _qemu_to_nowhere(image: Path, disk_format: str, _target: Path) -> list[str]:
    sink = f"driver=null-co,size={_virtual_size(image)},read-zeroes=on"
    return ["qemu-img", "convert", "-f", disk_format, "-n", "--target-image-opts", str(image), sink]


def _qemu_to_file(image: Path, disk_format: str, target: Path) -> list[str]:
    return ["qemu-img", "convert", "-f", disk_format, "-O", "raw", str(image), str(target)]


def _vmport_to_nowhere(image: Path, _format: str, _target: Path) -> list[str]:
    return [program("python"), "-c", _TO_NOWHERE, str(image)]


def _vmport_to_file(image: Path, _format: str, target: Path) -> list[str]:
    return [program("python"), "-c", _TO_FILE, str(image), str(target)]


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

WAYS: dict[str, tuple[Command, Command]] = {
    "to a raw file": (_qemu_to_file, _vmport_to_file),
    "to nowhere": (_qemu_to_nowhere, _vmport_to_nowhere),
}
"""What qemu-img does, and what vmport does."""


def chapter(options: Options) -> Chapter:
    """The library's own reader, one thread that asks for the next piece, beside qemu-img."""
    source = disk(options.size)
    rows, goals = [], []
    for name in READ:
        if not options.wants(name) or not (options.thorough or name in WANTED):
            continue
        image = made(name, source.path)
        warm(image)
        for way, commands in WAYS.items():
            if way == "to nowhere" and not options.thorough:
                continue
            target = CACHE / "target.raw"
            programs = [
                Program(program, command(image, IMAGES[name][0], target))
                for program, command in zip(("qemu-img", "vmport"), commands, strict=True)
            ]
            outcomes = take_turns(programs, options.runs, target, label=f"read {name} {way}")
            their, our = outcomes["qemu-img"], outcomes["vmport"]
            if not isinstance(their, Taken) or not isinstance(our, Taken):
                failed = next(one for one in (their, our) if isinstance(one, Failed))
                rows.append((name, way, failed.reason, "", "", ""))
                continue
            rows.append(
                (
                    name,
                    way,
                    f"{their.wall:.2f} ({their.work:.2f})",
                    f"{our.wall:.2f} ({our.work:.2f})",
                    f"{source.data / our.wall / 1e6:.0f}",
                    f"{their.wall / our.wall:.2f} ({their.work / our.work:.2f})",
                )
            )
            if way == "to a raw file" and name in WANTED:
                found = faster(outcomes, "vmport", "qemu-img")
                goals.append(Goal(f"read {name}", "times as fast", WANTED[name], found))
    columns = (
        "image",
        "",
        "qemu-img, s (processor)",
        "vmport, s (processor)",
        "vmport, MB/s",
        "times as fast (processor)",
    )
    text = (
        f"The library's own `stream()` beside `qemu-img convert`.  The disk: {source.what}.  Zstd "
        "unpacks as fast in qemu-img as here, so that goal is not to be slower."
    )
    return Chapter("Reading", text, (Table("", columns, tuple(rows), texts=2),), tuple(goals))


def _virtual_size(image: Path) -> int:
    from vmport_formats.disk.image import open_image

    with open_image(image) as opened:
        return opened.virtual_size


if __name__ == "__main__":
    run([chapter], __doc__.splitlines()[0])
