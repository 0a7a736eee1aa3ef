"""Content where blocks lie anywhere in the file, against the composers and qemu-img.

qemu-img writes blocks in the order of the disk, so a reader that ignores the tables is not found
out by its images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.disks import bochs, cloop, parallels, qcow, qed
from fixtures.disks.blocks import Composed, Kind
from tests.content import (
    check_against_qemu_map,
    check_content,
    converted,
    qemu_img,
    qemu_io,
)
from tests.samples import sample
from vmport_formats.disk.extents import ExtentKind
from vmport_formats.disk.image import open_image
from vmport_formats.disk.model import DiskFormat
from vmport_formats.errors import CorruptInput, LockedInput, TruncatedInput, UnsafeInput
from vmport_formats.references import Confined

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

SECTOR = 512
MOST = 1 << 17
"""Bytes of a disk."""


@dataclass(frozen=True)
class Make:
    """How images of a format are composed."""

    format: DiskFormat
    kinds: tuple[Kind, ...]
    draw: Callable[[st.DataObject, Sequence[Kind], int], Composed]
    smallest: int
    """Bytes of a block."""
    cut: bool = True
    """Whether the disk can end inside a block."""


def draw_qed(data: st.DataObject, kinds: Sequence[Kind], seed: int) -> Composed:
    cluster = data.draw(st.sampled_from((4096, 8192)))
    size = less(data, len(kinds) * cluster, cluster)
    table = data.draw(st.sampled_from((2, 4)))  # 1 is sound, but qemu refuses it
    return qed.compose(kinds, cluster_size=cluster, table_size=table, size=size, seed=seed)


def draw_parallels(data: st.DataObject, kinds: Sequence[Kind], seed: int) -> Composed:
    old = data.draw(st.booleans())
    sectors = data.draw(st.sampled_from((1, 2, 7, 63)))
    first = -(-(parallels.BAT + 4 * len(kinds)) // SECTOR)
    data_sector = data.draw(st.sampled_from((None, 0, first + 1, first + 17)))
    size = less(data, len(kinds) * sectors * SECTOR, sectors * SECTOR)
    return parallels.compose(
        kinds, sectors=sectors, old=old, data_sector=data_sector, size=size, seed=seed
    )


def draw_qcow(data: st.DataObject, kinds: Sequence[Kind], seed: int) -> Composed:
    bits = data.draw(st.sampled_from((9, 10, 12)))
    size = less(data, len(kinds) << bits, 1 << bits) + data.draw(st.sampled_from((0, 2)))
    l2_bits = data.draw(st.sampled_from((6, 9)))
    return qcow.compose(kinds, cluster_bits=bits, l2_bits=l2_bits, size=size, seed=seed)


def draw_bochs(data: st.DataObject, kinds: Sequence[Kind], seed: int) -> Composed:
    extent = data.draw(st.sampled_from((512, 2048, 8192)))
    version = data.draw(st.sampled_from((1, 2)))
    size = less(data, len(kinds) * extent, extent)
    return bochs.compose(kinds, extent=extent, version=version, size=size, seed=seed)


def draw_cloop(data: st.DataObject, kinds: Sequence[Kind], seed: int) -> Composed:
    size = data.draw(st.sampled_from((512, 1536, 4096)))
    return cloop.compose(len(kinds), block_size=size, seed=seed)


def less(data: st.DataObject, size: int, block: int) -> int:
    """Cut somewhere in the last block."""
    return size - data.draw(st.integers(0, block // SECTOR - 1)) * SECTOR


STORED = (Kind.ABSENT, Kind.DATA)
MAKES = {
    "qed": Make(DiskFormat.QED, (*STORED, Kind.ZERO), draw_qed, 8192),
    "parallels": Make(DiskFormat.PARALLELS, STORED, draw_parallels, 63 * SECTOR),
    "qcow": Make(DiskFormat.QCOW, (*STORED, Kind.PACKED), draw_qcow, 4096),
    "bochs": Make(DiskFormat.BOCHS, STORED, draw_bochs, 8192),
    "cloop": Make(DiskFormat.CLOOP, (Kind.PACKED,), draw_cloop, 1536),
}
every_make = pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)


def drawn(data: st.DataObject, make: Make) -> Composed:
    most = max(3, MOST // make.smallest)
    kinds = data.draw(st.lists(st.sampled_from(make.kinds), min_size=1, max_size=most))
    return make.draw(data, kinds, data.draw(st.integers(0, 1 << 32)))


@every_make
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_blocks_in_any_order(make: Make, data: st.DataObject) -> None:
    image = drawn(data, make)
    with open_image(image.file) as disk:
        assert disk.info.format is make.format
        check_content(disk, image.truth, seed=data.draw(st.integers(0, 1 << 32)))


@pytest.mark.needs("qemu-img")
@every_make
@given(data=st.data())
@settings(max_examples=5, deadline=None)
def test_the_composer_and_qemu_agree(
    make: Make, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    image = drawn(data, make)
    path = image.file.write(tmp_path_factory.mktemp("composed") / "image")
    assert converted(path, make.format) == image.truth
    with open_image(path) as disk:
        extents = check_content(disk, image.truth)
        if make.format in (DiskFormat.QED, DiskFormat.PARALLELS, DiskFormat.QCOW):
            check_against_qemu_map(extents, path, make.format)


# --- Images by other programs -------------------------------------------------------------------


@pytest.mark.needs("qemu-img", "qemu-io")
@pytest.mark.parametrize(
    ("disk_format", "options"),
    [
        ("qed", "cluster_size=4k,table_size=2"),
        ("qed", "cluster_size=64k,table_size=16"),
        ("parallels", "cluster_size=64k"),
        ("parallels", "cluster_size=1M"),
        ("qcow", ""),
        ("vdi", ""),
        ("vdi", "static=on"),
    ],
)
def test_what_qemu_writes(disk_format: str, options: str, tmp_path: Path) -> None:
    """Over tables that do not follow each other, back and forth."""
    path = tmp_path / "image"
    extra = ["-o", options] if options else []
    qemu_img("create", "-q", "-f", disk_format, *extra, path, "11M")
    writes = [f"write -P {n + 1} {at}k {n * 3 + 1}k" for n, at in enumerate((9000, 17, 4093, 2048))]
    qemu_io(path, *writes, options=["-f", disk_format])
    with open_image(path) as disk:
        extents = check_content(disk, converted(path, disk_format))
        check_against_qemu_map(extents, path, disk_format)


@pytest.mark.needs("qemu-img", "qemu-io")
def test_qcow_clusters_that_qemu_packs(tmp_path: Path) -> None:
    path = tmp_path / "image"
    qemu_img("create", "-q", "-f", "qcow", path, "3M")
    qemu_io(path, "write -c -P 7 0 4k", "write -c -P 9 2M 4k", "write -P 11 4k 9k")
    with open_image(path) as disk:
        extents = check_content(disk, converted(path, "qcow"))
    assert [extent.kind for extent in extents].count(ExtentKind.COMPRESSED) == 2


@pytest.mark.needs("qemu-img", "qemu-io")
def test_qcow_that_qemu_encrypts(tmp_path: Path) -> None:
    path = tmp_path / "image"
    secret = "secret,id=key,data=open sesame and more than 16 bytes"
    options = "encrypt.format=aes,encrypt.key-secret=key"
    qemu_img("create", "-q", "--object", secret, "-f", "qcow", "-o", options, path, "1M")
    opened = f"driver=qcow,encrypt.key-secret=key,file.filename={path}"
    raw = tmp_path / "raw"
    qemu_img("create", "-q", "-f", "raw", raw, "1M")
    qemu_io(raw, "write -P 5 1k 9k", "write -P 6 700k 33k", options=["-f", "raw"])
    qemu_img(
        *("convert", "-n", "--object", secret, "-f", "raw"),
        *("--target-image-opts", raw, opened),
    )
    with pytest.raises(LockedInput), open_image(path):
        pass
    with open_image(path, passphrase=b"open sesame and more than 16 bytes") as disk:
        check_content(disk, raw.read_bytes())


@pytest.mark.needs("qemu-img")
@pytest.mark.qemu_samples
@pytest.mark.parametrize(
    ("name", "disk_format"),
    [
        ("parallels-v1", "parallels"),
        ("parallels-v2", "parallels"),
        ("simple-pattern.cloop", "cloop"),
        ("simple-dmg.dmg", "dmg"),
        ("empty.bochs", "bochs"),
    ],
)
def test_samples(name: str, disk_format: str, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(sample(name).read_bytes())
    with open_image(path) as disk:
        assert disk.info.format == disk_format
        check_content(disk, converted(path, disk_format))


# --- Chains -------------------------------------------------------------------------------------


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize("make", [qed.compose, qcow.compose], ids=["qed", "qcow"])
@pytest.mark.parametrize("parent_size", [5000, 16384, 40960])
def test_what_is_absent_is_the_parents(
    make: Callable[..., Composed], parent_size: int, tmp_path: Path
) -> None:
    """And zeros where that is shorter; a cluster of zeros hides it.

    QED says that the parent is raw, so what that begins with means nothing.
    """
    parent = bytes(range(1, 251)) * 200
    if make is qed.compose:
        parent = b"QFI\xfb\0\0\0\2" + parent
    (tmp_path / "base").write_bytes(parent[:parent_size])
    third = Kind.ZERO if make is qed.compose else Kind.PACKED
    kinds = [Kind.ABSENT, Kind.DATA, third, Kind.ABSENT, Kind.ABSENT, third, Kind.ABSENT]
    image = make(kinds, seed=parent_size, parent=parent[:parent_size], backing="base")
    path = image.file.write(tmp_path / "image")
    with pytest.raises(UnsafeInput, match="base"), open_image(path):
        pass
    with open_image(path, Confined([tmp_path])) as disk:
        check_content(disk, image.truth)
    if make is qed.compose:
        assert converted(path, "qed") == image.truth


# --- Faults, each told at its place -------------------------------------------------------------

D, A = Kind.DATA, Kind.ABSENT


def image_of(name: str, seed: int = 3) -> Composed:
    kinds = [D, A, D, A, A, D]
    match name:
        case "qed":
            return qed.compose(kinds, seed=seed)
        case "parallels":
            return parallels.compose(kinds, seed=seed)
        case "qcow":
            return qcow.compose(kinds, seed=seed)
        case _:
            return bochs.compose(kinds, seed=seed)


CODES = {
    "qed": "qed.l2-entry",
    "parallels": "parallels.block-table",
    "qcow": "qcow.l2-entry",
    "bochs": "bochs.catalog",
}


def entry(image: Composed, name: str, value: int) -> Composed:
    """The image with another value as the entry of block 2."""
    wide = name in ("qed", "qcow")
    stored = value.to_bytes(8 if wide else 4, "big" if name == "qcow" else "little")
    return Composed(image.file.patched({image.entries[2]: stored}), image.truth)


def stored(image: Composed, name: str, block: int) -> int:
    """What the entry of a block says."""
    wide = name in ("qed", "qcow")
    data = image.file.read_at(image.entries[block], 8 if wide else 4)
    return int.from_bytes(data, "big" if name == "qcow" else "little")


def expect(image: Composed, code: str, at: int, error: type[CorruptInput] = CorruptInput) -> None:
    with pytest.raises(error) as caught, open_image(image.file) as disk:
        disk.read(0, disk.virtual_size)
    assert (caught.value.code, caught.value.at) == (code, at)


@pytest.mark.parametrize("name", CODES)
def test_a_block_that_two_entries_claim(name: str) -> None:
    """qemu-img reads it for both."""
    image = image_of(name)
    wrong = entry(image, name, stored(image, name, 5))
    expect(wrong, CODES[name], image.entries[5])


@pytest.mark.parametrize("name", CODES)
def test_a_block_behind_the_end(name: str) -> None:
    image = image_of(name)
    top = {"qed": 1 << 40, "qcow": 1 << 40, "parallels": 1 << 20, "bochs": 1 << 20}[name]
    wrong = entry(image, name, top)
    with pytest.raises(TruncatedInput) as caught, open_image(wrong.file) as disk:
        disk.read(0, disk.virtual_size)
    assert caught.value.at == image.entries[2]
    assert caught.value.hint


@pytest.mark.parametrize("name", ["qed", "qcow"])
def test_a_block_at_an_odd_place(name: str) -> None:
    image = image_of(name)
    expect(entry(image, name, stored(image, name, 5) + 256), CODES[name], image.entries[2])


def test_a_parallels_cluster_between_two() -> None:
    """The old kind counts in sectors, but its clusters lie in a row."""
    image = parallels.compose([D, A, D, A, A, D], old=True, seed=3)
    expect(
        entry(image, "parallels", stored(image, "parallels", 2) - 1),
        "parallels.block-table",
        image.entries[2],
    )


@pytest.mark.parametrize("name", ["qed", "qcow"])
def test_a_block_in_a_table(name: str) -> None:
    image = image_of(name)
    table = image.entries[0] & -512 if name == "qcow" else image.entries[0] & -4096
    expect(entry(image, name, table), CODES[name], image.entries[2])


def test_a_block_in_the_header() -> None:
    image = parallels.compose([D, A, D, A, A, D], data_sector=16, seed=3)
    expect(entry(image, "parallels", 1), "parallels.block-table", image.entries[2])


@pytest.mark.parametrize("name", ["qed", "qcow"])
def test_a_table_that_two_entries_claim(name: str) -> None:
    if name == "qed":
        image = qed.compose([D] + [A] * 1023 + [D], table_size=2)
    else:
        image = qcow.compose([D] + [A] * 511 + [D], l2_bits=9)
    l1 = int.from_bytes(image.file.read_at(40, 8), "big" if name == "qcow" else "little")
    wrong = image.file.patched({l1 + 8: image.file.read_at(l1, 8)})
    expect(Composed(wrong, image.truth), f"{name}.l1-entry", l1 + 8)


def test_a_packed_qcow_cluster_that_is_broken() -> None:
    image = qcow.compose([Kind.PACKED] * 3, seed=1)
    broken = image.file.patched({image.hosts[1] + 9: b"\xff" * 40})
    expect(Composed(broken, image.truth), "qcow.compressed-cluster", image.hosts[1])


def test_a_cloop_block_that_is_broken() -> None:
    image = cloop.compose(3)
    broken = image.file.patched({image.hosts[1] + 9: b"\xff" * 40})
    expect(Composed(broken, image.truth), "cloop.compressed-block", image.hosts[1])
    inside = image.file.patched({image.entries[0]: (140).to_bytes(8, "big")})
    expect(Composed(inside, image.truth), "cloop.offsets", image.entries[0])
