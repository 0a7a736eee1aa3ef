"""VMDKs as we compose them: what qemu, 7-Zip and libvmdk read, and what ESXi asks for."""

from __future__ import annotations

import mmap
import re
import subprocess
import time
import tracemalloc
import zlib
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.composing import compose, patchwork
from tests.content import (
    check_against_qemu_map,
    check_content,
    converted,
    libvmdk,
    qemu_img,
    qemu_io,
    seven_zip,
)
from tests.vmdk_stream import walk
from vmport_formats.disk.check import check_image
from vmport_formats.disk.image import open_image
from vmport_formats.disk.packing import Effort
from vmport_formats.disk.vmdk.description import AdapterType, geometry, plain_name
from vmport_formats.disk.vmdk.sparse_composer import SparseComposer, SparseOptions
from vmport_formats.disk.vmdk.stream_composer import StreamComposer, StreamOptions
from vmport_formats.errors import OutputError
from vmport_formats.source import open_source
from vmport_formats.units import GIB, KIB, MIB, SECTOR, Sectors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from vmport_formats.disk.composer import Composer, Data
    from vmport_formats.disk.image import DiskImage
    from vmport_formats.references import Reference
    from vmport_formats.source import ByteSource

GRAIN = 64 * KIB
TABLE = 512 * GRAIN
TIB = 1024 * GIB
SUBFORMATS = ["monolithicSparse", "streamOptimized"]


def composer_of(subformat: str, size: int, **options: Any) -> SparseComposer | StreamComposer:
    """One for a disk of `size` bytes."""
    if subformat == "streamOptimized":
        return StreamComposer(size, StreamOptions(**options))
    return SparseComposer(size, SparseOptions(**options))


described = st.fixed_dictionaries(
    {},
    optional={
        "adapter_type": st.sampled_from(list(AdapterType)),
        "hwversion": st.integers(1, 99),
        "toolsversion": st.integers(0, (1 << 31) - 1),
        "zeroed_grain": st.booleans(),
        "name": st.sampled_from(["disk.vmdk", "a b.vmdk", "größe.vmdk"]),
        "cid": st.integers(0, 0xFFFF_FFFD),
        "whole_grains": st.booleans(),
    },
)


