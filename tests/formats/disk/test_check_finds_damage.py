"""Images damaged on purpose: just that fault is found, at just that place; sound ones have none."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import pytest

from fixtures.disks import vmdk
from fixtures.disks.vmdk_grains import (
    Kind,
    compose_cowd,
    compose_sesparse,
    compose_sparse,
    compose_stream,
)
from tests.qemu_variants import VARIANTS, make
from vmport_formats.disk.check import CheckReport, Severity, check_image
from vmport_formats.disk.model import DiskFormat
from vmport_formats.references import Confined
from vmport_formats.source import open_source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.qemu_variants import Variant
    from vmport_formats.references import Reference
    from vmport_formats.source import ByteSource

pytestmark = pytest.mark.needs("qemu-img", "qemu-io")

SOUND = [
    item
    for number, item in enumerate(VARIANTS.values())
    if not item.secret  # whose keys take seconds to derive
    and (number % 8 == 0 or item.compressed or "snapshot" in item.id or "bitmaps" in item.id)
]


def _check(image: Path, *, deep: bool = False, allow: bool = True) -> CheckReport:
    resolver = Confined([image.parent] if allow else [])
    with ExitStack() as stack:
        source = stack.enter_context(open_source(image))

        def opener(reference: Reference) -> ByteSource:
            return stack.enter_context(open_source(resolver(reference, named_by=str(image))))

        return check_image(source, opener, resolver, deep=deep)


@pytest.mark.parametrize("variant", SOUND, ids=lambda item: item.id)
def test_sound_images_have_no_fault(variant: Variant, tmp_path: Path) -> None:
    report = _check(make(variant, tmp_path), deep=True)
    assert report.faults == ()
    assert report.complete


class Damage(NamedTuple):
    """What is done to an image, and what is found then."""

    id: str
    format: str
    edit: Callable[[bytearray], tuple[str, int]]
    """Changes the content and returns the code and the place of the one fault."""
    options: str = ""
    severity: Severity = Severity.ERROR
    deep: bool = False
    compressed: bool = False


def _number(data: bytearray, at: int, width: int, order: str) -> int:
    return int.from_bytes(data[at : at + width], "big" if order == "big" else "little")


def _put(data: bytearray, at: int, value: int, width: int, order: str = "little") -> None:
    data[at : at + width] = value.to_bytes(width, "big" if order == "big" else "little")


def _twice(
    table: Callable[[bytearray], int], code: str, width: int, order: str
) -> Callable[[bytearray], tuple[str, int]]:
    """The second entry of a table gets the value of the first."""

    def edit(data: bytearray) -> tuple[str, int]:
        at = table(data)
        _put(data, at + width, _number(data, at, width, order), width, order)
        return code, at + width

    return edit


def _flip(at: int, code: str, place: int) -> Callable[[bytearray], tuple[str, int]]:
    """A byte is changed; a place below zero counts from the file's end."""

    def edit(data: bytearray) -> tuple[str, int]:
        data[at] ^= 0xFF
        return code, place if place >= 0 else len(data) + place

    return edit


def _vdi_map(_: bytearray) -> int:
    return 512


def _vhd_table(data: bytearray) -> int:
    return _number(data, 512 + 16, 8, "big")


def _vhdx_table(data: bytearray) -> int:
    entry = data.index(bytes.fromhex("6677c22d"), 0x30000)  # how the region's GUID begins
    return _number(data, entry + 16, 8, "little")


def _vmdk_table(data: bytearray) -> int:
    """The first grain table, of the grain directory that counts."""
    return 512 * _number(data, 512 * _number(data, 56, 8, "little"), 4, "little")


def _vmdk_copy(data: bytearray) -> tuple[str, int]:
    at = 512 * _number(data, 512 * _number(data, 48, 8, "little"), 4, "little")
    _put(data, at + 4 * 7, 0x77, 4)
    return "vmdk.redundant-table", at + 4 * 7


def _vmdk_marker(data: bytearray) -> tuple[str, int]:
    grain = 512 * _number(data, _vmdk_table(data), 4, "little")
    _put(data, grain, 999, 8)
    return "vmdk.grain-marker", grain


def _qcow2_entry(data: bytearray, index: int) -> int:
    l1 = _number(data, 40, 8, "big")
    return (_number(data, l1, 8, "big") & (1 << 56) - 1) + 8 * index


def _qcow2_packed(data: bytearray) -> tuple[str, int]:
    entry = _qcow2_entry(data, 0)
    at = _number(data, entry, 8, "big") & (1 << 54) - 1
    data[at : at + 8] = b"\xff" * 8
    return "qcow2.compressed-cluster", entry


def _qcow2_lost(data: bytearray) -> tuple[str, int]:
    entry = _qcow2_entry(data, 1)
    at = _number(data, entry, 8, "big") & (1 << 56) - 1
    _put(data, entry, 0, 8, "big")
    return "qcow2.leak", at


DAMAGES = (
    Damage("vdi-twice", "vdi", _twice(_vdi_map, "vdi.block-map-entry", 4, "little")),
    Damage("vhd-twice", "vpc", _twice(_vhd_table, "vhd.block-table-entry", 4, "big")),
    Damage("vhd-footer", "vpc", _flip(-512 + 100, "vhd.footer-checksum", -512 + 64)),
    Damage("vhd-footer-copy", "vpc", _flip(100, "vhd.footer-checksum", 64)),
    Damage(
        "vhdx-twice",
        "vhdx",
        _twice(_vhdx_table, "vhdx.block-table-entry", 8, "little"),
        "block_size=1M",
    ),
    Damage("vhdx-regions", "vhdx", _flip(0x40800, "vhdx.region-table-damaged", 0x40004)),
    Damage(
        "vhdx-header",
        "vhdx",
        _flip(0x10100, "vhdx.header-damaged", 0x10000),
        severity=Severity.WARNING,
    ),
    Damage(
        "parallels-twice",
        "parallels",
        _twice(lambda _: 64, "parallels.block-table", 4, "little"),
    ),
    Damage("vmdk-copy", "vmdk", _vmdk_copy),
    Damage("vmdk-marker", "vmdk", _vmdk_marker, "subformat=streamOptimized", compressed=True),
    Damage("qcow2-lost", "qcow2", _qcow2_lost, severity=Severity.LEAK),
    Damage("qcow2-packed", "qcow2", _qcow2_packed, deep=True, compressed=True),
)


