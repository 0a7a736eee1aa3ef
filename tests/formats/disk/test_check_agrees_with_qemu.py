"""Damaged images: as many errors and leaks as ``qemu-img check`` counts, seeded and repeatable."""

from __future__ import annotations

import json
import random
import shutil
import struct
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest

from vmport_formats.disk.check import CheckReport, Severity, check_image
from vmport_formats.disk.qcow2.header import read_header
from vmport_formats.references import Confined
from vmport_formats.source import open_source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vmport_formats.references import Reference
    from vmport_formats.source import ByteSource

pytestmark = pytest.mark.needs("qemu-img", "qemu-io")

CASES = 15
"""Damaged copies of each image."""
WRITES = ("write 0 1M", "write 2M 100k", "write -z 3M 256k")
PACKED = ("write -c 4M 64k", "write -c 4160k 64k")
AGAIN = ("write 64k 256k",)


class Made(NamedTuple):
    """How an image is made."""

    id: str
    options: str = ""
    before: tuple[str, ...] = WRITES + PACKED
    snapshot: bool = False
    bitmap: bool = False


MADE = (
    Made("plain"),
    Made("clusters-4k", "cluster_size=4k"),
    Made("clusters-512", "cluster_size=512,refcount_bits=64"),
    Made("extended", "extended_l2=on,cluster_size=16k"),
    Made("refcounts-8", "refcount_bits=8"),
    Made("refcounts-32", "refcount_bits=32"),
    Made("v2", "compat=0.10", before=("write 0 1M", "write -c 4M 64k")),
    Made("bitmap", "cluster_size=4k", bitmap=True),
)


def _run(*words: str | Path) -> str:
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    return done.stdout


def _make(made: Made, folder: Path) -> Path:
    image = folder / f"{made.id}.qcow2"
    options = ("-o", made.options) if made.options else ()
    _run("qemu-img", "create", "-f", "qcow2", *options, image, "6M")
    _write(image, *made.before)
    if made.snapshot:
        _run("qemu-img", "snapshot", "-c", "s", image)
    if made.bitmap:
        _run("qemu-img", "bitmap", "--add", image, "b")
    _write(image, *AGAIN)
    return image


def _write(image: Path, *commands: str) -> None:
    words = [word for command in commands for word in ("-c", command)]
    _run("qemu-io", *words, image)


def _check(image: Path) -> CheckReport:
    def opener(reference: Reference) -> ByteSource:
        raise AssertionError(reference)

    with open_source(image) as source:
        return check_image(source, opener, Confined([]))


def _counts(report: CheckReport) -> tuple[int, int]:
    return report.counts[Severity.ERROR], report.counts[Severity.LEAK]


def _qemu(image: Path, name: str = "qcow2") -> dict[str, int]:
    found: dict[str, int] = json.loads(
        _run("qemu-img", "check", "--output=json", "-f", name, image)
    )
    return found


@pytest.mark.parametrize("made", [*MADE, Made("snapshot", snapshot=True)], ids=lambda m: m.id)
def test_clean_qcow2_has_the_statistics_of_qemu(made: Made, tmp_path: Path) -> None:
    image = _make(made, tmp_path)
    report, theirs = _check(image), _qemu(image)
    assert report.faults == ()
    found = report.statistics
    assert found.total == theirs["total-clusters"]
    assert found.allocated == theirs["allocated-clusters"]
    assert found.compressed == theirs.get("compressed-clusters", 0)
    assert found.fragmented == theirs.get("fragmented-clusters", 0)
    assert found.image_end == theirs["image-end-offset"]


@pytest.mark.parametrize("made", MADE, ids=lambda m: m.id)
def test_damaged_qcow2_is_counted_as_qemu_does(made: Made, tmp_path: Path) -> None:
    image = _make(made, tmp_path)
    faulty = 0
    for number in range(CASES):
        copy = tmp_path / "copy.qcow2"
        shutil.copy(image, copy)
        damage = list(_damage(copy, random.Random(f"{made.id} {number}")))
        report, theirs = _check(copy), _qemu(copy)
        wanted = theirs.get("corruptions", 0), theirs.get("leaks", 0)
        assert _counts(report) == wanted, (damage, report.faults)
        assert report.sound == (wanted == (0, 0))
        faulty += not report.sound
    assert faulty > CASES // 3


