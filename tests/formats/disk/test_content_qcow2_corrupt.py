"""qcow2 tables that are wrong: each fault is noticed when it is met, at the place of its entry."""

from __future__ import annotations

import random
import time
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import pytest

from fixtures.disks.qcow2 import Cluster, Composed, Kind, compose
from vmport_formats.disk.image import open_image
from vmport_formats.disk.qcow2.header import read_header
from vmport_formats.errors import CorruptInput, TruncatedInput, VmportError
from vmport_formats.source import MemorySource

if TYPE_CHECKING:
    from collections.abc import Callable

COPIED, COMPRESSED = 1 << 63, 1 << 62
SIZE = 1 << 14


class Places(NamedTuple):
    """What an entry can be made to point to."""

    entry: int
    host: int
    l1: int
    refcounts: int
    end: int


class Fault(NamedTuple):
    what: str
    edit: Callable[[Places], int | tuple[int, int]]
    """To the entry, or to the entry and its bitmap."""
    says: str
    kind: type[VmportError] = CorruptInput
    version: int = 3
    extended: bool = False


L2_FAULTS = (
    Fault("unaligned", lambda p: COPIED | p.host + 512, "multiple of the cluster size"),
    Fault("the header", lambda _: COPIED, "does not say where"),
    Fault("the L1 table", lambda p: COPIED | p.l1, "into the L1 table"),
    Fault("the refcount table", lambda p: COPIED | p.refcounts, "into the refcount table"),
    Fault("behind the end", lambda p: COPIED | p.end, "cut short|ends at", TruncatedInput),
    Fault("2^56", lambda _: COPIED | (1 << 56) - SIZE, "ends at", TruncatedInput),
    Fault("reserved low bits", lambda p: COPIED | p.host | 2, "reserved: 0x2"),
    Fault("reserved high bits", lambda p: COPIED | p.host | 1 << 61, "reserved"),
    Fault("zeros in version 2", lambda p: COPIED | p.host | 1, "reserved: 0x1", version=2),
    Fault("plain zeros in version 2", lambda _: 1, "reserved: 0x1", version=2),
    Fault("unaligned zeros", lambda p: COPIED | p.host + 512 | 1, "multiple of the cluster"),
    Fault("compressed, in use once", lambda p: COPIED | COMPRESSED | p.host, "flags"),
    Fault("compressed, in the header", lambda _: COMPRESSED | 24, "into the header"),
    Fault("compressed, behind the end", lambda p: COMPRESSED | p.end, "ends at", TruncatedInput),
    Fault("all ones", lambda _: (1 << 64) - 1, "flags"),
    Fault(
        "both at once",
        lambda p: (COPIED | p.host, 1 << 32 | 1),
        "stored and as zeros at once",
        extended=True,
    ),
    Fault("stored nowhere", lambda _: (0, 4), "does not say where", extended=True),
    Fault("old zeros", lambda p: (COPIED | p.host | 1, 4), "reserved: 0x1", extended=True),
    Fault("compressed parts", lambda p: (COMPRESSED | p.host, 1), "flags", extended=True),
    Fault("mixed, unaligned", lambda p: (COPIED | p.host + 512, 5), "multiple", extended=True),
    Fault("mixed, L1 table", lambda p: (COPIED | p.l1, 5), "into the L1", extended=True),
    Fault(
        "mixed, behind the end",
        lambda p: (COPIED | p.end, 5),
        "ends at",
        TruncatedInput,
        extended=True,
    ),
)

L1_FAULTS = (
    Fault("unaligned", lambda p: COPIED | p.host + 512, "multiple of the cluster size"),
    Fault("nowhere", lambda _: COPIED, "behind the header"),
    Fault("the L1 table", lambda p: COPIED | p.l1, "into the L1 table"),
    Fault("the refcount table", lambda p: COPIED | p.refcounts, "into the refcount table"),
    Fault("behind the end", lambda p: COPIED | p.end, "behind the end", TruncatedInput),
    Fault("reserved bits", lambda p: COPIED | 1 << 56 | p.host, "reserved"),
    Fault("all ones", lambda _: (1 << 64) - 1, "reserved"),
)


