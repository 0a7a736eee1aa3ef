"""An overlay holds what its base has otherwise, and nothing else; qemu-img reads both together."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vmport_converters.disk.native.output import OutputFile
from vmport_converters.disk.native.overlay import differing_data, write_overlay
from vmport_formats.disk.image import open_image
from vmport_formats.disk.model import DiskFormat
from vmport_formats.disk.packing import Effort
from vmport_formats.disk.qcow2.composer import Qcow2Composer
from vmport_formats.disk.qcow2.options import Qcow2Options
from vmport_formats.references import Confined

pytestmark = pytest.mark.needs("qemu-img")

KIB, MIB = 1 << 10, 1 << 20
CELL = 8 * KIB

Pattern = list[tuple[int, int]]
"""Runs of cells: how many, and of which kind; 0 is a hole, 1 is stored zeros."""

patterns = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 4)), max_size=12)


def content(pattern: Pattern) -> bytes:
    kinds = [bytes(CELL), bytes(CELL), *(random.Random(k).randbytes(CELL) for k in range(3))]
    return b"".join(kinds[kind] * count for count, kind in pattern)


def make(path: Path, pattern: Pattern, cut: int) -> bytes:
    """A raw disk, with holes, that is `cut` sectors short of the pattern; its bytes."""
    data = content(pattern)
    size = max(0, len(data) - 512 * cut)
    with path.open("wb") as file:
        at = 0
        for count, kind in pattern:
            if kind:
                os.pwrite(file.fileno(), data[at : at + count * CELL], at)
            at += count * CELL
        file.truncate(size)
    return data[:size]


def written_clusters(path: Path) -> dict[int, bool]:
    """Offsets that the overlay itself decides, cut at 512 bytes by qemu-img's own map; data?"""
    words = ["qemu-img", "map", "--output=json", str(path)]
    done = subprocess.run(words, check=True, capture_output=True)
    return {
        extent["start"] + place: extent["data"]
        for extent in json.loads(done.stdout)
        if extent["depth"] == 0 and extent["present"]
        for place in range(0, extent["length"], 512)
    }


options = st.one_of(
    st.builds(
        Qcow2Options,
        version=st.just(3),
        cluster_size=st.sampled_from((512, 4 * KIB, 64 * KIB, 2 * MIB)),
        compress=st.sampled_from((None, Effort.FAST)),
    ),
    st.builds(Qcow2Options, version=st.just(2), cluster_size=st.sampled_from((KIB, 64 * KIB))),
    st.builds(
        Qcow2Options,
        cluster_size=st.sampled_from((16 * KIB, 64 * KIB)),
        extended_l2=st.just(True),
        compress=st.sampled_from((None, Effort.FAST)),
    ),
)


@settings(max_examples=40, deadline=None)
@given(
    patterns.filter(bool), patterns.filter(bool), st.integers(0, 15), st.integers(0, 15), options
)
@example([(30, 2)], [(30, 2), (30, 3)], 3, 0, Qcow2Options())
@example([(30, 2), (30, 0)], [(30, 2)], 0, 5, Qcow2Options())
@example([(300, 1)], [(300, 2)], 0, 0, Qcow2Options(cluster_size=512))
def test_the_overlay_on_its_base_is_the_disk(
    ours: Pattern, theirs: Pattern, our_cut: int, their_cut: int, chosen: Qcow2Options
) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        truth = make(folder / "disk", ours, our_cut)
        below = make(folder / "base", theirs, their_cut)
        overlay = write(folder, chosen)
        subprocess.run(
            ["qemu-img", "compare", "-f", "raw", "-F", "qcow2", "disk", "overlay"],
            cwd=folder,
            check=True,
            capture_output=True,
        )
        subprocess.run(["qemu-img", "check", "-q", str(overlay)], check=True)
        with open_image(overlay, Confined([folder])) as alone:
            assert alone.virtual_size == len(truth)
        size = chosen.cluster_size
        length = len(truth)
        expected: dict[int, bool] = {}
        for start in range(0, length, size):
            end = min(start + size, length)
            mine, its = truth[start:end], below[start:end].ljust(end - start, b"\0")
            if mine != its:
                expected |= dict.fromkeys(range(start, end, 512), any(mine))
        found = written_clusters(overlay)
        assert found.keys() == expected.keys()
        # Version 2 has no mark for zeros: they take a cluster, of which the file holds a hole.
        if chosen.version == 3:
            assert found == expected


def write(folder: Path, chosen: Qcow2Options) -> Path:
    overlay = folder / "overlay"
    named = Qcow2Options(
        version=chosen.version,
        cluster_size=chosen.cluster_size,
        compress=chosen.compress,
        extended_l2=chosen.extended_l2,
        backing_file="base",
        backing_format="raw",
    )
    raw = DiskFormat.RAW
    with (
        open_image(folder / "disk", declared=raw) as disk,
        open_image(folder / "base", declared=raw) as base,
        OutputFile(overlay) as output,
    ):
        composer = Qcow2Composer(disk.virtual_size, named)
        shares: list[float] = []
        write_overlay(disk, base, composer, output, hashed=True, on_progress=shares.append)
        assert shares == sorted(shares)
        assert shares[-1] == 1
    return overlay


def test_cost_follows_the_data_of_both(tmp_path: Path) -> None:
    """15 TiB, of which the maps tell nearly all."""
    size, far = 15 << 40, (15 << 40) - MIB
    for name, offsets in (("disk", (0, far)), ("base", (0, 8 << 40))):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
            for offset in offsets:
                os.pwrite(file.fileno(), random.Random(offset).randbytes(MIB), offset)
    overlay = write(tmp_path, Qcow2Options(cluster_size=2 * MIB))
    raw = DiskFormat.RAW
    with (
        open_image(tmp_path / "disk", declared=raw) as disk,
        open_image(tmp_path / "base", declared=raw) as base,
        open_image(tmp_path / "base", declared=raw) as again,
    ):
        assert differing_data(disk, base) == MIB * 2
        assert differing_data(base, again) == 0
    found = written_clusters(overlay)
    assert min(found) == 8 << 40
    assert len(found) == 2 * 2 * MIB // 512
    assert overlay.stat().st_size < 20 * MIB
