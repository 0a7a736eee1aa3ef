"""Several disks at once: their names, what is refused beforehand, and that none hinders another."""

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

SIZE = 1 << 20


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: disks in it, one that is cut short, and the empty folder ``to``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "to").mkdir()
    for name in ("one.raw", "two.img", "web-1.2"):
        (tmp_path / name).write_bytes(random.Random(name).randbytes(SIZE))
    (tmp_path / "bad.qcow2").write_bytes(b"QFI\xfb")
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def compare(first: str, second: str, disk_format: str) -> None:
    subprocess.run(
        ["qemu-img", "compare", "-q", "-f", "raw", "-F", disk_format, first, second], check=True
    )


def test_each_gets_the_name_of_its_source(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / ".vmdk").write_bytes(b"x" * 512)
    (folder / "A.VMDK").write_bytes(b"x" * 512)
    sources = ["one.raw", str(folder / "two.img"), "web-1.2", ".vmdk", "A.VMDK"]
    assert vmport(["convert", "--to", "vdi", *sources, "to/"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.splitlines()[-1].startswith("5 of 5 disks converted into to/, ")
    assert names(folder / "to") == [".vmdk.vdi", "A.vdi", "one.vdi", "two.vdi", "web-1.2.vdi"]
    for name in ("one.raw", "two.img", "web-1.2"):
        compare(name, f"to/{name.removesuffix('.raw').removesuffix('.img')}.vdi", "vdi")


def test_one_into_a_folder_of_a_platform(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert vmport(["-q", "convert", "--for", "azure", "one.raw", "to"]) == 0
    assert names(folder / "to") == ["one.vhd"]
    assert capsys.readouterr() == ("", "")


def test_what_fails_stops_no_other(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "to" / "two.vmdk").write_text("precious")
    convert = ["convert", "--to", "vmdk", "bad.qcow2", "one.raw", "two.img", "web-1.2", "to"]
    assert vmport(convert) == 3  # of the first that fails
    printed = capsys.readouterr()
    assert [line.split(": ")[2] for line in printed.err.splitlines() if "error" in line] == [
        "bad.qcow2",
        "to/two.vmdk",
    ]
    assert printed.out.splitlines()[-1].startswith("2 of 4 disks converted into to, 2 failed, ")
    assert names(folder / "to") == ["one.vmdk", "two.vmdk", "web-1.2.vmdk"]
    assert (folder / "to" / "two.vmdk").read_text() == "precious"
    compare("web-1.2", "to/web-1.2.vmdk", "vmdk")

    assert vmport([*convert[:1], "--json", "--force", *convert[1:]]) == 3
    said = json.loads(capsys.readouterr().out)
    assert [item["source"]["filename"] for item in said] == convert[3:7]
    assert [item.get("verified") for item in said] == [None, True, True, True]
    assert said[0]["destination"] == {"filename": "to/bad.vmdk"}
    assert said[0]["error"]["code"].startswith("qcow2.")


def test_dry_run_of_several(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ["-n", "--json", "--to", "vmdk", "-o", "subformat=monolithicFlat"]
    assert vmport(["convert", *wanted, "one.raw", "two.img", "to"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [item["destination"]["filename"] for item in said] == ["to/one.vmdk", "to/two.vmdk"]
    assert {item["engine"] for item in said} == {"qemu-img"}
    assert names(folder / "to") == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--to", "vdi", "one.raw", "two.img", "missing"], "usage.folder"),
        (["--to", "vdi", "one.raw", "two.img", "web-1.2"], "usage.folder"),
        (["one.raw", "two.img", "to"], "usage.folder"),
        (["--to", "vdi", "one.raw", "one.img", "to"], "usage.same-name"),
        (["--to", "vdi", "one.raw", "one.raw", "to"], "usage.same-name"),
        (["--to", "raw", "two.img", "one.raw", "."], "usage.same-file"),
        (["--to", "raw", "--force", "two.img", "one.raw", "."], "usage.same-file"),
        # The first would become the second's backing file.
        (["--to", "raw", "--force", "--allow", ".", "base.qed", "overlay.qcow2", "."],
         "usage.same-file"),
        # Of wrong options it is told once.
        (["--to", "vdi", "-o", "subformat=x", "one.raw", "two.img", "to"], "usage.option"),
        (["--to", "vdi", "--compress", "fast", "one.raw", "two.img", "to"], "usage.compress"),
        (["--to", "vmdk", "-o", "subformat=monolithicFlat", "--engine", "native", "one.raw",
          "two.img", "to"], "usage.engine"),
        (["--for", "aws", "--to", "raw", "one.raw", "two.img", "to"], "usage.for"),
    ],
)  # fmt: skip
def test_what_is_refused_before_any_work(
    arguments: list[str], code: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "one.img").hardlink_to("one.raw")
    (folder / "base.raw").write_bytes(bytes(SIZE))
    (folder / "base.qed").write_bytes(bytes(SIZE))
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "overlay.qcow2"],
        check=True,
    )
    before = names(folder)
    assert vmport(["convert", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("vmport: error: ") == 1
    assert f"[{code}]" in printed.err
    assert names(folder) == before
    assert names(folder / "to") == []