def image_of_three(*, version: int = 3, extended: bool = False) -> tuple[Composed, Places]:
    """Three stored clusters, of which the middle one is to be damaged."""
    image = compose(
        [Cluster(Kind.DATA)] * 3,
        cluster_bits=14,
        seed=3,
        version=version,
        extended=extended,
    )
    header = read_header(image.file)
    return image, Places(
        entry=image.places[1],
        host=image.hosts[1],
        l1=header.l1_table_offset,
        refcounts=header.refcount_table_offset,
        end=image.file.size,
    )


@pytest.mark.parametrize("fault", L2_FAULTS, ids=[fault.what for fault in L2_FAULTS])
def test_an_l2_entry_that_cannot_be(fault: Fault) -> None:
    image, places = image_of_three(version=fault.version, extended=fault.extended)
    edited = fault.edit(places)
    words = edited if isinstance(edited, tuple) else (edited,)
    data = b"".join(word.to_bytes(8, "big") for word in words)
    with open_image(image.file.patched({places.entry: data})) as disk:
        # What does not need the entry can be read.
        assert disk.read(0, SIZE) == image.truth[:SIZE]
        assert disk.read(2 * SIZE, SIZE) == image.truth[2 * SIZE :]
        for act in (
            lambda: disk.read(2 * SIZE - 1, 1),
            lambda: disk.read(0, 3 * SIZE),
            lambda: list(disk.extents()),
            lambda: list(disk.stream()),
        ):
            with pytest.raises(VmportError, match=fault.says) as caught:
                act()
            assert type(caught.value) is fault.kind
            assert caught.value.code == "qcow2.l2-entry"
            assert caught.value.at == places.entry


@pytest.mark.parametrize("fault", L1_FAULTS, ids=[fault.what for fault in L1_FAULTS])
def test_an_l1_entry_that_cannot_be(fault: Fault) -> None:
    image, places = image_of_three()
    entry = fault.edit(places)
    assert isinstance(entry, int)
    with open_image(image.file.patched({places.l1: entry.to_bytes(8, "big")})) as disk:
        for act in (lambda: disk.read(0, 1), lambda: list(disk.extents())):
            with pytest.raises(VmportError, match=fault.says) as caught:
                act()
            assert type(caught.value) is fault.kind
            assert caught.value.code == "qcow2.l1-entry"
            assert caught.value.at == places.l1


def test_the_place_of_the_one_bad_entry_in_a_long_run() -> None:
    """Runs are checked as a whole, but the first cluster that lies outside is named."""
    image, _ = image_of_three()
    size = image.file.size
    begin = size - SIZE  # the first of three is the last of the file
    table = b"".join((COPIED | begin + n * SIZE).to_bytes(8, "big") for n in range(3))
    with open_image(image.file.patched({image.places[0]: table})) as disk:
        assert len(disk.read(0, SIZE)) == SIZE
        with pytest.raises(TruncatedInput, match=f"points to {size:#x}") as caught:
            disk.read(0, 3 * SIZE)
        assert caught.value.at == image.places[1]


def test_two_entries_that_each_say_to_be_the_only_one() -> None:
    """Of a cluster, of an L2 table, and of one cluster that is the other's table.

    The one that is met second is found out; what it hides is not told to be its content.
    """
    image = compose([Cluster(Kind.DATA)] * 130, cluster_bits=9, seed=5)  # three L2 tables
    places, hosts = image.places, image.hosts
    l1 = read_header(image.file).l1_table_offset
    tables = [int.from_bytes(image.file.read_at(l1 + 8 * n, 8), "big") for n in range(3)]
    for place, value, code, reached in (
        (places[1], COPIED | hosts[0], "qcow2.l2-entry", 1),
        (places[100], COPIED | hosts[7], "qcow2.l2-entry", 100),
        (places[7], tables[0], "qcow2.l2-entry", 7),
        (l1 + 16, tables[0], "qcow2.l1-entry", 128),
        (l1 + 8, COPIED | hosts[3], "qcow2.l2-entry", 3),
    ):
        with open_image(image.file.patched({place: value.to_bytes(8, "big")})) as disk:
            with pytest.raises(CorruptInput, match="says that it alone") as caught:
                disk.read(0, disk.virtual_size)
            assert caught.value.code == code
            if code == "qcow2.l2-entry":
                assert caught.value.at == places[reached]
            else:
                assert caught.value.at == place
            for number in set(range(130)) - {reached, *range(64, 130)}:
                start = number * 512
                assert disk.read(start, 512) == image.truth[start : start + 512]


