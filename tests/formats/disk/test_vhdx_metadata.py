"""VHDX metadata: headers, regions, items, parents and, with a dirty log, what its replay gives."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import time
import tracemalloc
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from fixtures.disks import vhdx
from tests.samples import sample
from vmport_formats.disk.vhdx import read_info
from vmport_formats.disk.vhdx.headers import read_headers
from vmport_formats.disk.vhdx.log import read_log, replayed
from vmport_formats.errors import CorruptInput, TruncatedInput, UnsupportedFeature
from vmport_formats.source import open_source, read_exactly
from vmport_formats.units import GIB, KIB, MIB

if TYPE_CHECKING:
    from pathlib import Path

    from fixtures.disks.image_file import ImageFile
    from vmport_formats.disk.model import ImageInfo
    from vmport_formats.source import ByteSource

UNKNOWN = UUID(int=0xABCD)


def codes(info: ImageInfo) -> list[str]:
    return [concern.code for concern in info.concerns]


def qemu_img(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["qemu-img", *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize("block_size", [MIB, 32 * MIB, 256 * MIB])
@pytest.mark.parametrize("size", [512, 16 * MIB, 3 * GIB + 512])
def test_sizes(size: int, block_size: int, tmp_path: Path) -> None:
    image = vhdx.image(size, block_size=block_size, flags=1)
    info = read_info(image)
    done = qemu_img("info", "--output=json", image.write(tmp_path / "a.vhdx"))
    expected = json.loads(done.stdout)
    assert info.virtual_size == expected["virtual-size"]
    assert info.cluster_size == expected["cluster-size"]
    assert info.variant == "fixed"
    assert info.details["creator"] == "vmport fixture"
    assert codes(info) == []


def test_sectors_of_4_kib() -> None:
    """qemu-img does not read such disks."""
    info = read_info(vhdx.image(16 << 40, logical=4096, physical=4096, block_size=256 * MIB))
    assert info.virtual_size == 16 << 40
    assert info.details["logical-sector-size"] == 4096


@pytest.mark.needs("qemu-img")
def test_differencing_disk_names_its_parent(tmp_path: Path) -> None:
    image = vhdx.differencing()
    info = read_info(image)
    assert info.variant == "differencing"
    assert [item.name for item in info.references] == [
        ".\\parent.vhdx",
        "\\\\?\\Volume{26a21bda-a627-11d7-9931-806e6f6e6963}\\vm\\parent.vhdx",
        "C:\\vm\\parent.vhdx",
    ]
    locator = info.details["parent-locator"]
    assert isinstance(locator, dict)
    assert locator["parent_linkage"] == vhdx.PARENT_LINKAGE
    assert qemu_img("info", image.write(tmp_path / "child.vhdx")).returncode != 0


def test_parent_without_a_path() -> None:
    locator = vhdx.locator({"parent_linkage": vhdx.PARENT_LINKAGE})
    info = read_info(vhdx.image(flags=2, locator=locator))
    assert [item.name for item in info.references] == ["uuid:83ed3b2f-0a5a-4d32-a0b7-1b4ce5f6c8e4"]


IMAGE = vhdx.image()
OLDER, NEWER = vhdx.HEADERS


@pytest.mark.parametrize(
    ("image", "current", "expected"),
    [
        (IMAGE, NEWER, []),
        (IMAGE.patched({OLDER: vhdx.header(9)}), OLDER, []),
        (IMAGE.patched({NEWER: b"x"}), OLDER, ["vhdx.header-damaged"]),
        (IMAGE.patched({NEWER + 4095: b"x"}), OLDER, ["vhdx.header-damaged"]),
        (IMAGE.patched({OLDER: bytes(4096)}), NEWER, ["vhdx.header-damaged"]),
        # Disk2vhd writes the same header twice.
        (IMAGE.patched({OLDER: vhdx.header(8)}), OLDER, []),
    ],
    ids=["second", "first", "bad magic", "bad sum", "zeros", "equal"],
)
def test_which_header_counts(image: ImageFile, current: int, expected: list[str]) -> None:
    info = read_info(image)
    assert info.details["current-header"] == current
    assert codes(info) == expected


def regions(*more: vhdx.Region, count: int | None = None) -> ImageFile:
    return tables(vhdx.region_table((*vhdx.REGIONS, *more), count=count))


def tables(table: bytes) -> ImageFile:
    first, second = vhdx.REGION_TABLES
    return IMAGE.patched({first: table, second: table})


def items(
    *more: vhdx.Item, without: UUID | None = None, count: int | None = None, **fields: Any
) -> ImageFile:
    kept = tuple(item for item in vhdx.items(16 * MIB, **fields) if item[0] != without)
    return IMAGE.patched({vhdx.METADATA_AT: vhdx.metadata((*kept, *more), count=count)})


BAT, META = vhdx.REGIONS
DIRTY: dict[str, Any] = {"log_guid": vhdx.LOG_GUID}


@pytest.mark.parametrize(
    ("image", "error", "code"),
    [
        (IMAGE.patched({0: b"x"}), CorruptInput, "vhdx.magic"),
        (IMAGE.patched({OLDER: b"x", NEWER: b"x"}), CorruptInput, "vhdx.header"),
        (
            IMAGE.patched({OLDER: vhdx.header(8, write_guid=UNKNOWN)}),
            CorruptInput,
            "vhdx.header",
        ),
        (IMAGE.patched({NEWER: vhdx.header(9, version=2)}), UnsupportedFeature, "vhdx.version"),
        (
            IMAGE.patched({NEWER: vhdx.header(9, log_version=1, log_guid=UNKNOWN)}),
            UnsupportedFeature,
            "vhdx.log-version",
        ),
        (
            IMAGE.patched({NEWER: vhdx.header(9, log_at=MIB + 1)}),
            CorruptInput,
            "vhdx.log-offset",
        ),
        (
            IMAGE.patched({NEWER: vhdx.header(9, log_at=0)}),
            CorruptInput,
            "vhdx.log-offset",
        ),
        (
            IMAGE.patched({NEWER: vhdx.header(9, log_at=1 << 40, log_guid=UNKNOWN)}),
            TruncatedInput,
            "vhdx.log-offset",
        ),
        (tables(b"x" * 65536), CorruptInput, "vhdx.region-table"),
        (regions(count=2048), CorruptInput, "vhdx.region-count"),
        (regions(BAT), CorruptInput, "vhdx.region-duplicate"),
        (regions((UNKNOWN, 4 * MIB, MIB, 1)), TruncatedInput, "vhdx.region-outside"),
        (
            regions((UNKNOWN, 4 * MIB, MIB, 1)).cut(5 * MIB),
            UnsupportedFeature,
            "vhdx.region-unknown",
        ),
        (regions((UNKNOWN, vhdx.LOG_AT, MIB, 0)), CorruptInput, "vhdx.region-overlap"),
        (regions((UNKNOWN, vhdx.BAT_AT, MIB, 0)), CorruptInput, "vhdx.region-overlap"),
        (regions((UNKNOWN, MIB + 1, MIB, 0)), CorruptInput, "vhdx.region-offset"),
        (regions((UNKNOWN, 0, MIB, 0)), CorruptInput, "vhdx.region-offset"),
        (regions((UNKNOWN, 4 * MIB, 0, 0)), CorruptInput, "vhdx.region-offset"),
        (regions((UNKNOWN, (1 << 64) - MIB, MIB, 0)), TruncatedInput, "vhdx.region-outside"),
        (tables(vhdx.region_table((META,))), CorruptInput, "vhdx.region-missing"),
        (IMAGE.patched({vhdx.METADATA_AT: b"x"}), CorruptInput, "vhdx.metadata-table"),
        (items(count=2048), CorruptInput, "vhdx.metadata-count"),
        (items(vhdx.items(0)[0]), CorruptInput, "vhdx.metadata-duplicate"),
        (items((UNKNOWN, b"x", vhdx.REQUIRED)), UnsupportedFeature, "vhdx.metadata-unknown"),
        *(
            (items(without=kind), CorruptInput, "vhdx.metadata-missing")
            for kind, _, _ in vhdx.items(0)
        ),
        (
            items((vhdx.VIRTUAL_DISK_ID, b"short", 6), without=vhdx.VIRTUAL_DISK_ID),
            CorruptInput,
            "vhdx.metadata-length",
        ),
        (items((vhdx.PARENT_LOCATOR, bytes(MIB + 1), 4)), CorruptInput, "vhdx.metadata-length"),
        (
            IMAGE.patched({vhdx.METADATA_AT + 32 + 16: struct.pack("<I", 65535)}),
            CorruptInput,
            "vhdx.metadata-offset",
        ),
        (
            IMAGE.patched({vhdx.METADATA_AT + 32 + 16: struct.pack("<I", MIB - 7)}),
            CorruptInput,
            "vhdx.metadata-offset",
        ),
        (items(block_size=MIB // 2), CorruptInput, "vhdx.block-size"),
        (items(block_size=512 * MIB), CorruptInput, "vhdx.block-size"),
        (items(block_size=3 * MIB), CorruptInput, "vhdx.block-size"),
        (items(flags=4), UnsupportedFeature, "vhdx.file-parameters"),
        (items(flags=2), CorruptInput, "vhdx.metadata-missing"),
        (items(logical=1024), CorruptInput, "vhdx.logical-sector-size"),
        (items(physical=0), CorruptInput, "vhdx.physical-sector-size"),
        (vhdx.image((64 << 40) + 512), CorruptInput, "vhdx.virtual-disk-size"),
        (vhdx.image((1 << 64) - 512), CorruptInput, "vhdx.virtual-disk-size"),
        (vhdx.image(513), CorruptInput, "vhdx.virtual-disk-size"),
        (vhdx.image(4096 + 512, logical=4096), CorruptInput, "vhdx.virtual-disk-size"),
        (vhdx.image(1 << 40), CorruptInput, "vhdx.block-table"),
        (vhdx.image(block_table={3: 6}), CorruptInput, "vhdx.block-offset"),
        (vhdx.image(block_table={3: 2 * MIB | 6}), CorruptInput, "vhdx.block-offset"),
        (
            vhdx.image(block_size=2 * MIB, block_table={0: MIB // 2 | 6}),
            CorruptInput,
            "vhdx.block-offset",
        ),
        (vhdx.image(block_table={3: 4 * MIB | 6}), TruncatedInput, "vhdx.block-outside"),
        (
            vhdx.image(flags=2, locator=vhdx.locator({}, kind=UNKNOWN)),
            UnsupportedFeature,
            "vhdx.locator-type",
        ),
        (vhdx.image(flags=2, locator=b"short"), CorruptInput, "vhdx.parent-locator"),
        (
            vhdx.image(flags=2, locator=vhdx.locator({})[:18] + b"\xff\xff"),
            CorruptInput,
            "vhdx.parent-locator",
        ),
        (
            vhdx.image(flags=2, locator=vhdx.locator({"a": "b"})[:-1]),
            CorruptInput,
            "vhdx.parent-locator",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_limits(image: ImageFile, error: type[Exception], code: str) -> None:
    with pytest.raises(error) as caught:
        read_info(image)
    assert getattr(caught.value, "code", None) == code


def test_what_need_not_be_known_is_passed_over() -> None:
    image = items((UNKNOWN, b"x", 0), (vhdx.FILE_PARAMETERS, b"x", vhdx.USER))
    assert codes(read_info(image)) == []
    extra = regions((UNKNOWN, 4 * MIB, MIB, 0)).cut(5 * MIB)
    assert codes(read_info(extra)) == []


def test_copies_of_the_region_table() -> None:
    first, second = vhdx.REGION_TABLES
    assert codes(read_info(IMAGE.patched({first: b"x"}))) == ["vhdx.region-table-damaged"]
    assert codes(read_info(IMAGE.patched({second: b"x"}))) == ["vhdx.region-table-damaged"]
    other = vhdx.region_table(tuple(reversed(vhdx.REGIONS)))
    assert codes(read_info(IMAGE.patched({second: other}))) == ["vhdx.region-tables-differ"]


def test_only_what_belongs_to_the_disk_must_be_in_the_file() -> None:
    """Windows may end the file with the disk's last byte, in the middle of a block."""
    size = 5 * MIB + 512
    image = vhdx.image(size, block_size=2 * MIB, block_table={2: 4 * MIB | 6})
    assert read_info(image.cut(5 * MIB + 512)).virtual_size == size
    with pytest.raises(TruncatedInput):
        read_info(image.cut(5 * MIB + 511))


