"""``-o backing_file``: what is written and its base are the disk, whatever the base holds."""

from __future__ import annotations

import json
import os
import random
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from fixtures.disks import luks
from vmport.cli import run as vmport
from vmport_converters.disk import convert as convert_module

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.needs("qemu-img")

KIB, MIB = 1 << 10, 1 << 20
SIZE = 4 * MIB + 512


def qemu_img(*arguments: str | Path) -> str:
    done = subprocess.run(
        ["qemu-img", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def depths(overlay: Path) -> list[tuple[int, int, int, bool]]:
    """What of the disk comes from which image: offset, length, depth, data."""
    rows = json.loads(qemu_img("map", "--output=json", overlay))
    return [(row["start"], row["length"], row["depth"], row["data"]) for row in rows]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base, and a disk of which a few clusters differ; the shell is elsewhere."""
    base = bytearray(random.Random(1).randbytes(3 * MIB).ljust(SIZE, b"\0"))
    (tmp_path / "base.raw").write_bytes(base)
    base[100 * KIB : 101 * KIB] = random.Random(2).randbytes(KIB)
    base[MIB : MIB + 128 * KIB] = bytes(128 * KIB)
    base[-512:] = random.Random(3).randbytes(512)
    (tmp_path / "disk.raw").write_bytes(base)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path


CHANGED = [(64 * KIB, 64 * KIB, 0, True), (MIB, 128 * KIB, 0, False), (4 * MIB, 512, 0, True)]


@pytest.mark.parametrize("source", ["raw", "vmdk", "vpc", "qcow2"])
@pytest.mark.parametrize("base", ["raw", "qcow2", "vmdk", "vdi", "vhdx", "qed", "parallels"])
def test_an_overlay_of_any_disk_on_any_base(folder: Path, source: str, base: str) -> None:
    disk, below, overlay = folder / "in", folder / f"base.{base}", folder / "out.qcow2"
    exact = ["-o", "force_size=on"] if source == "vpc" else []
    qemu_img("convert", "-f", "raw", "-O", source, *exact, folder / "disk.raw", disk)
    if base != "raw":
        qemu_img("convert", "-f", "raw", "-O", base, folder / "base.raw", below)
    told = ",backing_fmt=raw" if base == "raw" else ""
    named = ["--from", "raw"] if source == "raw" else []
    option = f"backing_file={below.name}{told}"
    assert vmport(["convert", *named, str(disk), "-o", option, str(overlay)]) == 0
    qemu_img("compare", "-f", "raw", "-F", "qcow2", folder / "disk.raw", overlay)
    qemu_img("check", overlay)
    info = json.loads(qemu_img("info", "--output=json", overlay))
    assert info["backing-filename"] == below.name
    assert info["backing-filename-format"] == base
    assert info["virtual-size"] == SIZE
    assert [row for row in depths(overlay) if row[2] == 0] == CHANGED
    assert overlay.stat().st_blocks * 512 < 400 * KIB


def test_an_overlay_of_the_base_itself_is_empty_and_reads_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shown with a cluster that cannot be read, and need not be."""
    base, overlay = folder / "base.qcow2", folder / "out.qcow2"
    plain = (b"easily compressed " * MIB)[: 2 * MIB]
    (folder / "base.raw").write_bytes(plain)
    qemu_img("convert", "-f", "raw", "-c", "-O", "qcow2", folder / "base.raw", base)
    qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", folder / "in.qcow2")
    subprocess.run(
        ["qemu-io", "-c", "write -P 7 64k 64k", str(folder / "in.qcow2")],
        check=True,
        capture_output=True,
    )
    packed = base.read_bytes()
    l2_table = int.from_bytes(packed[0x30000:0x30008], "big") & 0x00FF_FFFF_FFFF_FE00
    entry = int.from_bytes(packed[l2_table + 8 * 9 : l2_table + 8 * 10], "big")
    assert entry >> 62 == 1  # compressed
    at = entry & ((1 << 54) - 1)
    base.write_bytes(packed[:at] + b"\xff" * 8 + packed[at + 8 :])
    words = ["convert", "--allow", str(folder), "--json", "-o", "backing_file=base.qcow2"]

    assert vmport([*words, str(folder / "in.qcow2"), str(overlay)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["verified"], said["digest"]) == (True, None)
    assert [row for row in depths(overlay) if row[2] == 0] == [(64 * KIB, 64 * KIB, 0, True)]
    empty = folder / "empty.qcow2"
    assert vmport([*words, str(base), str(empty)]) == 0
    assert {row[2] for row in depths(empty)} == {1}
    assert empty.stat().st_size <= 4 * 64 * KIB

    # A disk of its own has to be compared, and so that cluster is found out.
    capsys.readouterr()
    assert vmport([*words, str(folder / "base.raw"), str(folder / "other.qcow2")]) == 3
    assert "[qcow2.compressed-cluster]" in capsys.readouterr().err
    assert not (folder / "other.qcow2").exists()


@pytest.mark.parametrize(("ours", "theirs"), [(MIB, 3 * MIB), (3 * MIB, MIB), (2 * MIB, 512)])
def test_a_base_of_another_length(
    folder: Path, ours: int, theirs: int, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = random.Random(4).randbytes(max(ours, theirs))
    (folder / "disk.raw").write_bytes(whole[:ours])
    (folder / "base.raw").write_bytes(whole[:theirs])
    overlay = folder / "out.qcow2"
    option = "backing_file=base.raw,backing_fmt=raw,cluster_size=512"
    assert vmport(["convert", "-o", option, str(folder / "disk.raw"), str(overlay)]) == 0
    said = capsys.readouterr().err
    assert "note: " in said
    assert "rests on base.raw; keep that where it is, and as it is" in said
    assert ("the base is longer" in said) is (theirs > ours)
    qemu_img("compare", "-f", "raw", "-F", "qcow2", folder / "disk.raw", overlay)
    own = sum(row[1] for row in depths(overlay) if row[2] == 0)
    assert own == max(0, ours - theirs)


def test_a_base_that_rests_on_another(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is opened only where that was allowed; the base itself, by its name alone."""
    deep = folder / "deep"
    deep.mkdir()
    below, overlay = deep / "a,b.qcow2", folder / "out.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-b", folder / "base.raw", "-F", "raw", below)
    words = ["convert", "-o", "backing_file=deep/a,,b.qcow2,compat=v2", str(folder / "disk.raw")]
    assert vmport([*words, str(overlay)]) == 4
    assert "[reference.denied]" in capsys.readouterr().err
    assert vmport([*words, "--allow", str(folder), str(overlay)]) == 0
    qemu_img("compare", "-f", "raw", "-F", "qcow2", folder / "disk.raw", overlay)
    rows = [row for row in depths(overlay) if row[2] == 0]
    assert [row[:2] for row in rows] == [row[:2] for row in CHANGED]
    assert overlay.stat().st_blocks * 512 < 400 * KIB  # zeros of version 2 are holes of the file


@pytest.mark.parametrize(
    ("options", "words", "status", "said"),
    [
        ("backing_file=gone.qcow2", [], 3, "the name counts from the folder of the destination"),
        ("backing_file=base.raw", [], 2, "pass -o backing_fmt=raw as well"),
        ("backing_file=nbd:x:1", [], 2, "write ./nbd:x:1"),
        ("backing_file=json:{}", [], 2, "is not the path of a file for qemu"),
        ("backing_file=base.vhd", [], 2, "is VHD, or rests on that, and cannot be a base"),
        ("backing_file=base.luks", [], 3, "cannot be a base: it is encrypted"),
        ("backing_fmt=raw", [], 2, "give that as well"),
        ("backing_file=", [], 2, "backing_file of qcow2 is a path"),
        ("backing_file=base.raw,backing_fmt=vpc", [], 2, "raw|qcow2|vmdk|vhdx"),
        ("backing_file=base.raw,backing_fmt=qcow2", [], 3, "magic"),
        ("backing_file=base.raw,preallocation=full", [], 2, "no preallocation"),
        ("backing_file=base.raw,backing_fmt=raw", ["--engine", "qemu-img"], 2, "takes for granted"),
        (f"backing_file={'./' * 700}base.raw,backing_fmt=raw", [], 2, "1023"),
    ],
)
def test_bases_that_are_refused(
    options: str, words: list[str], status: int, said: str, folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if "vhd" in options:
        qemu_img("convert", "-f", "raw", "-O", "vpc", folder / "base.raw", folder / "base.vhd")
    if "luks" in options:
        luks.disk(bytes(MIB)).write(folder / "base.luks")
    overlay = folder / "out.qcow2"
    for dry in ([], ["-n"]):
        argv = ["convert", *words, *dry, "-o", options, str(folder / "disk.raw"), str(overlay)]
        assert vmport(argv) == status
        assert said in capsys.readouterr().err
    assert not overlay.exists()


def test_a_base_is_not_replaced_by_its_overlay(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = folder / "base.qcow2"
    qemu_img("convert", "-f", "raw", "-O", "qcow2", folder / "base.raw", base)
    os.link(base, folder / "same.qcow2")
    before = base.read_bytes()
    words = ["convert", "--force", "-o", "backing_file=base.qcow2", str(folder / "disk.raw")]
    for name in ("base.qcow2", "same.qcow2"):
        assert vmport([*words, str(folder / name)]) == 2
        assert "[usage.same-file]" in capsys.readouterr().err
    assert vmport([*words, "--to", "qcow2", str(folder / "disk.raw"), str(folder)]) == 2
    assert base.read_bytes() == before


def meanwhile(monkeypatch: pytest.MonkeyPatch, happens: Any) -> None:
    """What happens when all is written, and not yet read back."""
    read_back = convert_module._Work.read_back

    def wrapped(self: Any, *arguments: Any) -> Any:
        happens(self._staging.path)
        return read_back(self, *arguments)

    monkeypatch.setattr(convert_module._Work, "read_back", wrapped)


def damaged(path: Path) -> None:
    """The last byte of data of the overlay is another."""
    written = bytearray(path.read_bytes())
    at = written.rindex(random.Random(3).randbytes(512)) + 511
    written[at] ^= 1
    path.write_bytes(written)


@pytest.mark.parametrize("rests", [False, True])
def test_what_changes_or_breaks_meanwhile(
    rests: bool, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base, overlay, source = folder / "base.raw", folder / "out.qcow2", folder / "disk.raw"
    if rests:  # so that both share a file, and are compared by the map and not by digest
        source = folder / "on-base.qcow2"
        qemu_img("create", "-q", "-f", "qcow2", "-b", folder / "disk.raw", "-F", "raw", source)
        qemu_img("rebase", "-q", "-f", "qcow2", "-b", base, "-F", "raw", source)
    words = ["convert", "-o", "backing_file=base.raw,backing_fmt=raw", "--allow", str(folder)]
    with monkeypatch.context() as patch:
        meanwhile(patch, lambda _: os.utime(base, ns=(1, 1)))
        assert vmport([*words, str(source), str(overlay)]) == 3
        assert "[source.changed]" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        meanwhile(patch, damaged)
        assert vmport([*words, str(source), str(overlay)]) == 5
        said = capsys.readouterr().err
        assert "[convert.differs]" in said
        assert f"offset {SIZE - 1:#x}" in said
    assert not overlay.exists()
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
