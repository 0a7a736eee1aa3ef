"""Commands that follow a chain: a parent known by its UUID is found, an odd one is told of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from fixtures.disks import vdi, vhd
from fixtures.disks.blocks import Kind
from fixtures.disks.image_file import ImageFile
from fixtures.disks.vhd_blocks import compose as compose_vhd

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Vmport

CHILD = UUID(int=7)
LATER = UUID(int=8)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A VDI `Snapshots/child.vdi` over `base.vdi`, and `truth.raw` with what it must read as."""
    base = vdi.compose([Kind.DATA, Kind.DATA], block_size=4096, seed=1)
    child = vdi.compose(
        [Kind.ABSENT, Kind.DATA],
        block_size=4096,
        seed=2,
        below=base.truth,
        image_type=vdi.DIFFERENCING,
        parent=vdi.CREATED,
        parent_modified=vdi.MODIFIED,
        created=CHILD,
    )
    (tmp_path / "Snapshots").mkdir()
    base.file.write(tmp_path / "base.vdi")
    child.file.write(tmp_path / "Snapshots" / "child.vdi")
    (tmp_path / "truth.raw").write_bytes(child.truth)
    return tmp_path


def written_to(machine: Path) -> None:
    """The base gets another modification UUID."""
    with (machine / "base.vdi").open("r+b") as file:
        file.seek(408)
        file.write(LATER.bytes_le)


def test_a_parent_known_by_uuid_is_found_in_what_is_granted(machine: Path, vmport: Vmport) -> None:
    child = machine / "Snapshots" / "child.vdi"
    done = vmport("inspect", "--map", "--json", "--allow", machine, child)
    found = [(entry["depth"], entry["filename"]) for entry in json.loads(done.stdout)]
    assert found == [(1, str(machine / "base.vdi")), (0, str(child))]
    assert done.stderr == ""
    done = vmport("compare", "--allow", machine, child, machine / "truth.raw")
    assert done.stdout.startswith("identical: ")
    assert done.stderr == ""
    assert json.loads(vmport("check", "--json", "--allow", machine, child).stdout)["faults"] == []


@pytest.mark.parametrize("command", [("inspect", "--map"), ("compare", "truth.raw")])
def test_none_or_several_with_that_uuid(
    command: tuple[str, ...], machine: Path, vmport: Vmport
) -> None:
    child = machine / "Snapshots" / "child.vdi"
    name, *more = command
    arguments = [str(machine / item) if item.endswith(".raw") else item for item in more]
    (machine / "copy.vdi").write_bytes((machine / "base.vdi").read_bytes())
    done = vmport(name, *arguments, "--allow", machine, child, check=False)
    assert done.returncode == 3
    assert "[vdi.parent-ambiguous]" in done.stderr
    assert str(machine / "copy.vdi") in done.stderr
    done = vmport(name, *arguments, "--allow", child.parent, child, check=False)
    assert done.returncode == 4
    assert "[vdi.parent-not-found]" in done.stderr
    assert "--allow" in done.stderr


def test_check_tells_of_a_parent_that_it_could_not_look_at(machine: Path, vmport: Vmport) -> None:
    child = machine / "Snapshots" / "child.vdi"
    done = vmport("check", "--json", "--allow", child.parent, child)
    (fault,) = json.loads(done.stdout)["faults"]
    assert (fault["code"], fault["severity"]) == ("vdi.parent-not-found", "warning")
    (machine / "copy.vdi").write_bytes((machine / "base.vdi").read_bytes())
    done = vmport("check", "--json", "--allow", machine, child, check=False)
    assert done.returncode == 1
    (fault,) = json.loads(done.stdout)["faults"]
    assert (fault["code"], fault["severity"]) == ("vdi.parent-ambiguous", "error")
    assert json.loads(vmport("check", "--json", child).stdout)["faults"] == []


def test_a_parent_that_was_written_to_since_is_told_of(machine: Path, vmport: Vmport) -> None:
    written_to(machine)
    child = machine / "Snapshots" / "child.vdi"
    done = vmport("inspect", "--map", "--json", "--allow", machine, child)
    assert len(json.loads(done.stdout)) == 2
    assert done.stderr.startswith(f"vmport: warning: {child}: ")
    assert done.stderr.endswith(" [vdi.parent-changed]\n")
    assert str(LATER) in done.stderr
    truth = machine / "truth.raw"
    done = vmport("compare", "--json", "--allow", machine, child, truth)
    fields = json.loads(done.stdout)
    assert [concern["code"] for concern in fields["a"]["concerns"]] == ["vdi.parent-changed"]
    assert "concerns" not in fields["b"]
    assert "[vdi.parent-changed]" in done.stderr
    (fault,) = json.loads(vmport("check", "--json", "--allow", machine, child).stdout)["faults"]
    assert (fault["code"], fault["severity"]) == ("vdi.parent-changed", "warning")


def test_a_vhd_whose_parent_has_another_time(tmp_path: Path, vmport: Vmport) -> None:
    base = bytes(range(256)) * 32
    foot = vhd.footer(len(base), vhd.FIXED, unique_id=vhd.PARENT_UUID)
    ImageFile({0: base, len(base): foot}).write(tmp_path / "parent.vhd")
    child = compose_vhd([Kind.ABSENT] * 2, parent=base).file.write(tmp_path / "child.vhd")
    done = vmport("inspect", "--map", "--allow", tmp_path, child)
    assert "[vhd.parent-time-stamp]" in done.stderr
    done = vmport("compare", "--allow", tmp_path, child, tmp_path / "parent.vhd")
    assert done.stdout.startswith("identical: ")
    assert "[vhd.parent-time-stamp]" in done.stderr
    (fault,) = json.loads(vmport("check", "--json", "--allow", tmp_path, child).stdout)["faults"]
    assert (fault["code"], fault["severity"]) == ("vhd.parent-time-stamp", "warning")
