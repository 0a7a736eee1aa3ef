"""The file that is written holds what it was told, however little the system takes at a time."""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmport_converters.disk.native import flush, output
from vmport_converters.disk.native.output import OutputFile
from vmport_formats.disk.composer import Write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vmport_formats.disk.composer import Data

MIB = 1 << 20
REAL = os.pwritev


def taking(most: Callable[[], int]) -> Callable[[int, Sequence[Data], int], int]:
    """A `pwritev` that takes no more bytes at a time than `most` says."""

    def pwritev(descriptor: int, parts: Sequence[Data], offset: int) -> int:
        left, taken = most(), []
        for part in parts:
            taken.append(memoryview(part)[:left])
            left -= len(taken[-1])
        return REAL(descriptor, taken, offset)

    return pwritev


@st.composite
def _writes(draw: st.DrawFn) -> list[Write]:
    """Places that may be neighbours, lie apart, go back, or be written again."""
    dice = Random(draw(st.integers(0, 1 << 32)))
    made: list[Write] = []
    offset = 0
    for _ in range(draw(st.integers(0, 60))):
        offset = max(0, offset + draw(st.sampled_from((0, 0, 0, 1, 70_000, -3000, -50_000))))
        data = dice.randbytes(draw(st.sampled_from((0, 1, 17, 512, 4096, 30_000))))
        kind = draw(st.sampled_from((bytes, bytearray, memoryview)))
        made.append(Write(offset, kind(data)))
        offset += len(data)
    return made


@given(writes=_writes(), length=st.integers(0, 300_000), seed=st.integers(0, 1 << 32))
@settings(max_examples=80, deadline=None)
def test_short_writes(writes: list[Write], length: int, seed: int) -> None:
    dice = Random(seed)
    expected = bytearray()
    for offset, data in writes:
        if data:
            expected.extend(bytes(max(0, offset + len(data) - len(expected))))
            expected[offset : offset + len(data)] = data
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwritev", taking(lambda: dice.choice((1, 500, 4096, 1 << 30))))
        path = Path(folder, "file")
        with OutputFile(path) as file:
            half = len(writes) // 2
            file.write(iter(writes[:half]))
            file.write(writes[half:])
            assert path.read_bytes() == expected
            file.set_length(length)
        assert path.read_bytes() == bytes(expected[:length]).ljust(length, b"\0")


def test_neighbours_are_few_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def counted(descriptor: int, parts: Sequence[Data], offset: int) -> int:
        sizes.append(sum(len(memoryview(part)) for part in parts))
        return REAL(descriptor, parts, offset)

    monkeypatch.setattr(os, "pwritev", counted)
    small = [Write(4096 * n, bytes([n & 0xFF]) * 4096) for n in range(2000)]
    large = [Write(16 * MIB + MIB * n, bytes([n]) * MIB) for n in range(20)]
    with OutputFile(tmp_path / "file") as file:
        file.write(small)
        assert len(sizes) <= 4
        sizes.clear()
        file.write(large)
        assert len(sizes) == 5
        assert max(sizes) <= 5 * MIB  # no more than that need be kept
    content = (tmp_path / "file").read_bytes()
    assert all(content[offset : offset + len(data)] == data for offset, data in small + large)


def test_what_is_not_written_is_a_hole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with OutputFile(path) as file:
        file.write([Write(1 << 40, b"far"), Write(0, b"near")])
        file.set_length(2 << 40)
    assert path.stat().st_size == 2 << 40
    assert path.stat().st_blocks * 512 <= 64 * 1024
    with path.open("rb") as read:
        assert read.read(5) == b"near\0"
        read.seek(1 << 40)
        assert read.read(4) == b"far\0"


def test_a_system_that_takes_nothing_is_no_endless_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pwritev", lambda *_: 0)
    with OutputFile(tmp_path / "file") as file:
        file.write([Write(0, b"")])
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            file.write([Write(0, b"data")])


def test_it_must_be_new(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("file", "link"):
        with pytest.raises(FileExistsError):
            OutputFile(tmp_path / name)
    assert (tmp_path / "file").read_bytes() == b"mine"
    assert not (tmp_path / "elsewhere").exists()


# --- A medium that fails ------------------------------------------------------------------------


@pytest.fixture
def medium(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A folder whose file system lies on a medium that can be filled up, and the folder of that."""
    below, above = tmp_path / "below", tmp_path / "above"
    below.mkdir()
    above.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", below], check=True)
    try:
        with (below / "medium").open("wb") as file:
            file.truncate(96 * MIB)
        make = ["mkfs.ext4", "-q", "-F", "-O", "^has_journal"]
        subprocess.run([*make, below / "medium"], check=True)
        subprocess.run(["mount", "-o", "loop", below / "medium", above], check=True)
        try:
            yield above, below
        finally:
            subprocess.run(["umount", above], check=True)
    finally:
        subprocess.run(["umount", below], check=True)


def fill(path: Path) -> None:
    """Take all that is free."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(MIB))


@pytest.mark.needs_root
@pytest.mark.needs("mkfs.ext4", "mount")
@pytest.mark.parametrize("recovers", [True, False])
def test_what_the_medium_did_not_take_is_told(
    medium: tuple[Path, Path], recovers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system tells of lost pages once; who waits for it meanwhile must not miss that."""
    monkeypatch.setattr(output, "_FLUSHED", MIB)
    monkeypatch.setattr(flush, "_BEHIND", 1)
    above, below = medium

    def write_all() -> None:
        data = Random(1).randbytes(MIB)
        with OutputFile(above / "file") as file:
            for number in range(30):
                if number == 2:
                    fill(below / "filler")
                if number == 16 and recovers:
                    (below / "filler").unlink()
                file.write([Write(number * MIB, data)])
            last = file.flush()
        last.wait()

    with pytest.raises(OSError, match=f"{os.strerror(errno.EIO)}|{os.strerror(errno.ENOSPC)}"):
        write_all()
