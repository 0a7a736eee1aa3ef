"""Checks of VHDXs that were not closed cleanly, and of those that rest on another."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from fixtures.disks import vhdx
from fixtures.disks.vhdx_blocks import BITMAP, State, compose
from vmport_formats.disk.check import CheckReport, check_image
from vmport_formats.references import Confined
from vmport_formats.source import open_source

if TYPE_CHECKING:
    from pathlib import Path

    from vmport_formats.references import Reference
    from vmport_formats.source import ByteSource

MIB = vhdx.MIB
FULL, PART, ABSENT = State.FULLY_PRESENT, State.PARTIALLY_PRESENT, State.NOT_PRESENT
DIRTY = ("vhdx.dirty", "warning")


def _opener(reference: Reference) -> ByteSource:
    raise AssertionError(reference)


def _check(file: ByteSource) -> CheckReport:
    return check_image(file, _opener)


def _found(report: CheckReport) -> list[tuple[str, str]]:
    return [(fault.code, fault.severity.value) for fault in report.faults]


# --- Logs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_a_log_that_can_be_replayed_is_a_warning(seed: int) -> None:
    """What it has is looked at in its place: in the file itself there is but junk."""
    report = _check(compose([FULL, ABSENT, FULL], logged=9, seed=seed).file)
    assert _found(report) == [DIRTY]
    assert report.sound
    assert report.statistics.allocated == 2


def test_a_fault_that_the_log_brings_is_found() -> None:
    """The table in the log has two blocks in one place; the one in the file has not."""
    one, other = (vhdx.PAYLOAD_AT + n * MIB | FULL for n in range(2))
    payload = {vhdx.PAYLOAD_AT + n * MIB: b"\1" * MIB for n in range(2)}
    sound = vhdx.image(2 * MIB, block_table={0: one, 1: other}, payload=payload)
    assert _found(_check(sound)) == []
    table = one.to_bytes(8, "little") * 2
    entry = vhdx.LogEntry(
        5, data={vhdx.BAT_AT: table.ljust(4096, b"\0")}, flushed=sound.size, last=sound.size
    ).build()
    dirty = vhdx.image(2 * MIB, log={0: entry}, block_table={0: one, 1: other}, payload=payload)
    report = _check(dirty)
    assert _found(report) == [DIRTY, ("vhdx.block-table-entry", "error")]
    assert report.faults[1].at == vhdx.BAT_AT + 8


@pytest.mark.parametrize("at", [70, 4096 + 100], ids=["descriptor", "data"])
def test_a_log_that_is_damaged_is_an_error(at: int) -> None:
    """Its changes were promised to be on the disk, and are lost."""
    image = vhdx.image(2 * MIB)
    entry = vhdx.LogEntry(
        5, data={vhdx.BAT_AT: bytes(4096)}, flushed=image.size, last=image.size
    ).build()
    sound = vhdx.image(2 * MIB, log={0: entry})
    assert _found(_check(sound)) == [DIRTY]
    report = _check(sound.patched({vhdx.LOG_AT + at: b"\x55"}))
    assert ("vhdx.dirty-log", "error") in _found(report)
    (fault,) = (fault for fault in report.faults if fault.severity.value == "error")
    assert fault.at == vhdx.LOG_AT
    assert not report.sound


# --- On a parent --------------------------------------------------------------------------------

BASE = bytes(range(256)) * (3 * MIB // 256)


@pytest.mark.parametrize("seed", range(3))
def test_a_sound_child(seed: int) -> None:
    report = _check(compose([PART, ABSENT, FULL, PART], parent=BASE, seed=seed).file)
    assert _found(report) == []
    assert report.statistics.allocated == 3


def test_a_block_that_is_there_in_part_needs_a_bitmap() -> None:
    image = compose([PART, ABSENT], parent=BASE, seed=1)
    place = image.entries[BITMAP]
    report = _check(image.file.patched({place: bytes(8)}))
    assert _found(report) == [("vhdx.bitmap-entry", "error")]
    assert report.faults[0].at == place


def test_a_bitmap_where_a_block_is() -> None:
    image = compose([PART, FULL], parent=BASE, seed=2)
    place = image.entries[BITMAP]
    taken = image.hosts[1] | FULL
    report = _check(image.file.patched({place: taken.to_bytes(8, "little")}))
    assert [code for code, _ in _found(report)] == ["vhdx.bitmap-entry"]
    assert f"{image.entries[1]:#x}" in report.faults[0].text


def test_a_bitmap_behind_the_end_of_the_file() -> None:
    image = compose([PART, FULL], parent=BASE, seed=3)
    place = image.entries[BITMAP]
    outside = -(-image.file.size // MIB) * MIB | FULL
    report = _check(image.file.patched({place: outside.to_bytes(8, "little")}))
    assert _found(report) == [("vhdx.bitmap-entry", "error")]
    assert report.faults[0].at == place
    assert report.complete


@pytest.mark.parametrize("right", [True, False])
def test_whether_its_parent_is_the_right_one(right: bool, tmp_path: Path) -> None:
    child = compose([PART, ABSENT], parent=BASE, seed=4).file.write(tmp_path / "child.vhdx")
    guid = UUID(vhdx.PARENT_LINKAGE) if right else UUID(int=3)
    compose([FULL, FULL], data_guid=guid).file.write(tmp_path / "parent.vhdx")
    with ExitStack() as stack:
        source = stack.enter_context(open_source(child))
        report = check_image(source, _opener, Confined([tmp_path]))
    expected = [] if right else [("vhdx.parent-linkage", "error")]
    assert _found(report) == expected
