"""`vmport inspect --json` and `qemu-img info --output=json` say the same of the same image."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.oslo import check_policy
from tests.qemu_variants import VARIANTS, Variant, make
from tests.samples import NAMES, sample
from vmport.commands.inspect import inspect_image
from vmport.render.inspection import image_fields
from vmport_formats.errors import VmportError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Vmport

pytestmark = pytest.mark.needs("qemu-img")

SAME_NAMES = (
    "format",
    "virtual-size",
    "backing-filename",
    "full-backing-filename",
    "backing-filename-format",
)
REFUSED_BY_BOTH = {"afl5.img", "afl9.vmdk"}
"""Made by a fuzzer to crash qemu: a table of 2^30 entries, an L1 table of 2^32."""


def qemu_info(image: Path, *options: str) -> dict[str, Any] | None:
    done = subprocess.run(
        ["qemu-img", "info", "--output=json", *options, str(image)],
        capture_output=True,
        text=True,
        check=False,
    )
    return json.loads(done.stdout) if done.returncode == 0 else None


def vmport_info(image: Path) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(json.dumps(image_fields(inspect_image(str(image)))))
    return fields


def assert_agrees(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    for name in SAME_NAMES:
        assert ours.get(name) == theirs.get(name), name
    # What only the extents of a VMDK know, qemu looks up in them; they are never opened here.
    if not any(reference["kind"] == "extent" for reference in ours["references"]):
        assert ours["actual-size"] == theirs["actual-size"]
        # qemu gives none for some formats that have one (Parallels, cloop, Bochs).
        if theirs.get("cluster-size"):
            assert ours["cluster-size"] == theirs["cluster-size"]
    assert ours["encrypted"] == theirs.get("encrypted", False)
    assert ours["dirty-flag"] == theirs.get("dirty-flag", False)
    assert len(ours["snapshots"]) == len(theirs.get("snapshots", []))
    for our_snapshot, their_snapshot in zip(
        ours["snapshots"], theirs.get("snapshots", []), strict=True
    ):
        del our_snapshot["virtual-size"]
        their_snapshot.pop("icount", None)
        assert our_snapshot == their_snapshot
    our_details = ours["format-specific"]["data"]
    their_details = theirs.get("format-specific", {}).get("data", {})
    for name in (our_details.keys() & their_details.keys()) - {"encrypt", "extents"}:
        assert our_details[name] == their_details[name], name
    if theirs["format"] == "qcow2":
        assert their_details.keys() <= our_details.keys()
    if encrypt := their_details.get("encrypt"):
        assert our_details["encrypt"]["format"] == encrypt["format"]


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
def test_inspect_agrees_on_what_qemu_makes(variant: Variant, tmp_path: Path) -> None:
    image = make(variant, tmp_path)
    # A fixed VHD has its mark at the end only, where qemu does not look; it calls the file raw.
    fixed_vhd = variant.format == "vpc" and "subformat=fixed" in variant.options
    theirs = qemu_info(image, *(["-f", "vpc"] if fixed_vhd else []))
    assert theirs is not None
    assert_agrees(vmport_info(image), theirs)
    check_policy(image)


@pytest.mark.qemu_samples
@pytest.mark.parametrize("name", sorted(set(NAMES) - REFUSED_BY_BOTH))
def test_inspect_agrees_on_qemu_s_samples(name: str) -> None:
    image = sample(name)
    ours = vmport_info(image)
    theirs = qemu_info(image)
    check_policy(image)
    if name == "iotest-dirtylog-10G-4M.vhdx":
        # qemu wants to replay the log into the file before it says anything.
        assert theirs is None
        assert ours["dirty-flag"]
        assert ours["virtual-size"] == 10 << 30
        assert ours["safety"]["verdict"] == "unsafe"
        return
    assert theirs is not None
    assert_agrees(ours, theirs)


@pytest.mark.qemu_samples
@pytest.mark.parametrize("name", sorted(REFUSED_BY_BOTH))
def test_inspect_and_qemu_refuse_what_a_fuzzer_made(name: str) -> None:
    assert qemu_info(sample(name)) is None
    with pytest.raises(VmportError) as caught:
        inspect_image(str(sample(name)))
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("identity", ["qcow2-over-raw", "qcow2-1.1-snapshots", "qed-content"])
def test_the_command_prints_what_qemu_prints(identity: str, tmp_path: Path, vmport: Vmport) -> None:
    image = make(VARIANTS[identity], tmp_path)
    theirs = qemu_info(image)
    assert theirs is not None
    assert_agrees(json.loads(vmport("inspect", "--json", image).stdout), theirs)
