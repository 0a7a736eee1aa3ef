"""qcow2 images that we compose, as qemu-img checks and reads them, and as we do."""

from __future__ import annotations

import json
import sysconfig
import time
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.composing import compose, patchwork
from tests.content import (
    check_against_qemu_map,
    check_content,
    check_like_qemu,
    converted,
    qemu_img,
    qemu_io,
)
from vmport_formats.disk.check import CheckReport, check_image
from vmport_formats.disk.image import open_image
from vmport_formats.disk.packing import Effort
from vmport_formats.disk.qcow2.composer import Qcow2Composer
from vmport_formats.disk.qcow2.header import Compression
from vmport_formats.disk.qcow2.options import Preallocation, Qcow2Options
from vmport_formats.references import Confined
from vmport_formats.source import open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from vmport_formats.disk.composer import OverlayComposer, Write
    from vmport_formats.references import Reference
    from vmport_formats.source import ByteSource

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
FAST, SMALL = Effort.FAST, Effort.SMALL
ZSTD = Compression.ZSTD
SIZES = [512 << bits for bits in range(13)]


def no_opener(reference: Reference) -> ByteSource:
    raise AssertionError(reference)


def checked(path: Path) -> CheckReport:
    """The report of our own check, which found nothing; nor did qemu's."""
    found = json.loads(qemu_img("check", "--output=json", path))
    assert not {"corruptions", "leaks", "check-errors"} & {key for key in found if found[key]}
    with open_source(path) as source:
        report = check_image(source, no_opener, Confined([path.parent]), deep=True)
    assert report.faults == ()
    assert report.complete
    assert report.statistics.allocated == found.get("allocated-clusters", 0)
    assert report.statistics.compressed == found.get("compressed-clusters", 0)
    # qemu tells where what is in use ends; nothing lies behind it.
    assert path.stat().st_size == found["image-end-offset"]
    return report


def settings_of(path: Path) -> dict[str, Any]:
    """What `qemu-img info` says of an image's own options."""
    found: dict[str, Any] = json.loads(qemu_img("info", "--output=json", path))
    return {**found, **found["format-specific"]["data"]}


def options_that_exist() -> Iterator[Qcow2Options]:
    for size in SIZES:
        for effort in (None, FAST):
            yield Qcow2Options(cluster_size=size, compress=effort)
    for size in SIZES[5:]:
        for effort in (None, FAST):
            yield Qcow2Options(cluster_size=size, compress=effort, extended_l2=True)
    for bits in (1, 2, 4, 8, 32, 64):
        yield Qcow2Options(refcount_bits=bits, cluster_size=512)
        # Many clusters pack into one, so that its count would be too high.
        yield Qcow2Options(refcount_bits=bits, cluster_size=16 * KIB, compress=FAST)
    for effort in (None, FAST, SMALL):
        for kind in Compression:
            yield Qcow2Options(cluster_size=8 * KIB, compress=effort, compression_type=kind)
        yield Qcow2Options(version=2, compress=effort, cluster_size=4 * KIB)
    yield Qcow2Options(cluster_size=512, compress=SMALL, compression_type=ZSTD)
    for how in (Preallocation.METADATA, Preallocation.FULL):
        for cluster in (512, 64 * KIB, 2 * MIB):
            yield Qcow2Options(preallocation=how, cluster_size=cluster)
        yield Qcow2Options(preallocation=how, version=2)
        yield Qcow2Options(preallocation=how, cluster_size=64 * KIB, extended_l2=True)
        yield Qcow2Options(preallocation=how, cluster_size=256 * KIB, extended_l2=True)
    yield Qcow2Options(lazy_refcounts=True)
    yield Qcow2Options(lazy_refcounts=True, extended_l2=True, compress=FAST, compression_type=ZSTD)


def named(options: Qcow2Options) -> str:
    plain = Qcow2Options()
    changed = [
        f"{name}={getattr(options, name)}"
        for name in Qcow2Options.__slots__
        if getattr(options, name) != getattr(plain, name)
    ]
    return ",".join(changed) or "plain"


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize("options", list(options_that_exist()), ids=named)
def test_every_option(options: Qcow2Options, tmp_path: Path) -> None:
    cluster = options.cluster_size
    size = max(min(800 * cluster, 2 * MIB), 3 * cluster) + 512
    disk = patchwork(size, min(cluster, 48 * KIB), seed=options.cluster_bits)
    path = tmp_path / "disk.qcow2"
    compose(Qcow2Composer(size, options), disk, path)
    checked(path)
    assert converted(path, "qcow2") == disk
    with open_image(path) as image:
        check_against_qemu_map(check_content(image, disk), path, "qcow2")
    info = settings_of(path)
    assert info["virtual-size"] == size
    assert info["cluster-size"] == cluster
    assert info["compat"] == ("1.1" if options.version == 3 else "0.10")
    assert info["compression-type"] == options.compression_type.name.lower()
    assert info["refcount-bits"] == options.refcount_bits
    assert info.get("lazy-refcounts", False) == options.lazy_refcounts
    assert info.get("extended-l2", False) == options.extended_l2
    if options.preallocation is not Preallocation.OFF:
        rows = json.loads(qemu_img("map", "--output=json", path))
        assert all("offset" in row for row in rows)  # a place for each byte of the disk
        allocated = path.stat().st_blocks * 512
        assert (allocated >= size) is (options.preallocation is Preallocation.FULL)