def test_a_cut_disk_is_refused_wherever_it_is_cut() -> None:
    for size in (0, 7, 8, 64 * KIB, 132 * KIB - 1, 192 * KIB, 320 * KIB - 1, MIB, 2 * MIB, 3 * MIB):
        with pytest.raises(CorruptInput):
            read_info(IMAGE.cut(size))
    with pytest.raises(TruncatedInput):
        read_info(IMAGE.cut(IMAGE.size - 1))


def entry(sequence: int, at: int, data: bytes, **fields: Any) -> bytes:
    return vhdx.LogEntry(sequence, data={at: data.ljust(4096, b"\0")}, **fields).build()


def resized(size: int) -> bytes:
    """The sector of metadata items, for a disk of another size."""
    return vhdx.metadata(vhdx.items(size))[64 * KIB :]


ITEMS_AT = vhdx.METADATA_AT + 64 * KIB


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize(
    ("log", "size"),
    [
        ({0: entry(5, ITEMS_AT, resized(8 * MIB))}, 8 * MIB),
        # The later of two entries that follow one another counts ...
        (
            {
                0: entry(5, ITEMS_AT, resized(8 * MIB)),
                8192: entry(6, ITEMS_AT, resized(4 * MIB)),
            },
            4 * MIB,
        ),
        # ... also when the second goes round the end of the ring ...
        (
            {
                MIB - 12288: entry(5, ITEMS_AT, resized(8 * MIB), tail=MIB - 12288),
                MIB - 4096: entry(6, ITEMS_AT, resized(4 * MIB), tail=MIB - 12288),
            },
            4 * MIB,
        ),
        # ... and of two that do not, the newer; the older one is left from before.
        (
            {
                0: entry(5, ITEMS_AT, resized(8 * MIB)),
                32768: entry(9, ITEMS_AT, resized(4 * MIB), tail=32768),
            },
            4 * MIB,
        ),
        # An entry that was not written whole does not count.
        (
            {
                0: entry(5, ITEMS_AT, resized(8 * MIB)),
                8192: entry(6, ITEMS_AT, resized(4 * MIB))[:-1] + b"x",
            },
            8 * MIB,
        ),
    ],
    ids=["one", "two", "ring", "older", "torn"],
)
def test_the_log_is_replayed_as_qemu_does(log: dict[int, bytes], size: int, tmp_path: Path) -> None:
    """qemu-img refuses the dirty file, then replays its log in a copy: same size, same bytes."""
    image = vhdx.image(log=log)
    info = read_info(image)
    assert (info.virtual_size, info.dirty, info.corrupt) == (size, True, False)
    assert codes(info) == ["vhdx.dirty-log"]
    path = image.write(tmp_path / "dirty.vhdx")
    assert qemu_img("info", path).returncode != 0
    assert qemu_img("check", "-r", "all", path).returncode == 0
    clean = json.loads(qemu_img("info", "--output=json", path).stdout)
    assert clean["virtual-size"] == size
    assert_same_after_replay(image, path)


