"""An internal snapshot's map and content are what qemu-img makes of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.content import qemu_img, qemu_io

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Vmport

pytestmark = pytest.mark.needs("qemu-img", "qemu-io")

NAMES = ("empty", "first", "second", "now")


@pytest.fixture(scope="module", params=["cluster_size=4k", "extended_l2=on,cluster_size=16k"])
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk with three snapshots, each of another content."""
    path = tmp_path_factory.mktemp("snapshots") / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", request.param, path, "1M")
    qemu_img("snapshot", "-c", "empty", path)
    qemu_io(path, "write -P 1 0 100k", "write -P 2 512k 64k")
    qemu_img("snapshot", "-c", "first", path)
    qemu_io(path, "write -P 3 8k 32k", "write -z 520k 8k")
    qemu_img("snapshot", "-c", "second", path)
    qemu_io(path, "write -P 4 0 1M")
    return path


def _arguments(name: str) -> tuple[str, ...]:
    return () if name == "now" else ("--snapshot", name)


@pytest.mark.parametrize("name", NAMES)
def test_the_map_is_that_of_the_disk_once_it_is_reverted(
    name: str, image: Path, tmp_path: Path, vmport: Vmport
) -> None:
    """`qemu-img map` itself knows no snapshots, and reverting moves no cluster."""
    reverted = tmp_path / "reverted.qcow2"
    shutil.copy(image, reverted)
    if name != "now":
        qemu_img("snapshot", "-a", name, reverted)
    command = ["qemu-img", "map", "-f", "qcow2", "--output=json", str(reverted)]
    theirs = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    done = vmport("inspect", "--map", "--json", *_arguments(name), image)
    ours = json.loads(done.stdout)
    assert _by_sector(ours) == _by_sector(theirs)


def _by_sector(entries: list[dict[str, int]]) -> list[int | None]:
    """For each sector where it is stored; None where it reads as zeros."""
    return [
        None if entry["zero"] else entry["offset"] + at
        for entry in entries
        for at in range(0, entry["length"], 512)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_the_content_is_what_qemu_converts(
    name: str, image: Path, tmp_path: Path, vmport: Vmport
) -> None:
    raw = tmp_path / "disk.raw"
    chosen = () if name == "now" else ("-l", f"snapshot.name={name}")
    qemu_img("convert", "-f", "qcow2", *chosen, "-O", "raw", image, raw)
    option = () if name == "now" else ("--snapshot-a", name)
    done = vmport("compare", *option, image, raw)
    assert done.stdout.startswith("identical: ")
    for other in set(NAMES) - {name}:
        option = () if other == "now" else ("--snapshot-a", other)
        assert vmport("compare", *option, image, raw, check=False).returncode == 1


def test_a_snapshot_that_is_not_there(image: Path, tmp_path: Path, vmport: Vmport) -> None:
    done = vmport("inspect", "--map", "--snapshot", "third", image, check=False)
    assert done.returncode == 3
    assert "third" in done.stderr
    raw = tmp_path / "disk.raw"
    raw.write_bytes(bytes(512))
    done = vmport("inspect", "--map", "--snapshot", "1", "-f", "raw", raw, check=False)
    assert done.returncode == 3
    assert "[raw.snapshot]" in done.stderr
