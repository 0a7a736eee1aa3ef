"""Disks for platforms by name: what qemu-img and our own readers find them to be."""

from __future__ import annotations

import json
import random
import subprocess
from typing import TYPE_CHECKING

import pytest

from vmport.cli import run as vmport

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.needs("qemu-img")

MIB = 1 << 20
GIB = 1 << 30
SIZE = 2 * MIB + 1024


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.raw"
    path.write_bytes(random.Random(3).randbytes(MIB) + bytes(MIB) + b"end." * 256)
    return path


def qemu_info(path: Path, disk_format: str) -> dict[str, object]:
    said = subprocess.run(
        ["qemu-img", "info", "--output=json", "-f", disk_format, str(path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, object] = json.loads(said.stdout)
    return found


def our_info(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert vmport(["inspect", "--json", str(path)]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize(
    ("platform", "name", "disk_format", "variant", "size", "note"),
    [
        ("esxi", "out.vmdk", "vmdk", "streamOptimized", 3 * MIB, "vmkfstools"),
        ("azure", "out.vhd", "vpc", "fixed", 3 * MIB, "PageBlob"),
        ("gcp", "disk.raw", "raw", "raw", GIB, "disk.raw"),
        ("aws", "out.vmdk", "vmdk", "streamOptimized", SIZE, "aws ec2"),
        ("openstack", "out.qcow2", "qcow2", "v3", SIZE, "--disk-format qcow2"),
        ("proxmox", "out", "qcow2", "v3", SIZE, "qm importdisk"),
    ],
)
def test_a_disk_for_a_platform(
    platform: str, name: str, disk_format: str, variant: str, size: int, note: str,
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / name
    assert vmport(["convert", "--for", platform, str(source), str(out)]) == 0
    said = capsys.readouterr().err
    assert note in said
    assert ("the disk was made longer" in said) == (size != SIZE)
    assert qemu_info(out, disk_format)["virtual-size"] == size
    assert our_info(out, capsys)["variant"] == variant
    # Where it is longer, qemu-img warns, and finds nothing but zeros behind the source's end.
    subprocess.run(
        ["qemu-img", "compare", "-q", "-f", "raw", "-F", disk_format, str(source), str(out)],
        check=True,
    )


def test_for_esxi_the_controller_is_named(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.vmdk"
    assert vmport(["-q", "convert", "--for", "esxi", str(source), str(out)]) == 0
    assert b'ddb.adapterType = "lsilogic"' in out.read_bytes()[:4096]


def test_for_azure_the_footer_says_the_exact_size(source: Path, tmp_path: Path) -> None:
    for engine in ("native", "qemu-img"):
        out = tmp_path / f"{engine}.vhd"
        convert = ["-q", "convert", "--for", "azure", "--engine", engine]
        assert vmport([*convert, str(source), str(out)]) == 0
        disk = out.read_bytes()
        assert len(disk) == 3 * MIB + 512
        assert disk[-512:-504] == b"conectix"
        assert int.from_bytes(disk[-464:-456]) == 3 * MIB  # current size
        assert disk[: 3 * MIB].rstrip(b"\0") == source.read_bytes()


@pytest.mark.needs("sfdisk")
def test_the_second_table_of_a_gpt_is_thought_of(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out.raw")
    convert = ["convert", "--force", "--for", "gcp", str(source), out]
    assert vmport(convert) == 0
    assert "GPT" not in capsys.readouterr().err
    sfdisk("-q", str(source), given="label: gpt\n")
    assert vmport(convert) == 0
    assert "the second table of its GPT is not at the end any more" in capsys.readouterr().err
    assert "is not on the end of the device" in sfdisk("--verify", out)
    sfdisk("--relocate", "gpt-bak-std", out)
    assert "is not on the end" not in sfdisk("--verify", out)


def sfdisk(*words: str, given: str = "") -> str:
    done = subprocess.run(
        ["sfdisk", *words], input=given, capture_output=True, text=True, check=True
    )
    return done.stdout + done.stderr


def test_what_contradicts_is_told_before_any_work(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convert = ["convert", "--for", "azure", str(source)]
    assert vmport([*convert, str(tmp_path / "out.vmdk")]) == 2
    assert vmport([*convert, "-o", "subformat=dynamic", str(tmp_path / "out.vhd")]) == 2
    assert vmport(["convert", "--for", "vax", str(source), str(tmp_path / "out.vhd")]) == 2
    said = capsys.readouterr().err
    assert said.count("[usage.for]") == 2
    assert "one of esxi, azure, gcp, aws, openstack, proxmox" in said
    assert list(tmp_path.iterdir()) == [source]
