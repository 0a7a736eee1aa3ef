"""Chains of images: what shows through, what is granted, and what never ends."""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING

import pytest

from fixtures.disks.qcow2 import Cluster, Kind, compose
from tests.content import check_against_qemu_map, check_content, converted, qemu_img, qemu_io
from vmport_formats.disk.image import MAX_DEPTH, open_image
from vmport_formats.disk.model import DiskFormat
from vmport_formats.disk.probe import reader
from vmport_formats.errors import InputError, UnreadableInput, UnsafeInput, UnsupportedFeature
from vmport_formats.references import Confined

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SIZE = 64 << 10
KIB = 1 << 10

BASES = [
    disk_format
    for disk_format in (
        DiskFormat.RAW,
        DiskFormat.QCOW2,
        DiskFormat.QED,
        DiskFormat.VDI,
        DiskFormat.VHDX,
        DiskFormat.VMDK,
        DiskFormat.PARALLELS,
    )
    if hasattr(reader(disk_format), "open_layer")
]
OVERLAYS = ("cluster_size=512", "extended_l2=on,cluster_size=16k", "compat=0.10", "cluster_size=4k")


def written(path: Path, disk_format: str, size: int, chance: random.Random) -> None:
    commands = []
    for _ in range(12):
        length = chance.randrange(1, 60) * 512
        start = chance.randrange((size - length) // 512) * 512
        commands.append(f"write -P {chance.randrange(1, 256)} {start} {length}")
    qemu_io(path, *commands, options=("-f", disk_format))


@pytest.mark.needs("qemu-img", "qemu-io")
@pytest.mark.parametrize("base", BASES)
def test_five_images_of_different_formats_and_sizes(base: DiskFormat, tmp_path: Path) -> None:
    """Children longer and shorter than their parents; each read as qemu reads it."""
    chance = random.Random(base.value)
    sizes = [chance.randrange(8, 24) * SIZE for _ in range(5)]
    path = tmp_path / "0.img"
    qemu_img("create", "-q", "-f", base.value, path, str(sizes[0]))
    written(path, base.value, sizes[0], chance)
    below = base.value
    for number, options in enumerate(chance.sample(OVERLAYS, 4), start=1):
        name, path = path.name, tmp_path / f"{number}.img"
        size = str(sizes[number])
        qemu_img("create", "-q", "-f", "qcow2", "-o", options, "-b", name, "-F", below, path, size)
        written(path, "qcow2", sizes[number], chance)
        below = "qcow2"
        with open_image(path, Confined([tmp_path])) as image:
            assert len(image.chain) == number + 1
            extents = check_content(image, converted(path, "qcow2"), seed=number)
            check_against_qemu_map(extents, path, "qcow2")


def test_a_parent_that_is_shorter_than_its_child(tmp_path: Path) -> None:
    """Behind the parent's end are zeros, even where a grandparent has more."""
    (tmp_path / "a.raw").write_bytes(b"\1" * 3 * SIZE)
    middle = compose([Cluster(Kind.ABSENT)], backing=("a.raw", "raw"), parent=b"\1" * SIZE)
    middle.file.write(tmp_path / "b.qcow2")
    child = compose([Cluster(Kind.ABSENT)] * 4, backing=("b.qcow2", "qcow2"), parent=b"\1" * SIZE)
    path = child.file.write(tmp_path / "c.qcow2")
    with open_image(path, Confined([tmp_path])) as image:
        check_content(image, b"\1" * SIZE + bytes(3 * SIZE))


# --- Formats ------------------------------------------------------------------------------------


def overlay(folder: Path, name: str, disk_format: str, *, child: str = "child.qcow2") -> Path:
    """An image without anything of its own, over `name`."""
    image = compose([Cluster(Kind.ABSENT)] * 2, cluster_bits=9, backing=(name, disk_format))
    return image.file.write(folder / child)


def test_dissect_opens_a_backing_file_that_is_declared_raw_as_qcow2(tmp_path: Path) -> None:
    """A guest can write any header to its raw disk: it must not become the disk of another file."""
    secret = compose([Cluster(Kind.DATA)], cluster_bits=9, backing=("/etc/passwd", "raw"))
    (tmp_path / "base").write_bytes(secret.file.read_at(0, secret.file.size))
    truth = (tmp_path / "base").read_bytes()[:1024]
    assert truth.startswith(b"QFI\xfb")
    with open_image(overlay(tmp_path, "base", "raw"), Confined([tmp_path])) as image:
        assert [info.format for info in image.chain] == [DiskFormat.QCOW2, DiskFormat.RAW]
        check_content(image, truth)


def test_a_declared_format_is_not_probed(tmp_path: Path) -> None:
    """Neither by an image for its parent, nor by the caller for the image."""
    (tmp_path / "base").write_bytes(b"plain bytes".ljust(1024, b"."))
    path = overlay(tmp_path, "base", "vdi")
    with (
        pytest.raises(InputError) as caught,
        open_image(path, Confined([tmp_path])),
    ):
        pass
    assert caught.value.code.startswith("vdi.")
    with open_image(path, declared=DiskFormat.RAW) as image:
        assert image.read(0, 4) == b"QFI\xfb"


def test_a_format_that_is_not_declared_is_probed(tmp_path: Path) -> None:
    base = compose([Cluster(Kind.DATA)] * 2, cluster_bits=9, seed=1)
    base.file.write(tmp_path / "base")
    with open_image(overlay(tmp_path, "base", ""), Confined([tmp_path])) as image:
        check_content(image, base.truth)


def test_a_format_that_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "base").write_bytes(bytes(512))
    with (
        pytest.raises(UnsupportedFeature, match="'vorpal'") as caught,
        open_image(overlay(tmp_path, "base", "vorpal"), Confined([tmp_path])),
    ):
        pass
    assert caught.value.code == "chain.format"


