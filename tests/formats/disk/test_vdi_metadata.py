"""VDI metadata: what qemu-img reads too, and what it refuses or gets wrong."""

from __future__ import annotations

import json
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from fixtures.disks import vdi
from vmport_formats.disk.vdi import matches, read_info
from vmport_formats.errors import CorruptInput, TruncatedInput, UnsupportedFeature
from vmport_formats.units import MIB

if TYPE_CHECKING:
    from pathlib import Path

    from fixtures.disks.image_file import ImageFile
    from vmport_formats.disk.model import ImageInfo


def codes(info: ImageInfo) -> list[str]:
    return [concern.code for concern in info.concerns]


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize("size", [512, 1000, MIB, 5 * MIB - 1, 5 * MIB + 1, 3 << 30])
@pytest.mark.parametrize("kind", [vdi.DYNAMIC, vdi.FIXED])
def test_size_is_rounded_up_as_qemu_does(size: int, kind: int, tmp_path: Path) -> None:
    image = vdi.image(size, image_type=kind, block_map={0: 0})
    info = read_info(image)
    done = subprocess.run(
        ["qemu-img", "info", "--output=json", image.write(tmp_path / "a.vdi")],
        capture_output=True,
        text=True,
        check=True,
    )
    expected = json.loads(done.stdout)
    assert info.virtual_size == expected["virtual-size"]
    assert info.cluster_size == expected["cluster-size"]
    assert info.details["disk-size"] == size
    assert info.details["comment"] == "made for a test"
    assert codes(info) == []


@pytest.mark.parametrize(("kind", "variant"), [(vdi.UNDO, "undo"), (4, "differencing")])
def test_parent_is_named_by_its_uuid(kind: int, variant: str) -> None:
    info = read_info(vdi.differencing(image_type=kind))
    assert info.variant == variant
    assert [item.name for item in info.references] == [f"uuid:{vdi.PARENT}"]
    assert info.details["uuid-parent-modify"] == str(vdi.PARENT_MODIFIED)
    assert codes(info) == ["vdi.parent-without-path"]


def test_parent_of_a_disk_that_should_have_none() -> None:
    info = read_info(vdi.image(parent=vdi.PARENT))
    assert len(info.references) == 1
    assert codes(info) == ["vdi.parent-without-path", "vdi.image-type"]


@pytest.mark.parametrize("block_size", [512, 4096, 64 << 10, 32 * MIB, 1 << 30])
def test_any_block_size(block_size: int) -> None:
    """qemu refuses all but 1 MiB."""
    info = read_info(vdi.image(64 * MIB, block_size=block_size))
    assert (info.cluster_size, info.virtual_size) == (block_size, 64 * MIB)


def test_extra_bytes_before_blocks_are_told() -> None:
    image = vdi.image(block_extra=512, block_map={0: 0})
    assert codes(read_info(image)) == ["vdi.block-extra"]
    with pytest.raises(TruncatedInput):
        read_info(image.cut(image.size - 1))


def test_the_old_version() -> None:
    info = read_info(vdi.old(allocated=2))
    assert (info.virtual_size, info.variant) == (4 * MIB, "dynamic")
    assert info.details["version"] == "0.2"
    assert info.details["data-offset"] == 436


IMAGE = vdi.image()


def field(at: int, value: int) -> ImageFile:
    return IMAGE.patched({at: struct.pack("<I", value)})


@pytest.mark.parametrize(
    ("image", "error", "code"),
    [
        (IMAGE.patched({64: b"x"}), CorruptInput, "vdi.magic"),
        (field(68, 0x1_0002), UnsupportedFeature, "vdi.version"),
        (field(68, 0x2_0000), UnsupportedFeature, "vdi.version"),
        (field(72, 383), CorruptInput, "vdi.header-size"),
        (field(76, 0), UnsupportedFeature, "vdi.image-type"),
        (field(76, 5), UnsupportedFeature, "vdi.image-type"),
        (field(76, vdi.DIFFERENCING), CorruptInput, "vdi.parent-uuid"),
        (field(80, 2), UnsupportedFeature, "vdi.image-flags"),
        (field(340, 400), CorruptInput, "vdi.blocks-offset"),
        (field(340, 0xFFFF_FFFF), TruncatedInput, "vdi.block-map"),
        (field(344, 512), CorruptInput, "vdi.data-offset"),
        (field(360, 4096), UnsupportedFeature, "vdi.sector-size"),
        (field(368, 4 * MIB + 1), CorruptInput, "vdi.disk-size"),
        (IMAGE.patched({368: b"\xff" * 8}), CorruptInput, "vdi.disk-size"),
        (field(376, 0), CorruptInput, "vdi.block-size"),
        (field(376, 256), CorruptInput, "vdi.block-size"),
        (field(376, 3 * MIB), CorruptInput, "vdi.block-size"),
        (field(376, 1 << 31), CorruptInput, "vdi.block-size"),
        (field(380, 3), CorruptInput, "vdi.block-extra"),
        (field(384, 0xFFFF_FFFF), CorruptInput, "vdi.blocks"),
        (field(384, 0xFFFF_FFFE), TruncatedInput, "vdi.block-map"),
        (field(388, 5), CorruptInput, "vdi.blocks"),
        (field(388, 1), TruncatedInput, "vdi.data"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_limits(image: ImageFile, error: type[Exception], code: str) -> None:
    with pytest.raises(error) as caught:
        read_info(image)
    assert getattr(caught.value, "code", None) == code


def test_a_cut_disk_is_refused_wherever_it_is_cut() -> None:
    whole = vdi.image(block_map={2: 0, 0: 1})
    assert read_info(whole).details["blocks-allocated"] == 2
    for size in (67, 68, 72, 455, 456, 512, 527, 528, 1024, whole.size - 1):
        cut = whole.cut(size)
        assert matches(cut) == (size >= 68)
        with pytest.raises(CorruptInput):
            read_info(cut)
