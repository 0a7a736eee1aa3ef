"""`vmport inspect --map` and `--policy` as a user meets them."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from fixtures.disks.qcow2 import Cluster, Kind, compose
from tests.content import qemu_img
from tests.qemu_variants import VARIANTS, make

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Vmport

KINDS = (Kind.ABSENT, Kind.DATA, Kind.PACKED, Kind.ZERO)


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A qcow2 of clusters of 512 bytes over a raw file that is shorter."""
    folder = tmp_path_factory.mktemp("overlay")
    (folder / "base.raw").write_bytes(b"\1" * 512)
    image = compose(
        [Cluster(kind) for kind in (*KINDS, Kind.ABSENT)],
        cluster_bits=9,
        backing=("base.raw", "raw"),
        parent=b"\1" * 512,
    )
    assert image.hosts
    return image.file.write(folder / "overlay.qcow2")


def test_the_table(overlay: Path, vmport: Vmport) -> None:
    lines = vmport("inspect", "--map", "--allow", overlay.parent, overlay).stdout.splitlines()
    data = json.loads(
        vmport("inspect", "--map", "--json", "--allow", overlay.parent, overlay).stdout
    )
    place = f"{data[1]['offset']:#x}"
    assert lines == [
        "offset  length  kind        depth  host offset  host file",
        f"   0x0   0x200  data            1          0x0  {overlay.parent / 'base.raw'}",
        f" 0x200   0x200  data            0  {place:>11}  {overlay}",
        f" 0x400   0x200  compressed      0            -  {overlay}",
        " 0x600   0x200  zero            0            -  -",
        " 0x800   0x200  hole            0            -  -",
        "total 2.5 KiB: data 1 KiB, compressed 512 bytes, zero 512 bytes, hole 512 bytes",
    ]


def test_json_has_the_names_of_qemu_img(overlay: Path, vmport: Vmport) -> None:
    done = vmport("inspect", "--map", "--json", "--allow", overlay.parent, overlay)
    entries = json.loads(done.stdout)
    assert len(done.stdout.splitlines()) == len(entries) == 5
    common = {"length": 512, "depth": 0, "present": True, "zero": False, "data": True}
    assert entries[0] == common | {
        "start": 0,
        "depth": 1,
        "compressed": False,
        "offset": 0,
        "filename": str(overlay.parent / "base.raw"),
    }
    assert entries[2] == common | {"start": 1024, "compressed": True, "filename": str(overlay)}
    empty = common | {"zero": True, "data": False, "compressed": False}
    assert entries[3] == empty | {"start": 1536}
    assert entries[4] == empty | {"start": 2048, "present": False}


def test_a_part_of_the_map(overlay: Path, vmport: Vmport) -> None:
    part = ("--start-offset", "0x300", "--max-length", "1K")
    done = vmport("inspect", "--map", "--json", "--allow", overlay.parent, *part, overlay)
    spans = [(entry["start"], entry["length"]) for entry in json.loads(done.stdout)]
    assert spans == [(0x300, 256), (0x400, 512), (0x600, 256)]
    done = vmport("inspect", "--map", "--json", "--start-offset", "1T", overlay.parent / "base.raw")
    assert json.loads(done.stdout) == []


def test_what_is_named_is_opened_only_if_it_is_granted(overlay: Path, vmport: Vmport) -> None:
    done = vmport("inspect", "--map", overlay, check=False)
    assert done.returncode == 4
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"vmport: error: {overlay}: names another file (backing file): 'base.raw' "
        "[reference.denied]",
        "  hint: pass --allow DIR with the folder that holds it, if you trust this image",
    ]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--map", "a", "b"), "usage.map"),
        (("--map", "--policy", "strict", "a"), "usage.map"),
        (("--allow", ".", "a"), "usage.map"),
        (("--max-length", "1M", "a"), "usage.map"),
        (("--map", "--max-length", "much", "a"), "usage.size"),
        (("--policy", "loose", "a"), "usage.policy"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], code: str, vmport: Vmport) -> None:
    done = vmport("inspect", *arguments, check=False)
    assert done.returncode == 2
    assert f"[{code}]" in done.stderr
    assert done.stdout == ""


@pytest.mark.needs("qemu-img")
def test_a_map_of_16_tebibytes(tmp_path: Path, vmport: Vmport) -> None:
    qemu_img("create", "-q", "-f", "vhdx", tmp_path / "image", "16T")
    begin = time.monotonic()
    (entry,) = json.loads(vmport("inspect", "--map", "--json", tmp_path / "image").stdout)
    assert (entry["length"], entry["zero"], entry["data"]) == (16 << 40, True, False)
    assert time.monotonic() - begin < 3, "start-up included"


@pytest.mark.needs("qemu-img")
def test_a_snapshot_has_a_map_of_its_own(tmp_path: Path, vmport: Vmport) -> None:
    image = make(VARIANTS["qcow2-snapshot-then-resized"], tmp_path)
    done = vmport("inspect", "--map", "--json", "--snapshot", "before", image)
    (entry,) = json.loads(done.stdout)
    assert entry["length"] == 1 << 20
    (entry,) = json.loads(vmport("inspect", "--map", "--json", image).stdout)
    assert entry["length"] == (1 << 20) + (64 << 10)


# --- Policies -----------------------------------------------------------------------------------


def test_a_refused_image_is_reported_first(overlay: Path, vmport: Vmport) -> None:
    done = vmport("inspect", "--policy", "openstack", overlay, check=False)
    assert done.returncode == 4
    text = done.stdout.splitlines()
    assert "  safety         unsafe" in text
    assert text[-1] == "  policy         openstack: refused"
    assert done.stderr == (
        f"vmport: error: {overlay}: refused by the policy openstack: qcow2.backing-file "
        "[policy.openstack]\n"
    )


def test_json_has_the_ruling(overlay: Path, vmport: Vmport) -> None:
    base = overlay.parent / "base.raw"
    done = vmport("inspect", "--json", "--policy", "strict", overlay, base, check=False)
    assert done.returncode == 4
    first, second = json.loads(done.stdout)
    text = "names another file (backing file): base.raw"
    assert first["policy"] == {
        "name": "strict",
        "verdict": "refused",
        "reasons": [{"code": "qcow2.backing-file", "text": text}],
    }
    assert second["policy"] == {"name": "strict", "verdict": "accepted", "reasons": []}


def test_the_policy_none_refuses_nothing(overlay: Path, vmport: Vmport) -> None:
    fields = json.loads(vmport("inspect", "--json", "--policy", "none", overlay).stdout)
    assert fields["policy"] == {"name": "none", "verdict": "accepted", "reasons": []}
    assert fields["safety"]["verdict"] == "unsafe"
    assert "policy" not in json.loads(vmport("inspect", "--json", overlay).stdout)


def test_what_a_policy_has_besides_is_listed_under_it(tmp_path: Path, vmport: Vmport) -> None:
    image = compose([Cluster(Kind.DATA)], extended=True).file.write(tmp_path / "image")
    done = vmport("inspect", "--policy", "openstack", image, check=False)
    assert done.stdout.splitlines()[-3:] == [
        "  safety         safe",
        "  policy         openstack: refused",
        "                 openstack.extended-l2: OpenStack counts extended L2 entries among the "
        "features that it does not know",
    ]


def test_raw_is_no_way_around_a_policy(overlay: Path, vmport: Vmport) -> None:
    done = vmport("inspect", "-f", "raw", "--policy", "strict", overlay, check=False)
    assert done.returncode == 4
    assert "policy.declared-format" in done.stderr
