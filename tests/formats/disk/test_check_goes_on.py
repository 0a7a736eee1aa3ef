"""A fault does not hide those behind it: each is told at its place, and all are counted."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from fixtures.disks import vdi, vhd_blocks, vhdx_blocks, vmdk, vmdk_grains
from fixtures.disks.blocks import Kind
from fixtures.disks.image_file import ImageFile
from tests.fuzz.subjects import subject
from vmport_formats.disk.check import CheckReport, Severity, check_image
from vmport_formats.references import Confined
from vmport_formats.source import open_source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vmport_formats.references import Reference
    from vmport_formats.source import ByteSource

    Moved = tuple[ImageFile, dict[int, bytes]]
    """An image, and what to write where so that two blocks of it lie outside of the file."""

FOUR = [Kind.DATA] * 4
GRAINS = [vmdk_grains.Kind.DATA] * 4
MIB = 1 << 20


def _no_opener(reference: Reference) -> ByteSource:
    raise AssertionError(reference)


def _check(path: Path, shares: list[float] | None = None) -> CheckReport:
    resolver = Confined([path.parent])
    with ExitStack() as stack:
        source = stack.enter_context(open_source(path))

        def opener(reference: Reference) -> ByteSource:
            return stack.enter_context(open_source(resolver(reference, named_by=str(path))))

        said = [] if shares is None else shares
        return check_image(source, opener, resolver, on_progress=said.append)


def _vdi() -> Moved:
    found = vdi.compose(FOUR + [Kind.ABSENT] * 4, block_size=4096, seed=1)
    return found.file, {found.entries[n]: (4 + n).to_bytes(4, "little") for n in (1, 3)}


def _vhd() -> Moved:
    found = vhd_blocks.compose(FOUR, seed=1)
    sector = found.file.size // 512
    return found.file, {found.entries[n]: (sector + 99 * n).to_bytes(4, "big") for n in (1, 3)}


def _vhdx() -> Moved:
    found = vhdx_blocks.compose([vhdx_blocks.State.FULLY_PRESENT] * 4, block_size=MIB, seed=1)
    end = -(-found.file.size // MIB) * MIB
    return found.file, {found.entries[n]: (end + n * MIB | 6).to_bytes(8, "little") for n in (1, 3)}


def _vmdk() -> Moved:
    text = vmdk.descriptor()
    found = vmdk_grains.compose_sparse(GRAINS, seed=1, text=text, redundant=False)
    sector = found.file.size // 512
    return found.file, {found.places[n]: (sector + 99 * n).to_bytes(4, "little") for n in (1, 3)}


def _places(report: CheckReport, step: int) -> list[int]:
    """Where the faults are; of several in a row, which are one, each."""
    return sorted(
        fault.at + step * number
        for fault in report.faults
        for number in range(fault.count)
        if isinstance(fault.at, int)
    )


@pytest.mark.parametrize(
    ("moved", "code"),
    [
        (_vdi, "vdi.block-map-entry"),
        (_vhd, "vhd.block-table-entry"),
        (_vhdx, "vhdx.block-table-entry"),
        (_vmdk, "vmdk.grain-table-entry"),
    ],
)
def test_every_block_outside_of_the_file_is_told(moved: Callable[[], Moved], code: str) -> None:
    """The second and the last of four."""
    file, patches = moved()
    report = check_image(file.patched(patches), _no_opener)
    errors = [fault for fault in report.faults if "ends at" in fault.text]
    assert [(fault.code, fault.at) for fault in errors] == [(code, at) for at in sorted(patches)]
    assert report.complete


def test_a_cut_vdi_is_told_block_by_block() -> None:
    """Two of four blocks are gone, and the map has not been damaged."""
    found = vdi.compose(FOUR, block_size=4096, seed=3)
    cut = found.file.cut(found.file.size - 4096 - 1)
    report = check_image(cut, _no_opener)
    gone = [found.entries[n] for n in range(4) if found.hosts[n] + 4096 > cut.size]
    assert len(gone) == 2
    assert _places(report, 4) == sorted(gone)
    assert report.counts[Severity.ERROR] == 2
    assert report.complete


def test_faults_beyond_the_first_thousand_are_counted() -> None:
    found = vdi.compose([Kind.DATA] * 3000, block_size=512, seed=1)
    report = check_image(found.file.cut(found.file.size - 3000 * 512), _no_opener)
    assert report.counts[Severity.ERROR] == 3000
    assert len(report.faults) == 1000


def test_a_broken_extent_does_not_hide_the_others(tmp_path: Path) -> None:
    lines = "\n".join(
        (
            'RW 64 FLAT "cut.raw" 0',
            'RW 64 SPARSE "gone.vmdk"',
            'RW 64 SPARSE "text.vmdk"',
            'RW 64 SPARSE "twice.vmdk"',
            'RW 64 SPARSE "sound.vmdk"',
        )
    )
    text = vmdk.descriptor(lines, create_type="custom")
    (tmp_path / "disk.vmdk").write_text(text)
    (tmp_path / "cut.raw").write_bytes(bytes(1000))
    (tmp_path / "text.vmdk").write_bytes(b"no extent".ljust(4096))
    sound = vmdk_grains.compose_sparse(2 * GRAINS, seed=1, redundant=False)
    sound.file.write(tmp_path / "sound.vmdk")
    entry = sound.file.read_at(sound.places[0], 4)
    sound.file.patched({sound.places[1]: entry}).write(tmp_path / "twice.vmdk")
    shares: list[float] = []
    report = _check(tmp_path / "disk.vmdk", shares)
    found = [(fault.file.rpartition("/")[2], fault.code) for fault in report.faults]
    assert found == [
        ("cut.raw", "vmdk.extent-outside"),
        ("gone.vmdk", "source.open"),
        ("text.vmdk", "vmdk.extent-magic"),
        ("twice.vmdk", "vmdk.grain-table-entry"),
    ]
    assert not report.complete
    assert report.statistics.allocated == 16
    assert shares == sorted(shares)
    assert shares
    assert max(shares) <= 1


def test_a_table_of_bitmaps_that_is_longer_than_the_file() -> None:
    """It costs no more than the file, whatever length it has."""
    image = subject("qcow2-bitmaps")
    data = bytearray(image.data)
    directory = int.from_bytes(data[112 + 24 : 112 + 32], "big")
    data[directory + 8 : directory + 12] = (1 << 22).to_bytes(4, "big")
    begin = time.process_time()
    report = check_image(ImageFile({0: bytes(data)}), _no_opener)
    assert time.process_time() - begin < 1
    assert ("qcow2.bitmaps", directory) in [(fault.code, fault.at) for fault in report.faults]
