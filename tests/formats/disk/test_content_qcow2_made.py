"""qcow2 and raw content as qemu-img and qemu-io make it, in every variant, against qemu-img."""

from __future__ import annotations

import os
import random
import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from tests.content import (
    check_against_qemu_map,
    check_content,
    check_stream,
    converted,
    qemu_img,
    qemu_io,
)
from vmport_formats.disk.extents import ExtentKind
from vmport_formats.disk.image import open_image
from vmport_formats.errors import CorruptInput, InputError, UnsafeInput, UnsupportedFeature
from vmport_formats.references import Confined

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.needs("qemu-img", "qemu-io")

KIB, MIB, TIB = 1 << 10, 1 << 20, 1 << 40


def random_writes(size: int, *, seed: int, count: int = 40, zeros: bool = True) -> Iterator[str]:
    """Commands for qemu-io: data and zeros, anywhere, in any order, so that clusters scatter."""
    chance = random.Random(seed)
    for number in range(count):
        length = chance.randrange(1, 24) * 512
        start = chance.randrange((size - length) // 512) * 512
        kind = chance.choice(("", "", "-z ", "-z -u ")) if zeros else ""
        pattern = "" if kind else f"-P {number % 255 + 1} "
        yield f"write {kind}{pattern}{start} {length}"


def agree(path: Path, disk_format: str = "qcow2") -> None:
    """Content and map are those that qemu-img has."""
    with open_image(path, Confined([path.parent])) as image:
        extents = check_content(image, converted(path, disk_format))
        check_against_qemu_map(extents, path, disk_format)


VARIANTS = [
    *(f"compat=1.1,cluster_size={512 << bits}" for bits in range(13)),
    *(f"compat=0.10,cluster_size={512 << bits}" for bits in (0, 3, 7, 12)),
    *(f"extended_l2=on,cluster_size={16 * KIB << bits}" for bits in (0, 2, 7)),
    *(f"preallocation={how},cluster_size=4k" for how in ("metadata", "falloc", "full")),
    "extended_l2=on,preallocation=metadata,cluster_size=32k",
    "lazy_refcounts=on",
    "refcount_bits=64",
    "data_file={}/data.raw,data_file_raw=on",
    "data_file={}/data.raw,data_file_raw=off",
    "data_file={}/data.raw,extended_l2=on,cluster_size=16k",
]


@pytest.mark.parametrize("options", VARIANTS)
def test_written_at_random(options: str, tmp_path: Path) -> None:
    path = tmp_path / "image.qcow2"
    size = 3 * MIB + 512
    qemu_img("create", "-q", "-f", "qcow2", "-o", options.format(tmp_path), path, str(size))
    qemu_io(path, *random_writes(size, seed=len(options)))
    agree(path)


@pytest.mark.parametrize("bits", [9, 12, 16, 21])
@pytest.mark.parametrize("kind", ["zlib", "zstd"])
def test_compressed_and_then_written_over(bits: int, kind: str, tmp_path: Path) -> None:
    source = tmp_path / "source.raw"
    chance = random.Random(bits)
    parts = [
        chance.choice(
            (bytes(8 * KIB), bytes(chance.choices(b"abcd", k=8 * KIB)), chance.randbytes(8 * KIB))
        )
        for _ in range(60)
    ]
    source.write_bytes(b"".join(parts) + b"the end, not a whole sector"[:20])
    path = tmp_path / "image.qcow2"
    options = f"compression_type={kind},cluster_size={1 << bits}"
    qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options, source, path)
    agree(path)
    qemu_io(path, *random_writes(len(parts) * 8 * KIB, seed=bits, count=12))
    agree(path)


@pytest.mark.parametrize("size", [0, 512, 512 * 127, MIB + 512])
def test_sizes_that_no_cluster_divides(size: int, tmp_path: Path) -> None:
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, str(size))
    if size:
        qemu_io(path, f"write -P 9 {size - 512} 512")
    with open_image(path) as image:
        check_content(image, (bytes(size - 512) + b"\x09" * 512) if size else b"")


