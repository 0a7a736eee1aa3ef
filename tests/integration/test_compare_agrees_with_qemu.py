"""`vmport compare` and `qemu-img compare` find the same, ours to the byte."""

from __future__ import annotations

import re
import subprocess
import time
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.content import qemu_img
from vmport_converters.disk.compare import Wanted, compare

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.needs("qemu-img")

MIB = 1 << 20
SIZE = 3 * MIB + 512 * 7

FORMATS = {
    "raw": ("raw",),
    "qcow2": ("qcow2",),
    "qcow2-512": ("qcow2", "-o", "cluster_size=512"),
    "qcow2-subclusters": ("qcow2", "-o", "extended_l2=on"),
    "qcow2-deflate": ("qcow2", "-c"),
    "qcow2-zstd": ("qcow2", "-c", "-o", "compression_type=zstd"),
    "vmdk": ("vmdk",),
    "vmdk-stream": ("vmdk", "-o", "subformat=streamOptimized"),
    "vhd": ("vpc",),
    "vhd-fixed": ("vpc", "-o", "subformat=fixed"),
    "vhdx": ("vhdx",),
    "vdi": ("vdi",),
    "qed": ("qed",),
    "parallels": ("parallels",),
}


class Truth(NamedTuple):
    """What qemu-img says."""

    equal: bool
    sector: int | None
    """Where the first difference is, or begins."""
    same_size: bool


def qemu_compare(first: Path, second: Path, formats: tuple[str, str]) -> Truth:
    done = subprocess.run(
        ["qemu-img", "compare", "-f", formats[0], "-F", formats[1], str(first), str(second)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    place = re.search(r"Content mismatch at offset (\d+)", done.stdout)
    return Truth(
        done.returncode == 0,
        int(place[1]) if place else None,
        "size mismatch" not in done.stdout + done.stderr,
    )


def content(chance: Random) -> bytearray:
    """A disk with data that compresses and data that does not, among zeros."""
    disk = bytearray(SIZE)
    for _ in range(12):
        start = chance.randrange(SIZE)
        length = min(chance.choice((100, 4096, 70_000)), SIZE - start)
        word = chance.randbytes(chance.choice((1, 7, length)))
        disk[start : start + length] = (word * (length // len(word) + 1))[:length]
    return disk


def made(name: str, disk: bytes, folder: Path, side: str) -> Path:
    source = folder / f"{side}.source"
    source.write_bytes(disk)
    target = folder / f"{side}.image"
    disk_format, *options = FORMATS[name]
    qemu_img("convert", "-f", "raw", "-O", disk_format, *options, source, target)
    return target


@pytest.mark.parametrize("seed", range(len(FORMATS)))
def test_the_first_difference_of_any_two_formats(seed: int, tmp_path: Path) -> None:
    """Each format against another; one byte is changed, sometimes none, sometimes the size too."""
    chance = Random(seed)
    names = list(FORMATS)
    pair = names[seed], names[(seed + chance.randrange(1, len(names))) % len(names)]
    disk = content(chance)
    first = made(pair[0], bytes(disk), tmp_path, "a")
    edit = chance.choice((None, chance.randrange(SIZE), chance.randrange(SIZE)))
    if edit is not None:
        disk[edit] ^= chance.randrange(1, 256)
    more = chance.choice((0, 0, 4096))
    second = made(pair[1], bytes(disk) + bytes(more), tmp_path, "b")

    truth = qemu_compare(first, second, (FORMATS[pair[0]][0], FORMATS[pair[1]][0]))
    found = compare(Wanted(str(first)), Wanted(str(second)))
    offset = found.difference and found.difference.offset
    assert offset == edit
    assert truth.equal == (edit is None)
    assert truth.sector == (None if edit is None else edit // 512 * 512)
    if truth.equal:  # else qemu-img may stop before it looks at the sizes
        assert found.same_size == truth.same_size


def test_data_behind_the_end_of_the_shorter_one(tmp_path: Path) -> None:
    disk = content(Random(3))
    first = made("qcow2", bytes(disk), tmp_path, "a")
    second = made("vmdk", bytes(disk) + bytes(1000) + b"\1" + bytes(535), tmp_path, "b")
    truth = qemu_compare(first, second, ("qcow2", "vmdk"))
    found = compare(Wanted(str(first)), Wanted(str(second)))
    assert found.difference is not None
    assert found.difference.offset == SIZE + 1000
    assert [side.value for side in found.difference.sides] == [None, 1]
    assert truth == Truth(equal=False, sector=(SIZE + 1000) // 512 * 512, same_size=False)


def test_disks_of_many_tebibytes_without_data(tmp_path: Path) -> None:
    """What both maps tell to be zeros takes no time."""
    for disk_format in ("qcow2", "vhdx"):
        qemu_img("create", "-f", disk_format, tmp_path / disk_format, "16T")
    begin = time.monotonic()
    wanted = [Wanted(str(tmp_path / disk_format)) for disk_format in ("qcow2", "vhdx")]
    assert compare(*wanted).difference is None
    assert time.monotonic() - begin < 2
