"""`vmport inspect --map --json` and `qemu-img map --output=json` show the same map.

Extents may be merged otherwise, so the two are compared piece by piece.  Where qemu-img knows less,
the table `BLIND` says so.
"""

from __future__ import annotations

import json
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.content import qemu_img, qemu_io
from tests.qemu_variants import VARIANTS, Variant, make
from tests.samples import sample
from vmport.render.map import map_fields
from vmport_formats.disk.image import open_image
from vmport_formats.disk.model import DiskFormat
from vmport_formats.references import Confined

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Map = list[dict[str, Any]]

pytestmark = pytest.mark.needs("qemu-img", "qemu-io")

BLIND: Final = {
    DiskFormat.VHDX: {"zero", "data", "offset"},  # it has no map of them, and calls all data
    DiskFormat.VHD: {"present"},  # without backing files, all counts as present
    DiskFormat.VDI: {"present"},
    DiskFormat.CLOOP: {"present", "offset"},
    DiskFormat.DMG: {"present", "zero", "data", "offset"},
    DiskFormat.BOCHS: {"present", "zero", "data", "offset"},
}
"""What qemu-img does not know of a format."""


def qemu_map(path: Path, disk_format: str) -> Map:
    entries: Map = json.loads(qemu_img("map", "--output=json", "-f", disk_format, path))
    return entries


def vmport_map(path: Path, disk_format: str) -> tuple[Map, list[DiskFormat]]:
    """The entries, and the formats of the chain."""
    with open_image(path, Confined([path.parent]), declared=DiskFormat.named(disk_format)) as image:
        entries = [map_fields(extent) for extent in image.extents()]
        return entries, [info.format for info in image.chain]


