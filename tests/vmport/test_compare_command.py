"""`vmport compare` as a user meets it: text, JSON, exit codes, and what it opens."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.content import qemu_img, qemu_io

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Vmport

pytestmark = pytest.mark.needs("qemu-img", "qemu-io")

SIZE = 1 << 20


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same disk as raw, qcow2 and VHD, and another one."""
    folder = tmp_path_factory.mktemp("disks")
    disk = bytearray(SIZE)
    disk[4096:8192] = Random(1).randbytes(4096)
    (folder / "a.raw").write_bytes(disk)
    disk[5000] ^= 0xFF
    (folder / "other.raw").write_bytes(disk)
    qemu_img("convert", "-f", "raw", "-O", "qcow2", "-c", folder / "a.raw", folder / "a.qcow2")
    qemu_img("convert", "-f", "raw", "-O", "vpc", folder / "a.raw", folder / "a.vhd")
    return folder


def test_identical_disks(disks: Path, vmport: Vmport) -> None:
    first, second = disks / "a.raw", disks / "a.qcow2"
    done = vmport("compare", first, second)
    assert done.stdout == f"identical: {first} (raw) and {second} (qcow2 v3), disks of 1 MiB\n"
    assert done.stderr == ""


def test_different_disks(disks: Path, vmport: Vmport) -> None:
    first, second = disks / "a.qcow2", disks / "other.raw"
    done = vmport("compare", first, second, check=False)
    assert done.returncode == 1
    assert done.stderr == ""
    values = [(disks / name).read_bytes()[5000] for name in ("a.raw", "other.raw")]
    width = len(str(second))
    assert done.stdout.splitlines() == [
        f"different: {first} (qcow2 v3) and {second} (raw)",
        "  first at byte 5000 (0x1388) of the disk",
        f"    {first!s:{width}}  {values[0]:#04x}: compressed, {first}",
        f"    {second!s:{width}}  {values[1]:#04x}: data, {second} at 0x1388",
    ]


def test_json_has_it_all(disks: Path, vmport: Vmport) -> None:
    first, second = disks / "a.qcow2", disks / "other.raw"
    done = vmport("compare", "--json", first, second, check=False)
    assert done.returncode == 1
    values = [(disks / name).read_bytes()[5000] for name in ("a.raw", "other.raw")]
    packed = {"value": values[0], "kind": "compressed", "depth": 0, "filename": str(first)}
    plain = {"value": values[1], "kind": "data", "depth": 0, "filename": str(second)}
    assert json.loads(done.stdout) == {
        "identical": False,
        "same-content": False,
        "same-size": True,
        "first-difference": {"offset": 5000, "a": packed, "b": plain | {"offset": 5000}},
        "a": {
            "filename": str(first),
            "format": "qcow2",
            "variant": "v3",
            "virtual-size": SIZE,
        },
        "b": {"filename": str(second), "format": "raw", "variant": "raw", "virtual-size": SIZE},
    }


def test_other_sizes_differ_only_if_it_is_strict(disks: Path, vmport: Vmport) -> None:
    pair = disks / "a.raw", disks / "a.vhd"
    done = vmport("compare", *pair)
    assert done.stdout.startswith("identical content, different sizes: ")
    assert f"what {disks / 'a.vhd'} has more is zeros" in done.stdout
    strict = vmport("compare", "--strict", "--json", *pair, check=False)
    assert strict.returncode == 1
    fields = json.loads(strict.stdout)
    assert not fields["identical"]
    assert not fields["same-size"]
    assert fields["same-content"]
    assert fields["first-difference"] is None


def test_a_declared_format_is_not_probed(disks: Path, vmport: Vmport) -> None:
    """The bytes of the file itself, as those of a disk."""
    done = vmport("compare", "-f", "raw", disks / "a.qcow2", disks / "a.raw", check=False)
    assert done.returncode == 1
    assert "first at byte 0 (0x0)" in done.stdout
    done = vmport("compare", "-F", "qcow2", disks / "a.raw", disks / "other.raw", check=False)
    assert done.returncode == 3
    assert "[qcow2.magic]" in done.stderr
    done = vmport("compare", "-F", "vorpal", disks / "a.raw", disks / "a.raw", check=False)
    assert done.returncode == 2
    assert "--format-b vorpal" in done.stderr


def test_a_backing_file_is_opened_only_if_it_is_granted(disks: Path, vmport: Vmport) -> None:
    overlay = disks / "overlay.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-b", "a.raw", "-F", "raw", overlay)
    done = vmport("compare", overlay, disks / "a.raw", check=False)
    assert done.returncode == 4
    assert done.stdout == ""
    assert "[reference.denied]" in done.stderr
    assert "hint: pass --allow DIR" in done.stderr
    vmport("compare", "--allow", disks, overlay, disks / "a.raw")


def test_what_has_changed_since_a_snapshot(disks: Path, vmport: Vmport) -> None:
    image = disks / "snapshots.qcow2"
    qemu_img("convert", "-f", "raw", "-O", "qcow2", disks / "a.raw", image)
    qemu_img("snapshot", "-c", "before", image)
    qemu_io(image, "write -P 9 300k 1k", options=("-f", "qcow2"))
    done = vmport("compare", "--json", "--snapshot-a", "before", image, image, check=False)
    fields = json.loads(done.stdout)
    assert fields["first-difference"]["offset"] == 300 << 10
    assert fields["a"]["snapshot"] == "before"
    vmport("compare", "--snapshot-b", "before", disks / "a.raw", image)


def test_the_passphrase_comes_from_a_file(disks: Path, vmport: Vmport) -> None:
    image = disks / "locked.qcow2"
    secret = ("--object", "secret,id=key,data=open-sesame")
    options = "encrypt.format=aes,encrypt.key-secret=key"
    source = disks / "a.raw"
    qemu_img("convert", *secret, "-f", "raw", "-O", "qcow2", "-o", options, source, image)
    assert vmport("compare", image, source, check=False).returncode == 3
    passphrase = disks / "passphrase"
    passphrase.write_text("open-sesame\n")
    vmport("compare", "--passphrase-file", passphrase, image, source)


def test_progress_is_shown_on_a_terminal_only(disks: Path) -> None:
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "vmport", "compare", disks / "a.raw", disks / "a.qcow2"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        check=False,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert done.returncode == 0
    assert "comparing" in shown
    assert "comparing" not in done.stdout.decode()
