"""A raw image that is composed: the bytes of the disk, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.composing import compose, patchwork
from vmport_formats.disk.raw_composer import RawComposer

if TYPE_CHECKING:
    from pathlib import Path

KIB = 1 << 10


@pytest.mark.parametrize("size", [0, 1, 511, 64 * KIB, 64 * KIB + 1, 999_999])
@pytest.mark.parametrize("grain", [4096, 64 * KIB])
def test_disk_is_there_to_the_byte(size: int, grain: int, tmp_path: Path) -> None:
    disk = patchwork(size, grain, seed=size)
    path = tmp_path / "disk.raw"
    compose(RawComposer(size, grain=grain), disk, path)
    assert path.read_bytes() == disk


def test_grains_of_zeros_are_holes(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    size = 1 << 40
    composer = RawComposer(size)
    compose(composer, {0: b"first", size - 64 * KIB: b"last"}, path)
    assert path.stat().st_size == size
    assert path.stat().st_blocks * 512 <= 256 * KIB
    with path.open("rb") as file:
        assert file.read(8) == b"first\0\0\0"
        file.seek(size - 64 * KIB)
        assert file.read() == b"last".ljust(64 * KIB, b"\0")


@pytest.mark.parametrize("grain", [512, 64 * KIB])
def test_a_full_one_has_no_holes(grain: int, tmp_path: Path) -> None:
    size = 3_000_000
    disk = bytearray(patchwork(size, 512, seed=grain))
    disk[100_000:2_000_000] = bytes(1_900_000)
    path = tmp_path / "disk.raw"
    compose(RawComposer(size, grain=grain, full=True), bytes(disk), path)
    assert path.read_bytes() == disk
    assert path.stat().st_blocks * 512 >= size
    compose(RawComposer(size, full=True), {}, tmp_path / "empty")
    assert (tmp_path / "empty").read_bytes() == bytes(size)
    assert (tmp_path / "empty").stat().st_blocks * 512 >= size


@pytest.mark.parametrize(("size", "grain"), [(-1, 4096), (4096, 0), (4096, 3000)])
def test_what_cannot_be_is_refused(size: int, grain: int) -> None:
    with pytest.raises(ValueError, match="bytes"):
        RawComposer(size, grain=grain)
    with pytest.raises(ValueError, match="not compressed"):
        list(RawComposer(4096).add_packed(0, b""))
