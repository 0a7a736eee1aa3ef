"""VMDK content where grains lie anywhere, in every kind of extent: the composers, and qemu."""

from __future__ import annotations

import struct
import time
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.disks import vmdk
from fixtures.disks.vmdk_grains import (
    SECTOR,
    Composed,
    Kind,
    compose_cowd,
    compose_sesparse,
    compose_sparse,
    compose_stream,
)
from tests.content import check_against_qemu_map, check_content, converted, qemu_img
from vmport_formats.disk.extents import ExtentKind
from vmport_formats.disk.image import open_image
from vmport_formats.disk.model import DiskFormat
from vmport_formats.errors import CorruptInput, TruncatedInput, UnsupportedFeature, VmportError
from vmport_formats.references import Confined
from vmport_formats.source import MemorySource
from vmport_formats.units import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fixtures.disks.image_file import ImageFile
    from vmport_formats.disk.image import DiskImage

HOSTED = (Kind.ABSENT, Kind.ZERO, Kind.DATA)


@st.composite
def grains(draw: st.DrawFn, kinds: tuple[Kind, ...], most: int) -> list[Kind]:
    """Kinds of up to `most` grains."""
    least = draw(st.integers(0, most))
    return draw(st.lists(st.sampled_from(kinds), min_size=least, max_size=most))