def assert_same_after_replay(source: ByteSource, clean: Path) -> None:
    """All behind the headers and the log, which a replay empties."""
    headers, _ = read_headers(source)
    ours = replayed(source, read_log(source, headers.current.header))
    with open_source(clean) as other:
        assert ours.size <= other.size
        for offset in (*range(vhdx.REGION_TABLES[0], MIB, 64 * KIB), *range(2 * MIB, 8 * MIB, MIB)):
            length = 64 * KIB if offset < MIB else MIB
            expected = other.read_at(offset, length)
            assert ours.read_at(offset, length) == expected[: ours.size - offset]


def test_zeros_and_length_of_a_replay() -> None:
    log = vhdx.LogEntry(1, zeros={vhdx.PAYLOAD_AT: 3 * 4096}, last=6 * MIB).build()
    image = vhdx.image(log={0: log}, payload={vhdx.PAYLOAD_AT: b"x" * 16384})
    headers, _ = read_headers(image)
    ours = replayed(image, read_log(image, headers.current.header))
    assert ours.size == 6 * MIB
    content = read_exactly(ours, vhdx.PAYLOAD_AT - 1, 16384 + 10, what="content")
    assert content == b"\0" * 12289 + b"x" * 4096 + b"\0" * 9
    assert ours.read_at(6 * MIB - 3, 10) == b"\0" * 3
    assert ours.read_at(6 * MIB, 1) == b""


