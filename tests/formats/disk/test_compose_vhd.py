"""A VHD that is composed, as its specification, Azure, qemu-img and 7-Zip want it."""

from __future__ import annotations

import json
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
from tests.content import check_content, check_like_qemu, converted, qemu_img, seven_zip
from vmport_formats.disk.image import open_image
from vmport_formats.disk.vhd.composer import MAX_SIZE, Subformat, VhdOptions, vhd_composer

if TYPE_CHECKING:
    from collections.abc import Mapping

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
GRAIN = 64 * KIB
FIXED = VhdOptions(subformat=Subformat.FIXED)
AZURE = VhdOptions(subformat=Subformat.FIXED, whole_mebibytes=True)
ID = UUID("01234567-89ab-cdef-0123-456789abcdef")

# As the specification has it, field by field, and not as our reader does.
FIELDS = {
    "cookie": "8s", "features": "I", "version": "I", "data_offset": "Q", "time_stamp": "I",
    "application": "4s", "application_version": "I", "host_os": "4s", "original_size": "Q",
    "current_size": "Q", "cylinders": "H", "heads": "B", "sectors": "B", "type": "I",
    "checksum": "I", "unique_id": "16s", "saved": "B", "rest": "427s",
}  # fmt: skip
FOOTER = struct.Struct(">" + "".join(FIELDS.values()))
HEADER = struct.Struct(">8s Q Q I I I I 16s I I 512s 192s 256s")


def checksum(data: bytes, field: int) -> int:
    total = sum(byte for at, byte in enumerate(data) if not field <= at < field + 4)
    return total ^ 0xFFFF_FFFF


def sizes() -> st.SearchStrategy[int]:
    near = st.builds(int.__add__, st.sampled_from((MIB, 2 * MIB, 4 * MIB)), st.integers(-513, 513))
    return near | st.integers(0, 5 * MIB)


def composed(path: Path, disk: bytes | Mapping[int, bytes], size: int, options: VhdOptions) -> int:
    """Composes it at `path`, sees that we find nothing wrong with it; returns the disk's size."""
    composer = vhd_composer(size, options)
    compose_soundly(composer, disk, path)
    assert composer.virtual_size >= size
    return composer.virtual_size