def side_by_side(ours: Map, theirs: Map) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Both maps in the same pieces, each with its place in the host file."""
    cuts = {place for entry in ours + theirs for place in _span(entry)}
    left, right = iter(ours), iter(theirs)
    one, other = next(left), next(right)
    for start, _ in pairwise(sorted(cuts)):
        while _span(one)[1] <= start:
            one = next(left)
        while _span(other)[1] <= start:
            other = next(right)
        yield _piece(one, start), _piece(other, start)
    assert next(left, None) is next(right, None) is None


def _span(entry: dict[str, Any]) -> tuple[int, int]:
    return entry["start"], entry["start"] + entry["length"]


def _piece(entry: dict[str, Any], start: int) -> dict[str, Any]:
    place = entry.get("offset")
    return entry | {
        "start": start,
        "offset": None if place is None else place + start - entry["start"],
    }


def check_maps(path: Path, disk_format: str) -> None:
    ours, chain = vmport_map(path, disk_format)
    theirs = qemu_map(path, disk_format)
    assert _span(ours[-1])[1] == _span(theirs[-1])[1]
    for one, other in side_by_side(ours, theirs):
        blind = set(BLIND.get(chain[one["depth"]], ()))
        if one["zero"] and one["offset"] is not None:
            # A hole in the image's file: qemu-img looks for such in some formats only, and does not
            # agree with itself if that is data.
            blind |= {"zero", "data"}
        elif one["zero"]:
            blind.add("offset")  # room for data to come, of which we do not tell
        if not one["compressed"] or chain[one["depth"]] in {"dmg", "cloop"}:
            blind.add("compressed")  # before qemu 8.2 it does not say; of these two it denies it
        same = {"start", "depth", "present", "zero", "data", "compressed", "offset"} - blind
        assert {name: one[name] for name in same} == {
            name: other.get(name, one[name]) for name in same
        }


MAPPED: Final = [
    variant
    for variant in VARIANTS.values()
    if not variant.secret
    and variant.size < 1 << 32
    and (variant.content or variant.backing_format or "prealloc" in variant.options)
    and "refcount" not in variant.id
] + [VARIANTS[name] for name in ("raw-513", "vdi-static-on", "vmdk-monolithicSparse-zeroed")]


@pytest.mark.parametrize("variant", MAPPED, ids=lambda variant: variant.id)
def test_maps_of_what_qemu_makes(variant: Variant, tmp_path: Path) -> None:
    check_maps(make(variant, tmp_path), variant.format)


OVERLAYS: Final = {
    "qcow2": "",
    "qcow2-small": "cluster_size=512",
    "qcow2-subclusters": "extended_l2=on",
    "qcow2-v2": "compat=0.10",
    "qed": "",
    "vmdk": "",
}


@pytest.mark.parametrize("seed", range(12))
def test_maps_of_chains(seed: int, tmp_path: Path) -> None:
    """Three images on each other, of any length and format, with data, zeros and discards."""
    chance = Random(seed)
    below = chance.choice(("raw", "qcow2", "vpc", "vdi", "parallels", "vmdk"))
    if below == "vmdk":  # nothing but VMDKs can rest on it, and it on nothing else
        names = ["vmdk", "vmdk"]
    else:
        names = chance.sample([name for name in OVERLAYS if name != "vmdk"], 2)
    path = tmp_path / "0"
    size = chance.randrange(1, 40) << 16
    qemu_img("create", "-q", "-f", below, path, str(size))
    written(path, below, size, chance)
    for number, name in enumerate(names, start=1):
        disk_format = name.partition("-")[0]
        if disk_format != "vmdk":
            size = chance.randrange(1, 40) << 16
        options = ["-o", OVERLAYS[name]] if OVERLAYS[name] else []
        path = tmp_path / str(number)
        backing = ("-b", str(number - 1), "-F", below)
        length = [] if disk_format == "vmdk" else [str(size)]
        qemu_img("create", "-q", "-f", disk_format, *options, *backing, path, *length)
        written(path, disk_format, size, chance)
        below = disk_format
    check_maps(path, below)


SAMPLES: Final = {
    "d2v-zerofilled.vhd": "vpc",
    "empty.bochs": "bochs",
    "hyperv2012r2-dynamic.vhd": "vpc",
    "iotest-dynamic-1G.vhdx": "vhdx",
    "iotest-version3.vmdk": "vmdk",
    "parallels-v1": "parallels",
    "parallels-v2": "parallels",
    "simple-dmg.dmg": "dmg",
    "simple-pattern.cloop": "cloop",
    "virtualpc-dynamic.vhd": "vpc",
}


@pytest.mark.qemu_samples
@pytest.mark.parametrize(("name", "disk_format"), SAMPLES.items(), ids=SAMPLES)
def test_maps_of_qemu_s_samples(name: str, disk_format: str) -> None:
    check_maps(sample(name), disk_format)


def written(path: Path, disk_format: str, size: int, chance: Random) -> None:
    """Write, clear and discard in a few places."""
    commands = []
    for _ in range(5):
        start = chance.randrange(0, size, 512)
        length = min(chance.choice((512, 4096, 65536, 150_016)), size - start)
        orders = ["write -P 7", "write -P 8", "write -z"]
        if disk_format in ("qcow2", "raw"):
            orders += ["write -zu", "discard"]
        commands.append(f"{chance.choice(orders)} {start} {length}")
    qemu_io(path, *commands, options=("-f", disk_format))


def test_a_part_of_a_map(tmp_path: Path) -> None:
    """As `--start-offset` and `--max-length` of qemu-img ask for."""
    path = make(VARIANTS["qcow2-zlib-compressed"], tmp_path)
    part = ("--start-offset=100k", "--max-length=300k")
    theirs: Map = json.loads(qemu_img("map", "--output=json", "-f", "qcow2", *part, path))
    with open_image(path) as image:
        ours = [map_fields(extent) for extent in image.extents(100 << 10, 300 << 10)]
    assert [_span(entry) for entry in ours] == [_span(entry) for entry in theirs]
    assert [entry["present"] for entry in ours] == [entry["present"] for entry in theirs]