def _make(damage: Damage, folder: Path) -> Path:
    raw, image = folder / "disk.raw", folder / f"image.{damage.format}"
    # Without a block of zeros: conversions leave those out.
    raw.write_bytes(bytes(range(1, 256)) * (8 << 20 >> 8) + bytes(8 << 20 >> 8))
    options = ["-o", damage.options] if damage.options else []
    packed = ["-c"] if damage.compressed and damage.format == "qcow2" else []
    command = ["qemu-img", "convert", *packed, "-f", "raw", "-O", damage.format, *options]
    subprocess.run([*command, raw, image], check=True)
    return image


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda item: item.id)
def test_damage_is_found_at_its_place(damage: Damage, tmp_path: Path) -> None:
    image = _make(damage, tmp_path)
    assert _check(image, deep=True).faults == ()
    content = bytearray(image.read_bytes())
    code, at = damage.edit(content)
    image.write_bytes(content)
    report = _check(image, deep=damage.deep)
    told = [fault for fault in report.faults if fault.severity is damage.severity]
    assert [(fault.code, fault.at) for fault in told][:1] == [(code, at)], report.faults
    assert report.counts[damage.severity] == 1
    assert report.sound == (damage.severity is Severity.WARNING)
    if damage.deep:  # which is what finds it
        assert _check(image).sound


COMPOSED = {
    "sparse": compose_sparse([Kind.DATA] * 20, entries=7, seed=1, text=vmdk.descriptor()),
    "stream": compose_stream([Kind.DATA] * 3, seed=1),
    "cowd": compose_cowd([Kind.DATA] * 20, seed=1),
    "sesparse": compose_sesparse([Kind.DATA] * 20, seed=1, most_grains=100),
}


@pytest.mark.parametrize("name", COMPOSED)
def test_grains_anywhere_are_sound_until_two_are_in_one_place(name: str) -> None:
    composed = COMPOSED[name]

    def opener(reference: Reference) -> ByteSource:
        raise AssertionError(reference)

    report = check_image(composed.file, opener, declared=DiskFormat.VMDK, deep=True)
    assert report.faults == ()
    assert report.statistics.allocated == len(composed.hosts)
    width = 8 if name == "sesparse" else 4
    one, other = composed.places[0], composed.places[1]
    broken = composed.file.patched({other: composed.file.read_at(one, width)})
    report = check_image(broken, opener, declared=DiskFormat.VMDK)
    found = {(fault.code, fault.at) for fault in report.faults}
    if name == "stream":  # the marker tells whose grain it is
        assert ("vmdk.grain-marker", composed.hosts[0]) in found
    else:
        assert ("vmdk.grain-table-entry", max(one, other)) in found


def test_number_of_allocated_blocks_of_a_vdi(tmp_path: Path) -> None:
    image = _make(Damage("", "vdi", lambda _: ("", 0)), tmp_path)
    content = bytearray(image.read_bytes())
    _put(content, 388, _number(content, 388, 4, "little") - 1, 4)
    image.write_bytes(content)
    (fault,) = _check(image).faults
    assert (fault.code, fault.at) == ("vdi.blocks-allocated", 388)


def test_two_grains_in_one_place(tmp_path: Path) -> None:
    """The copy of the table disagrees as well, unless it is changed alike."""
    image = _make(Damage("", "vmdk", lambda _: ("", 0)), tmp_path)
    content = bytearray(image.read_bytes())
    places = [
        512 * _number(content, 512 * _number(content, field, 8, "little"), 4, "little") + 8
        for field in (48, 56)
    ]
    for place in places:
        _put(content, place, _number(content, place - 4, 4, "little"), 4)
    image.write_bytes(content)
    (fault,) = _check(image).faults
    assert (fault.code, fault.at) == ("vmdk.grain-table-entry", places[1])
    assert f"{places[1] - 4:#x}" in fault.text


def test_a_cut_image_is_told_cluster_by_cluster(tmp_path: Path) -> None:
    image = _make(Damage("", "qcow2", lambda _: ("", 0)), tmp_path)
    content = image.read_bytes()
    image.write_bytes(content[: -3 << 16])
    report = _check(image)
    outside = [fault for fault in report.faults if "ends at" in fault.text]
    assert sum(fault.count for fault in outside) == 3
    assert report.info is None
    assert report.complete


def test_a_parent_that_is_another_disk(tmp_path: Path) -> None:
    base, child = tmp_path / "base.vmdk", tmp_path / "child.vmdk"
    subprocess.run(["qemu-img", "create", "-q", "-f", "vmdk", base, "1M"], check=True)
    command = ["qemu-img", "create", "-q", "-f", "vmdk", "-b", base.name, "-F", "vmdk"]
    subprocess.run([*command, child], check=True)
    assert _check(child).sound
    content = bytearray(base.read_bytes())
    at = content.index(b"CID=") + 4
    content[at : at + 8] = b"0badcafe"
    base.write_bytes(content)
    (fault,) = _check(child).faults
    assert "parent" in fault.code or "cid" in fault.code
    assert _check(child, allow=False).sound  # it was not granted, so not looked at