@st.composite
def disks(
    draw: st.DrawFn, form: str, *, most_bytes: int = 512 * KIB, unmarked: bool = True
) -> Composed:
    """An extent of any shape, whose disk need not end with a grain."""
    grain = draw(st.sampled_from((8, 8, 16, 128, 256))) * SECTOR
    kinds: tuple[Kind, ...] = HOSTED
    options: dict[str, Any] = {}
    match form:
        case "sparse":
            options["redundant"] = draw(st.booleans())
        case "stream":
            options |= {
                name: draw(st.booleans()) for name in ("marked", "footer", "ordered", "short_end")
            }
            options["marked"] |= not unmarked
            options["version"] = draw(st.integers(1, 3))
        case "COWD":
            kinds = (Kind.ABSENT, Kind.DATA)
            grain = draw(st.sampled_from((1, 1, 2, 3, 8, 17))) * SECTOR
        case "seSparse":
            kinds = tuple(Kind)
            grain = 8 * SECTOR
    if form in {"sparse", "stream"}:
        options["entries"] = draw(st.sampled_from((512, 512, 128, 100, 7, 1)))
    chosen = draw(grains(kinds, min(150, most_bytes // grain)))
    rest = draw(st.integers(0, grain // SECTOR - 1)) * SECTOR if chosen else 0
    if form != "seSparse":
        options["grain"] = grain
    return COMPOSERS[form](
        chosen,
        size=len(chosen) * grain - rest,
        seed=draw(st.integers(0, 1 << 32)),
        **options,
    )


COMPOSERS: dict[str, Callable[..., Composed]] = {
    "sparse": compose_sparse,
    "stream": compose_stream,
    "COWD": compose_cowd,
    "seSparse": compose_sesparse,
}


@pytest.mark.parametrize("form", COMPOSERS)
@given(data=st.data(), seed=st.integers(0, 1 << 32))
@settings(max_examples=15, deadline=None)
def test_grains_in_any_order(form: str, data: st.DataObject, seed: int) -> None:
    extent = data.draw(disks(form))
    with open_image(in_memory(extent.file)) as disk:
        check_content(disk, extent.truth, seed=seed)


def in_memory(file: ImageFile) -> MemorySource:
    """The same file, quicker to read."""
    return MemorySource(file.read_at(0, file.size))


ESX = {"COWD": ("vmfsSparse", "VMFSSPARSE"), "seSparse": ("seSparse", "SESPARSE")}


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize("form", COMPOSERS)
@given(data=st.data())
@settings(max_examples=4, deadline=None)
def test_the_composers_and_qemu_agree(
    form: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of streams those with markers: without, qemu wants more bytes than the file has."""
    extent = data.draw(
        disks(form, most_bytes=256 * KIB, unmarked=False).filter(lambda extent: extent.truth)
    )
    path = extent.file.write(tmp_path_factory.mktemp("composed") / "extent.vmdk")
    if form != "stream":  # which has its descriptor in it
        create_type, kind = ESX.get(form, ("twoGbMaxExtentSparse", "SPARSE"))
        line = f'RW {len(extent.truth) // SECTOR} {kind} "{path.name}"'
        path = path.with_name("disk.vmdk")
        path.write_text(vmdk.descriptor(line, create_type=create_type))
    assert converted(path, "vmdk") == extent.truth
    with open_image(path, Confined([path.parent])) as disk:
        check_against_qemu_map(check_content(disk, extent.truth), path, "vmdk")


SHAPES = [8, 16, 64, 128, 1024, 4096]
PATTERN = (Kind.DATA, Kind.ABSENT, Kind.DATA, Kind.ZERO)


@pytest.mark.parametrize("sectors", SHAPES)
@pytest.mark.parametrize("compose", [compose_sparse, compose_stream])
def test_every_grain_size(compose: Callable[..., Composed], sectors: int) -> None:
    """From 4 KiB to 2 MiB; the last grain belongs to the disk with its first sector only."""
    grain = sectors * SECTOR
    count = min(40, max(4, 4 * MIB // grain))
    kinds = [PATTERN[number % 4] for number in range(count)]
    extent = compose(kinds, grain=grain, entries=7, size=grain * (count - 2) + SECTOR)
    with open_image(in_memory(extent.file)) as disk:
        assert disk.info.cluster_size == grain
        check_content(disk, extent.truth)


def test_neighbours_in_the_file_are_one_extent() -> None:
    """Of the disk and of the map, across grain tables."""
    kinds = [Kind.DATA] * 20
    extent = compose_sparse(kinds, entries=128, redundant=False)
    first = extent.file.size
    table = struct.pack("<20I", *(first // SECTOR + 8 * number for number in range(20)))
    data = Random(1).randbytes(20 * 4096)
    file = extent.file.patched({extent.places[0]: table, first: data}).cut(first + len(data))
    with open_image(file) as disk:
        (found,) = check_content(disk, data)
    assert (found.kind, found.host_offset) == (ExtentKind.DATA, first)


def test_the_first_grain_directory_is_the_one_that_is_read() -> None:
    """As qemu does; whether the second agrees is not a reader's business."""
    extent = compose_sparse([Kind.DATA, Kind.ABSENT, Kind.DATA], seed=3)
    redundant = struct.unpack("<Q", extent.file.read_at(48, 8))[0] * SECTOR
    assert redundant != extent.directory
    with open_image(extent.file.patched({redundant: b"\xff" * 4})) as disk:
        check_content(disk, extent.truth)


def test_several_threads_read_one_disk() -> None:
    """They share the tables, the check that they are sound, and the unpacked grains."""
    for compose in (compose_sparse, compose_stream):
        extent = compose([PATTERN[number % 4] for number in range(100)], grain=4096, entries=7)
        with open_image(in_memory(extent.file)) as disk, ThreadPoolExecutor(4) as pool:

            def wrong(seed: int, disk: DiskImage = disk, truth: bytes = extent.truth) -> int:
                chance = Random(seed)
                ranges = [(chance.randrange(len(truth)), chance.randrange(9000)) for _ in range(99)]
                return sum(
                    disk.read(start, length) != truth[start : start + length]
                    for start, length in ranges
                )

            assert list(pool.map(wrong, range(8))) == [0] * 8


# --- Pointers that cannot be --------------------------------------------------------------------


def refusal(file: ImageFile) -> VmportError:
    """The error with which the disk's content is refused."""
    with pytest.raises(VmportError) as caught, open_image(in_memory(file)) as disk:
        disk.read(0, disk.virtual_size)
    return caught.value


def entry(value: int) -> bytes:
    return struct.pack("<I", value)


def wide(value: int) -> bytes:
    return struct.pack("<Q", value)


SPARSE = compose_sparse([Kind.DATA] * 20, entries=7, seed=1, text=vmdk.descriptor())
COWD = compose_cowd([Kind.DATA] * 20, seed=1)
SESPARSE = compose_sesparse([Kind.DATA] * 20, seed=1, most_grains=100)


TABLE, DIRECTORY = "vmdk.grain-table-entry", "vmdk.grain-directory-entry"
NO_GRAIN, NO_TABLE = "vmdk.grain-outside", "vmdk.table-outside"


def sector(offset: int) -> bytes:
    """An entry for what lies at an offset."""
    return entry(offset // SECTOR)


@pytest.mark.parametrize(
    ("image", "place", "value", "code"),
    [
        (SPARSE, SPARSE.places[5], entry(3), TABLE),  # in the descriptor
        (SPARSE, SPARSE.places[5], entry(1), TABLE),  # of zeros, where there are none such
        (SPARSE, SPARSE.places[5], sector(SPARSE.directory), TABLE),
        (SPARSE, SPARSE.places[5], sector(SPARSE.places[0]), TABLE),  # its own table
        (SPARSE, SPARSE.places[6], sector(SPARSE.hosts[5]), TABLE),
        (SPARSE, SPARSE.places[9], sector(SPARSE.hosts[2]), TABLE),  # in another table
        (SPARSE, SPARSE.places[5], entry(0xFFFF_FFFF), NO_GRAIN),
        (SPARSE, SPARSE.directory + 4, entry(0xFFFF_FFFF), NO_TABLE),
        (SPARSE, SPARSE.directory + 4, entry(7), DIRECTORY),
        (SPARSE, SPARSE.directory + 4, sector(SPARSE.places[0]), DIRECTORY),  # of another entry
        (COWD, COWD.places[5], entry(3), TABLE),  # in the header
        (COWD, COWD.places[5], entry(1), TABLE),
        (COWD, COWD.places[5], sector(COWD.hosts[4]), TABLE),
        (COWD, COWD.places[5], sector(COWD.file.size), NO_GRAIN),
        (COWD, COWD.directory, sector(COWD.file.size), NO_TABLE),
        (COWD, COWD.directory, entry(2), DIRECTORY),
        (SESPARSE, SESPARSE.places[5], wide(1), TABLE),
        (SESPARSE, SESPARSE.places[5], wide(4 << 60), TABLE),
        (SESPARSE, SESPARSE.places[5], wide((4 << 60) - 1), NO_GRAIN),
        (SESPARSE, SESPARSE.places[5], SESPARSE.file.read_at(SESPARSE.places[4], 8), TABLE),
        (SESPARSE, SESPARSE.directory, wide(1), DIRECTORY),
        (SESPARSE, SESPARSE.directory, wide(1 << 60 | 1), DIRECTORY),
        (SESPARSE, SESPARSE.directory, wide(3 << 60), DIRECTORY),
    ],
)
def test_pointers_that_cannot_be(image: Composed, place: int, value: bytes, code: str) -> None:
    found = refusal(image.file.patched({place: value}))
    assert isinstance(found, CorruptInput)
    assert (found.code, found.at) == (code, place)


def test_an_index_that_overflows_into_the_kind_of_its_entry() -> None:
    """Of seSparse, where the next number is not the next grain's."""
    grains = SESPARSE.hosts[0] - 8 * SECTOR * (
        struct.unpack("<Q", SESPARSE.file.read_at(SESPARSE.places[0], 8))[0] >> 48 & 0xFFF
    )
    size = grains + 4096 * 4096
    overflow = {SESPARSE.places[5]: wide(0x3FFF << 48) + wide(0x4000 << 48)}
    found = refusal(SESPARSE.file.cut(size + 4096).patched(overflow))
    assert (found.code, found.at) == (TABLE, SESPARSE.places[6])
    carried = {SESPARSE.places[5]: wide(0x3FFF << 48) + wide(0x3000 << 48 | 1)}
    last, first = b"\xaa" * 4096, b"\xbb" * 4096
    file = SESPARSE.file.cut(size + 4096).patched(carried).patched({size - 4096: last, size: first})
    with open_image(file) as disk:
        assert disk.read(5 * 4096, 8192) == last + first
        places = [item.host_offset for item in disk.extents(5 * 4096, 8192)]
    assert places == [size - 4096]


def test_what_follows_the_last_grain_of_the_disk_may_follow_at_once() -> None:
    """That grain takes no more room than belongs to the disk."""
    extent = compose_cowd([Kind.DATA] * 3, grain=8 * SECTOR, size=17 * SECTOR, seed=1)
    end = -(-extent.file.size // SECTOR)
    table = extent.file.read_at(extent.places[0], 32 * SECTOR)
    last = extent.file.read_at(extent.hosts[2], SECTOR)
    moved = extent.file.patched(
        {
            end * SECTOR: last,
            (end + 1) * SECTOR: table[:8] + entry(end) + table[12:],
            extent.directory: entry(end + 1),
        }
    )
    with open_image(moved) as disk:
        check_content(disk, extent.truth)


@pytest.mark.parametrize("lost", [1, SECTOR, 4096])
def test_a_file_that_ends_inside_a_grain(lost: int) -> None:
    """qemu reads zeros for what is lost."""
    extent = compose_cowd([Kind.DATA] * 9, grain=17 * SECTOR, seed=5)
    last = max(extent.hosts, key=lambda number: extent.hosts[number])
    with open_image(extent.file.cut(extent.file.size - lost)) as disk:
        with pytest.raises(TruncatedInput) as caught:
            disk.read(0, disk.virtual_size)
        assert caught.value.at == extent.places[last]
        for number in set(range(9)) - {last}:  # the others are not lost
            begin, end = number * 17 * SECTOR, (number + 1) * 17 * SECTOR
            assert disk.read(begin, 17 * SECTOR) == extent.truth[begin:end]


# --- Compressed grains that are not what they should be -----------------------------------------

GRAIN = 128 * SECTOR
STREAM = compose_stream([Kind.DATA] * 3, seed=1)
LAST = STREAM.hosts[2]


def packed_grain(data: bytes, *, sector: int = 256, length: int | None = None) -> dict[int, bytes]:
    """The last grain of the stream, and nothing behind it that matters."""
    size = len(data) if length is None else length
    return {LAST: struct.pack("<QI", sector, size) + data}


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ({STREAM.hosts[1]: struct.pack("<Q", 129)}, "belongs to sector 129, not 128"),
        ({STREAM.hosts[1]: struct.pack("<Q", 1 << 63)}, "not 128"),
        ({STREAM.hosts[1] + 8: struct.pack("<I", 0)}, "it has 0 bytes"),
        ({STREAM.hosts[1] + 8: struct.pack("<I", 0xFFFF_FFFF)}, "4294967295 bytes; there is room"),
        ({STREAM.hosts[0] + 8: struct.pack("<I", 9)}, "does not end|yields"),
        ({STREAM.hosts[0] + 12: b"\xff\xff"}, "header|window"),
        ({STREAM.hosts[0] + 300: b"\xff\x00\xff"}, "."),
        (packed_grain(zlib.compress(bytes(GRAIN - 1))), f"yields {GRAIN - 1} bytes"),
        (packed_grain(zlib.compress(bytes(GRAIN + 1))), f"more than {GRAIN} bytes"),
        (packed_grain(zlib.compress(bytes(10 * MIB))), f"more than {GRAIN} bytes"),
        (packed_grain(zlib.compress(bytes(GRAIN)), length=9), "yields|does not end"),
        (packed_grain(zlib.compress(bytes(GRAIN))[:-4] + b"oops"), "check"),
        ({STREAM.places[1]: entry(STREAM.hosts[0] // SECTOR)}, "belongs to sector 0, not 128"),
        ({STREAM.places[1]: entry(STREAM.places[1] // SECTOR - 1)}, "belongs to sector"),
    ],
)
def test_compressed_grains_that_are_not_what_they_should_be(
    patch: dict[int, bytes], words: str
) -> None:
    """One that yields more than a grain is not unpacked any further."""
    with open_image(in_memory(STREAM.file.patched(patch))) as disk:
        tracemalloc.start()
        with pytest.raises(CorruptInput, match=words) as caught:
            disk.read(0, disk.virtual_size)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 2 * MIB
    assert caught.value.code == "vmdk.compressed-grain"


def test_a_stream_without_markers_has_no_lba() -> None:
    """Its grains begin with the deflated bytes."""
    extent = compose_stream([Kind.DATA] * 3, marked=False, footer=False, version=1)
    with open_image(extent.file) as disk:
        check_content(disk, extent.truth)
    assert (
        zlib.decompress(extent.file.read_at(extent.hosts[1], 1 << 20))
        == extent.truth[GRAIN : 2 * GRAIN]
    )


def test_a_grain_that_is_longer_packed_than_unpacked() -> None:
    """Deflate without compression adds some bytes, and some writers more."""
    data = Random(7).randbytes(GRAIN)
    stream = zlib.compressobj(0)
    packed = b"".join(
        stream.compress(data[at : at + 100]) + stream.flush(zlib.Z_FULL_FLUSH)
        for at in range(0, GRAIN, 100)
    )
    packed += stream.flush()
    assert len(packed) > GRAIN * 1.05
    extent = compose_stream([Kind.ABSENT, Kind.ABSENT, Kind.DATA])
    at = extent.file.size
    file = extent.file.patched({extent.places[2]: entry(at // SECTOR)})
    footer = extent.file.read_at(at - 3 * SECTOR, 3 * SECTOR)
    file.put(at, struct.pack("<QI", 256, len(packed)) + packed)
    file.put(-(-file.size // SECTOR) * SECTOR, footer)
    with open_image(file) as disk:
        assert disk.read(2 * GRAIN, GRAIN) == data


def test_compressed_grains_of_any_size_would_need_any_memory() -> None:
    header: dict[str, Any] = {
        "grain_size": 1 << 16,
        "flags": 0x3_0001,
        "algorithm": 1,
        "capacity": 1 << 17,
    }
    with pytest.raises(UnsupportedFeature) as caught, open_image(vmdk.sparse(**header)):
        pass
    assert caught.value.code == "vmdk.compressed-grain-size"


def test_a_journal_that_was_not_replayed() -> None:
    with pytest.raises(UnsupportedFeature) as caught, open_image(vmdk.sesparse(replay=1)):
        pass
    assert caught.value.code == "vmdk.sesparse-journal"


# --- Hostile files, and large ones --------------------------------------------------------------


@pytest.mark.parametrize("form", COMPOSERS)
def test_random_damage_is_told_or_does_no_harm(form: str) -> None:
    """Whatever is changed in tables and headers, reading ends soon, in bytes or a `VmportError`."""
    kinds = [(Kind.DATA, Kind.ABSENT, Kind.DATA)[number % 3] for number in range(60)]
    options = {"most_grains": 100} if form == "seSparse" else {}
    extent = COMPOSERS[form](kinds, seed=8, **options)
    whole = extent.file.read_at(0, extent.file.size)
    chance = Random(form)
    places = sorted(extent.places.values())
    for number in range(150):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            width = chance.choice((1, 2, 4, 8))
            at = chance.choice(
                (
                    chance.randrange(128),
                    chance.randint(places[0], places[-1]),
                    extent.directory + chance.randrange(8),
                    chance.choice(list(extent.hosts.values())) + chance.randrange(16),
                )
            )
            value = chance.choice((0, 1, 2, 0xFF, chance.getrandbits(64), 1 << 63, (1 << 64) - 1))
            data[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, "little")
        code = "vmdk."
        begin = time.process_time()
        try:
            with open_image(MemorySource(bytes(data)), declared=DiskFormat.VMDK) as disk:
                for start in range(0, min(disk.virtual_size, 8 * MIB), MIB):
                    disk.read(start, MIB)
        except VmportError as error:
            code = error.code
        assert code.startswith(("vmdk.", "source.", "reference."))
        assert time.process_time() - begin < 1, number


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize("subformat", ["monolithicSparse", "streamOptimized"])
def test_16_tib_without_data_are_mapped_at_once(subformat: str, tmp_path: Path) -> None:
    """qemu makes all grain tables at once, as a hole of the file."""
    path = tmp_path / "large.vmdk"
    qemu_img("create", "-f", "vmdk", "-o", f"subformat={subformat}", path, "16T")
    begin = time.process_time()
    with open_image(path) as disk:
        (extent,) = disk.extents()
        assert time.process_time() - begin < 0.3
        assert (extent.length, extent.kind) == (16 << 40, ExtentKind.HOLE)
        assert disk.read(7 << 40, 4096) == bytes(4096)
        assert [extent.length for extent in disk.extents((16 << 40) - 5)] == [5]
        tracemalloc.start()
        list(disk.extents(0, 1 << 40))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 4 * MIB


def test_64_tib_of_sesparse_are_mapped_at_once(tmp_path: Path) -> None:
    capacity = 64 << 31
    tables = capacity >> 15
    image = vmdk.sesparse(capacity=capacity, directory_size=tables * 8 // SECTOR)
    path = image.cut(tables * 8 + 4 * MIB).write(tmp_path / "large.vmdk")
    begin = time.process_time()
    with open_image(path) as disk:
        (extent,) = disk.extents()
    assert extent.length == 64 << 40
    assert time.process_time() - begin < 0.3
