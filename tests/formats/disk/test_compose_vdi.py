"""A VDI that is composed, as VirtualBox's header file, qemu-img and 7-Zip want it."""

from __future__ import annotations

import os
import struct
import time
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.composing import compose, compose_soundly, patchwork
from tests.content import (
    check_against_qemu_map,
    check_content,
    check_like_qemu,
    converted,
    qemu_img,
    qemu_io,
    seven_zip,
)
from vmport_formats.disk.image import open_image
from vmport_formats.disk.vdi.composer import MAX_SIZE, VdiComposer, VdiOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
GRAIN = 64 * KIB
STATIC = VdiOptions(static=True)
ID = UUID("01234567-89ab-cdef-0123-456789abcdef")
OTHER_ID = UUID("fedcba98-7654-3210-fedc-ba9876543210")

# As VDICore.h has it, and not as our reader does.
FIELDS = {
    "text": "64s", "signature": "I", "minor": "H", "major": "H", "header_size": "I",
    "type": "I", "flags": "I", "comment": "256s", "blocks_offset": "I", "data_offset": "I",
    "legacy_cylinders": "I", "legacy_heads": "I", "legacy_sectors": "I", "legacy_sector": "I",
    "unused": "I", "disk_size": "Q", "block_size": "I", "extra": "I", "blocks": "I",
    "allocated": "I", "create": "16s", "modify": "16s", "linkage": "16s",
    "parent_modify": "16s", "cylinders": "I", "heads": "I", "sectors": "I", "sector": "I",
}  # fmt: skip
HEADER = struct.Struct("<" + "".join(FIELDS.values()))


def sizes() -> st.SearchStrategy[int]:
    near = st.builds(int.__add__, st.sampled_from((MIB, 2 * MIB, 4 * MIB)), st.integers(-513, 513))
    return near | st.integers(0, 5 * MIB)


def composed(path: Path, disk: bytes | Mapping[int, bytes], size: int, options: VdiOptions) -> int:
    """Composes it at `path`, sees that we find nothing wrong with it; returns how many blocks."""
    composer = VdiComposer(size, options)
    counted = compose_soundly(composer, disk, path)
    assert 0 <= composer.virtual_size - size < 512
    assert counted.fragmented == 0
    assert counted.allocated is not None
    return counted.allocated


