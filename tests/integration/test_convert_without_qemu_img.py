"""Where no other program is on the machine: every pair that is native works, and says the same."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Final

import pytest

from vmport.cli import run as vmport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KIB = 1 << 10
SIZE: Final = 300 * KIB + 512
"""Whole sectors, but no whole block of any format."""

NATIVE: Final = {
    "raw": ("raw", ""),
    "qcow2": ("qcow2", ""),
    "qcow2-zstd": ("qcow2", "--compress=zstd"),
    "sparse": ("vmdk", ""),
    "stream": ("vmdk", "subformat=streamOptimized"),
    "vhd": ("vhd", ""),
    "fixed": ("vhd", "subformat=fixed"),
    "vhdx": ("vhdx", ""),
    "vhdx-fixed": ("vhdx", "subformat=fixed"),
    "vdi": ("vdi", ""),
}
"""By a name of ours: the format, and the option or compression."""


@pytest.fixture(scope="module", autouse=True)
def nothing_on_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(tmp_path_factory.mktemp("bin")))
        yield


def convert(source: Path, folder: Path, name: str) -> Path:
    disk_format, option = NATIVE[name]
    out = folder / f"{name}.{disk_format}"
    wanted = [option] if option.startswith("--") else ["-o", option] if option else []
    assert vmport(["convert", "--json", *wanted, str(source), str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One disk in every variant."""
    folder = tmp_path_factory.mktemp("disks")
    dice = random.Random(4)
    content = dice.randbytes(70 * KIB) + bytes(130 * KIB) + dice.randbytes(99 * KIB)
    source = folder / "source"
    source.write_bytes(content + bytes(SIZE - 5 - len(content)) + b"last\n")
    for name in NATIVE:
        convert(source, folder, name)
    return folder


@pytest.mark.parametrize("target", NATIVE)
@pytest.mark.parametrize("source", NATIVE)
def test_a_native_pair(
    source: str, target: str, disks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    came_from = disks / f"{source}.{NATIVE[source][0]}"
    out = convert(came_from, tmp_path, target)
    said = json.loads(capsys.readouterr().out)
    assert (said["engine"], said["verified"]) == ("native", True)
    assert said["destination"]["virtual-size"] == SIZE
    back = tmp_path / "back.raw"
    assert vmport(["-q", "convert", str(out), str(back)]) == 0
    assert back.read_bytes() == (disks / "source").read_bytes()
    # Which format a disk is in, and where it came from, shows in what is made of it by ids alone,
    # which qcow2 has not.
    if target.startswith("qcow2"):
        assert out.read_bytes() == (disks / out.name).read_bytes()
