"""Two disks are compared to the byte, whatever their formats, and reading no more than it takes."""

from __future__ import annotations

from contextlib import ExitStack
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.disks.qcow2 import Cluster, Composed, Kind, compose
from vmport_converters.disk.compare import Difference, Wanted, compare, compare_disks
from vmport_formats.disk.extents import ExtentKind
from vmport_formats.disk.image import open_image
from vmport_formats.disk.model import DiskFormat
from vmport_formats.errors import CorruptInput, UnsafeInput
from vmport_formats.source import MemorySource

if TYPE_CHECKING:
    from pathlib import Path

    from vmport_formats.source import ByteSource

CLUSTER_BITS = 12
CLUSTER = 1 << CLUSTER_BITS


def difference(
    first: ByteSource, second: ByteSource, *, chunk: int = 1 << 16, workers: int = 2
) -> Difference | None:
    """What `compare_disks` says of two sources; one that has no mark is read as raw."""
    with ExitStack() as stack:
        disks = [
            stack.enter_context(
                open_image(
                    source, declared=None if source.read_at(0, 3) == b"QFI" else DiskFormat.RAW
                )
            )
            for source in (first, second)
        ]
        shares: list[float] = []
        found = compare_disks(*disks, on_progress=shares.append, chunk=chunk, workers=workers)
        assert shares == sorted(shares)
        assert all(0 < share <= 1 for share in shares)
        return found


def first_difference(first: bytes, second: bytes) -> int | None:
    """The plain truth, the shorter one filled up with zeros."""
    size = max(len(first), len(second))
    pairs = zip(first.ljust(size, b"\0"), second.ljust(size, b"\0"), strict=True)
    return next((offset for offset, (one, other) in enumerate(pairs) if one != other), None)


@st.composite
def _images(draw: st.DrawFn) -> Composed:
    kinds = draw(st.lists(st.sampled_from(Kind), max_size=40))
    return compose(
        [Cluster(kind) for kind in kinds],
        cluster_bits=CLUSTER_BITS,
        seed=draw(st.integers(0, 1 << 32)),
    )


@st.composite
def _edited(draw: st.DrawFn, truth: bytes) -> bytes:
    """The same disk, or one that is changed in a few bytes, shorter, or longer."""
    disk = bytearray(truth)
    for _ in range(draw(st.integers(0, 2)) if disk else 0):
        disk[draw(st.integers(0, len(disk) - 1))] ^= draw(st.sampled_from((1, 0x80, 0xFF)))
    length = draw(st.just(len(disk)) | st.integers(0, len(disk) + 3 * CLUSTER))
    more = draw(st.binary(max_size=1)).rjust(max(0, length - len(disk)), b"\0")
    return bytes(disk[:length]) + (more if length > len(disk) else b"")


@given(data=st.data(), image=_images())
@settings(max_examples=60, deadline=None)
def test_the_first_difference_is_exact(data: st.DataObject, image: Composed) -> None:
    other = data.draw(_edited(image.truth))
    truth = first_difference(image.truth, other)
    chunk = data.draw(st.sampled_from((512, CLUSTER, 3 * CLUSTER, 1 << 20)), label="chunk")
    sources = (image.file, MemorySource(other))
    swapped = data.draw(st.booleans(), label="swapped")
    found = difference(*(sources[::-1] if swapped else sources), chunk=chunk)
    assert (found and found.offset) == truth
    if found is not None:
        disks = [disk.ljust(-(-len(disk) // 512) * 512, b"\0") for disk in (image.truth, other)]
        values = [disk[found.offset] if found.offset < len(disk) else None for disk in disks]
        assert [side.value for side in found.sides] == (values[::-1] if swapped else values)


def test_both_sides_are_told_where_they_differ() -> None:
    image = compose([Cluster(Kind.DATA), Cluster(Kind.ABSENT)], cluster_bits=CLUSTER_BITS)
    other = bytearray(image.truth)
    other[CLUSTER + 5] = 7
    found = difference(image.file, MemorySource(bytes(other)))
    assert found is not None
    ours, theirs = found.sides
    assert (found.offset, ours.value, theirs.value) == (CLUSTER + 5, 0, 7)
    assert ours.extent is not None
    assert theirs.extent is not None
    assert (ours.extent.kind, theirs.extent.kind) == (ExtentKind.HOLE, ExtentKind.DATA)
    assert theirs.extent.host_offset == CLUSTER + 5


def broken(number: int) -> tuple[ByteSource, bytearray]:
    """An image of eight packed clusters, one of which is broken, and what it would hold."""
    whole = compose([Cluster(Kind.PACKED)] * 8, cluster_bits=CLUSTER_BITS, seed=5)
    entry = int.from_bytes(whole.file.read_at(whole.places[number], 8), "big")
    at = entry & ((1 << 62 - (CLUSTER_BITS - 8)) - 1)
    return whole.file.patched({at: b"\xff" * 8}), bytearray(whole.truth)


@pytest.mark.parametrize("chunk", [CLUSTER, 8 * CLUSTER], ids=["a cluster", "all at once"])
def test_a_difference_before_what_is_broken_is_found(chunk: int) -> None:
    image, disk = broken(5)
    disk[3 * CLUSTER + 77] ^= 1
    disk[7 * CLUSTER] ^= 1
    found = difference(image, MemorySource(bytes(disk)), chunk=chunk)
    assert found is not None
    assert found.offset == 3 * CLUSTER + 77


@pytest.mark.parametrize("chunk", [CLUSTER, 8 * CLUSTER], ids=["a cluster", "all at once"])
def test_what_is_broken_before_a_difference_is_an_error(chunk: int) -> None:
    image, disk = broken(3)
    disk[4 * CLUSTER] ^= 1
    with pytest.raises(CorruptInput) as caught:
        difference(image, MemorySource(bytes(disk)), chunk=chunk)
    assert caught.value.code == "qcow2.compressed-cluster"


def test_what_overlays_share_is_not_read(tmp_path: Path) -> None:
    """Two disks on one backing file have the same bytes there, even such as cannot be read."""
    base, truth = broken(6)
    (tmp_path / "base").write_bytes(base.read_at(0, base.size))
    child = compose(
        [Cluster(Kind.DATA), *[Cluster(Kind.ABSENT)] * 7],
        cluster_bits=CLUSTER_BITS,
        backing=("base", "qcow2"),
        parent=bytes(truth),
    )
    wanted = [Wanted(str(child.file.write(tmp_path / name))) for name in ("one", "other")]
    assert compare(*wanted, allow=[str(tmp_path)]).difference is None
    alone = Wanted(str(tmp_path / "base"))
    with pytest.raises(CorruptInput):
        compare(alone, Wanted(_raw(tmp_path, bytes(truth))))
    assert compare(alone, alone).difference is None
    with pytest.raises(UnsafeInput) as caught:
        compare(*wanted)
    assert caught.value.code == "reference.denied"


def _raw(folder: Path, content: bytes) -> str:
    path = folder / "plain.raw"
    path.write_bytes(content)
    return str(path)


def test_another_file_with_the_same_places_is_read(tmp_path: Path) -> None:
    """A copy has its bytes at the same places, but need not have the same bytes."""
    content = Random(1).randbytes(8192)
    (tmp_path / "a").write_bytes(content)
    (tmp_path / "b").write_bytes(content[:5000] + b"?" + content[5001:])
    found = compare(Wanted(str(tmp_path / "a")), Wanted(str(tmp_path / "b"))).difference
    assert found is not None
    assert found.offset == 5000