def info(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(qemu_img("info", "--output=json", "-f", "vpc", path))
    return found


@pytest.mark.needs("qemu-img", "7z")
@given(
    size=sizes(),
    seed=st.integers(0, 1 << 32),
    grain=st.sampled_from((GRAIN, 512, 300 * KIB)),
    batch=st.sampled_from((GRAIN, MIB, 16 * MIB)),
    subformat=st.sampled_from(Subformat),
    force_size=st.booleans(),
    whole=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_every_reader_finds_the_disk(
    size: int,
    seed: int,
    grain: int,
    batch: int,
    subformat: Subformat,
    force_size: bool,
    whole: bool,
) -> None:
    disk = patchwork(size, grain, seed=seed)
    options = VhdOptions(subformat, force_size, whole_mebibytes=whole and force_size)
    composer = vhd_composer(size, options)
    truth = disk.ljust(composer.virtual_size, b"\0")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "disk.vhd"
        composed(path, disk, size, options)
        with open_image(path) as image:
            assert image.info.variant == subformat
            check_content(image, truth, seed=seed)
        if size or subformat is Subformat.DYNAMIC:  # others take a lone footer for a dynamic disk
            assert converted(path, "vpc") == truth
            assert seven_zip(path) == truth
        again = Path(folder) / "again.vhd"
        compose(composer, disk, again, batch=batch)
        assert again.read_bytes() == path.read_bytes()


@pytest.mark.needs("qemu-img")
def test_dynamic_disk_is_laid_out_as_by_qemu(tmp_path: Path) -> None:
    """But for the footer, all bytes are the same, and the bytes of the footer but for who, when."""
    size = 23 * MIB + 512 * 7
    disk = bytearray(patchwork(size, GRAIN, seed=7))
    disk[4 * MIB : 10 * MIB] = bytes(6 * MIB)
    (tmp_path / "disk.raw").write_bytes(disk)
    theirs, ours = tmp_path / "theirs.vhd", tmp_path / "ours.vhd"
    qemu_img(
        *("convert", "-f", "raw", "-O", "vpc", "-o", "force_size=on", "-m", "1"),
        *(tmp_path / "disk.raw", theirs),
    )
    composed(ours, bytes(disk), size, VhdOptions())
    one, other = ours.read_bytes(), theirs.read_bytes()
    assert one[512:-512] == other[512:-512]
    assert one[:512] == one[-512:]
    for start, end in ((0, 24), (28, 56), (60, 64), (84, 512)):  # no time, geometry, checksum, id
        assert one[start:end] == other[start:end], start


def test_header_and_bitmaps_are_those_of_the_specification(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhd"
    size = 9 * MIB
    composed(path, {5 * MIB: b"five", 6 * MIB: b"six"}, size, VhdOptions())
    data = path.read_bytes()
    header = HEADER.unpack(data[512:1536])
    assert header[0] == b"cxsparse"
    assert header[1] == 2**64 - 1
    assert header[2:6] == (1536, 0x0001_0000, 5, 2 * MIB)
    assert header[6] == checksum(data[512:1536], 36)
    assert not any(data[512 + 40 : 1536])
    places = struct.unpack(">128I", data[1536:2048])
    assert places == (2**32 - 1, 2**32 - 1, 4, 4 + 4097, *[2**32 - 1] * 124)
    assert len(data) == 2048 + 2 * (2 * MIB + 512) + 512
    for place in (4 * 512, (4 + 4097) * 512):
        assert data[place : place + 512] == b"\xff" * 512
    assert data[2048 + 512 + MIB :].startswith(b"five")
    assert path.stat().st_blocks * 512 <= 2 * GRAIN + 64 * KIB  # zeros in a block are holes


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize("size", [1, 512, MIB - 1, MIB, MIB + 1, 30 * MIB + 512, 5 * GIB + 3])
def test_fixed_disk_is_what_azure_takes(size: int, tmp_path: Path) -> None:
    """A whole number of MiB, then a footer, by the rules that Azure states."""
    path = tmp_path / "disk.vhd"
    virtual_size = composed(path, {0: b"x" * min(size, 700)}, size, AZURE)
    assert virtual_size == -(-size // MIB) * MIB
    assert path.stat().st_size == virtual_size + 512
    with path.open("rb") as file:
        file.seek(-512, os.SEEK_END)
        raw = file.read()
    found = dict(zip(FIELDS, FOOTER.unpack(raw), strict=True))
    assert any(found["unique_id"])
    assert found | {"cylinders": 0, "heads": 0, "sectors": 0, "unique_id": b""} == {
        "cookie": b"conectix",
        "features": 2,
        "version": 0x0001_0000,
        "data_offset": 2**64 - 1,
        "time_stamp": 0,
        "application": b"qem2",  # tells qemu before 10 that the geometry is not the size
        "application_version": 0x0005_0003,
        "host_os": b"Wi2k",
        "original_size": virtual_size,
        "current_size": virtual_size,
        "cylinders": 0,
        "heads": 0,
        "sectors": 0,
        "type": 2,
        "checksum": checksum(raw, 64),
        "unique_id": b"",
        "saved": 0,
        "rest": bytes(427),
    }
    assert found["cylinders"] * found["heads"] * found["sectors"] <= virtual_size // 512
    assert info(path)["virtual-size"] == virtual_size


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize("subformat", list(Subformat))
@pytest.mark.parametrize(
    "size",
    [
        *(1, 512, 34815, 34816, 34817, 10 * MIB + 512, 100 * MIB),
        # Where one kind of track gives way to another: of 17, 31, 63 and 255 sectors.
        *(512 * 17 * 16 * 1024 + change for change in (-512, 0, 512)),
        *(512 * 31 * 16 * 1024 + change for change in (-512, 0, 512)),
        *(512 * 63 * 16 * 65535 + change for change in (-512, 0, 512)),
        *(512 * 255 * 16 * 65535 + change for change in (-512, 0, 512)),
        *(40 * GIB, 127 * GIB, 128 * GIB, 1000 * GIB + 512, 2040 * GIB),
    ],
)
def test_size_and_geometry_are_rounded_up_as_by_qemu(
    size: int, subformat: Subformat, tmp_path: Path
) -> None:
    theirs, ours = tmp_path / "theirs.vhd", tmp_path / "ours.vhd"
    options = f"subformat={subformat},force_size=off"
    qemu_img("create", "-f", "vpc", "-o", options, theirs, str(size))
    composed(ours, {}, size, VhdOptions(subformat, force_size=False))
    footers = []
    for path in (theirs, ours):
        with path.open("rb") as file:
            file.seek(-512, os.SEEK_END)
            footers.append(FOOTER.unpack(file.read()))
    assert footers[0][8:14] == footers[1][8:14]  # sizes, geometry, type
    assert info(ours)["virtual-size"] == info(theirs)["virtual-size"]
    assert ours.stat().st_size == theirs.stat().st_size


@pytest.mark.needs("qemu-img")
def test_huge_disk_with_data_at_both_ends(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhd"
    size = 2040 * GIB
    assert size == MAX_SIZE
    last = os.urandom(3 * GRAIN)
    disk = {0: b"first", 1000 * GIB + 2 * MIB - GRAIN: b"a" * 2 * GRAIN, size - len(last): last}
    tracemalloc.start()
    began = time.process_time()
    try:
        composed(path, disk, size, VhdOptions())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 3
    assert peak < 16 * MIB  # of which composing takes one; the rest is for the check
    with open_image(path) as image:
        assert image.virtual_size == size
        for offset, data in disk.items():
            assert image.read(offset, len(data)) == data
        found = check_like_qemu(image, path, "vpc", tmp_path)
    assert found <= 8 * MIB


def test_empty_disk_takes_neither_time_nor_memory() -> None:
    composer = vhd_composer(MAX_SIZE)
    tracemalloc.start()
    began = time.process_time()
    try:
        written = sum(len(data) for _, data in (*composer.begin(), *composer.finish()))
        took = time.process_time() - began
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert written == 512 + 1024 + 4 * 1020 * KIB + 512
    assert composer.length == written
    assert took < 0.3
    assert peak < 2 * MIB


@pytest.mark.parametrize("options", [VhdOptions(), FIXED])
def test_id_and_time_are_those_asked_for(options: VhdOptions, tmp_path: Path) -> None:
    asked = VhdOptions(options.subformat, unique_id=ID, created=1_700_000_000)
    composed(tmp_path / "disk.vhd", b"disk", MIB, asked)
    with open_image(tmp_path / "disk.vhd") as image:
        assert image.info.details["unique-id"] == str(ID)
        assert image.info.details["time-stamp"] == "2023-11-14T22:13:20Z"


def test_id_follows_from_size_and_options(tmp_path: Path) -> None:
    found = set()
    wanted = [(MIB, VhdOptions()), (MIB, FIXED), (2 * MIB, FIXED), (MIB, VhdOptions(created=10**9))]
    for number, (size, options) in enumerate(wanted * 2):
        path = tmp_path / f"{number}.vhd"
        composed(path, b"", size, options)
        with open_image(path) as image:
            found.add(image.info.details["unique-id"])
    assert len(found) == len(wanted)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="needs force_size"):
        VhdOptions(force_size=False, whole_mebibytes=True)
    with pytest.raises(ValueError, match="created is 0; must be 946684800 to 5241652095"):
        VhdOptions(created=0)
    with pytest.raises(ValueError, match="'sparse' is not a valid"):
        VhdOptions(subformat="sparse")  # type: ignore[arg-type]
    for options in (VhdOptions(), FIXED, AZURE, VhdOptions(force_size=False)):
        with pytest.raises(ValueError, match="at most 2190433320960"):
            vhd_composer(MAX_SIZE + 1, options)
        with pytest.raises(ValueError, match="-1 bytes"):
            vhd_composer(-1, options)
        with pytest.raises(ValueError, match="not compressed"):
            list(vhd_composer(MIB, options).add_packed(0, b""))