@pytest.mark.parametrize(
    "log",
    [
        {},
        {0: entry(5, ITEMS_AT, b"", tail=8192)},
        {0: entry(0, ITEMS_AT, b"")},
        {0: vhdx.LogEntry(5, data={ITEMS_AT: bytes(4096)}, guid=UNKNOWN).build()},
        {0: entry(5, ITEMS_AT + 512, b"")},
        {0: vhdx.LogEntry(5, zeros={ITEMS_AT: 512}).build()},
        {MIB - 4096: entry(5, ITEMS_AT, b"")[:4096]},
    ],
    ids=["empty", "no tail", "sequence 0", "other log", "unaligned", "odd zeros", "half"],
)
def test_a_log_that_cannot_be_replayed(log: dict[int, bytes]) -> None:
    """The metadata is shown as it is in the file, and the verdict tells."""
    info = read_info(vhdx.image(log=log))
    assert (info.dirty, info.corrupt) == (True, True)
    assert codes(info) == ["vhdx.dirty-log"]
    assert info.virtual_size == 16 * MIB


def test_a_file_shorter_than_when_its_log_was_written() -> None:
    log = entry(5, ITEMS_AT, resized(8 * MIB), flushed=5 * MIB)
    with pytest.raises(TruncatedInput) as caught:
        read_info(vhdx.image(log={0: log}))
    assert caught.value.code == "vhdx.flushed-file-offset"


