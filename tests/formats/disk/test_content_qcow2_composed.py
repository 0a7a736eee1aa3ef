"""qcow2 content where clusters lie anywhere, in every kind, against the composer and qemu-img."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.disks.qcow2 import SUBCLUSTERS, Cluster, Composed, Kind, compose
from tests.content import (
    check_against_qemu_map,
    check_content,
    check_stream,
    converted,
    qemu_img,
)
from vmport_formats.disk.extents import ExtentKind
from vmport_formats.disk.image import open_image
from vmport_formats.source import MemorySource

SECTOR = 512


@st.composite
def images(draw: st.DrawFn, *, most_bytes: int = 1 << 19) -> Composed:
    """An image with any clusters in any order."""
    version = draw(st.sampled_from((3, 3, 2)))
    bits = draw(st.sampled_from((9, 10, 12, 14, 16, 18)))
    extended = version == 3 and bits >= 14 and draw(st.booleans())
    kinds = [Kind.ABSENT, Kind.DATA, Kind.PACKED]
    if version == 3:
        kinds += [Kind.ZERO, Kind.ZERO_ALLOCATED]
    numbers = st.integers(0, 3**SUBCLUSTERS - 1)
    parted = (Kind.DATA, Kind.ZERO) if extended else ()
    most = min(150, most_bytes >> bits)
    least = draw(st.integers(0, most))
    clusters = [
        Cluster(kind, _parts(draw(numbers), kind) if kind in parted else None)
        for kind in draw(st.lists(st.sampled_from(kinds), min_size=least, max_size=most))
    ]
    whole = len(clusters) << bits
    cut = draw(st.integers(0, (1 << bits) // SECTOR - 1)) * SECTOR if clusters else 0
    return compose(
        clusters,
        cluster_bits=bits,
        version=version,
        extended=extended,
        zstd=version == 3 and draw(st.booleans()),
        size=whole - cut,
        seed=draw(st.integers(0, 1 << 32)),
    )


def _parts(number: int, kind: Kind) -> tuple[Kind, ...]:
    """The digits of a number to the base of 2 or 3 as kinds of subclusters."""
    kinds = (Kind.ABSENT, Kind.ZERO, Kind.DATA)[: 3 if kind is Kind.DATA else 2]
    return tuple(kinds[number // len(kinds) ** place % len(kinds)] for place in range(SUBCLUSTERS))


def in_memory(image: Composed) -> MemorySource:
    return MemorySource(image.file.read_at(0, image.file.size), name="composed.qcow2")


@given(image=images(), seed=st.integers(0, 1 << 32))
@settings(max_examples=50, deadline=None)
def test_clusters_in_any_order(image: Composed, seed: int) -> None:
    with open_image(in_memory(image)) as disk:
        check_content(disk, image.truth, seed=seed)


@pytest.mark.needs("qemu-img")
@given(image=images(most_bytes=1 << 18))
@settings(max_examples=12, deadline=None)
def test_the_composer_and_qemu_agree(
    image: Composed, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = image.file.write(tmp_path_factory.mktemp("composed") / "image.qcow2")
    qemu_img("check", "-f", "qcow2", path)
    assert converted(path, "qcow2") == image.truth
    with open_image(path) as disk:
        check_against_qemu_map(check_content(disk, image.truth), path, "qcow2")


def packed(count: int, *, bits: int, zstd: bool = False) -> Composed:
    return compose([Cluster(Kind.PACKED)] * count, cluster_bits=bits, seed=bits, zstd=zstd)


@pytest.mark.parametrize("bits", range(9, 22))
def test_every_cluster_size(bits: int) -> None:
    """Two L2 tables of the small ones, and what fits a test of the large ones."""
    count = min(100, max(4, (1 << 22) >> bits))
    clusters = [
        Cluster((Kind.DATA, Kind.ABSENT, Kind.PACKED, Kind.ZERO)[n % 4]) for n in range(count)
    ]
    image = compose(clusters, cluster_bits=bits, seed=bits)
    with open_image(in_memory(image)) as disk:
        check_content(disk, image.truth)


# --- Wrong reads in the peers -------------------------------------------------------------------


def test_libqcow_reads_zeros_for_a_compressed_cluster_at_an_odd_offset() -> None:
    """Bit 0 of a compressed cluster's entry is part of its offset, and no flag for zeros."""
    image = packed(40, bits=12)
    entries = [int.from_bytes(image.file.read_at(at, 8), "big") for at in image.places.values()]
    assert {entry & 1 for entry in entries} == {0, 1}
    with open_image(in_memory(image)) as disk:
        assert [extent.kind for extent in disk.extents()] == [ExtentKind.COMPRESSED]
        check_content(disk, image.truth)


def test_dissect_reads_version_2_as_version_3() -> None:
    """Behind the 72 bytes of version 2 come the extensions: no feature bits, no header length."""
    clusters = [Cluster(Kind.DATA), Cluster(Kind.ABSENT), Cluster(Kind.PACKED)]
    plain = compose(clusters, version=2, seed=1)
    junk = plain.file.patched({72: b"\x12\x34\x56\x78\0\0\0\x20" + b"\xff" * 32 + bytes(8)})
    with open_image(junk) as disk:
        assert disk.info.variant == "v2"
        check_content(disk, plain.truth)


def test_dissect_never_ends_with_extended_l2() -> None:
    parts = tuple((Kind.DATA, Kind.ZERO, Kind.ABSENT, Kind.DATA)[n % 4] for n in range(SUBCLUSTERS))
    clusters = [Cluster(Kind.DATA, parts), Cluster(Kind.ABSENT), Cluster(Kind.DATA)]
    image = compose(clusters, cluster_bits=14, extended=True, seed=2)
    with open_image(in_memory(image)) as disk:
        extents = check_content(disk, image.truth)
    assert len(extents) == 3 * 8 + 1 + 2


# --- The ends of files and disks ----------------------------------------------------------------


def test_the_last_cluster_of_a_file_may_be_cut_short() -> None:
    """What is missing of it reads as zeros; qemu leaves files so."""
    image = compose([Cluster(Kind.DATA)], cluster_bits=16, seed=4)
    end = image.file.size
    file = image.file.patched({image.places[0]: (1 << 63 | end).to_bytes(8, "big")})
    file.put(end, b"\x55" * 1000)
    with open_image(file) as disk:
        check_content(disk, (b"\x55" * 1000).ljust(65536, b"\0"))


@pytest.mark.parametrize("zstd", [False, True], ids=["zlib", "zstd"])
def test_a_compressed_cluster_ends_with_the_file(zstd: bool) -> None:
    image = packed(3, bits=16, zstd=zstd)
    assert image.file.size % SECTOR
    with open_image(in_memory(image)) as disk:
        check_content(disk, image.truth)
        check_stream(disk, image.truth, chunk=4096, workers=2)


def test_several_threads_read_one_disk() -> None:
    """They share the caches of tables and of unpacked clusters."""
    kinds = (Kind.DATA, Kind.PACKED, Kind.PACKED, Kind.ZERO)
    image = compose([Cluster(kinds[n % 4]) for n in range(150)], cluster_bits=9, seed=9)
    with open_image(in_memory(image)) as disk, ThreadPoolExecutor(4) as pool:

        def wrong(seed: int) -> list[tuple[int, int]]:
            chance = Random(seed)
            ranges = [
                (chance.randrange(len(image.truth)), chance.randrange(5000)) for _ in range(200)
            ]
            return [
                (start, length)
                for start, length in ranges
                if disk.read(start, length) != image.truth[start : start + length]
            ]

        assert list(pool.map(wrong, range(8))) == [[]] * 8