@pytest.mark.needs("qemu-img", "7z")
@given(
    size=sizes(),
    seed=st.integers(0, 1 << 32),
    grain=st.sampled_from((GRAIN, 512, 300 * KIB)),
    batch=st.sampled_from((GRAIN, MIB, 16 * MIB)),
    static=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_every_reader_finds_the_disk(
    size: int, seed: int, grain: int, batch: int, static: bool
) -> None:
    disk = patchwork(size, grain, seed=seed)
    truth = disk.ljust(-(-size // 512) * 512, b"\0")
    options = VdiOptions(static=static)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "disk.vdi"
        blocks = composed(path, disk, size, options)
        used = sum(any(disk[at : at + MIB]) for at in range(0, size, MIB))
        assert blocks == (-(-size // MIB) if static else used)
        with open_image(path) as image:
            assert image.info.variant == ("fixed" if static else "dynamic")
            extents = check_content(image, truth, seed=seed)
        qemu_img("check", "-f", "vdi", path)
        assert converted(path, "vdi") == truth
        check_against_qemu_map(extents, path, "vdi")
        if size:  # 7-Zip takes no disk without a block
            assert seven_zip(path) == truth
        again = Path(folder) / "again.vdi"
        compose(VdiComposer(size, options), disk, again, batch=batch)
        assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("static", [False, True])
def test_header_is_that_of_virtualbox(static: bool, tmp_path: Path) -> None:
    path = tmp_path / "disk.vdi"
    size = 300_000 * MIB + 1024
    options = VdiOptions(static=static, uuid=ID, modification_uuid=OTHER_ID)
    composed(path, {5 * MIB: b"five", 300_000 * MIB: b"last"}, size, options)
    with path.open("rb") as file:
        raw = file.read(HEADER.size)
        found = dict(zip(FIELDS, HEADER.unpack(raw), strict=True))
        assert found["text"].startswith(b"<<< ")
        assert found["text"].rstrip(b"\0").endswith(b" >>>\n")
        allocated = found["allocated"]
        wanted = {
            "text": found["text"],
            "signature": 0xBEDA107F,
            "minor": 1,
            "major": 1,
            "header_size": 400,
            "type": 2 if static else 1,
            "flags": 0,
            "comment": bytes(256),
            "blocks_offset": MIB,
            "data_offset": 3 * MIB,  # behind a map of 1.14 MiB
            "legacy_sector": 512,
            "disk_size": size,
            "block_size": MIB,
            "blocks": 300_001,
            "allocated": 300_001 if static else 2,
            "create": ID.bytes_le,
            "modify": OTHER_ID.bytes_le,
            "linkage": bytes(16),
            "parent_modify": bytes(16),
            "sector": 512,
        }
        assert found == dict.fromkeys(FIELDS, 0) | wanted
        assert len(raw) == 72 + 400
        file.seek(MIB)
        places = struct.unpack("<300001I", file.read(4 * 300_001))
    if static:
        assert places == tuple(range(300_001))
    else:
        assert places == (*[2**32 - 1] * 5, 0, *[2**32 - 1] * (300_001 - 7), 1)
    assert path.stat().st_size == (3 + allocated) * MIB
    assert path.stat().st_blocks * 512 < 2 * MIB  # zeros in a block are holes


@pytest.mark.needs("qemu-img")
def test_disk_of_a_terabyte_is_like_qemu_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "disk.vdi"
    last = os.urandom(3 * GRAIN)
    disk = {0: b"first", 512 * GIB + MIB - GRAIN: b"a" * 2 * GRAIN, TIB - len(last): last}
    composed(path, disk, TIB, VdiOptions())
    qemu_img("check", "-f", "vdi", path)
    with open_image(path) as image:
        for offset, data in disk.items():
            assert image.read(offset, len(data)) == data
        assert check_like_qemu(image, path, "vdi", tmp_path) <= 4 * MIB


@pytest.mark.needs("qemu-io")
def test_disk_of_16_tib_with_data_at_both_ends(tmp_path: Path) -> None:
    path = tmp_path / "disk.vdi"
    size = 16 * TIB
    disk = {
        0: b"\x01" * GRAIN,
        size // 2 - GRAIN: b"\x02" * 2 * GRAIN,
        size - GRAIN: b"\x03" * GRAIN,
    }
    composer = VdiComposer(size)
    tracemalloc.start()
    try:
        compose(composer, disk, path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * MIB
    assert path.stat().st_size == composer.length == 65 * MIB + 4 * MIB
    with open_image(path) as image:
        for offset, data in disk.items():
            assert image.read(offset, len(data)) == data
    qemu_io(
        path,
        "read -P 1 0 64k",
        "read -P 0 64k 4M",
        f"read -P 2 {size // 2 - GRAIN} 128k",
        f"read -P 0 {size - 2 * GRAIN} 64k",
        f"read -P 3 {size - GRAIN} 64k",
        options=("-r", "-f", "vdi"),
    )


def test_empty_disk_takes_neither_time_nor_memory() -> None:
    composer = VdiComposer(16 * TIB)
    tracemalloc.start()
    began = time.process_time()
    try:
        written = sum(len(data) for _, data in (*composer.begin(), *composer.finish()))
        took = time.process_time() - began
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert written == 64 * MIB + 512
    assert composer.length == 65 * MIB
    assert took < 0.3
    assert peak < 2 * MIB


def test_largest_disk_has_its_data_where_32_bits_reach(tmp_path: Path) -> None:
    path = tmp_path / "disk.vdi"
    composer = VdiComposer(MAX_SIZE)
    with path.open("xb") as file:  # its map alone is 4 GiB, so it is left out
        file.truncate(composer.length)
        *_, (offset, data) = composer.finish()
        file.seek(offset)
        file.write(data)
    with open_image(path) as image:
        assert image.virtual_size == MAX_SIZE
        assert image.info.details["data-offset"] == 2**32 - MIB


def details(path: Path) -> Mapping[str, Any]:
    with open_image(path) as image:
        return image.info.details


def test_ids_follow_from_size_and_options_or_are_given(tmp_path: Path) -> None:
    found = set()
    wanted = [(MIB, VdiOptions()), (MIB, STATIC), (2 * MIB, STATIC), (MIB, VdiOptions(uuid=ID))]
    for number, (size, options) in enumerate(wanted * 2):
        path = tmp_path / f"{number}.vdi"
        composed(path, b"", size, options)
        found.add((details(path)["uuid-create"], details(path)["uuid-modify"]))
    assert len(found) == len(wanted)
    assert len({uuid for both in found for uuid in both}) == 2 * len(wanted)
    assert str(ID) in {create for create, _ in found}


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="an id of zeros"):
        VdiOptions(uuid=UUID(int=0))
    with pytest.raises(ValueError, match="at most"):
        VdiComposer(MAX_SIZE + 1)
    with pytest.raises(ValueError, match="-1 bytes"):
        VdiComposer(-1)
    with pytest.raises(ValueError, match="not compressed"):
        list(VdiComposer(MIB).add_packed(0, b""))
