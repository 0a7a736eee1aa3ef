"""What several threads make of a disk is what qemu-img makes of it: in order, whole, bounded."""

from __future__ import annotations

import gc
import subprocess
import threading
import time
import tracemalloc
import zlib
from contextlib import closing
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.composing import patchwork
from vmport_converters.disk.native.pipeline import Prepared, prepared
from vmport_formats.disk.image import open_image
from vmport_formats.disk.model import DiskFormat
from vmport_formats.errors import CorruptInput, UnreadableInput
from vmport_formats.source import MemorySource

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from vmport_formats.disk.composer import Data
    from vmport_formats.disk.image import DiskImage
    from vmport_formats.disk.layer import Run

KIB, MIB = 1 << 10, 1 << 20
BLOCK = 64 * KIB
SIZE = 5 * MIB + 1536
"""No whole cluster, grain or block of any format."""
GRAINS = [512, 4 * KIB, 64 * KIB, 128 * KIB, 2 * MIB]

IMAGES = {
    "raw": ["-O", "raw"],
    "qcow2": ["-O", "qcow2"],
    "qcow2 of tiny clusters": ["-O", "qcow2", "-o", "cluster_size=512"],
    "qcow2, compressed": ["-c", "-O", "qcow2"],
    "qcow2, large and compressed": ["-c", "-O", "qcow2", "-o", "cluster_size=2M"],
    "VMDK": ["-O", "vmdk"],
    "VMDK, stream": ["-O", "vmdk", "-o", "subformat=streamOptimized"],
}


def squeeze(grain: Data) -> bytes | None:
    """Packs, if that makes it smaller."""
    packed = zlib.compress(grain, 1)
    return packed if len(packed) < len(grain) else None


def put_together(
    work: Generator[Prepared, None, None], disk: bytearray, *, grain: int, packs: bool = False
) -> dict[int, bytes]:
    """Put all that comes into `disk`, check that it follows the rules, and give the blocks."""
    zeros = bytes(grain)
    end = reached = 0
    hashes: dict[int, bytes] = {}
    with closing(work):
        for done in work:
            assert reached < done.end
            reached = done.end
            last_was_plain = False
            for offset, data, packed in done.pieces:
                assert packed <= packs
                plain = zlib.decompress(data) if packed else bytes(data)
                assert offset >= end
                assert offset % grain == len(plain) % grain == 0
                if packs:
                    assert len(plain) == grain
                else:
                    assert not (last_was_plain and offset == end), "neighbours are one"
                    last_was_plain = True
                end = offset + len(plain)
                assert end <= reached
                for place in range(0, len(plain), grain):
                    assert plain[place : place + grain] != zeros
                inside = plain[: len(disk) - offset]
                assert not any(plain[len(inside) :]), "behind the end of the disk"
                disk[offset : offset + len(inside)] = inside
            indices = [index for index, _ in done.blocks]
            assert indices == sorted(set(indices) - hashes.keys())
            hashes.update(done.blocks)
    return hashes


def hashes_of(disk: bytes) -> dict[int, bytes]:
    """The blocks that are not of zeros."""
    blocks = (disk[at : at + BLOCK].ljust(BLOCK, b"\0") for at in range(0, len(disk), BLOCK))
    return {index: blake3(block).digest() for index, block in enumerate(blocks) if any(block)}