@st.composite
def disks(draw: st.DrawFn) -> bytes:
    """Content of any size, where zeros and data take turns."""
    size = draw(st.integers(1, 60 * GRAIN) | st.integers(1, 60).map(GRAIN.__mul__))
    return patchwork(size, GRAIN, seed=draw(st.integers(0, 1 << 32)))


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize("subformat", SUBFORMATS)
@given(content=disks(), options=described, small=st.booleans(), batch=st.integers(1, 40))
@settings(max_examples=10, deadline=None)
def test_any_disk_reads_back(
    subformat: str,
    content: bytes,
    options: dict[str, Any],
    small: bool,
    batch: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("composed") / "disk.vmdk"
    if subformat == "streamOptimized":
        options |= {"compression": Effort.SMALL if small else Effort.FAST}
    composer = composer_of(subformat, len(content), **options)
    compose(composer, content, path, batch=batch * GRAIN)
    truth = content.ljust(composer.virtual_size, b"\0")
    unit = GRAIN if composer._options.whole_grains else SECTOR
    assert len(truth) == -(-len(content) // unit) * unit
    with open_image(path) as disk:
        assert not disk.info.concerns
        assert disk.info.variant == subformat
        extents = check_content(disk, truth)
    check_against_qemu_map(extents, path, "vmdk")
    assert converted(path, "vmdk") == truth
    check_sound(path)


def check_sound(path: Path) -> None:
    """Neither qemu-img nor our own check finds a fault, or an unused byte at the end."""
    qemu_img("check", "-f", "vmdk", path)
    with open_source(path) as source:
        report = check_image(source, no_other_file, deep=True)
        assert not report.faults
        assert report.complete


def no_other_file(reference: Reference) -> ByteSource:
    """For an image that is all in one file."""
    raise AssertionError(reference)


@pytest.mark.parametrize("compression", Effort)
@given(content=disks())
@settings(max_examples=10, deadline=None)
def test_a_stream_follows_the_specification(
    compression: Effort, content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("composed") / "disk.vmdk"
    composer = StreamComposer(len(content), StreamOptions(compression=compression))
    compose(composer, content, path)
    stream = walk(path)
    assert stream.capacity * SECTOR == composer.virtual_size
    assert f'\nRW {stream.capacity} SPARSE "disk.vmdk"\n' in stream.descriptor
    check_grains(stream.grains, content)


def check_grains(grains: Mapping[int, bytes], content: bytes) -> None:
    """They are those of the disk that are not zeros, and no others."""
    parts = {
        place // GRAIN: content[place : place + GRAIN].ljust(GRAIN, b"\0")
        for place in range(0, len(content), GRAIN)
    }
    assert grains == {number: part for number, part in parts.items() if any(part)}


def test_a_stream_of_several_tables(tmp_path: Path) -> None:
    """Grains come first, then their table; what has no grain has no table."""
    path = tmp_path / "disk.vmdk"
    content = {
        TABLE - GRAIN: patchwork(2 * GRAIN, GRAIN, seed=2) or b"",
        5 * TABLE: b"five",
        7 * TABLE + 3 * GRAIN: b"\xff" * GRAIN,
    }
    content[TABLE - GRAIN] = b"\x01" * (2 * GRAIN)
    compose(StreamComposer(200 * TABLE), content, path)
    stream = walk(path)
    assert stream.order == ["grains", "table"] * 4 + ["directory", "footer", "end"]
    assert sorted(stream.grains) == [511, 512, 5 * 512, 7 * 512 + 3]


def test_a_stream_of_nothing(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    compose(StreamComposer(1), b"\0", path)
    assert walk(path).order == ["directory", "footer", "end"]


def test_a_stream_is_written_from_front_to_back() -> None:
    """So it can be sent while it is made: between the writes there are but zeros to come."""
    composer = StreamComposer(4 * TABLE)
    writes = [*composer.begin()]
    for place in range(0, 4 * TABLE, TABLE // 8):
        grain = place.to_bytes(8, "little") + bytes(GRAIN - 8)
        writes += composer.add_packed(place, composer.pack(grain))
    writes += composer.finish()
    gaps = [after.offset - at.offset - len(at.data) for at, after in pairwise(writes)]
    assert min(gaps) >= 0
    assert max(gaps[2:]) < SECTOR  # behind the descriptor
    assert composer.length == writes[-1].offset + len(writes[-1].data)


@pytest.mark.parametrize("compression", Effort)
def test_what_cannot_be_compressed_is_a_stream_all_the_same(compression: Effort) -> None:
    composer = StreamComposer(GRAIN, StreamOptions(compression=compression))
    noise = patchwork(64 * GRAIN, GRAIN, seed=5)
    for place in range(0, len(noise), GRAIN):
        assert len(composer.pack(noise[place : place + GRAIN])) <= GRAIN + 32


READERS = pytest.mark.needs("7z", "vmdkinfo", "qemu-img")


@READERS
@pytest.mark.parametrize(
    ("subformat", "options"),
    [
        ("monolithicSparse", {}),
        ("streamOptimized", {"compression": Effort.FAST}),
        ("streamOptimized", {"compression": Effort.SMALL}),
    ],
    ids=str,
)
def test_every_reader_reads_the_same(
    subformat: str, options: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "disk.vmdk"
    content = patchwork(TABLE + 77 * GRAIN + 3 * SECTOR, GRAIN, seed=11)
    composer = composer_of(subformat, len(content), name=path.name, **options)
    compose(composer, content, path)
    truth = content.ljust(composer.virtual_size, b"\0")
    assert converted(path, "vmdk") == truth
    assert seven_zip(path) == truth
    done = subprocess.run(libvmdk(path), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == truth


QEMU_OPTIONS: list[dict[str, Any]] = [
    {},
    *({"adapter_type": adapter.value} for adapter in AdapterType),
    {"hwversion": 13, "toolsversion": 10338},
    {"compat6": True},
    {"zeroed_grain": True},
    {"compat6": True, "zeroed_grain": True, "adapter_type": "lsilogic"},
]


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize("given_options", QEMU_OPTIONS, ids=str)
@pytest.mark.parametrize("subformat", SUBFORMATS)
def test_options_mean_what_they_do_to_qemu(
    subformat: str, given_options: dict[str, Any], tmp_path: Path
) -> None:
    """The same header and descriptor, for a disk of 5 GiB, whose geometry nobody disputes."""
    ours, theirs = tmp_path / "disk.vmdk", tmp_path / "theirs.vmdk"
    words = [
        f"{key}={'on' if value is True else value}"
        for key, value in {"adapter_type": "ide", **given_options}.items()
    ]
    options = ",".join([f"subformat={subformat}", *words])
    qemu_img("create", "-q", "-f", "vmdk", "-o", options, theirs, str(5 * GIB))
    compose(composer_of(subformat, 5 * GIB, **{"adapter_type": "ide", **given_options}), {}, ours)
    with open_image(ours) as one, open_image(theirs) as other:
        assert facts(one) == facts(other)
        assert one.virtual_size == other.virtual_size
    if subformat == "monolithicSparse":  # the same layout, for which the standard leaves room
        assert ours.stat().st_size == theirs.stat().st_size
        for place in (0, 21 * SECTOR):
            assert at(ours, place, 512) == at(theirs, place, 512)


def facts(disk: DiskImage) -> dict[str, object]:
    """What the descriptor and the header say, but for what is new each time."""
    names = ("create-type", "parent-cid", "descriptor-version", "ddb", "version", "compressed")
    details = {name: disk.info.details[name] for name in names}
    if details["create-type"] == "monolithicSparse":
        details["flags"] = disk.info.details["flags"]
    return details


def at(path: Path, offset: int, length: int) -> bytes:
    """A part of a file."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(length)


@pytest.mark.parametrize(
    ("adapter", "size", "shape"),
    [
        ("ide", 100 * MIB, (203, 16, 63)),
        ("ide", 7 * GIB, (14563, 16, 63)),
        ("ide", 8 * GIB, (16383, 16, 63)),  # 16644 would be beyond what ATA can say
        ("ide", 1, (1, 16, 63)),
        ("lsilogic", 512 * MIB, (512, 64, 32)),
        ("lsilogic", 1 * GIB, (512, 128, 32)),
        ("buslogic", 2 * GIB, (261, 255, 63)),
        ("lsilogic", 40 * GIB, (5221, 255, 63)),
        ("legacyESX", 2 * TIB, (267349, 255, 63)),
    ],
)
def test_geometry_is_that_of_vmware(adapter: str, size: int, shape: tuple[int, int, int]) -> None:
    assert geometry(AdapterType(adapter), Sectors(-(-size // SECTOR))) == shape


@pytest.mark.parametrize("subformat", SUBFORMATS)
def test_the_same_disk_gives_the_same_file(subformat: str, tmp_path: Path) -> None:
    content = patchwork(90 * GRAIN, GRAIN, seed=3)
    files = []
    for number, batch in enumerate((GRAIN, 3 * GRAIN, MIB)):
        path = tmp_path / f"{number}.vmdk"
        compose(composer_of(subformat, len(content)), content, path, batch=batch)
        files.append(path.read_bytes())
    assert files[0] == files[1] == files[2]


def test_the_id_follows_the_name_and_the_size(tmp_path: Path) -> None:
    found = []
    for number, (name, size) in enumerate([("a", MIB), ("b", MIB), ("b", 2 * MIB)]):
        path = tmp_path / f"{number}.vmdk"
        compose(SparseComposer(size, SparseOptions(name=name)), {}, path)
        match = re.search(rb"\nCID=([0-9a-f]{8})\n", path.read_bytes())
        assert match
        found.append(match[1])
    assert len(set(found)) == 3
    path = tmp_path / "given.vmdk"
    compose(SparseComposer(MIB, SparseOptions(cid=0xBEEF)), {}, path)
    assert b"\nCID=0000beef\nparentCID=ffffffff\n" in path.read_bytes()


HUGE = 16 * TIB
ZEROS = bytes(GRAIN)
ENDS = {
    0: b"\x11" * GRAIN,
    TABLE - GRAIN: b"\x22" * (2 * GRAIN),
    9 * TIB: b"\x33" * GRAIN,
    HUGE - GRAIN: b"\x44" * GRAIN,
}


@pytest.mark.needs("qemu-io")
@pytest.mark.parametrize("subformat", SUBFORMATS)
def test_a_huge_disk_costs_what_its_data_do(subformat: str, tmp_path: Path) -> None:
    """In time, and on the disk: tables that say nothing are holes."""
    path = tmp_path / "disk.vmdk"
    started = time.thread_time()
    compose(composer_of(subformat, HUGE), ENDS, path)
    assert time.thread_time() - started < 0.3
    assert path.stat().st_blocks * SECTOR < 6 * MIB
    with open_image(path) as disk:
        assert disk.virtual_size == HUGE
        for offset, content in ENDS.items():
            assert disk.read(offset, len(content)) == content
        assert sum(len(piece) for _, piece in disk.stream(workers=1)) <= 8 * GRAIN
    reads = [f"read -P {content[0]} {offset} {len(content)}" for offset, content in ENDS.items()]
    qemu_io(path, *reads, "read -P 0 1T 32M", options=["-r", "-f", "vmdk"])


@pytest.mark.parametrize(
    ("subformat", "size"), [("monolithicSparse", TIB), ("streamOptimized", HUGE)]
)
def test_memory_does_not_follow_the_disk(subformat: str, size: int) -> None:
    """But for 12 bytes a table, of the disk that is a stream, where there is data for it."""
    tracemalloc.start()
    composer = composer_of(subformat, size)
    packed = composer.pack and composer.pack(b"\x01" * GRAIN)
    for _ in composer.begin():
        pass
    for place in range(0, size, size // 2000 // TABLE * TABLE):
        for _ in composer.add_packed(place, packed) if packed else composer.add(place, ZEROS):
            pass
    for _ in composer.finish():
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * MIB


def test_a_stream_of_the_largest_disk_takes_no_room() -> None:
    """Whatever its source says of its size."""
    composer = StreamComposer((1 << 63) - 1)
    writes = [*composer.begin(), *composer.add((1 << 63) - GRAIN, b"\x01" * GRAIN)]
    writes += composer.finish()
    assert sum(len(write.data) for write in writes) < 8 * KIB


def test_a_file_ends_where_its_tables_cannot_point(tmp_path: Path) -> None:
    """At 2 TiB, for a sector's number has 32 bits."""
    path = tmp_path / "data"
    with path.open("xb") as file:
        file.truncate(2 * TIB)
    with path.open("rb") as source, mmap.mmap(source.fileno(), 0, prot=mmap.PROT_READ) as data:
        composer = SparseComposer(HUGE)
        view = memoryview(data)
        with pytest.raises(OutputError) as caught:
            list(composer.add(0, view))
        view.release()
    assert caught.value.code == "vmdk.file-full"
    with pytest.raises(OutputError):
        SparseComposer(1 << 63)


def test_a_stream_ends_where_its_tables_cannot_point(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many sectors are left, grains and tables fit, or it is an error with advice."""
    packed = zlib.compress(Random(1).randbytes(GRAIN), 0)

    def fill(composer: StreamComposer) -> None:
        for number in range(3):
            list(composer.add_packed(number * 512 * GRAIN, packed))
        list(composer.finish())

    for left in range(300):
        composer = StreamComposer(HUGE)
        monkeypatch.setattr(composer, "_end", (1 << 32) - left)
        with pytest.raises(OutputError, match="2 TiB") as caught:
            fill(composer)
        assert caught.value.code == "vmdk.file-full"
        assert "twoGbMaxExtentSparse" in (caught.value.hint or "")


@pytest.mark.parametrize("subformat", SUBFORMATS)
@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, GRAIN), (5 * GRAIN, GRAIN - 1), (5 * GRAIN + 1, GRAIN), (9 * GRAIN, 2 * GRAIN)],
)
def test_grains_come_whole_and_in_order(subformat: str, offset: int, length: int) -> None:
    composer = composer_of(subformat, 10 * GRAIN)
    data: Data = b"\x01" * GRAIN
    assert list(composer.add(4 * GRAIN, data))
    with pytest.raises(ValueError, match="grain"):
        list(composer.add(offset, b"\x01" * length))


def test_a_plain_disk_takes_no_packed_grain() -> None:
    composer: Composer = SparseComposer(MIB)
    assert composer.pack is None
    with pytest.raises(ValueError, match="as they are"):
        composer.add_packed(0, b"x")


@pytest.mark.parametrize(
    "wrong",
    [
        {"adapter_type": "nvme"},
        {"hwversion": 0},
        {"hwversion": 9, "compat6": True},
        {"toolsversion": -1},
        {"cid": 0xFFFF_FFFF},
        {"name": 'a"b'},
        {"name": "../a"},
        {"name": "a\nb"},
        {"name": ""},
        {"name": "\udcff"},
    ],
    ids=str,
)
@pytest.mark.parametrize("subformat", SUBFORMATS)
def test_options_that_cannot_be_written(subformat: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        composer_of(subformat, MIB, **wrong)


def test_a_stream_is_fast_or_small() -> None:
    with pytest.raises(ValueError, match="fast, small"):
        StreamOptions(compression="zstd")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sector"):
        StreamComposer(0)


@pytest.mark.parametrize("name", ['a"b.vmdk', "a\nb", "\udcff.vmdk", "x" * 256, "", "a/b"])
def test_a_name_that_cannot_be_said_is_replaced(name: str) -> None:
    assert plain_name(name) == "disk.vmdk"
    assert plain_name("größe.vmdk") == "größe.vmdk"
