"""The content digest is what its rule says, for the same content in any file."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.composing import patchwork
from vmport_converters.disk.native.engine import digest_of, write_image
from vmport_converters.disk.native.output import OutputFile
from vmport_formats.disk.image import open_image
from vmport_formats.disk.model import DiskFormat
from vmport_formats.disk.raw_composer import RawComposer
from vmport_formats.source import MemorySource

KIB, MIB = 1 << 10, 1 << 20
BLOCK = 64 * KIB
EMPTY = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
"""BLAKE3 of nothing, as its authors publish it."""


def by_the_rule(content: bytes) -> str:
    """Each block of 64 KiB that is not of zeros: 8 bytes of its index, 32 of its hash."""
    counted = b""
    for index in range(-(-len(content) // BLOCK)):
        block = content[index * BLOCK :][:BLOCK].ljust(BLOCK, b"\0")
        if block.strip(b"\0"):
            counted += index.to_bytes(8, "big") + blake3(block).digest()
    return f"vmport-blake3-64k:{blake3(counted).hexdigest()}"


def digest(path: Path, declared: DiskFormat | None = None) -> str:
    with open_image(path, declared=declared) as disk:
        return digest_of(disk, on_progress=lambda _: None)


@given(
    size=st.integers(0, 3 * MIB),
    patch=st.sampled_from((100, 4096, BLOCK, 200_000)),
    seed=st.integers(0, 1 << 32),
    grain=st.sampled_from((4 * KIB, BLOCK, MIB)),
)
@settings(max_examples=40, deadline=None)
def test_by_the_rule(size: int, patch: int, seed: int, grain: int) -> None:
    """For what is read, for what is written meanwhile, and for what that is read back as."""
    content = patchwork(size, patch, seed=seed)
    wanted = by_the_rule(content)
    shares: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "target")
        with open_image(MemorySource(content), declared=DiskFormat.RAW) as disk:
            composer = RawComposer(disk.virtual_size, grain=grain)
            with OutputFile(target) as output:
                said = write_image(disk, composer, output, hashed=True, on_progress=shares.append)
            assert said == wanted
            assert digest_of(disk, on_progress=shares.append) == wanted
        assert digest(target, DiskFormat.RAW) == wanted
    assert shares.count(1.0) >= 2
    assert all(0 < share <= 1 for share in shares)


def test_zeros_are_nothing(tmp_path: Path) -> None:
    for name, size in (("none", 0), ("small", 5), ("large", 3 * MIB + 1)):
        (tmp_path / name).write_bytes(bytes(size))
        assert digest(tmp_path / name, DiskFormat.RAW) == f"vmport-blake3-64k:{EMPTY}"
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(8 << 40)
        file.seek(7 << 40)
        file.write(b"x")
    index = (7 << 40) // BLOCK
    counted = index.to_bytes(8, "big") + blake3(b"x".ljust(BLOCK, b"\0")).digest()
    assert digest(tmp_path / "huge") == f"vmport-blake3-64k:{blake3(counted).hexdigest()}"


@pytest.mark.needs("qemu-img")
def test_the_format_is_no_matter(tmp_path: Path) -> None:
    content = patchwork(2 * MIB + 512, 4096, seed=9)
    (tmp_path / "raw").write_bytes(content)
    wanted = by_the_rule(content)
    for number, options in enumerate(
        (
            ["-O", "qcow2"],
            ["-O", "qcow2", "-c", "-o", "cluster_size=2M"],
            ["-O", "qcow2", "-o", "cluster_size=512"],
            ["-O", "vmdk", "-o", "subformat=streamOptimized"],
            ["-O", "vdi"],
            ["-O", "vhdx"],
            ["-O", "vpc", "-o", "force_size=on"],
        )
    ):
        image = tmp_path / str(number)
        subprocess.run(
            ["qemu-img", "convert", "-f", "raw", *options, tmp_path / "raw", image], check=True
        )
        assert digest(image) == wanted, options


def test_a_place_matters(tmp_path: Path) -> None:
    """The same blocks elsewhere, in another order, or changed in a bit are another content."""
    one, other = os.urandom(BLOCK), os.urandom(BLOCK)
    changed = bytes([one[0] ^ 1]) + one[1:]
    disks = [one + other, other + one, bytes(BLOCK) + one + other, one, changed + other]
    said = set()
    for content in disks:
        (tmp_path / "disk").write_bytes(content)
        said.add(digest(tmp_path / "disk", DiskFormat.RAW))
    assert len(said) == len(disks)
