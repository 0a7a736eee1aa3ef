"""Every format into every other, checked by qemu-img against the bytes that were there first."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from vmport.cli import run as vmport

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.needs("qemu-img")

MIB = 1 << 20
SIZE = 5 * MIB + 512
"""Whole sectors, but no whole cluster, grain or block of any format."""


@dataclass(frozen=True)
class Variant:
    name: str
    format: str
    suffix: str
    options: str = ""

    def __str__(self) -> str:
        return self.name


VARIANTS = [
    Variant("raw", "raw", ".raw"),
    Variant("qcow2", "qcow2", ".qcow2"),
    Variant("monolithicSparse", "vmdk", ".vmdk", "subformat=monolithicSparse"),
    Variant("streamOptimized", "vmdk", ".vmdk", "subformat=streamOptimized"),
    Variant("monolithicFlat", "vmdk", ".vmdk", "subformat=monolithicFlat"),
    Variant("twoGbMaxExtentSparse", "vmdk", ".vmdk", "subformat=twoGbMaxExtentSparse"),
    Variant("vhd-dynamic", "vpc", ".vhd", "subformat=dynamic"),
    Variant("vhd-fixed", "vpc", ".vhd", "subformat=fixed"),
    Variant("vhdx", "vhdx", ".vhdx"),
    Variant("vdi", "vdi", ".vdi"),
]


def qemu_img(*arguments: str | Path) -> str:
    done = subprocess.run(
        ["qemu-img", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def virtual_size(path: Path, disk_format: str) -> int:
    size = json.loads(qemu_img("info", "-f", disk_format, "--output=json", path))["virtual-size"]
    assert isinstance(size, int)
    return size


def scattered(size: int) -> bytes:
    """Data in every block, data next to zeros, a long hole, and bytes to the very end."""
    dice = random.Random(5)
    disk = bytearray(size)
    for _ in range(60):
        length = dice.choice((1, 511, 512, 4096, 70_000))
        at = dice.randrange(0, size - length)
        disk[at : at + length] = dice.randbytes(length)
    disk[2 * MIB : 3 * MIB] = bytes(MIB)
    disk[-700:] = dice.randbytes(700)
    return bytes(disk)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One disk in every variant, made by qemu-img alone."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "master").write_bytes(scattered(SIZE))
    for variant in VARIANTS:
        options = variant.options
        if variant.format == "vpc":
            options += ",force_size=on"
        wanted = ["-o", options] if options else []
        name = folder / f"{variant.name}{variant.suffix}"
        qemu_img("convert", "-f", "raw", "-O", variant.format, *wanted, folder / "master", name)
    return folder


@pytest.mark.parametrize("target", VARIANTS, ids=str)
@pytest.mark.parametrize("source", VARIANTS, ids=str)
def test_pair(
    source: Variant,
    target: Variant,
    sources: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    came_from = sources / f"{source.name}{source.suffix}"
    went_to = tmp_path / f"out{target.suffix}"
    options = ["-o", target.options] if target.options else []
    code = vmport(
        ["convert", "--allow", str(sources), *options, "--json", str(came_from), str(went_to)]
    )
    printed = capsys.readouterr()
    assert (code, printed.err) == (0, "")
    said = json.loads(printed.out)
    assert said["verified"] is True
    assert said["destination"]["variant"].lower() == target.name.removeprefix("vhd-").lower() or (
        target.name in {"qcow2", "vhdx", "vdi"}
    )
    assert said["destination"]["virtual-size"] == SIZE
    assert {str(path) for path in tmp_path.iterdir()} == set(said["destination"]["files"])
    assert virtual_size(went_to, target.format) == SIZE
    qemu_img("compare", "-f", "raw", "-F", target.format, sources / "master", went_to)


@pytest.mark.parametrize("target", VARIANTS, ids=str)
def test_a_raw_disk_of_no_whole_sectors_keeps_its_tail(
    target: Variant, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = scattered(MIB + 100)
    source = tmp_path / "odd.img"
    source.write_bytes(content)
    went_to = tmp_path / f"out{target.suffix}"
    options = ["-o", target.options] if target.options else []
    assert vmport(["convert", *options, str(source), str(went_to)]) == 0
    note = f"note: {went_to}: 412 zero bytes were added at the end"
    assert (note in capsys.readouterr().err) == (target.name != "raw")
    back = tmp_path / "back"
    qemu_img("convert", "-f", target.format, "-O", "raw", went_to, back)
    assert back.read_bytes() == content + bytes(412)
    if target.name == "raw":
        assert went_to.read_bytes() == content


@pytest.mark.parametrize("target", ["raw", "qcow2"])
def test_same_input_same_output(target: str, sources: Path, tmp_path: Path) -> None:
    # The other formats hold identifiers that qemu-img draws by lot.
    results = set()
    for turn in range(4):
        went_to = tmp_path / f"{turn}.{target}"
        assert vmport(["-q", "convert", str(sources / "vdi.vdi"), str(went_to)]) == 0
        results.add(went_to.read_bytes())
    assert len(results) == 1


def test_a_vhd_of_the_old_kind_grows_to_its_geometry(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    went_to = tmp_path / "out.vhd"
    arguments = ["convert", "-o", "force_size=off", str(sources / "raw.raw"), str(went_to)]
    assert vmport(arguments) == 0
    assert f"the disk grew from {SIZE} to" in capsys.readouterr().err
    assert virtual_size(went_to, "vpc") > SIZE
    qemu_img("compare", "-f", "raw", "-F", "vpc", sources / "master", went_to)
    # And back: the size that its geometry counts, neither more nor less.
    assert vmport(["-q", "convert", str(went_to), str(tmp_path / "back.raw")]) == 0
    assert (tmp_path / "back.raw").stat().st_size == virtual_size(went_to, "vpc")


OPTIONS = [
    ("qcow2", "compat=0.10"),
    ("qcow2", "compat=v3,cluster_size=4k,lazy_refcounts=on,refcount_bits=64"),
    ("qcow2", "extended_l2=on,compression_type=zstd,preallocation=metadata"),
    ("vmdk", "adapter_type=lsilogic,hwversion=13,toolsversion=2147483647"),
    ("vmdk", "compat6,zeroed_grain=on"),
    ("vmdk", "subformat=twoGbMaxExtentFlat,adapter_type=buslogic"),
    ("vmdk", "subformat=streamOptimized,adapter_type=legacyESX"),
    ("vhdx", "subformat=fixed,block_size=2M,log_size=4M,block_state_zero=off"),
    ("vhdx", "block_size=0"),
    ("vdi", "static=yes"),
    ("raw", "preallocation=full"),
    ("raw", "preallocation=falloc"),
    ("qcow2", "preallocation=metadata"),
    ("qcow2", "preallocation=falloc,cluster_size=2M"),
    ("qcow2", "preallocation=full,compat=v2,cluster_size=4k"),
]


@pytest.mark.parametrize(("target", "options"), OPTIONS, ids="-".join)
def test_options_are_taken(target: str, options: str, sources: Path, tmp_path: Path) -> None:
    went_to = tmp_path / f"out.{target}"
    source = str(sources / "qcow2.qcow2")
    assert vmport(["-q", "convert", "-o", options, source, str(went_to)]) == 0
    qemu_img("compare", "-f", "raw", "-F", target, sources / "master", went_to)
    if "adapter_type" in options:
        adapter = options.partition("adapter_type=")[2].partition(",")[0]
        assert f'ddb.adapterType = "{adapter}"'.encode() in went_to.read_bytes()
    if target == "qcow2":
        qemu_img("check", went_to)
    if "preallocation=" in options:
        assert (went_to.stat().st_blocks * 512 >= SIZE) is ("preallocation=f" in options)


def test_more_than_one_sparse_extent(tmp_path: Path) -> None:
    source = tmp_path / "big.raw"
    with source.open("wb") as disk:
        disk.truncate(5 << 30)
        for at in (0, (2 << 30) - 700, (4 << 30) + 512, (5 << 30) - 9):
            disk.seek(at)
            disk.write(b"0123456789"[:9])
    folder = tmp_path / "set"
    folder.mkdir()
    went_to = folder / "out.vmdk"
    split = "subformat=twoGbMaxExtentSparse"
    assert vmport(["-q", "convert", "-o", split, str(source), str(went_to)]) == 0
    names = [path.name for path in sorted(folder.iterdir())]
    assert names == ["out-s001.vmdk", "out-s002.vmdk", "out-s003.vmdk", "out.vmdk"]
    qemu_img("compare", "-f", "raw", "-F", "vmdk", source, went_to)
    # A set is replaced as a set, and refused as one when any of its names is taken.
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    small = tmp_path / "small.raw"
    small.write_bytes(scattered(MIB))
    went_to.unlink()
    assert vmport(["-q", "convert", "-o", split, str(small), str(went_to)]) == 6
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert after == {name: data for name, data in before.items() if name != "out.vmdk"}
    assert vmport(["-q", "convert", "--force", "-o", split, str(small), str(went_to)]) == 0
    qemu_img("compare", "-f", "raw", "-F", "vmdk", small, went_to)
    shutil.rmtree(folder)
