"""VHD metadata against qemu-img where that reads VHD right, and where it does not."""

from __future__ import annotations

import json
import struct
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from fixtures.disks import vhd
from tests.samples import sample
from vmport_formats.disk.probe import detect
from vmport_formats.disk.vhd import matches, read_info
from vmport_formats.errors import CorruptInput, TruncatedInput, UnsupportedFeature
from vmport_formats.source import open_source
from vmport_formats.units import GIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fixtures.disks.image_file import ImageFile
    from vmport_formats.disk.model import ImageInfo

SIZE = 4 * MIB
# 4 MiB and 512 bytes, in a geometry that counts less than the footer says, as Virtual PC rounds.
SMALL_GEOMETRY = (10, 16, 51)
BY_GEOMETRY = 10 * 16 * 51 * 512


def codes(info: ImageInfo) -> list[str]:
    return [concern.code for concern in info.concerns]


def qemu_info(path: Path) -> dict[str, object]:
    done = subprocess.run(
        ["qemu-img", "info", "-f", "vpc", "--output=json", path],
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize("make", [vhd.fixed, vhd.dynamic], ids=["fixed", "dynamic"])
@pytest.mark.parametrize("geometry", [SMALL_GEOMETRY, vhd.LARGEST_GEOMETRY], ids=str)
@pytest.mark.parametrize(
    "creator", [b"vpc ", b"qemu", b"win ", b"qem2", b"d2v ", b"tap\0", b"CTXS"]
)
def test_size_by_creator(
    creator: bytes,
    geometry: tuple[int, int, int],
    make: Callable[..., ImageFile],
    tmp_path: Path,
) -> None:
    """The creators on whose disks all versions of qemu agree."""
    image = make(SIZE, creator=creator, geometry=geometry)
    info = read_info(image)
    assert info.virtual_size == qemu_info(image.write(tmp_path / "a.vhd"))["virtual-size"]
    assert info.details["current-size"] == SIZE
    assert info.details["chs-size"] == geometry[0] * geometry[1] * geometry[2] * 512
    assert codes(info) == []


@pytest.mark.needs("qemu-img")
def test_azure_disk_has_the_size_in_its_footer(tmp_path: Path) -> None:
    """qemu before 10 does not know Azure's creator, and cuts such disks to their geometry."""
    image = vhd.fixed(SIZE, creator=b"wa\0\0", geometry=SMALL_GEOMETRY)
    info = read_info(image)
    assert info.virtual_size == SIZE
    assert codes(info) == ["vhd.size-ambiguous"]
    assert qemu_info(image.write(tmp_path / "a.vhd"))["virtual-size"] in {SIZE, BY_GEOMETRY}


@pytest.mark.needs("qemu-img")
def test_geometry_of_nothing_is_no_size(tmp_path: Path) -> None:
    """qemu takes such a disk of Virtual PC for empty."""
    image = vhd.dynamic(SIZE, creator=b"vpc ", geometry=(0, 16, 51))
    info = read_info(image)
    assert info.virtual_size == SIZE
    assert codes(info) == ["vhd.size-ambiguous"]
    assert qemu_info(image.write(tmp_path / "a.vhd"))["virtual-size"] == 0


@pytest.mark.needs("qemu-img")
def test_fixed_disk_is_told_by_its_footer(tmp_path: Path) -> None:
    """qemu-img takes one for raw, and its footer for the disk's last sector."""
    path = tmp_path / "fixed.vhd"
    command = ["qemu-img", "create", "-q", "-f", "vpc", "-o", "subformat=fixed", str(path), "1M"]
    subprocess.run(command, check=True)
    with open_source(path) as source:
        assert detect(source) == "vpc"
        info = read_info(source)
    assert (info.variant, info.cluster_size) == ("fixed", None)
    guess = subprocess.run(
        ["qemu-img", "info", "--output=json", path], capture_output=True, text=True, check=True
    )
    assert json.loads(guess.stdout)["format"] == "raw"


@pytest.mark.needs("qemu-img")
def test_footer_of_511_bytes(tmp_path: Path) -> None:
    """As versions before Virtual PC 2004 wrote it."""
    image = vhd.fixed(SIZE)
    short = image.cut(image.size - 1)
    assert matches(short)
    assert read_info(short).virtual_size == SIZE
    assert qemu_info(short.write(tmp_path / "old.vhd"))["virtual-size"] == SIZE
    assert codes(read_info(short)) == []


@pytest.mark.needs("qemu-img")
def test_differencing_disk_names_its_parent(tmp_path: Path) -> None:
    """qemu-img opens one as if it were dynamic, and reads zeros where its parent has data."""
    image = vhd.differencing(SIZE)
    info = read_info(image)
    assert info.variant == "differencing"
    assert [str(item.kind) for item in info.references] == ["parent"] * 3
    assert [item.name for item in info.references] == [
        ".\\parent.vhd",
        "C:\\vm\\parent.vhd",
        "parent.vhd",
    ]
    assert info.details["parent-unique-id"] == "f0e1d2c3-b4a5-9687-7869-5a4b3c2d1e0f"
    assert info.details["parent-time-stamp"] == "2003-12-07T01:47:13Z"
    assert "backing-filename" not in qemu_info(image.write(tmp_path / "child.vhd"))


def test_parent_of_a_macintosh_disk() -> None:
    url = "file://localhost/Macintosh%20HD/p.vhd"
    paths = {b"MacX": url.encode(), b"Mac ": b"\0alias"}
    info = read_info(vhd.dynamic(SIZE, disk_type=vhd.DIFFERENCING, parent_paths=paths))
    assert [item.name for item in info.references] == [url]


def test_parent_without_a_path() -> None:
    image = vhd.dynamic(SIZE, disk_type=vhd.DIFFERENCING)
    header = vhd.header(2, 2 * MIB, parent_name="x")
    nameless = vhd.checksum(header[:64] + bytes(512) + header[576:], 36)
    info = read_info(image.patched({vhd.HEADER_AT: nameless}))
    assert [item.name for item in info.references] == ["uuid:f0e1d2c3-b4a5-9687-7869-5a4b3c2d1e0f"]


def footers(image: ImageFile, **fields: Any) -> ImageFile:
    """`image`, which is dynamic, with other footers at both ends."""
    other = vhd.footer(SIZE, vhd.DYNAMIC, **fields)
    return image.patched({0: other, image.size - 512: other})


def header(image: ImageFile, **fields: Any) -> ImageFile:
    """`image` with another dynamic header, which places the same table."""
    fields = {"entries": 2, "block_size": 2 * MIB} | fields
    return image.patched({vhd.HEADER_AT: vhd.header(**fields)})


DYNAMIC = vhd.dynamic(SIZE)
FIXED = vhd.fixed(SIZE)


@pytest.mark.parametrize(
    ("image", "error", "code"),
    [
        (footers(DYNAMIC, version=0x2_0000), UnsupportedFeature, "vhd.version"),
        (FIXED.patched({SIZE: vhd.footer(SIZE, 5)}), UnsupportedFeature, "vhd.disk-type"),
        (FIXED.patched({SIZE + 100: b"x"}), CorruptInput, "vhd.footer-checksum"),
        (FIXED.patched({SIZE: b"x"}), CorruptInput, "vhd.magic"),
        (vhd.fixed(SIZE, current_size=SIZE + 512), TruncatedInput, "vhd.fixed-size"),
        (footers(DYNAMIC, current_size=2040 * GIB + 512), CorruptInput, "vhd.current-size"),
        (footers(DYNAMIC, current_size=(1 << 64) - 1), CorruptInput, "vhd.current-size"),
        (footers(DYNAMIC, data_offset=DYNAMIC.size - 1023), TruncatedInput, "vhd.header-outside"),
        (footers(DYNAMIC, data_offset=(1 << 64) - 1), TruncatedInput, "vhd.header-outside"),
        (footers(DYNAMIC, data_offset=0), CorruptInput, "vhd.header-magic"),
        (header(DYNAMIC).patched({600: b"x"}), CorruptInput, "vhd.header-checksum"),
        (header(DYNAMIC, version=0x2_0000), UnsupportedFeature, "vhd.header-version"),
        (header(DYNAMIC, block_size=0), CorruptInput, "vhd.block-size"),
        (header(DYNAMIC, block_size=256), CorruptInput, "vhd.block-size"),
        (header(DYNAMIC, block_size=3 << 20), CorruptInput, "vhd.block-size"),
        (header(DYNAMIC, entries=1), CorruptInput, "vhd.max-table-entries"),
        (header(DYNAMIC, entries=1044481), CorruptInput, "vhd.max-table-entries"),
        (
            header(DYNAMIC, entries=0x2000_0000, block_size=512),
            CorruptInput,
            "vhd.max-table-entries",
        ),
        (header(DYNAMIC, entries=1044480), TruncatedInput, "vhd.table"),
        (header(DYNAMIC, table_at=(1 << 64) - 1), TruncatedInput, "vhd.table"),
        (DYNAMIC.patched({vhd.TABLE_AT + 4: bytes(4)}), TruncatedInput, "vhd.block-outside"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_limits(image: ImageFile, error: type[Exception], code: str) -> None:
    with pytest.raises(error) as caught:
        read_info(image)
    assert getattr(caught.value, "code", None) == code


def test_largest_disk() -> None:
    """2040 GiB, and one block table that covers just that."""
    size = 2040 * GIB
    image = vhd.dynamic(size)
    assert read_info(image).virtual_size == size
    image = vhd.dynamic(size, block_size=1 << 30)
    assert read_info(image).cluster_size == 1 << 30


@pytest.mark.parametrize(
    ("locator", "error"),
    [((1536, b"x" * (65536 + 1)), CorruptInput), ((1 << 63, b"xy"), TruncatedInput)],
    ids=["too long", "outside"],
)
def test_limits_of_locators(locator: tuple[int, bytes], error: type[Exception]) -> None:
    image = vhd.dynamic(SIZE, disk_type=vhd.DIFFERENCING)
    bad = vhd.header(2, 2 * MIB, locators={b"W2ru": locator})
    with pytest.raises(error) as caught:
        read_info(image.patched({vhd.HEADER_AT: bad}))
    assert getattr(caught.value, "code", None) == "vhd.parent-locator"


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (DYNAMIC.patched({0: bytes(512)}), "vhd.footer-copy"),
        (DYNAMIC.patched({0: vhd.footer(2 * SIZE, 3)}), "vhd.footer-mismatch"),
        (DYNAMIC.cut(DYNAMIC.size - 512), "vhd.footer-missing"),
        (DYNAMIC.patched({DYNAMIC.size - 400: b"x"}), "vhd.footer-checksum"),
        (FIXED.patched({0: vhd.footer(SIZE, 3)}), "vhd.footer-mismatch"),
        (FIXED.patched({SIZE: bytes(512), 2 * SIZE: vhd.footer(SIZE, 2)}), "vhd.fixed-size"),
    ],
    ids=["no copy", "other size", "no footer", "bad footer", "two kinds", "more data"],
)
def test_footers_that_disagree(image: ImageFile, expected: str) -> None:
    """The footer at the end counts, and whatever contradicts it is told."""
    info = read_info(image)
    assert info.virtual_size == SIZE
    assert codes(info) == [expected]


def test_fixed_disk_without_its_end_is_no_vhd() -> None:
    assert not matches(FIXED.cut(SIZE))
    front = FIXED.cut(SIZE).patched({0: vhd.footer(SIZE, vhd.FIXED)})
    with pytest.raises(CorruptInput) as caught:
        read_info(front)
    assert caught.value.code == "vhd.footer-place"


def test_a_cut_disk_is_refused_wherever_it_is_cut() -> None:
    """A dynamic disk with one block, which ends where its data does."""
    block = b"\xff" * 512 + b"data" * (1 << 19)
    whole = vhd.dynamic(SIZE, blocks={1: (4, block)})
    assert codes(read_info(whole)) == []
    assert codes(read_info(whole.cut(whole.size - 512))) == ["vhd.footer-missing"]
    for size in (0, 1, 511, 512, 1535, 1536, 1543, 2048, 2048 + 512, whole.size - 513):
        with pytest.raises(CorruptInput):
            read_info(whole.cut(size))


def test_block_outside_the_file_is_named() -> None:
    image = DYNAMIC.patched({vhd.TABLE_AT: struct.pack(">2I", 0xFFFF_FFFF, 0x0123_4567)})
    with pytest.raises(TruncatedInput, match="block 1 lies at 0x2468ace00") as caught:
        read_info(image)
    assert caught.value.at == vhd.TABLE_AT + 4


@pytest.mark.qemu_samples
@pytest.mark.parametrize(
    ("name", "creator"),
    [
        ("virtualpc-dynamic.vhd", "vpc "),
        ("hyperv2012r2-dynamic.vhd", "win "),
        ("d2v-zerofilled.vhd", "d2v"),
    ],
)
@pytest.mark.needs("qemu-img")
def test_disks_of_other_makers(name: str, creator: str) -> None:
    with open_source(sample(name)) as source:
        info = read_info(source)
    expected = qemu_info(sample(name))
    assert info.virtual_size == expected["virtual-size"]
    assert info.cluster_size == expected["cluster-size"]
    assert info.details["creator-application"] == creator
    assert codes(info) == []
