"""The verdict: what lies in one file and can be taken for one thing is safe, all else is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import specimens
from tests.qemu_variants import VARIANTS, make
from vmport_formats.disk.model import Concern, DiskFormat, ImageInfo
from vmport_formats.disk.probe import probe
from vmport_formats.disk.safety import assess
from vmport_formats.references import Reference, ReferenceKind
from vmport_formats.source import MemorySource, open_source
from vmport_formats.units import Bytes

if TYPE_CHECKING:
    from pathlib import Path

SAFE = (
    "qcow2",
    "qcow2-bitmaps",
    "qcow2-luks",
    "vmdk",
    "vmdk-stream",
    "vhd-dynamic",
    "vhd-fixed",
    "vhdx",
    "vdi",
    "parallels",
    "parallels-v1",
    "luks",
    "dmg",
    "cloop",
    "bochs",
)
UNSAFE = {
    "qcow2-over-raw": ["qcow2.backing-file"],
    "qcow2-data-file-raw-off": ["qcow2.data-file"],
    "qcow-over-raw": ["qcow.backing-file"],
    "qed-over-raw": ["qed.backing-file", "qed.obsolete"],
    "qed-content": ["qed.obsolete"],
    "vmdk-monolithicSparse-over": ["vmdk.parent"],
    "vmdk-monolithicFlat-content": ["vmdk.extent", "vmdk.create-type"],
    "vmdk-twoGbMaxExtentSparse-content": ["vmdk.extent", "vmdk.create-type"],
}


@pytest.mark.needs("qemu-img")
@pytest.mark.qemu_samples
@pytest.mark.parametrize("name", SAFE)
def test_an_image_that_stands_alone_is_safe(name: str) -> None:
    verdict = assess(probe(MemorySource(specimens.specimen(name))))
    assert verdict.reasons == ()
    assert verdict.safe
    assert str(verdict) == "safe"


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize(("name", "codes"), UNSAFE.items(), ids=UNSAFE.keys())
def test_an_image_that_leads_elsewhere_is_unsafe(
    name: str, codes: list[str], tmp_path: Path
) -> None:
    with open_source(make(VARIANTS[name], tmp_path)) as source:
        verdict = assess(probe(source))
    assert [reason.code for reason in verdict.reasons] == codes
    assert not verdict.safe
    assert str(verdict) == "unsafe"


def test_every_reference_is_a_reason_whatever_its_kind() -> None:
    references = tuple(Reference(kind, "elsewhere", "raw") for kind in ReferenceKind)
    own = Concern("vhdx.dirty-log", "the log holds changes")
    size = Bytes(512)
    info = ImageInfo(
        DiskFormat.VHDX, "dynamic", size, size, references=references, concerns=(own,), corrupt=True
    )
    reasons = assess(info).reasons
    assert [item.code for item in reasons] == [
        *(f"vhdx.{kind.code}" for kind in ReferenceKind),
        "vhdx.dirty-log",
        "vhdx.corrupt",
    ]
    assert all("elsewhere" in item.text for item in reasons[: len(references)])