# --- What is granted ----------------------------------------------------------------------------


def test_nothing_is_opened_unless_it_is_granted(tmp_path: Path) -> None:
    with pytest.raises(UnsafeInput) as caught, open_image(overlay(tmp_path, "/etc/passwd", "raw")):
        pass
    assert caught.value.code == "reference.denied"
    with (
        pytest.raises(UnsafeInput) as caught,
        open_image(overlay(tmp_path, "/etc/passwd", "raw"), Confined([tmp_path])),
    ):
        pass
    assert caught.value.code == "reference.outside"


def test_every_image_of_the_chain_asks_anew(tmp_path: Path) -> None:
    overlay(tmp_path, "../outside.raw", "raw", child="middle.qcow2")
    path = overlay(tmp_path, "middle.qcow2", "qcow2")
    with pytest.raises(UnsafeInput) as caught, open_image(path, Confined([tmp_path])):
        pass
    assert caught.value.code == "reference.outside"
    assert caught.value.path == str(tmp_path / "middle.qcow2")


def test_names_are_taken_from_where_the_naming_image_is(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "base.raw").write_bytes(b"\7" * 1024)
    overlay(tmp_path / "deep", "base.raw", "raw", child="middle.qcow2")
    path = overlay(tmp_path, "deep/middle.qcow2", "qcow2")
    with open_image(path, Confined([tmp_path])) as image:
        assert image.read(0, 2000) == b"\7" * 1024


@pytest.mark.parametrize(
    "name", ["nbd://127.0.0.1:1/x", 'json:{"driver":"file","filename":"base"}', "missing", "fifo"]
)
def test_a_name_is_a_path_and_nothing_else(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "base").write_bytes(bytes(512))
    with (
        pytest.raises(UnreadableInput),
        open_image(overlay(tmp_path, name, "raw"), Confined([tmp_path])),
    ):
        pass


# --- What never ends ----------------------------------------------------------------------------


@pytest.mark.parametrize("names", [["a"], ["a", "b"], ["a", "b", "c"]], ids=len)
def test_chains_that_bite_their_tail(names: Sequence[str], tmp_path: Path) -> None:
    for name, parent in zip(names, [*names[1:], names[0]], strict=True):
        overlay(tmp_path, parent, "qcow2", child=name)
    begin = time.monotonic()
    with pytest.raises(UnsafeInput) as caught, open_image(tmp_path / "a", Confined([tmp_path])):
        pass
    assert caught.value.code == "chain.loop"
    assert time.monotonic() - begin < 1


def test_a_loop_through_links(tmp_path: Path) -> None:
    """Each name is another, and the file is the same."""
    overlay(tmp_path, "hard", "qcow2", child="image")
    (tmp_path / "hard").hardlink_to(tmp_path / "image")
    with pytest.raises(UnsafeInput) as caught, open_image(tmp_path / "image", Confined([tmp_path])):
        pass
    assert caught.value.code == "chain.loop"


def test_the_longest_chain(tmp_path: Path) -> None:
    """200 images can be read to the last byte of the lowest; one more is refused."""
    (tmp_path / "0").write_bytes(b"the lowest".ljust(1024, b"!"))
    for number in range(1, MAX_DEPTH + 1):
        overlay(tmp_path, str(number - 1), "raw" if number == 1 else "qcow2", child=str(number))
    with open_image(tmp_path / str(MAX_DEPTH - 1), Confined([tmp_path])) as image:
        assert len(image.chain) == MAX_DEPTH
        assert image.read(0, 10) == b"the lowest"
        assert [extent.depth for extent in image.extents()] == [MAX_DEPTH - 1]
        assert len(list(image.stream())) == 1
    with (
        pytest.raises(UnsafeInput) as caught,
        open_image(tmp_path / str(MAX_DEPTH), Confined([tmp_path])),
    ):
        pass
    assert caught.value.code == "chain.depth"
