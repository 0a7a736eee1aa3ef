"""VHDX content: every state of a block, parents, logs, against the composer and qemu."""

from __future__ import annotations

import shutil
import time
import tracemalloc
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.disks import vhdx
from fixtures.disks.vhdx_blocks import BITMAP, Composed, State, compose, table_entry
from tests.content import check_content, check_like_qemu, converted, qemu_img, qemu_io, seven_zip
from tests.samples import sample
from vmport_formats.disk.extents import ExtentKind
from vmport_formats.disk.image import open_image
from vmport_formats.errors import CorruptInput, TruncatedInput, UnsupportedFeature, VmportError
from vmport_formats.references import Confined
from vmport_formats.source import MemorySource
from vmport_formats.units import GIB, KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fixtures.disks.image_file import ImageFile
    from vmport_formats.disk.extents import Extent

SECTOR = 512
TIB = 1 << 40
WHOLE = (State.NOT_PRESENT, State.UNDEFINED, State.ZERO, State.UNMAPPED, State.FULLY_PRESENT)
LINKAGE = f"{{{vhdx.DATA_GUID}}}"


def in_memory(file: ImageFile) -> MemorySource:
    return MemorySource(file.read_at(0, file.size), name="composed.vhdx")


@st.composite
def disks(
    draw: st.DrawFn, /, *states: State, most: int = 5, parent: bytes | None = None, **fields: Any
) -> Composed:
    """Blocks in any state, in any order; the disk need not end with one."""
    block_size = draw(st.sampled_from((1, 1, 2))) * MIB
    sector = draw(st.sampled_from((512, 512, 4096)))
    chosen = draw(st.lists(st.sampled_from(states), min_size=1, max_size=most * MIB // block_size))
    rest = draw(st.integers(0, block_size // sector - 1)) * sector
    return compose(
        chosen,
        block_size=block_size,
        size=len(chosen) * block_size - rest,
        sector=sector,
        parent=parent,
        seed=draw(st.integers(0, 1 << 32)),
        short=draw(st.booleans()),
        **fields,
    )


# --- Without a parent ---------------------------------------------------------------------------


@given(image=disks(*WHOLE, State.FULLY_PRESENT), seed=st.integers(0, 1 << 32))
@settings(max_examples=15, deadline=None)
def test_blocks_in_any_state_and_order(image: Composed, seed: int) -> None:
    with open_image(in_memory(image.file)) as disk:
        check_content(disk, image.truth, seed=seed)


@pytest.mark.needs("qemu-img")
@given(data=st.data())
@settings(max_examples=5, deadline=None)
def test_the_composer_and_qemu_agree(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of sectors of 512 bytes; qemu reads no others.  It wants the last block whole."""
    states = data.draw(st.lists(st.sampled_from(WHOLE), min_size=1, max_size=4))
    image = compose(states, size=len(states) * MIB - 512, seed=len(states))
    path = image.file.write(tmp_path_factory.mktemp("composed") / "image.vhdx")
    assert converted(path, "vhdx") == image.truth
    with open_image(path) as disk:
        check_content(disk, image.truth)


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize(
    ("options", "variant"),
    [("subformat=dynamic,block_size=1M", "dynamic"), ("subformat=fixed", "fixed")],
)
def test_what_qemu_makes(options: str, variant: str, tmp_path: Path) -> None:
    raw, path = tmp_path / "a.raw", tmp_path / "a.vhdx"
    size = 5 * MIB + 17 * SECTOR
    data = bytearray(size)
    for at in range(100, size - 70_000, 1_900_000):
        data[at : at + 70_000] = Random(at).randbytes(70_000)
    raw.write_bytes(data)
    qemu_img("convert", "-f", "raw", "-O", "vhdx", "-o", options, raw, path)
    with open_image(path) as disk:
        assert disk.info.variant == variant
        check_content(disk, bytes(data))


@pytest.mark.needs("qemu-img", "qemu-io")
@pytest.mark.parametrize("block", [1, 2, 4, 8, 16, 32, 64, 128, 256])
def test_every_block_size(block: int, tmp_path: Path) -> None:
    """Around the ends of blocks, and where the chunk of a bitmap ends, at 4 GiB."""
    path = tmp_path / "a.vhdx"
    qemu_img("create", "-q", "-f", "vhdx", "-o", f"block_size={block}M", path, str(9 * GIB))
    places = [
        block * MIB - 700,
        3 * block * MIB - 512,
        4 * GIB - 512,
        8 * GIB - 1024,
        9 * GIB - 512,
    ]
    commands = [f"write -P {7 + n} {at // 512 * 512} 1k" for n, at in enumerate(places[:-1])]
    qemu_io(path, *commands, f"write -P 99 {places[-1]} 512", options=("-f", "vhdx"))
    with open_image(path) as disk:
        for number, at in enumerate(places[:-1]):
            start = at // 512 * 512
            expected = bytes(3) + bytes([7 + number]) * KIB + bytes(3)
            assert disk.read(start - 3, KIB + 6) == expected
        assert disk.read(places[-1] - 1, KIB) == b"\0" + bytes([99]) * 512
        assert sum(extent.length for extent in disk.extents()) == 9 * GIB


@pytest.mark.needs("qemu-img")
@pytest.mark.qemu_samples
@pytest.mark.parametrize("name", ["iotest-dynamic-1G.vhdx", "test-disk2vhd.vhdx"])
def test_disks_of_other_makers(name: str, tmp_path: Path) -> None:
    with open_image(sample(name)) as disk:
        assert check_like_qemu(disk, sample(name), "vhdx", tmp_path) > 0


def test_which_states_show_the_parent_and_which_are_zeros() -> None:
    """Section 2.5.1.1; an offset that is left in the entry does not matter."""
    for state in (0, 1, 2, 3, 5):
        for left in (0, 4 * MIB, 1 << 40):
            file = vhdx.image(2 * MIB, block_table={0: left | state, 1: left + MIB | state})
            with open_image(in_memory(file)) as disk:
                (extent,) = check_content(disk, bytes(2 * MIB))
            assert extent.kind is (ExtentKind.ZERO if state else ExtentKind.HOLE)


# --- Above a parent -----------------------------------------------------------------------------

BASE = compose([State.FULLY_PRESENT] * 4, seed=1)
ABOVE = (*WHOLE, State.PARTIALLY_PRESENT, State.PARTIALLY_PRESENT, State.PARTIALLY_PRESENT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a parent in it."""
    folder = tmp_path_factory.mktemp("chain")
    BASE.file.write(folder / "parent.vhdx")
    return folder


@given(data=st.data(), seed=st.integers(0, 1 << 32))
@settings(max_examples=10, deadline=None)
def test_differencing_disks(data: st.DataObject, seed: int, folder: Path) -> None:
    """Longer and shorter than the parent; whether the log holds something of them or not."""
    child = data.draw(
        disks(
            *ABOVE,
            parent=BASE.truth,
            linkage=LINKAGE,
            logged=data.draw(st.sampled_from((0, 0, 5))),
        )
    )
    path = child.file.write(folder / "child.vhdx")
    with open_image(path, Confined([folder])) as disk:
        assert [info.variant for info in disk.chain] == ["differencing", "dynamic"]
        check_content(disk, child.truth, seed=seed)


@pytest.mark.needs("7z")
@pytest.mark.parametrize("sector", [512, 4096])
def test_7_zip_reads_differencing_disks_alike(sector: int, tmp_path: Path) -> None:
    """Of parents as long as their children it thinks that they are the same file."""
    BASE.file.cut(20 * MIB).write(tmp_path / "parent.vhdx")
    for seed in range(3):
        states = Random(seed).sample(list(State), 4)
        child = compose(
            states, sector=sector, parent=BASE.truth, linkage=LINKAGE, seed=seed, stale=False
        )
        path = child.file.write(tmp_path / "child.vhdx")
        assert seven_zip(path) == child.truth
        with open_image(path, Confined([tmp_path])) as disk:
            check_content(disk, child.truth)


def test_five_disks_one_above_the_other(tmp_path: Path) -> None:
    chance = Random(5)
    truth = BASE.truth[: 2 * MIB]
    path = BASE.file.write(tmp_path / "parent.vhdx")
    for number in range(1, 6):
        folder = tmp_path / str(number)
        folder.mkdir()
        pairs = {
            "parent_linkage": f"{{{UUID(int=8 + number)}}}",
            "relative_path": "..\\" + str(path.relative_to(tmp_path)).replace("/", "\\"),
        }
        states = chance.choices((State.NOT_PRESENT, State.PARTIALLY_PRESENT), (1, 2), k=2)
        child = compose(
            states,
            parent=truth,
            seed=number,
            locator=vhdx.locator(pairs),
            data_guid=UUID(int=9 + number),
        )
        truth, path = child.truth, child.file.write(folder / "child.vhdx")
    with open_image(path, Confined([tmp_path])) as disk:
        assert len(disk.chain) == 6
        extents = check_content(disk, truth)
    assert {extent.depth for extent in extents} == set(range(6))


@pytest.mark.parametrize("sector", [512, 4096])
@pytest.mark.parametrize("block_size", [MIB, 4 * MIB])
def test_every_chunk_has_a_bitmap_of_its_own(sector: int, block_size: int, tmp_path: Path) -> None:
    """They are interleaved with the blocks, one for 4 GiB, or for 32 GiB of large sectors."""
    ratio = (1 << 23) * sector // block_size
    numbers = [0, ratio - 1, ratio, ratio + 1, 2 * ratio - 1, 2 * ratio, 2 * ratio + 3]
    states = dict.fromkeys(numbers, State.PARTIALLY_PRESENT) | {ratio + 1: State.FULLY_PRESENT}
    size = (2 * ratio + 4) * block_size
    BASE.file.write(tmp_path / "parent.vhdx")
    child = compose(
        states,
        block_size=block_size,
        size=size,
        sector=sector,
        parent=BASE.truth,
        linkage=LINKAGE,
        seed=sector,
    )
    path = child.file.write(tmp_path / "child.vhdx")
    with open_image(path, Confined([tmp_path])) as disk:
        for number, truth in child.blocks.items():
            start = number * block_size
            assert disk.read(start, block_size) == truth
            if number + 1 in child.blocks:
                both = truth[-5000:] + child.blocks[number + 1][:5000]
                assert disk.read(start + block_size - 5000, 10_000) == both
        extents = list(disk.extents())
    assert sum(extent.length for extent in extents) == size
    kept = sum(extent.length for extent in extents if extent.depth == 0 and extent.host_offset)
    assert kept <= len(numbers) * block_size


# --- Wrong reads in the peers -------------------------------------------------------------------


@pytest.mark.parametrize("start", [1, 511, 512, 700_001, MIB - 1, MIB + 1])
def test_dissect_reads_wrong_data_from_inside_a_block_into_the_next(start: int) -> None:
    image = compose([State.FULLY_PRESENT] * 6, seed=3)
    assert sorted(image.hosts.values()) != [image.hosts[number] for number in range(6)]
    with open_image(in_memory(image.file)) as disk:
        for length in (MIB, 2 * MIB, 2 * MIB + 513, 4 * MIB):
            assert disk.read(start, length) == image.truth[start : start + length]


@pytest.mark.needs("qemu-img")
@pytest.mark.qemu_samples
def test_dissect_and_libvhdi_ignore_the_log(tmp_path: Path) -> None:
    """qemu replays it in a copy; the content is that of the copy."""
    dirty, clean = sample("iotest-dirtylog-10G-4M.vhdx"), tmp_path / "clean.vhdx"
    shutil.copyfile(dirty, clean)
    qemu_img("check", "-r", "all", clean)
    with open_image(dirty) as disk:
        assert disk.info.dirty
        assert check_like_qemu(disk, clean, "vhdx", tmp_path) > MIB
        assert sum(extent.length for extent in disk.extents()) == 10 * GIB


# --- The log ------------------------------------------------------------------------------------


@given(
    image=disks(*WHOLE, State.FULLY_PRESENT, most=4, logged=8),
    seed=st.integers(0, 1 << 32),
)
@settings(max_examples=12, deadline=None)
def test_whatever_is_in_the_log_the_disk_is_the_same(image: Composed, seed: int) -> None:
    """Entries of the table and sectors of blocks; where the file has them, it has junk."""
    with open_image(in_memory(image.file)) as disk:
        assert disk.info.dirty
        check_content(disk, image.truth, seed=seed)


@pytest.mark.needs("qemu-img")
def test_qemu_replays_the_same(tmp_path: Path) -> None:
    states = [State.FULLY_PRESENT, State.NOT_PRESENT, State.FULLY_PRESENT, State.ZERO]
    for seed in range(4):
        image = compose(states, seed=seed, logged=12)
        path = image.file.write(tmp_path / "dirty.vhdx")
        with open_image(path) as disk:
            before = disk.read(0, disk.virtual_size)
        qemu_img("check", "-r", "all", path)
        assert converted(path, "vhdx") == before == image.truth


def test_what_only_the_log_has_has_no_place_in_the_file() -> None:
    """Who reads the file itself, going by the map, must not read what is stale."""
    at = 4 * MIB
    data = Random(1).randbytes(4096)
    log = vhdx.LogEntry(1, data={at + 8192: data}, zeros={at + 65536: 4096}).build()
    payload = {at: b"\xee" * MIB}
    file = vhdx.image(MIB, log={0: log}, block_table={0: at | 6}, payload=payload)
    truth = bytearray(b"\xee" * MIB)
    truth[8192:12288] = data
    truth[65536:69632] = bytes(4096)
    with open_image(in_memory(file)) as disk:
        extents = check_content(disk, bytes(truth))
    assert [(e.offset, e.kind, e.host_offset) for e in extents] == [
        (0, ExtentKind.DATA, at),
        (8192, ExtentKind.DATA, None),
        (12288, ExtentKind.DATA, at + 12288),
        (65536, ExtentKind.ZERO, None),
        (69632, ExtentKind.DATA, at + 69632),
    ]


def test_the_log_makes_the_file_longer() -> None:
    """Blocks may lie where the file was not yet extended to: they are zeros."""
    log = vhdx.LogEntry(
        1, data={vhdx.BAT_AT: table_entry(7 * MIB | 6).ljust(4096, b"\0")}, last=8 * MIB
    )
    with open_image(in_memory(vhdx.image(MIB, log={0: log.build()}))) as disk:
        (extent,) = check_content(disk, bytes(MIB))
    assert extent.kind is ExtentKind.ZERO
    log.last = 8 * MIB - 1
    assert isinstance(refusal(vhdx.image(MIB, log={0: log.build()})), TruncatedInput)
    log.data[8 * MIB - 4096] = b"end!" * 1024  # it is made longer by what is written, too
    with open_image(in_memory(vhdx.image(MIB, log={0: log.build()}))) as disk:
        check_content(disk, (b"end!" * 1024).rjust(MIB, b"\0"))


@pytest.mark.parametrize(
    ("log", "length", "kind", "code"),
    [
        ({}, MIB, CorruptInput, "vhdx.dirty-log"),
        ({0: vhdx.LogEntry(5, tail=8192).build()}, MIB, CorruptInput, "vhdx.dirty-log"),
        ({}, 32 * MIB, UnsupportedFeature, "vhdx.log-length"),
    ],
    ids=["empty", "no tail", "long"],
)
def test_a_log_that_cannot_be_replayed(
    log: dict[int, bytes], length: int, kind: type[VmportError], code: str
) -> None:
    """The content is not guessed at."""
    file = vhdx.image(log=log)
    if length > MIB:
        head = vhdx.header(9, log_guid=vhdx.LOG_GUID, log_at=8 * MIB, log_length=length)
        file = file.patched({vhdx.HEADERS[1]: head}).cut(8 * MIB + length)
    with pytest.raises(kind) as caught, open_image(file):
        pass
    assert caught.value.code == code


# --- Whether the parent is the right one --------------------------------------------------------


@pytest.mark.parametrize(
    ("pairs", "ok"),
    [
        ({"parent_linkage": LINKAGE}, True),
        ({"parent_linkage": LINKAGE.upper()}, True),
        ({"parent_linkage": vhdx.PARENT_LINKAGE, "parent_linkage2": LINKAGE}, True),
        ({"parent_linkage": vhdx.PARENT_LINKAGE}, False),
        ({"parent_linkage": vhdx.PARENT_LINKAGE, "parent_linkage2": vhdx.PARENT_LINKAGE}, False),
        ({}, False),
    ],
)
def test_the_parent_has_the_guid_that_the_child_remembers(
    pairs: dict[str, str], ok: bool, folder: Path
) -> None:
    locator = vhdx.locator(pairs | {"relative_path": "parent.vhdx"})
    child = compose([State.NOT_PRESENT] * 4, parent=BASE.truth, locator=locator)
    path = child.file.write(folder / "child.vhdx")
    if ok:
        with open_image(path, Confined([folder])) as disk:
            assert disk.read(0, MIB) == BASE.truth[:MIB]
        return
    with pytest.raises(CorruptInput) as caught, open_image(path, Confined([folder])):
        pass
    assert caught.value.code == "vhdx.parent-linkage"
    assert str(vhdx.DATA_GUID) in caught.value.problem


# --- Entries that cannot be ---------------------------------------------------------------------

CHILD = compose([State.PARTIALLY_PRESENT] * 3, parent=BASE.truth, linkage=LINKAGE, seed=1)
PLAIN = compose([State.FULLY_PRESENT] * 3, seed=1)


def refusal(file: ImageFile, *, read: bool = True) -> VmportError:
    with pytest.raises(VmportError) as caught, open_image(in_memory(file)) as disk:
        disk.read(0, disk.virtual_size)
    return caught.value


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        (4, CorruptInput, "state 4"),
        (PLAIN.hosts[1] | 4, CorruptInput, "state 4"),
        (PLAIN.hosts[1] | 7, CorruptInput, "state 7"),
        (PLAIN.hosts[1] | 6 | 1 << 10, CorruptInput, "reserved: 0x400"),
        (PLAIN.hosts[0] | 6, CorruptInput, "something else lies"),
        (6, CorruptInput, "headers"),
        (vhdx.LOG_AT | 6, CorruptInput, "log"),
        (vhdx.BAT_AT | 6, CorruptInput, "block table"),
        (vhdx.METADATA_AT | 6, CorruptInput, "metadata"),
        (PLAIN.file.size | 6, TruncatedInput, "file ends"),
        ((1 << 64) - MIB | 6, TruncatedInput, "file ends"),
    ],
)
def test_entries_that_cannot_be(value: int, kind: type[VmportError], words: str) -> None:
    found = refusal(PLAIN.file.patched({PLAIN.entries[1]: table_entry(value)}))
    assert type(found) is kind
    assert words in found.problem
    assert found.at in (PLAIN.entries[1], PLAIN.entries[0])


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        (0, CorruptInput, "state 0"),
        (CHILD.hosts[BITMAP] | 7, CorruptInput, "state 7"),
        (CHILD.hosts[BITMAP] | 6 | 8, CorruptInput, "reserved: 0x8"),
        (6, CorruptInput, "headers"),
        (vhdx.METADATA_AT | 6, CorruptInput, "something else|the metadata"),
        (CHILD.hosts[2] | 6, CorruptInput, "something else"),
        ((1 << 64) - MIB | 6, TruncatedInput, "file ends"),
    ],
)
def test_bitmaps_that_cannot_be(
    value: int, kind: type[VmportError], words: str, folder: Path
) -> None:
    file = CHILD.file.patched({CHILD.entries[BITMAP]: table_entry(value)})
    path = file.write(folder / "child.vhdx")
    with (
        pytest.raises(kind, match=words) as caught,
        open_image(path, Confined([folder])) as disk,
    ):
        disk.read(0, 1)
    assert caught.value.at == CHILD.entries[BITMAP]


def test_blocks_over_a_region_that_need_not_be_known() -> None:
    extra = (UUID(int=77), 8 * MIB, MIB, 0)
    table = vhdx.region_table((*vhdx.REGIONS, extra))
    file = vhdx.image(2 * MIB, block_table={1: 8 * MIB | 6}).cut(9 * MIB)
    found = refusal(file.patched(dict.fromkeys(vhdx.REGION_TABLES, table)))
    assert type(found) is CorruptInput
    assert found.at == vhdx.BAT_AT + 8


def test_random_damage_is_told_or_does_no_harm(folder: Path) -> None:
    """Whatever is changed in headers, tables, bitmaps and log, reading ends soon."""
    states = [State.PARTIALLY_PRESENT, State.NOT_PRESENT, State.FULLY_PRESENT, State.ZERO]
    child = compose(states, parent=BASE.truth, linkage=LINKAGE, seed=4, logged=4)
    chance = Random(1)
    areas = [(vhdx.HEADERS[1], 80), (vhdx.LOG_AT, 9 * 4096), (vhdx.BAT_AT, 32)]
    areas += [(vhdx.METADATA_AT, 300), (vhdx.METADATA_AT + 65536, 300)]
    areas += [(at, 8) for at in child.entries.values()]
    for _ in range(60):
        changes = {}
        for _ in range(chance.randint(1, 3)):
            start, length = chance.choice(areas)
            changes[start + chance.randrange(length)] = chance.choice((b"\0", b"\xff", b"\7"))
        path = child.file.patched(changes).write(folder / "damaged.vhdx")
        begin = time.process_time()
        with suppress(VmportError), open_image(path, Confined([folder])) as disk:
            for start in range(0, min(disk.virtual_size, 4 * MIB), 100_000):
                disk.read(start, 100_000)
        assert time.process_time() - begin < 1


# --- Large disks --------------------------------------------------------------------------------


@pytest.mark.parametrize("parent", [False, True], ids=["dynamic", "differencing"])
@pytest.mark.parametrize(
    ("size", "block_size"),
    [(16 * TIB, MIB), (64 * TIB, MIB), (64 * TIB, 2 * MIB), (64 * TIB, 256 * MIB)],
)
def test_the_largest_disks_are_mapped_in_an_instant(
    size: int, block_size: int, parent: bool, tmp_path: Path
) -> None:
    """With two blocks in them, at the begin and at the end."""
    last = size // block_size - 1
    ratio = (1 << 23) * SECTOR // block_size
    bat = 4 * MIB, -(-8 * (last + 2 + last // ratio) // MIB) * MIB
    first_at = sum(bat)
    fields: dict[str, Any] = {}
    if parent:
        pairs = {"parent_linkage": LINKAGE, "relative_path": "parent.vhdx"}
        fields = {"flags": 2, "locator": vhdx.locator(pairs)}
        vhdx.image(MIB).write(tmp_path / "parent.vhdx")
    image = vhdx.image(
        size,
        block_size=block_size,
        bat=bat,
        block_table={0: first_at | 6, last + last // ratio: first_at + block_size | 6},
        payload={first_at: b"first", first_at + 2 * block_size - 4: b"last"},
        **fields,
    )
    path = image.write(tmp_path / "large.vhdx")

    def look() -> list[Extent]:
        with open_image(path, Confined([tmp_path])) as disk:
            assert disk.read(0, 5) == b"first"
            assert disk.read(size - 5, 1000) == b"\0last"
            return list(disk.extents())

    assert timed(look) < 0.3
    tracemalloc.start()
    extents = look()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * MIB
    assert sum(extent.length for extent in extents) == size
    stored = [extent for extent in extents if extent.kind is ExtentKind.DATA]
    assert stored[0].offset == 0
    assert stored[-1].end == size
    assert sum(extent.length for extent in stored) <= 2 * 4096


def timed(look: Callable[[], object]) -> float:
    begin = time.process_time()
    look()
    return time.process_time() - begin


@pytest.mark.needs("qemu-img")
def test_a_large_disk_of_qemus(tmp_path: Path) -> None:
    """Its table is written out, and no hole of the file."""
    path = tmp_path / "large.vhdx"
    qemu_img("create", "-q", "-f", "vhdx", "-o", "block_size=32M", path, str(16 * TIB))

    def look() -> list[Extent]:
        with open_image(path) as disk:
            return list(disk.extents())

    assert timed(look) < 0.3
    assert [extent.length for extent in look()] == [16 * TIB]
