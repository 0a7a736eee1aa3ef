"""A VHDX that is composed, as Windows makes one, and as qemu-img and libvhdi want it."""

from __future__ import annotations

import os
import subprocess
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fixtures.disks.vhdx import checksum
from tests.composing import compose, compose_soundly, patchwork
from tests.content import (
    check_content,
    check_like_qemu,
    converted,
    qemu_img,
    qemu_io,
)
from tests.samples import sample
from vmport_formats.disk.image import open_image
from vmport_formats.disk.vhdx.composer import (
    MAX_SIZE,
    Subformat,
    VhdxComposer,
    VhdxOptions,
    suggested_block_size,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
GRAIN = 64 * KIB
FIXED = VhdxOptions(subformat=Subformat.FIXED)
ID = UUID("01234567-89ab-cdef-0123-456789abcdef")
ZERO, PRESENT = 2, 6

LIBVHDI = """
import sys, pyvhdi
disk = pyvhdi.file()
disk.open(sys.argv[1])
left = disk.get_media_size()
while left:
    part = disk.read(min(left, 1 << 20))
    left -= len(part)
    sys.stdout.buffer.write(part)
"""


def libvhdi(path: Path) -> bytes:
    command = ["/usr/bin/python3", "-c", LIBVHDI, str(path)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def sizes() -> st.SearchStrategy[int]:
    near = st.builds(int.__add__, st.sampled_from((MIB, 2 * MIB, 8 * MIB)), st.integers(-513, 513))
    return near | st.integers(0, 10 * MIB)


def composed(path: Path, disk: bytes | Mapping[int, bytes], size: int, options: VhdxOptions) -> int:
    """Composes it at `path`, sees that we find nothing wrong with it; returns how many blocks."""
    composer = VhdxComposer(size, options)
    counted = compose_soundly(composer, disk, path)
    assert 0 <= composer.virtual_size - size < 512
    assert counted.fragmented == 0
    assert counted.allocated is not None
    return counted.allocated


@pytest.mark.needs("qemu-img", "vhdiinfo")
@given(
    size=sizes(),
    seed=st.integers(0, 1 << 32),
    grain=st.sampled_from((GRAIN, 512, 300 * KIB, MIB)),
    batch=st.sampled_from((GRAIN, MIB, 16 * MIB)),
    block_size=st.sampled_from((0, MIB, 4 * MIB, 256 * MIB)),
    log_size=st.sampled_from((MIB, 3 * MIB)),
    subformat=st.sampled_from(Subformat),
)
@example(0, 0, GRAIN, GRAIN, 256 * MIB, MIB, Subformat.DYNAMIC)
@example(0, 0, GRAIN, GRAIN, 0, MIB, Subformat.FIXED)
@settings(max_examples=25, deadline=None)
def test_every_reader_finds_the_disk(
    size: int,
    seed: int,
    grain: int,
    batch: int,
    block_size: int,
    log_size: int,
    subformat: Subformat,
) -> None:
    disk = patchwork(size, grain, seed=seed)
    truth = disk.ljust(-(-size // 512) * 512, b"\0")
    options = VhdxOptions(subformat, block_size, log_size)
    block = block_size or 8 * MIB
    with TemporaryDirectory() as folder:
        path = Path(folder) / "disk.vhdx"
        blocks = composed(path, disk, size, options)
        used = sum(any(disk[at : at + block]) for at in range(0, size, block))
        assert blocks == (-(-size // block) if subformat == "fixed" else used)
        with open_image(path) as image:
            assert image.info.variant == subformat
            assert image.info.cluster_size == block
            assert image.info.details["log-length"] == log_size
            check_content(image, truth, seed=seed)
        if size or block < 256 * MIB:  # qemu cannot even make such a disk of no bytes
            qemu_img("check", "-f", "vhdx", path)
            assert converted(path, "vhdx") == truth
        if size:  # libvhdi takes no disk without a block
            assert libvhdi(path) == truth
        again = Path(folder) / "again.vhdx"
        compose(VhdxComposer(size, options), disk, again, batch=batch)
        assert again.stat().st_size == path.stat().st_size
        assert subprocess.run(["cmp", path, again], check=False).returncode == 0


@pytest.mark.qemu_samples
def test_file_is_as_windows_makes_it(tmp_path: Path) -> None:
    """But for the ids, who made it, what is left in its log, and what is behind its table."""
    theirs = sample("iotest-dynamic-1G.vhdx").read_bytes()
    with open_image(sample("iotest-dynamic-1G.vhdx")) as image:
        options = VhdxOptions(
            block_size=32 * MIB, disk_id=UUID(str(image.info.details["virtual-disk-id"]))
        )
        disk = image.read(0, 96 * MIB)
    path = tmp_path / "disk.vhdx"
    assert composed(path, {0: disk}, GIB, options) == 3
    ours = path.read_bytes()
    assert len(ours) == len(theirs)
    different = {
        "made by": (8, 8 + 512),
        **{
            f"checksum and number to write guids of {at:#x}": (at + 4, at + 48)
            for at in (64 * KIB, 128 * KIB)
        },
        "log": (MIB, 2 * MIB),
        "behind the metadata table": (2 * MIB + 6 * 32, 2 * MIB + 7 * 32),
    }
    at = 0
    for start, end in different.values():
        assert ours[at:start] == theirs[at:start]
        at = end
    assert ours[at:] == theirs[at:]
    assert ours[8 : 8 + 512].decode("utf-16-le").rstrip("\0") == "vmport"
    assert not any(ours[MIB : 2 * MIB])
    one, two = (ours[at : at + 4 * KIB] for at in (64 * KIB, 128 * KIB))
    assert (one, two) == (checksum(one), checksum(two))
    assert int.from_bytes(one[8:16], "little") + 1 == int.from_bytes(two[8:16], "little")
    written, changed = one[16:32], one[32:48]
    assert two[16:48] == written + changed
    assert len({written, changed, options.disk_id, bytes(16)}) == 4


@pytest.mark.parametrize("subformat", Subformat)
def test_entry_of_a_bitmap_is_behind_each_chunk(subformat: Subformat, tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    size = 12 * GIB + 1  # chunks are of 4 GiB
    middle = 4 * GIB - GRAIN
    options = VhdxOptions(subformat, block_size=64 * MIB)
    blocks = composed(path, {middle: b"x" * 2 * GRAIN, 12 * GIB: b"last"}, size, options)
    with path.open("rb") as file:
        file.seek(3 * MIB)
        table = [int.from_bytes(file.read(8), "little") for _ in range(200)]
    if subformat == "fixed":
        assert blocks == 193
        places = iter(range(4 * MIB + PRESENT, 200 * 64 * MIB, 64 * MIB))
        chunk = [[next(places) for _ in range(64)] for _ in range(3)]
        wanted = [*chunk[0], 0, *chunk[1], 0, *chunk[2], 0, next(places)]
    else:
        assert blocks == 3
        first, second, last = (4 * MIB + 64 * number * MIB + PRESENT for number in range(3))
        wanted = [*[ZERO] * 63, first, 0, second, *[ZERO] * 63, 0, *[ZERO] * 64, 0, last]
    assert table == [*wanted, *[0] * (200 - len(wanted))]
    assert path.stat().st_size == (4 + 64 * blocks) * MIB
    assert path.stat().st_blocks * 512 < MIB  # zeros in a block are holes
    with open_image(path) as image:
        assert image.read(middle, 2 * GRAIN) == b"x" * 2 * GRAIN
        assert image.read(12 * GIB, 512) == b"last".ljust(512, b"\0")


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize("block_size", [MIB, 0])
def test_disk_of_two_chunks_is_like_qemu_reads_it(block_size: int, tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    last = os.urandom(3 * GRAIN)
    # Qemu looks at every byte of it, as it has no map of a VHDX.
    size = 6 * GIB
    disk = {0: b"first", 4 * GIB - GRAIN: b"a" * 2 * GRAIN, size - len(last): last}
    composed(path, disk, size, VhdxOptions(block_size=block_size))
    qemu_img("check", "-f", "vhdx", path)
    with open_image(path) as image:
        for offset, data in disk.items():
            assert image.read(offset, len(data)) == data
        assert check_like_qemu(image, path, "vhdx", tmp_path) <= 4 * MIB


@pytest.mark.needs("qemu-io")
def test_disk_of_64_tib_with_data_at_both_ends(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    disk = {
        0: b"\x01" * GRAIN,
        MAX_SIZE // 2 - GRAIN: b"\x02" * 2 * GRAIN,
        MAX_SIZE - GRAIN: b"\x03" * GRAIN,
    }
    composer = VhdxComposer(MAX_SIZE)
    tracemalloc.start()
    try:
        compose(composer, disk, path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * MIB
    assert path.stat().st_size == composer.length == (12 + 4 * 64) * MIB
    with open_image(path) as image:
        for offset, data in disk.items():
            assert image.read(offset, len(data)) == data
    qemu_io(
        path,
        "read -P 1 0 64k",
        "read -P 0 64k 4M",
        f"read -P 2 {MAX_SIZE // 2 - GRAIN} 128k",
        f"read -P 0 {MAX_SIZE - 2 * GRAIN} 64k",
        f"read -P 3 {MAX_SIZE - GRAIN} 64k",
        options=("-r", "-f", "vhdx"),
    )


def written_by(composer: VhdxComposer) -> int:
    return sum(len(data) for step in (composer.begin, composer.finish) for _, data in step())


@pytest.mark.parametrize("options", [VhdxOptions(), VhdxOptions(block_size=MIB), FIXED])
def test_disk_of_64_tib_takes_neither_time_nor_memory(options: VhdxOptions) -> None:
    composer = VhdxComposer(MAX_SIZE, options)
    tracemalloc.start()
    try:
        written = written_by(composer)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    again = VhdxComposer(MAX_SIZE, options)
    began = time.process_time()
    assert written_by(again) == written
    assert time.process_time() - began < 0.6
    blocks, bitmaps = MAX_SIZE // (options.block_size or 64 * MIB), 16 * 1024 - 1
    assert 0 < written - 8 * (blocks + bitmaps) < 200 * KIB  # the rest is headers and the like
    assert peak < 3 * MIB


@pytest.mark.needs("qemu-img")
def test_block_size_follows_from_the_size_as_in_qemu(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    for size in (MIB, GIB, GIB + MIB, 100 * GIB, 101 * GIB, 32 * TIB, 33 * TIB, MAX_SIZE):
        qemu_img("create", "-q", "-f", "vhdx", path, str(size))
        with open_image(path) as image:
            assert suggested_block_size(size) == image.info.cluster_size


def details(path: Path) -> Mapping[str, Any]:
    with open_image(path) as image:
        return image.info.details


def test_ids_follow_from_size_and_options_or_are_given(tmp_path: Path) -> None:
    names = ("virtual-disk-id", "file-write-guid", "data-write-guid")
    found = set()
    wanted = [(MIB, VhdxOptions()), (MIB, FIXED), (2 * MIB, FIXED), (MIB, VhdxOptions(disk_id=ID)),
              (MIB, VhdxOptions(log_size=2 * MIB)), (MIB, VhdxOptions(block_size=MIB))]  # fmt: skip
    for number, (size, options) in enumerate(wanted * 2):
        path = tmp_path / f"{number}.vhdx"
        composed(path, b"", size, options)
        found.add(tuple(details(path)[name] for name in names))
    assert len(found) == len(wanted)
    assert len({uuid for all_three in found for uuid in all_three}) == 3 * len(wanted)
    assert str(ID) in {disk_id for disk_id, _, _ in found}


def test_what_cannot_be_is_refused() -> None:
    for block_size in (1, MIB - 1, 3 * MIB, 512 * MIB, -MIB):
        with pytest.raises(ValueError, match="block_size"):
            replace(FIXED, block_size=block_size)
    for log_size in (0, MIB + 1, 4 * GIB):
        with pytest.raises(ValueError, match="log_size"):
            VhdxOptions(log_size=log_size)
    with pytest.raises(ValueError, match="an id of zeros"):
        VhdxOptions(disk_id=UUID(int=0))
    with pytest.raises(ValueError, match="at most"):
        VhdxComposer(MAX_SIZE + 1)
    with pytest.raises(ValueError, match="-1 bytes"):
        VhdxComposer(-1)
    with pytest.raises(ValueError, match="not compressed"):
        list(VhdxComposer(MIB).add_packed(0, b""))
