"""VHD content where blocks lie anywhere, against qemu-img and, above parents, the composer."""

from __future__ import annotations

import os
import struct
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.disks import vhd
from fixtures.disks.blocks import Composed, Kind
from fixtures.disks.image_file import ImageFile
from fixtures.disks.vhd_blocks import JUNK, PARTLY, compose
from tests.content import (
    check_against_qemu_map,
    check_content,
    check_like_qemu,
    converted,
    qemu_img,
    qemu_io,
    seven_zip,
)
from tests.samples import sample
from vmport_formats.disk.extents import ExtentKind
from vmport_formats.disk.image import open_image
from vmport_formats.disk.vhd import open_layer
from vmport_formats.errors import CorruptInput, TruncatedInput, UnsafeInput, VmportError
from vmport_formats.references import Confined
from vmport_formats.source import MemorySource
from vmport_formats.units import GIB, KIB, MIB

if TYPE_CHECKING:
    from pathlib import Path

    from vmport_formats.disk.extents import Extent
    from vmport_formats.disk.image import DiskImage
    from vmport_formats.references import Reference
    from vmport_formats.source import ByteSource

SECTOR = 512


def in_memory(file: ImageFile) -> MemorySource:
    return MemorySource(file.read_at(0, file.size), name="composed.vhd")