@st.composite
def any_options(draw: st.DrawFn) -> Qcow2Options:
    size = draw(st.sampled_from(SIZES))
    effort = draw(st.sampled_from((None, FAST, SMALL)))
    return Qcow2Options(
        cluster_size=size,
        compress=effort,
        preallocation=Preallocation.OFF if effort else draw(st.sampled_from(Preallocation)),
        compression_type=draw(st.sampled_from(Compression)),
        refcount_bits=draw(st.sampled_from((1, 2, 4, 8, 16, 32, 64))),
        extended_l2=size >= 16 * KIB and draw(st.booleans()),
    )


@pytest.mark.needs("qemu-img")
@given(
    options=any_options(),
    size=st.one_of(st.integers(0, 3000), st.integers(0, 2 * MIB)),
    grain=st.sampled_from((1, 512, 5000, 64 * KIB)),
    batch=st.sampled_from((1, 24 * KIB, MIB, 16 * MIB)),
    seed=st.integers(0, 1 << 32),
)
@settings(max_examples=40, deadline=None)
def test_any_disk(options: Qcow2Options, size: int, grain: int, batch: int, seed: int) -> None:
    disk = patchwork(size, max(grain, size // 500), seed=seed)
    with TemporaryDirectory() as folder:
        path, again = Path(folder) / "disk.qcow2", Path(folder) / "again.qcow2"
        compose(Qcow2Composer(size, options), disk, path, batch=batch)
        report = checked(path)
        truth = disk.ljust(-(-size // 512) * 512, b"\0")
        assert converted(path, "qcow2") == truth
        with open_image(path) as image:
            assert image.read(0, size + 512) == truth
        used = {
            at // options.cluster_size for at in range(0, size, 512) if any(disk[at : at + 512])
        }
        if options.preallocation is not Preallocation.OFF:
            used = set(range(-(-size // options.cluster_size)))
        assert report.statistics.allocated == len(used)
        compose(Qcow2Composer(size, options), disk, again, batch=batch)
        assert again.read_bytes() == path.read_bytes()


@pytest.mark.needs("qemu-img", "qemu-io")
@pytest.mark.parametrize(
    "options",
    [
        Qcow2Options(cluster_size=4 * KIB, compress=FAST),
        Qcow2Options(cluster_size=512, refcount_bits=4),
        Qcow2Options(cluster_size=64 * KIB, extended_l2=True, compression_type=ZSTD, compress=FAST),
        Qcow2Options(cluster_size=2 * MIB, lazy_refcounts=True),
    ],
    ids=named,
)
def test_a_machine_can_run_on_it(options: Qcow2Options, tmp_path: Path) -> None:
    """What is written later shares no cluster with what was there before."""
    disk = bytearray(patchwork(4 * MIB, 32 * KIB, seed=5))
    path = tmp_path / "disk.qcow2"
    compose(Qcow2Composer(len(disk), options), bytes(disk), path)
    places = range(1536, len(disk) - 70 * KIB, 300 * KIB)
    qemu_io(path, *(f"write -P 7 {place} 70000" for place in [p // 512 * 512 for p in places]))
    for place in places:
        disk[place : place + 70000] = b"\x07" * 70000
    qemu_img("snapshot", "-c", "later", path)
    qemu_io(path, "write -P 8 0 1M")
    disk[:MIB] = b"\x08" * MIB
    qemu_img("check", path)
    assert converted(path, "qcow2") == bytes(disk)


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize(
    "options",
    [
        Qcow2Options(),
        Qcow2Options(compress=FAST),
        Qcow2Options(cluster_size=2 * MIB, extended_l2=True),
    ],
    ids=named,
)
def test_huge_disks_cost_what_their_data_do(options: Qcow2Options, tmp_path: Path) -> None:
    """15 TiB, which a file of qemu-img's can still be, with data at both ends and between."""
    size = 15 * TIB - 512
    last = 15 * TIB - 2 * MIB
    disk: Mapping[int, bytes] = {
        0: patchwork(3 * MIB, 64 * KIB, seed=1),
        7 * TIB: patchwork(4 * MIB, 64 * KIB, seed=2),
        last: b"the end".rjust(2 * MIB - 512, b"\1"),
    }
    path = tmp_path / "disk.qcow2"
    begun = time.process_time()
    compose(Qcow2Composer(size, options), disk, path)
    assert time.process_time() - begun < 0.5
    assert path.stat().st_blocks * 512 < 12 * MIB
    checked(path)
    with open_image(path) as image:
        assert image.virtual_size == size
        for place, data in disk.items():
            assert image.read(place, len(data)) == data
        check_like_qemu(image, path, "qcow2", tmp_path)
        assert sum(e.length for e in image.extents() if not e.kind.reads_zero) < 12 * MIB


def test_an_empty_disk_of_16_tib_costs_nothing(tmp_path: Path) -> None:
    for options in (Qcow2Options(), Qcow2Options(cluster_size=2 * MIB, extended_l2=True)):
        begun = time.process_time()
        path = tmp_path / named(options)
        compose(Qcow2Composer(16 * TIB, options), {}, path)
        assert time.process_time() - begun < 0.1
        assert path.stat().st_blocks * 512 < 64 * KIB


def test_memory_does_not_follow_the_data() -> None:
    size = 16 * GIB
    composer = Qcow2Composer(size, Qcow2Options())
    data = memoryview(bytes(64 * MIB))
    tracemalloc.start()
    try:
        writes = sum(1 for _ in composer.begin())
        for offset in range(0, size, len(data)):
            writes += sum(1 for _ in composer.add(offset, data))
        writes += sum(1 for _ in composer.finish())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 512 * KIB  # where the tables have 2.5 MiB
    assert writes > size // len(data)


def test_data_are_not_copied() -> None:
    composer = Qcow2Composer(8 * MIB, Qcow2Options())
    list(composer.begin())
    data = bytes(range(256)) * 4096
    (write,) = composer.add(2 * MIB, memoryview(data))
    assert isinstance(write.data, memoryview)
    assert write.data.obj is data


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize("kind", Compression)
def test_as_small_as_qemu_makes_it(kind: Compression, tmp_path: Path) -> None:
    """Small, no larger than what qemu-img makes; fast, no more than a tenth larger."""
    folder = Path(sysconfig.get_path("stdlib"))
    modules = sorted(folder.glob("*.py")) + sorted(folder.glob("lib-dynload/*.so"))
    disk = b"".join(module.read_bytes() for module in modules)[: 8 * MIB]
    source = tmp_path / "source.raw"
    source.write_bytes(disk)
    theirs = tmp_path / "theirs.qcow2"
    how = ["-c", "-O", "qcow2", "-o", f"compression_type={kind.name.lower()}"]
    qemu_img("convert", *how, "-f", "raw", source, theirs)
    most = theirs.stat().st_size
    for effort, limit in ((SMALL, most), (FAST, most * 1.1)):
        ours = tmp_path / f"{effort}.qcow2"
        options = Qcow2Options(compress=effort, compression_type=kind)
        compose(Qcow2Composer(len(disk), options), disk, ours)
        # Either file may end anywhere in its last cluster, and begins with four of tables.
        assert ours.stat().st_size <= limit + 64 * KIB
        checked(ours)


# --- Over another image -------------------------------------------------------------------------


def compose_overlay(composer: OverlayComposer, parts: list[bytes | None], path: Path) -> None:
    """`parts` are grains; None leaves one to what lies below."""

    def writes() -> Iterator[Write]:
        yield from composer.begin()
        for number, part in enumerate(parts):
            offset = number * composer.grain
            if part is None:
                continue
            packed = composer.pack(part) if composer.pack else None
            if not any(part):
                yield from composer.add_zeros(offset, len(part))
            elif packed is None:
                yield from composer.add(offset, part)
            else:
                yield from composer.add_packed(offset, packed)
        yield from composer.finish()

    with path.open("xb") as file:
        for offset, data in writes():
            file.seek(offset)
            file.write(data)
        file.truncate(composer.length)


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize(
    "options",
    [
        Qcow2Options(backing_file="below ü.raw", backing_format="raw"),
        Qcow2Options(backing_file="below ü.raw", backing_format="raw", version=2),
        Qcow2Options(
            backing_file="below ü.raw",
            backing_format="raw",
            extended_l2=True,
            cluster_size=256 * KIB,
            compress=FAST,
            compression_type=ZSTD,
            lazy_refcounts=True,
        ),
        Qcow2Options(backing_file="below ü.raw", backing_format="raw", cluster_size=512),
    ],
    ids=named,
)
def test_over_another_image(options: Qcow2Options, tmp_path: Path) -> None:
    size = options.cluster_size
    below = patchwork(40 * size, size, seed=8)
    (tmp_path / "below ü.raw").write_bytes(below)
    disk = patchwork(40 * size, size, seed=9)
    grains = [disk[at : at + size] for at in range(0, len(disk), size)]
    parts = [None if number % 3 == 1 else grain for number, grain in enumerate(grains)]
    path = tmp_path / "above.qcow2"
    compose_overlay(Qcow2Composer(len(disk), options), parts, path)
    checked(path)
    truth = b"".join(
        part or below[number * size : (number + 1) * size] for number, part in enumerate(parts)
    )
    assert converted(path, "qcow2") == truth
    with open_image(path, Confined([tmp_path])) as image:
        check_against_qemu_map(check_content(image, truth), path, "qcow2")
    info = settings_of(path)
    assert info["backing-filename"] == "below ü.raw"
    assert info["backing-filename-format"] == "raw"


def test_zeros_over_another_image_come_in_runs() -> None:
    """16 TiB less a sector of zeros: the tables, and nothing else."""
    options = Qcow2Options(cluster_size=2 * MIB, backing_file="below.raw", backing_format="raw")
    size = 16 * TIB - 512
    composer = Qcow2Composer(size, options)
    begun = time.process_time()
    list(composer.begin())
    tables = list(composer.add_zeros(0, size)) + list(composer.finish())
    assert time.process_time() - begun < 1
    assert len(tables) == 32 + 4  # L2, refcount block and table, L1 and header
    assert composer.length < 100 * MIB


# --- What is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Qcow2Options(version=4), "version 4"),
        (lambda: Qcow2Options(cluster_size=256), "512 bytes to 2 MiB"),
        (lambda: Qcow2Options(cluster_size=4 * MIB), "512 bytes to 2 MiB"),
        (lambda: Qcow2Options(cluster_size=5000), "power of two"),
        (lambda: Qcow2Options(refcount_bits=3), "power of two"),
        (lambda: Qcow2Options(refcount_bits=128), "from 1 to 64"),
        (lambda: Qcow2Options(version=2, refcount_bits=8), "refcount_bits other than 16 needs"),
        (lambda: Qcow2Options(version=2, lazy_refcounts=True), "lazy_refcounts needs"),
        (lambda: Qcow2Options(version=2, extended_l2=True), "extended_l2 needs"),
        (lambda: Qcow2Options(version=2, compression_type=ZSTD), "zstd needs"),
        (lambda: Qcow2Options(cluster_size=8 * KIB, extended_l2=True), "at least 16 KiB"),
        (lambda: Qcow2Options(backing_format="raw"), "needs a backing_file"),
        (lambda: Qcow2Options(backing_file=""), "empty"),
        (lambda: Qcow2Options(backing_file="b" * 1024), "at most 1023"),
        (lambda: Qcow2Options(cluster_size=512, backing_file="b" * 257), "at most 256"),
        (lambda: Qcow2Options(backing_file="b", backing_format="f" * 16), "1 to 15"),
        (lambda: Qcow2Composer(TIB, Qcow2Options(cluster_size=512)), "disk of 1 TiB"),
        (lambda: Qcow2Composer(1 << 62, Qcow2Options(cluster_size=2 * MIB)), "at the most"),
    ],
)
def test_wrong_options(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.needs("qemu-img")
def test_the_longest_name_in_the_smallest_cluster(tmp_path: Path) -> None:
    options = Qcow2Options(
        cluster_size=512,
        lazy_refcounts=True,
        compression_type=ZSTD,
        backing_file="b" * 256,
        backing_format="f" * 15,
    )
    path = tmp_path / "disk.qcow2"
    compose(Qcow2Composer(MIB, options), {}, path)
    info = settings_of(path)
    assert info["backing-filename"] == "b" * 256
    assert info["backing-filename-format"] == "f" * 15


def test_what_is_out_of_order_is_refused() -> None:
    composer = Qcow2Composer(MIB + 512, Qcow2Options())
    grain = bytes(composer.grain)
    list(composer.begin())
    list(composer.add(128 * KIB, grain))
    for offset, data, words in (
        (512, grain, "whole grains"),
        (512 * KIB, grain[:-1], "whole grains"),
        (128 * KIB, grain, "came before"),
        (64 * KIB, grain, "came before"),
        (256 * KIB, b"", "came before"),
        (MIB + 64 * KIB, grain, "ends at"),
        (MIB, grain * 2, "ends at"),
    ):
        with pytest.raises(ValueError, match=words):
            list(composer.add(offset, data))
    with pytest.raises(ValueError, match="less than a cluster"):
        list(composer.add_packed(192 * KIB, grain))
    list(composer.add(MIB, grain))