@pytest.fixture(scope="module", params=IMAGES, ids=str)
def image(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, bytes]:
    """An image, and what qemu-img says that it holds."""
    folder = tmp_path_factory.mktemp("image")
    content = patchwork(SIZE, 4096, seed=7)
    hole = bytes(MIB + 5000)
    content = content[: 2 * MIB] + hole + content[2 * MIB + len(hole) :]
    (folder / "master").write_bytes(content)
    options = IMAGES[request.param]
    convert = ["qemu-img", "convert", "-f", "raw", *options, "master", "image"]
    subprocess.run(convert, cwd=folder, check=True)
    back = ["qemu-img", "convert", "-f", options[options.index("-O") + 1], "-O", "raw"]
    subprocess.run([*back, "image", "back"], cwd=folder, check=True)
    return folder / "image", (folder / "back").read_bytes()


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize("packs", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize("grain", GRAINS)
def test_the_pieces_are_what_qemu_img_reads(
    image: tuple[Path, bytes], grain: int, packs: bool
) -> None:
    path, truth = image
    declared = DiskFormat.RAW if path.read_bytes()[:3] not in {b"QFI", b"KDM"} else None
    with open_image(path, declared=declared) as disk:
        assert disk.virtual_size == len(truth)
        result = bytearray(len(truth))
        work = prepared(disk, grain=grain, pack=squeeze if packs else None)
        hashes = put_together(work, result, grain=grain, packs=packs)
        assert result == truth
        assert hashes == hashes_of(bytes(truth))
        assert not any(done.blocks for done in prepared(disk, grain=grain, hashed=False))


@given(
    size=st.integers(0, 12).map(lambda n: n * 300_000) | st.integers(0, 9000),
    patch=st.sampled_from((512, 1000, 4096, 65536, 300_000)),
    grain=st.sampled_from((*GRAINS, MIB)),
    seed=st.integers(0, 1 << 32),
)
@settings(max_examples=40, deadline=None)
def test_any_patchwork(size: int, patch: int, grain: int, seed: int) -> None:
    content = patchwork(size, patch, seed=seed)
    with open_image(MemorySource(content), declared=DiskFormat.RAW) as disk:
        result = bytearray(size)
        assert put_together(prepared(disk, grain=grain), result, grain=grain) == hashes_of(content)
        assert result == content


@pytest.mark.parametrize("grain", [128 * KIB, 256 * KIB])
def test_a_grain_of_several_blocks_is_data_when_one_of_them_is(grain: int) -> None:
    content = b"".join(
        bytes(BLOCK) if kind == "0" else bytes(BLOCK - 1) + b"x" for kind in "1001011000000000010"
    )
    with open_image(MemorySource(content), declared=DiskFormat.RAW) as disk:
        result = bytearray(len(content))
        put_together(prepared(disk, grain=grain), result, grain=grain)
        assert result == content


# --- Threads ------------------------------------------------------------------------------------


@dataclass
class Generated:
    """Random bytes that take no memory, and how many of them have been read."""

    size: int
    broken_at: int = 1 << 62
    holes_from: int = 1 << 62
    """From there on most is holes."""
    read: int = 0
    name: str = "generated"
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def block(self, index: int) -> bytes:
        return Random(index).randbytes(BLOCK)

    def read_at(self, offset: int, length: int) -> bytes:
        buffer = bytearray(max(0, min(length, self.size - offset)))
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def read_into(self, offset: int, target: memoryview) -> int:
        if offset <= self.broken_at < offset + len(target):
            raise UnreadableInput(
                self.name, at=self.broken_at, code="source.read", problem="cannot read: EIO"
            )
        with self._lock:
            self.read += len(target)
        first = offset // BLOCK
        parts = b"".join(
            self.block(index) for index in range(first, -(-(offset + len(target)) // BLOCK))
        )
        target[:] = parts[offset - first * BLOCK :][: len(target)]
        return len(target)

    def data_ranges(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        end = offset + length
        if offset < self.holes_from:
            yield offset, min(end, self.holes_from)
            offset = self.holes_from
        while offset < end:
            yield offset + 1000, min(end, offset + 3000)
            offset += 20_000


@pytest.fixture
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as any machine has that runs the tests."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})


def our_threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("vmport-convert")]


def settled(source: Generated) -> int:
    """How much has been read when no more is."""
    before = -1
    while before != source.read:
        before = source.read
        time.sleep(0.05)
    return before


@pytest.mark.usefixtures("two_processors")
def test_what_is_in_use_is_not_overwritten() -> None:
    """Buffers are used again; who takes long finds its own as it was, while others are filled."""
    source = Generated(16 * MIB)
    with open_image(source, declared=DiskFormat.RAW) as disk:
        seen = 0
        for number, done in enumerate(prepared(disk, grain=BLOCK, hashed=False)):
            if number in {0, 3, 8}:
                settled(source)
            for offset, data, _ in done.pieces:
                for place in range(0, len(data), BLOCK):
                    assert data[place : place + BLOCK] == source.block((offset + place) // BLOCK)
                    seen += BLOCK
    assert seen == source.size


@pytest.mark.usefixtures("two_processors")
@pytest.mark.parametrize("grain", [512, BLOCK])
def test_nothing_is_left_of_what_was_in_a_buffer_before(grain: int) -> None:
    source = Generated(16 * MIB, holes_from=10 * MIB)
    truth = bytearray(source.size)
    for start, stop in source.data_ranges(0, source.size):
        truth[start:stop] = source.read_at(start, stop - start)
    with open_image(source, declared=DiskFormat.RAW) as disk:
        result = bytearray(source.size)
        assert put_together(prepared(disk, grain=grain), result, grain=grain) == hashes_of(
            bytes(truth)
        )
    assert result == truth


@pytest.mark.usefixtures("two_processors")
@pytest.mark.parametrize("packs", [False, True], ids=["plain", "packed"])
def test_memory_is_bounded_while_somebody_waits(packs: bool) -> None:
    source = Generated(256 * MIB)
    with open_image(source, declared=DiskFormat.RAW) as disk:
        pack = (lambda data: bytes(data[:-1])) if packs else None
        tracemalloc.start()
        try:
            with closing(prepared(disk, grain=BLOCK, pack=pack, hashed=False)) as work:
                for _ in range(3):
                    next(work)
                    ahead = settled(source)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert ahead <= (3 + 2 * 2 + 1) * MIB
    jobs_at_once = 4 * 2
    assert peak <= jobs_at_once * MIB * (2 if packs else 1) + 4 * MIB


def note_ends(work: Generator[Prepared, None, None], ends: list[int]) -> None:
    """Note how far each step of `work` got."""
    ends.extend(done.end for done in work)


@pytest.mark.usefixtures("two_processors")
@pytest.mark.parametrize("broken_at", [0, 5 * MIB + 3, 12 * MIB - 1])
def test_an_unreadable_place_has_its_turn(broken_at: int) -> None:
    source = Generated(12 * MIB)
    with open_image(source, declared=DiskFormat.RAW) as disk:
        source.broken_at = broken_at
        reached = [0]
        with pytest.raises(UnreadableInput) as caught:
            note_ends(prepared(disk, grain=BLOCK), reached)
        assert caught.value.at == broken_at
        assert reached[-1] == broken_at - broken_at % MIB
    assert our_threads() == []


@pytest.mark.usefixtures("two_processors")
@pytest.mark.parametrize("good", [0, 1, MIB, 7 * MIB + 5])
def test_a_broken_map_has_its_turn(good: int) -> None:
    def broken(disk: DiskImage) -> Iterator[tuple[int, Run]]:
        for depth, run in disk.runs():
            if good:
                yield depth, run._replace(length=good)
        raise CorruptInput("disk", code="a.table", problem="is broken")

    with open_image(Generated(12 * MIB), declared=DiskFormat.RAW) as disk:
        reached = [0]
        with pytest.raises(CorruptInput):
            note_ends(prepared(disk, grain=BLOCK, runs=broken(disk)), reached)
        assert reached[-1] == -(-good // BLOCK) * BLOCK
    assert our_threads() == []


@pytest.mark.usefixtures("two_processors")
@pytest.mark.parametrize("how", ["close", "forget", "interrupt"])
def test_who_loses_interest_leaves_no_thread(how: str) -> None:
    source = Generated(64 * MIB)
    with open_image(source, declared=DiskFormat.RAW) as disk:
        work = prepared(disk, grain=BLOCK)
        next(work)
        assert our_threads() != []
        begin = time.monotonic()
        match how:
            case "close":
                work.close()
            case "forget":
                del work
                gc.collect()
            case _:
                with pytest.raises(KeyboardInterrupt):
                    work.throw(KeyboardInterrupt())
        assert our_threads() == []
        assert time.monotonic() - begin < 1
        assert source.read < 16 * MIB


def test_a_failure_while_packing_is_not_swallowed() -> None:
    def fails(_data: Data) -> bytes | None:
        raise MemoryError

    with (
        open_image(Generated(4 * MIB), declared=DiskFormat.RAW) as disk,
        pytest.raises(MemoryError),
    ):
        list(prepared(disk, grain=BLOCK, pack=fails))
    assert our_threads() == []