# --- Raw ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 511, 513, 70000, MIB + 1])
def test_raw_is_whole_sectors(size: int, tmp_path: Path) -> None:
    """qemu rounds the size up to whole sectors, and so do we."""
    path = tmp_path / "disk.raw"
    path.write_bytes(random.Random(size).randbytes(size))
    with open_image(path) as image:
        check_content(image, path.read_bytes().ljust(-(-size // 512) * 512, b"\0"))


def test_raw_with_holes(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.truncate(8 * MIB)
        for place in (0, 300 * KIB, 5 * MIB, 8 * MIB - 4 * KIB):
            file.seek(place)
            file.write(b"\x77" * 4 * KIB)
        os.fsync(file.fileno())
    with open_image(path) as image:
        extents = check_content(image, path.read_bytes())
        check_against_qemu_map(extents, path, "raw")
        assert [extent.kind for extent in extents].count(ExtentKind.DATA) == 4


# --- Internal snapshots -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", ["compat=1.1", "compat=0.10", "extended_l2=on", "cluster_size=512"]
)
def test_internal_snapshots_are_disks(options: str, tmp_path: Path) -> None:
    """Each with the content, the map and the size of its time; by id and by name."""
    path = tmp_path / "image.qcow2"
    sizes = [2 * MIB, 3 * MIB, 3 * MIB + 64 * KIB]
    qemu_img("create", "-q", "-f", "qcow2", "-o", options, path, str(sizes[0]))
    truths = []
    for number, size in enumerate(sizes):
        if "compat=0.10" in options:
            size = sizes[0]  # version 2 cannot be resized once it has snapshots
        else:
            qemu_img("resize", "-q", path, str(size))
        qemu_io(path, *random_writes(size, seed=number, count=15, zeros="0.10" not in options))
        qemu_img("snapshot", "-c", f"state {number}", path)
        truths.append(converted(path, "qcow2"))
    qemu_io(path, "write -P 99 0 1M")
    for number, truth in enumerate(truths):
        theirs = converted(path, "qcow2", "-l", f"snapshot.id={number + 1}")
        assert theirs[: len(truth)] == truth  # qemu-img gives it the size of today
        for wanted in (str(number + 1), f"state {number}"):
            with open_image(path, snapshot=wanted) as image:
                check_content(image, truth)
    agree(path)


def test_a_snapshot_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "1M")
    qemu_img("snapshot", "-c", "first", path)
    with pytest.raises(InputError) as caught, open_image(path, snapshot="2"):
        pass
    assert caught.value.code == "qcow2.snapshot"
    assert caught.value.hint == "it has 1 (first)"
    raw = tmp_path / "disk.raw"
    raw.write_bytes(bytes(512))
    with (
        pytest.raises(UnsupportedFeature, match="raw images have no") as refused,
        open_image(raw, snapshot="1"),
    ):
        pass
    assert refused.value.code == "raw.snapshot"


def test_a_snapshot_shows_the_backing_file_of_the_image(tmp_path: Path) -> None:
    base, path = tmp_path / "base.raw", tmp_path / "image.qcow2"
    base.write_bytes(b"\x11" * MIB)
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", path)
    qemu_io(path, "write -P 2 64k 64k")
    qemu_img("snapshot", "-c", "then", path)
    qemu_io(path, "write -P 3 0 1M")
    with open_image(path, Confined([tmp_path]), snapshot="then") as image:
        truth = b"\x11" * 64 * KIB + b"\2" * 64 * KIB + b"\x11" * (MIB - 128 * KIB)
        check_content(image, truth)


# --- Data files ---------------------------------------------------------------------------------


def test_a_data_file_is_opened_only_if_granted(tmp_path: Path) -> None:
    path = tmp_path / "image.qcow2"
    options = f"data_file={tmp_path}/data.raw,data_file_raw=on"
    qemu_img("create", "-q", "-f", "qcow2", "-o", options, path, "1M")
    with pytest.raises(UnsafeInput) as caught, open_image(path):
        pass
    assert caught.value.code == "reference.denied"


def test_clusters_of_a_data_file_lie_where_they_are_on_the_disk(tmp_path: Path) -> None:
    """By the specification they must; qemu refuses to read others, too."""
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={tmp_path}/data.raw", path, "1M")
    qemu_io(path, "write -P 1 0 128k")
    data = bytearray(path.read_bytes())
    first, second = (1 << 63).to_bytes(8, "big"), (1 << 63 | 65536).to_bytes(8, "big")
    at = data.index(first + second)
    data[at : at + 16] = second + first
    path.write_bytes(data)
    with open_image(path, Confined([tmp_path])) as image, pytest.raises(CorruptInput) as caught:
        image.read(0, 1)
    assert caught.value.at == at
    with pytest.raises(AssertionError, match="error"):
        converted(path, "qcow2")


# --- Cost ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", ["cluster_size=64k", "cluster_size=2M", "extended_l2=on,cluster_size=128k"]
)
def test_an_empty_disk_of_16_tib_costs_nothing(options: str, tmp_path: Path) -> None:
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", options, path, str(16 * TIB))
    with open_image(path):
        pass  # what is imported then does not count
    tracemalloc.start()
    try:
        with open_image(path) as image:
            begin = time.process_time()
            assert [extent.length for extent in image.extents()] == [16 * TIB]
            assert list(image.stream()) == []
            assert image.read(16 * TIB - 512, 512) == bytes(512)
            assert time.process_time() - begin < 0.3
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()


def test_preallocated_metadata_is_mapped_in_long_runs(tmp_path: Path) -> None:
    """Half a million entries; streaming skips the holes that they point to."""
    path = tmp_path / "image.qcow2"
    options = "preallocation=metadata,cluster_size=64k"
    qemu_img("create", "-q", "-f", "qcow2", "-o", options, path, str(32 << 30))
    begin = time.process_time()
    with open_image(path) as image:
        assert sum(extent.length for extent in image.extents()) == 32 << 30
        assert sum(len(piece) for _, piece in image.stream()) < MIB
    assert time.process_time() - begin < 2


def test_streaming_a_part(tmp_path: Path) -> None:
    """The range need not be aligned to anything, and a reader may lose interest."""
    path = tmp_path / "image.qcow2"
    source = tmp_path / "source.raw"
    source.write_bytes(random.Random(1).randbytes(100 * KIB) * 20)
    qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", source, path)
    truth = source.read_bytes()
    with open_image(path) as image:
        check_stream(image, truth.ljust(image.virtual_size, b"\0"), chunk=10_000, workers=3)
        pieces = list(image.stream(70_001, 300_007, chunk=4096))
        assert pieces[0][0] == 70_001
        assert b"".join(data for _, data in pieces) == truth[70_001:370_008]
        for _ in zip(range(3), image.stream(), strict=False):
            pass
