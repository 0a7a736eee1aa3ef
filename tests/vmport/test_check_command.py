"""``vmport check`` as a user runs it: exit codes, text and JSON."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Vmport

pytestmark = pytest.mark.needs("qemu-img", "qemu-io")


def _image(folder: Path) -> Path:
    image = folder / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "4M"], check=True)
    subprocess.run(["qemu-io", "-c", "write 0 256k", image], check=True, stdout=subprocess.DEVNULL)
    return image


def _lose_a_cluster(image: Path) -> int:
    content = bytearray(image.read_bytes())
    l1 = int.from_bytes(content[40:48], "big")
    l2 = int.from_bytes(content[l1 : l1 + 8], "big") & (1 << 56) - 1
    cluster = int.from_bytes(content[l2 + 8 : l2 + 16], "big") & (1 << 56) - 1
    content[l2 + 8 : l2 + 16] = bytes(8)
    image.write_bytes(content)
    return cluster


def test_text_and_exit_codes(tmp_path: Path, vmport: Vmport) -> None:
    image = _image(tmp_path)
    done = vmport("check", image)
    assert done.stdout.startswith(f"{image} (qcow2 v3): sound\n")
    cluster = _lose_a_cluster(image)
    done = vmport("check", image, check=False)
    assert done.returncode == 1
    assert f"{image} (qcow2 v3): 1 leak\n" in done.stdout
    assert f"  leak: offset {cluster:#x}: " in done.stdout
    nothing = tmp_path / "nothing.qcow2"
    done = vmport("check", nothing, check=False)
    assert done.returncode == 3


def test_json_has_the_names_of_qemu(tmp_path: Path, vmport: Vmport) -> None:
    image = _image(tmp_path)
    cluster = _lose_a_cluster(image)
    ours = json.loads(vmport("check", "--json", image, check=False).stdout)
    command = ["qemu-img", "check", "--output=json", str(image)]
    theirs = json.loads(subprocess.run(command, capture_output=True, check=False).stdout)
    theirs.pop("check-errors")
    assert theirs.items() <= ours.items()
    assert ours["faults"][0]["at"] == cluster
    assert ours["sound"] is False
    several = vmport("check", "--json", image, tmp_path / "nothing", check=False)
    assert several.returncode == 3
    assert ["error" in item for item in json.loads(several.stdout)] == [False, True]


def test_progress_is_for_terminals(tmp_path: Path, vmport: Vmport) -> None:
    image = tmp_path / "disk.vmdk"
    raw = tmp_path / "disk.raw"
    raw.write_bytes(bytes(range(256)) * 4096)
    options = ("-O", "vmdk", "-o", "subformat=streamOptimized")
    subprocess.run(["qemu-img", "convert", "-f", "raw", *options, raw, image], check=True)
    assert vmport("check", "--deep", image).stderr == ""
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "vmport", "check", "--deep", image],
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
    assert "checking" in shown
    assert "checking" not in done.stdout.decode()