def _damage(image: Path, dice: random.Random) -> Iterator[tuple[int, int, int]]:
    """Change one or two entries of L1, L2 and refcount tables."""
    with open_source(image) as source:
        header = read_header(source)
        size, cluster = source.size, header.cluster_size
        content = source.read_at(0, size)
    l1 = header.l1_table_offset
    tables = [
        entry & 0x00FF_FFFF_FFFF_FE00
        for (entry,) in struct.iter_unpack(">Q", content[l1 : l1 + 8 * header.l1_size])
        if entry
    ]
    block = int.from_bytes(content[header.refcount_table_offset :][:8], "big")
    places = [
        at
        for table in tables
        for at in range(table, table + cluster, 8)
        if any(content[at : at + 8]) or dice.random() < 0.01
    ]
    for _ in range(dice.choice((1, 1, 2))):
        kind = dice.random()
        if kind < 0.6:
            at = dice.choice(places)
        elif kind < 0.7:
            at = l1 + 8 * tables.index(dice.choice(tables))
        else:
            at = block + 8 * dice.randrange(size // cluster * header.refcount_bits // 64)
        old = int.from_bytes(content[at : at + 8], "big")
        new = dice.choice(
            (
                old ^ 1 << dice.randrange(9, 64),
                old ^ 1 << 63,
                1 << 63 | dice.randrange(1, size // cluster + 2) * cluster,
                0,
                old + cluster & (1 << 64) - 1,
            )
        )
        if kind < 0.7 and not new & 0x00FF_FFFF_FFFF_FE00 and new != old:
            new = 0  # flags and no offset are told here, and not by qemu-img
        with image.open("r+b") as file:
            file.seek(at)
            file.write(new.to_bytes(8, "big"))
        yield at, old, new


TABLES = {"qed": (None, 8), "parallels": (64, 4), "vdi": (512, 4)}
"""Where the table of blocks is, and the width of its entries."""


@pytest.mark.parametrize("name", TABLES)
def test_damaged_blocks_are_counted_as_qemu_does(name: str, tmp_path: Path) -> None:
    """Pointers to the outside and, for QED, two to one place; qemu passes over those elsewhere."""
    image = tmp_path / f"image.{name}"
    _run("qemu-img", "create", "-f", name, image, "16M")
    writes = ["write 0 1M", "write 5M 2M", "write 11M 1M"]
    if name == "parallels":  # with more blocks, qemu-img 10 ends by an assertion of its own
        del writes[1:]
    _write_as(name, image, *writes)
    assert _check(image).faults == ()
    known, width = TABLES[name]
    content = image.read_bytes()
    at = known
    if at is None:
        l1 = int.from_bytes(content[40:48], "little")
        at = int.from_bytes(content[l1 : l1 + 8], "little")
    first = int.from_bytes(content[at : at + width], "little")
    damages = [((1 << 8 * width - 2) >> 16 << 16, "outside")]
    if name == "qed":
        other = int.from_bytes(content[at + 8 : at + 16], "little")
        damages += [(0, "lost"), (other, "twice"), (first + 512, "unaligned")]
    for value, what in damages:
        with image.open("r+b") as file:
            file.seek(at)
            file.write(value.to_bytes(width, "little"))
        theirs = _qemu(image, name)
        report = _check(image)
        errors, leaks = _counts(report)
        assert errors == theirs.get("corruptions", 0), (what, report.faults)
        if name == "qed":  # of the others, it counts what is lost at the end of the file only
            assert leaks == theirs.get("leaks", 0), (what, report.faults)
        assert not report.sound


def test_room_lost_at_the_end_of_parallels_is_counted_as_qemu_does(tmp_path: Path) -> None:
    image = tmp_path / "image.parallels"
    _run("qemu-img", "create", "-f", "parallels", image, "16M")
    _write_as("parallels", image, "write 0 2M")
    end = image.stat().st_size
    with image.open("r+b") as file:
        file.truncate(end + (3 << 20))
    report = _check(image)
    assert _counts(report) == (0, _qemu(image, "parallels")["leaks"]) == (0, 3)
    assert [fault.at for fault in report.faults] == [end]


def _write_as(name: str, image: Path, *commands: str) -> None:
    words = [word for command in commands for word in ("-c", command)]
    _run("qemu-io", "-f", name, *words, image)