@st.composite
def disks(
    draw: st.DrawFn, *kinds: Kind, parent: bytes | None = None, smallest: int = SECTOR
) -> Composed:
    """Blocks of any size in any order; the disk need not end with one."""
    sizes = [size for size in (512, 1024, 4096, 32 * KIB, 512 * KIB) if size >= smallest]
    block_size = draw(st.sampled_from(sizes))
    most = min(100, MIB // block_size)
    least = draw(st.integers(1, most))
    chosen = draw(st.lists(st.sampled_from(kinds), min_size=least, max_size=most))
    rest = draw(st.integers(0, block_size // SECTOR - 1)) * SECTOR
    return compose(
        chosen,
        block_size=block_size,
        size=len(chosen) * block_size - rest,
        parent=parent,
        seed=draw(st.integers(0, 1 << 32)),
        footer_length=draw(st.sampled_from((512, 511))),
    )


# --- Without a parent, against qemu-img ---------------------------------------------------------


@given(image=disks(Kind.ABSENT, Kind.DATA, PARTLY), seed=st.integers(0, 1 << 32))
@settings(max_examples=25, deadline=None)
def test_blocks_in_any_order(image: Composed, seed: int) -> None:
    with open_image(in_memory(image.file)) as disk:
        check_content(disk, image.truth, seed=seed)


@pytest.mark.needs("qemu-img")
@given(image=disks(Kind.ABSENT, Kind.DATA, PARTLY, smallest=4096))
@settings(max_examples=8, deadline=None)
def test_the_composer_and_qemu_agree(
    image: Composed, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """For smaller blocks, qemu forgets that their bitmap takes a sector."""
    path = image.file.write(tmp_path_factory.mktemp("composed") / "image.vhd")
    assert converted(path, "vpc") == image.truth
    with open_image(path) as disk:
        check_against_qemu_map(check_content(disk, image.truth), path, "vpc")


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize("options", ["subformat=fixed", "subformat=dynamic", "force_size=on"])
@pytest.mark.parametrize("size", [3 * MIB, 5 * MIB + 17 * SECTOR])
def test_what_qemu_makes(options: str, size: int, tmp_path: Path) -> None:
    raw, path = tmp_path / "a.raw", tmp_path / "a.vhd"
    data = bytearray(size)
    for at in range(0, size - 70_000, 900_000):
        data[at : at + 70_000] = Random(at).randbytes(70_000)
    raw.write_bytes(data)
    qemu_img("convert", "-f", "raw", "-O", "vpc", "-o", options, raw, path)
    truth = converted(path, "vpc")
    assert truth.startswith(data)
    with open_image(path) as disk:
        check_against_qemu_map(check_content(disk, truth), path, "vpc")


@pytest.mark.needs("qemu-img")
@pytest.mark.qemu_samples
def test_what_disk2vhd_makes(tmp_path: Path) -> None:
    """The samples of Virtual PC and Hyper-V are empty."""
    path = sample("d2v-zerofilled.vhd")
    with open_image(path) as disk:
        assert check_like_qemu(disk, path, "vpc", tmp_path) > 0


@pytest.mark.parametrize("size", [SECTOR, 3 * KIB + SECTOR, 5 * MIB + SECTOR])
def test_the_end_of_a_fixed_disk(size: int) -> None:
    """Neither the footer nor what may lie between belongs to the disk."""
    data = Random(size).randbytes(size)
    for between in (b"", b"\xaa" * 100, b"\xaa" * 5000):
        file = ImageFile(
            {0: data, size: between, size + len(between): vhd.fixed(0).read_at(0, 512)}
        )
        foot = vhd.footer(size, vhd.FIXED)
        with open_image(in_memory(file.patched({size + len(between): foot}))) as disk:
            (extent,) = check_content(disk, data)
        assert (extent.kind, extent.host_offset) == (ExtentKind.DATA, 0)


# --- Above a parent -----------------------------------------------------------------------------

BASE = Random(1).randbytes(MIB)
SIZES = [SECTOR, 4096, 100 * KIB, MIB]
PARENT = ImageFile({0: BASE, MIB: vhd.footer(MIB, vhd.FIXED, unique_id=vhd.PARENT_UUID)})


@given(
    size=st.sampled_from(SIZES),
    data=st.data(),
    seed=st.integers(0, 1 << 32),
)
@settings(max_examples=25, deadline=None)
def test_differencing_disks(
    size: int, data: st.DataObject, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Longer and shorter than the parent; what their bitmaps do not have is the parent's."""
    folder = tmp_path_factory.mktemp("chain")
    write_fixed(folder / "parent.vhd", BASE[:size])
    child = data.draw(disks(Kind.ABSENT, Kind.DATA, PARTLY, PARTLY, parent=BASE[:size]))
    path = child.file.write(folder / "child.vhd")
    with open_image(path, Confined([folder])) as disk:
        assert [info.variant for info in disk.chain] == ["differencing", "fixed"]
        check_content(disk, child.truth, seed=seed)


def write_fixed(path: Path, data: bytes, unique_id: bytes = vhd.PARENT_UUID) -> Path:
    foot = vhd.footer(len(data), vhd.FIXED, unique_id=unique_id)
    return ImageFile({0: data, len(data): foot}).write(path)


@pytest.mark.needs("7z")
@pytest.mark.parametrize("block_size", [512, 4096, 32 * KIB])
def test_7_zip_reads_differencing_disks_alike(block_size: int, tmp_path: Path) -> None:
    write_fixed(tmp_path / "parent.vhd", BASE)
    for seed in range(3):
        kinds = Random(seed).choices((Kind.ABSENT, Kind.DATA, PARTLY), k=MIB // block_size)
        child = compose(kinds, block_size=block_size, parent=BASE, seed=seed)
        path = child.file.write(tmp_path / "child.vhd")
        assert seven_zip(path) == child.truth


def test_five_disks_one_above_the_other(tmp_path: Path) -> None:
    chance = Random(5)
    truth = BASE[: 64 * KIB]
    path = write_fixed(tmp_path / "0.vhd", truth, bytes([0] * 15 + [100]))
    for number in range(1, 6):
        kinds = chance.choices((Kind.ABSENT, Kind.DATA, PARTLY), (2, 1, 3), k=8)
        child = compose(
            kinds,
            block_size=8 * KIB,
            parent=truth,
            seed=number,
            parent_name=path.name,
            parent_paths={},
            parent_id=bytes([0] * 15 + [99 + number]),
            unique_id=bytes([0] * 15 + [100 + number]),
        )
        truth, path = child.truth, child.file.write(tmp_path / f"{number}.vhd")
    with open_image(path, Confined([tmp_path])) as disk:
        assert len(disk.chain) == 6
        extents = check_content(disk, truth)
    assert {extent.depth for extent in extents} == set(range(6))


# --- Wrong reads in the peers -------------------------------------------------------------------


def test_qemu_img_and_dissect_read_zeros_for_what_a_differencing_disk_leaves_to_its_parent(
    tmp_path: Path,
) -> None:
    """They open it as a dynamic one; so did nobody tell them that it has a parent."""
    write_fixed(tmp_path / "parent.vhd", BASE[: 64 * KIB])
    child = compose([Kind.ABSENT, PARTLY, Kind.DATA], block_size=16 * KIB, parent=BASE)
    path = child.file.write(tmp_path / "child.vhd")
    with open_image(path, Confined([tmp_path])) as disk:
        assert disk.read(0, 16 * KIB) == BASE[: 16 * KIB]
        check_content(disk, child.truth)
    with pytest.raises(UnsafeInput) as caught, open_image(path):  # never without the parent
        pass
    assert caught.value.code == "reference.denied"


@pytest.mark.parametrize("here", range(24))
def test_libvhdi_reads_one_sector_wrong_for_a_bit_of_the_bitmap(here: int, tmp_path: Path) -> None:
    """Each sector has one bit, the highest of a byte first, wherever in its byte it is."""
    size = 24 * SECTOR
    write_fixed(tmp_path / "parent.vhd", BASE[: 32 * SECTOR])
    child = compose([Kind.DATA], block_size=16 * KIB, size=size, parent=BASE)
    mine = child.truth
    at = child.hosts[0]
    bitmap = (1 << 31 - here).to_bytes(4, "big")
    path = child.file.patched({at: bitmap}).write(tmp_path / "child.vhd")
    begin, end = here * SECTOR, (here + 1) * SECTOR
    truth = BASE[:begin] + mine[begin:end] + BASE[end:size]
    with open_image(path, Confined([tmp_path])) as disk:
        check_content(disk, truth)
        assert [e.depth for e in disk.extents(begin, SECTOR)] == [0]


# --- Whether the parent is the right one --------------------------------------------------------


def child_of(folder: Path, **fields: int) -> Path:
    child = compose([Kind.ABSENT, PARTLY], parent=BASE[: 8 * KIB], **fields)
    return child.file.write(folder / "child.vhd")


def test_another_disk_in_the_place_of_the_parent(tmp_path: Path) -> None:
    write_fixed(tmp_path / "parent.vhd", BASE[: 8 * KIB], vhd.UUID)
    with (
        pytest.raises(CorruptInput) as caught,
        open_image(child_of(tmp_path), Confined([tmp_path])),
    ):
        pass
    assert caught.value.code == "vhd.parent-unique-id"
    assert caught.value.at == vhd.HEADER_AT + 40
    assert "f0e1d2c3-b4a5-9687-7869-5a4b3c2d1e0f" in caught.value.problem
    assert "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9" in caught.value.problem


def test_a_parent_that_may_have_been_written_to(tmp_path: Path) -> None:
    """The child remembers when its parent's file had been changed last; a copy has another time."""
    parent = write_fixed(tmp_path / "parent.vhd", BASE[: 8 * KIB])
    path = child_of(tmp_path)
    noted = 946_684_800 + vhd.PARENT_TIME
    for time_of_parent, expected in (
        (noted, []),
        (noted + 2, []),
        (noted + 3600, ["vhd.parent-time-stamp"]),
        (noted - 3600, ["vhd.parent-time-stamp"]),
    ):
        os.utime(parent, (time_of_parent, time_of_parent))
        with open_image(path, Confined([tmp_path])) as disk:
            assert [concern.code for concern in disk.concerns] == expected
    os.utime(parent, (noted + 3600, noted + 3600))
    with open_image(child_of(tmp_path, parent_time=0), Confined([tmp_path])) as disk:
        assert not disk.concerns


# --- Entries that cannot be ---------------------------------------------------------------------

THREE = compose([Kind.DATA] * 3, block_size=8 * KIB, seed=3)
STEP = 8 * KIB + SECTOR


def refusal(file: ImageFile) -> VmportError:
    with pytest.raises(VmportError) as caught, open_image(in_memory(file)) as disk:
        disk.read(0, disk.virtual_size)
    return caught.value


@pytest.mark.parametrize(
    ("what", "at"),
    [
        ("the copy of the footer", 0),
        ("the header", vhd.HEADER_AT),
        ("the end of the header", vhd.HEADER_AT + SECTOR),
        ("the table", vhd.TABLE_AT),
        ("before the table", vhd.TABLE_AT - STEP + SECTOR),
        ("another block", THREE.hosts[0]),
        ("into another block", THREE.hosts[0] + SECTOR),
        ("the end of another block", THREE.hosts[0] + STEP - SECTOR),
    ],
)
def test_blocks_where_something_else_lies(what: str, at: int) -> None:
    file = THREE.file.patched({THREE.entries[1]: struct.pack(">I", max(0, at) // SECTOR)})
    found = refusal(file)
    assert type(found) is CorruptInput, what
    assert found.code == "vhd.block-table-entry"
    assert found.at in THREE.entries.values()


def test_a_block_over_the_footer() -> None:
    one = compose([Kind.DATA], block_size=8 * KIB)
    for at, wrong in ((one.file.size - STEP, True), (one.file.size - STEP - SECTOR, False)):
        file = one.file.patched({one.entries[0]: struct.pack(">I", at // SECTOR)})
        if wrong:
            assert refusal(file).at == one.entries[0]
        else:
            with open_image(in_memory(file)) as disk:
                disk.read(0, 1)


def test_a_block_behind_the_end_of_the_file() -> None:
    file = THREE.file.patched({THREE.entries[1]: struct.pack(">I", 0xFFFF_FFFE)})
    assert isinstance(refusal(file), TruncatedInput)


def test_random_damage_is_told_or_does_no_harm() -> None:
    """Whatever is changed in header, table and bitmaps, reading ends soon."""
    kinds = [Kind.DATA, Kind.ABSENT, PARTLY, Kind.DATA] * 8
    image = compose(kinds, block_size=1024, seed=2)
    whole = image.file.read_at(0, image.file.size)
    chance = Random(9)
    places = [*range(vhd.TABLE_AT + 4 * len(kinds)), *image.hosts.values()]
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            damaged[chance.choice(places)] = chance.choice((0, 0xFF, chance.randrange(256)))
        begin = time.process_time()
        with suppress(VmportError), open_image(MemorySource(bytes(damaged))) as disk:
            for start in range(0, min(disk.virtual_size, MIB), 4000):
                disk.read(start, 4000)
            list(disk.extents())
        assert time.process_time() - begin < 1


# --- Large disks, and many threads --------------------------------------------------------------


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize("data", [False, True], ids=["empty", "with data"])
def test_the_largest_disk_is_mapped_in_an_instant(data: bool, tmp_path: Path) -> None:
    path = tmp_path / "large.vhd"
    qemu_img("create", "-q", "-f", "vpc", "-o", "force_size=on", path, str(2040 * GIB))
    places = [0, 4095 * MIB, 1000 * GIB, 2040 * GIB - SECTOR] if data else []
    if data:
        commands = [f"write -P 7 {place} {SECTOR}" for place in places]
        qemu_io(path, *commands, options=("-f", "vpc"))

    def look() -> list[Extent]:
        with open_image(path) as disk:
            assert disk.read(1000 * GIB, SECTOR) == bytes([7 * data]) * SECTOR
            return list(disk.extents())

    begin = time.process_time()
    extents = look()
    assert time.process_time() - begin < 0.3
    tracemalloc.start()
    look()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * MIB
    assert sum(extent.length for extent in extents) == 2040 * GIB
    stored = [extent for extent in extents if not extent.kind.reads_zero]
    assert all(any(e.offset <= place < e.end for e in stored) for place in places)
    assert sum(extent.length for extent in stored) < MIB


def opener(reference: Reference) -> ByteSource:
    raise AssertionError(reference)


def test_one_sector_of_a_large_block_costs_one_sector() -> None:
    """Of the bitmap of a block of 256 MiB, only what belongs to a read is looked at."""
    size = 256 * MIB
    child = vhd.dynamic(
        size,
        block_size=size,
        disk_type=vhd.DIFFERENCING,
        blocks={0: (64, b"\xaa" * (64 * KIB))},
        parent_name="parent.vhd",
    )
    file = child.cut(64 * SECTOR + 64 * KIB + size)
    file.put(file.size, vhd.footer(size, vhd.DIFFERENCING))
    layer = open_layer(file, opener)
    begin = time.process_time()
    for place in range(0, size, 1 << 20):
        assert len(list(layer.runs(place, SECTOR))) == 1
    assert time.process_time() - begin < 0.5
    runs = list(layer.runs(0, MIB))
    assert len(runs) == MIB // SECTOR


def test_several_threads_read_one_disk(tmp_path: Path) -> None:
    write_fixed(tmp_path / "parent.vhd", BASE)
    kinds = [(PARTLY, Kind.ABSENT, Kind.DATA)[number % 3] for number in range(60)]
    child = compose(kinds, block_size=16 * KIB, parent=BASE, seed=4)
    path = child.file.write(tmp_path / "child.vhd")
    with open_image(path, Confined([tmp_path])) as disk, ThreadPoolExecutor(4) as pool:

        def wrong(seed: int, disk: DiskImage = disk) -> int:
            chance = Random(seed)
            places = [(chance.randrange(MIB), chance.randrange(20_000)) for _ in range(100)]
            return sum(disk.read(a, n) != child.truth[a : a + n] for a, n in places)

        assert list(pool.map(wrong, range(8))) == [0] * 8


def test_junk_is_told_apart_from_data() -> None:
    """The composer's mark for what is not there occurs in no truth."""
    child = compose([PARTLY] * 9, parent=BASE, seed=1)
    assert JUNK not in child.truth
    assert JUNK in child.file.read_at(0, child.file.size)