def packed_image(*, zstd: bool = False) -> tuple[Composed, int, int]:
    """An image of one compressed cluster, and where its packed bytes begin and end."""
    image = compose([Cluster(Kind.PACKED)], cluster_bits=16, seed=8, zstd=zstd)
    entry = int.from_bytes(image.file.read_at(image.places[0], 8), "big")
    return image, entry & (1 << 54) - 1, image.file.size


@pytest.mark.parametrize("zstd", [False, True], ids=["zlib", "zstd"])
def test_compressed_data_that_is_broken(zstd: bool) -> None:
    image, start, end = packed_image(zstd=zstd)
    for where, junk in ((start, b"\xff" * 64), (start, bytes(end - start)), (end - 64, bytes(64))):
        with open_image(image.file.patched({where: junk})) as disk:
            assert len(list(disk.extents())) == 1  # a map does not unpack
            with pytest.raises(CorruptInput, match="compressed data for offset 0x0") as caught:
                disk.read(5, 1)
            assert caught.value.code == "qcow2.compressed-cluster"
            assert caught.value.at == start
            with pytest.raises(CorruptInput):
                list(disk.stream())


@pytest.mark.parametrize("zstd", [False, True], ids=["zlib", "zstd"])
def test_a_file_that_ends_inside_compressed_data(zstd: bool) -> None:
    image, start, end = packed_image(zstd=zstd)
    with open_image(image.file.cut((start + end) // 2)) as disk, pytest.raises(TruncatedInput):
        disk.read(0, 1)


def test_what_was_read_before_a_fault_is_streamed() -> None:
    clusters = [Cluster(Kind.DATA)] * 8
    image = compose(clusters, cluster_bits=14, seed=3)
    file = image.file.patched({image.places[7]: (COPIED | image.file.size).to_bytes(8, "big")})
    pieces: list[tuple[int, bytes | bytearray | memoryview]] = []
    with open_image(file) as disk, pytest.raises(TruncatedInput):
        pieces.extend(disk.stream(chunk=SIZE, workers=2))
    assert b"".join(data for _, data in pieces) == image.truth[: 7 * SIZE]


def test_a_cut_file_is_noticed() -> None:
    """At opening by its refcounts, not as zeros when it is read."""
    image = compose([Cluster(Kind.DATA)] * 9, cluster_bits=12, seed=6)
    data = image.file.read_at(0, image.file.size)
    for size in range(4096, len(data), 4096):
        with pytest.raises(TruncatedInput), open_image(MemorySource(data[:size])) as disk:
            disk.read(0, disk.virtual_size)


@pytest.mark.parametrize("bits", [9, 12, 14, 16])
def test_random_damage_ends_in_a_verdict(bits: int) -> None:
    """A content or a `VmportError`, soon; the same mutations on each run."""
    chance = random.Random(bits)
    kinds = (Kind.DATA, Kind.ABSENT, Kind.PACKED, Kind.ZERO, Kind.ZERO_ALLOCATED)
    image = compose(
        [Cluster(chance.choice(kinds)) for _ in range(80 if bits < 14 else 8)],
        cluster_bits=bits,
        extended=bits >= 14,
        zstd=bits == 12,
        seed=bits,
    )
    whole = image.file.read_at(0, image.file.size)
    places = [at for at in range(0, len(whole), 8) if any(whole[at : at + 8])]
    entries = list(image.places.values())
    for _ in range(120):
        data = bytearray(whole)
        for _ in range(chance.choice((1, 1, 3))):
            at = chance.choice(chance.choice((range(112), entries, places)))
            width = chance.choice((1, 2, 4, 8))
            value = chance.choice((0, (1 << 64) - 1, 1 << 63, chance.getrandbits(64)))
            data[at : at + width] = (value & ((1 << 8 * width) - 1)).to_bytes(width, "big")
        begin = time.process_time()
        with suppress(VmportError), open_image(MemorySource(bytes(data))) as disk:
            for extent in islice(disk.extents(), 1000):
                assert extent.length > 0
            for start in range(0, min(disk.virtual_size, len(image.truth)), 10_000):
                disk.read(start, 10_000)
        assert time.process_time() - begin < 0.5