@pytest.mark.parametrize("log_length", [MIB, 16 * MIB, 1 << 31])
def test_a_hostile_log_costs_little(log_length: int) -> None:
    """Entries that overlap as much as they can, each with a right checksum or without end."""
    claims = b"".join(
        struct.pack(
            "<4sIIIQII16sQQ", b"loge", 0, min(log_length, MIB), 0, 1, 0, 0,
            vhdx.LOG_GUID.bytes_le, 0, 0,
        ).ljust(4096, b"\xff")
        for _ in range(256)
    )  # fmt: skip
    start = 8 * MIB
    header = vhdx.header(9, log_at=start, log_length=log_length, **DIRTY)
    image = IMAGE.patched({NEWER: header, start: claims}).cut(start + log_length)
    begin = time.process_time()
    tracemalloc.start()
    info = read_info(image)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.process_time() - begin < 1.5
    assert peak < 64 << 20
    assert info.dirty


@pytest.mark.qemu_samples
@pytest.mark.needs("qemu-img")
def test_the_dirty_disk_among_qemus_samples(tmp_path: Path) -> None:
    dirty = sample("iotest-dirtylog-10G-4M.vhdx")
    clean = tmp_path / "clean.vhdx"
    shutil.copyfile(dirty, clean)
    assert qemu_img("check", "-r", "all", clean).returncode == 0
    expected = json.loads(qemu_img("info", "--output=json", clean).stdout)
    with open_source(dirty) as source:
        info = read_info(source)
        assert_same_after_replay(source, clean)
    assert info.dirty
    assert codes(info) == ["vhdx.dirty-log"]
    assert info.virtual_size == expected["virtual-size"]
    assert info.cluster_size == expected["cluster-size"]


@pytest.mark.qemu_samples
@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize("name", ["iotest-dynamic-1G.vhdx", "test-disk2vhd.vhdx"])
def test_disks_of_other_makers(name: str) -> None:
    with open_source(sample(name)) as source:
        info = read_info(source)
    expected = json.loads(qemu_img("info", "--output=json", sample(name)).stdout)
    assert info.virtual_size == expected["virtual-size"]
    assert info.cluster_size == expected["cluster-size"]
    assert codes(info) == []
