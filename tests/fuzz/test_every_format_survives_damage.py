"""Whatever is done to an image, reading all of it ends soon, in a result or a `VmportError`."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.fuzz import trial
from tests.fuzz.__main__ import FEW, tally
from tests.fuzz.mutators import damage
from tests.fuzz.parts import Subject
from tests.fuzz.subjects import CHECK, FAMILIES, subject, subjects
from vmport_formats.disk.model import DiskFormat
from vmport_formats.errors import VmportError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vmport_formats.disk.image import DiskImage

MOST = 4 << 20
"""Bytes of a disk that are compared; all of them, unless the size is damaged."""
CRASHERS = sorted((Path(__file__).parents[2] / "fixtures" / "crashers").iterdir())
every_family = pytest.mark.parametrize("family", FAMILIES)
every_read = pytest.mark.parametrize(
    "family", [family for family in FAMILIES if not family.endswith(CHECK)]
)


def test_every_format_is_there() -> None:
    found = {each.format for family in FAMILIES for each in subjects(family)}
    assert found == set(DiskFormat) - {DiskFormat.RAW}


@every_family
def test_damage(family: str, tmp_path: Path) -> None:
    """Some hundred cases; ``make fuzz`` runs more."""
    found = tally(family, 1, range(FEW), tmp_path)
    assert not found.faults
    # Neither is all damage fatal, nor is it without effect.
    assert min(found.ends.values()) > FEW // 50


@every_read
def test_a_damaged_disk_streams_as_it_reads(family: str, tmp_path: Path) -> None:
    """`stream` and `read` agree on the bytes, and on whether there is a fault."""
    both_read = 0
    for number in range(90):
        image, data = trial.case(family, 2, number)
        try:
            with trial.opened(image, data, tmp_path, declared=True) as disk:
                if disk.virtual_size <= MOST:
                    both_read += _check_stream(disk)
        except VmportError:
            continue
    assert both_read


def _check_stream(disk: DiskImage) -> bool:
    """Whether the disk can be read; it streams then, and else ends in the same fault."""

    def streamed() -> bytes:
        found = bytearray(disk.virtual_size)
        for offset, piece in disk.stream(chunk=4096, workers=1):
            found[offset : offset + len(piece)] = piece
        return bytes(found)

    plain = _outcome(lambda: disk.read(0, disk.virtual_size))
    assert _outcome(streamed) == plain
    return isinstance(plain, bytes)


def _outcome(call: Callable[[], bytes]) -> bytes | tuple[str, object]:
    """What a call returns, or the code and place of its error."""
    try:
        return call()
    except VmportError as error:
        return error.code, error.at


@every_family
def test_a_sound_image_is_read(family: str, tmp_path: Path) -> None:
    """Unless it needs a parent, or is odd on purpose: the harness would else see refusals only."""
    ends = {
        each.name: trial.run(
            each, bytearray(each.data), tmp_path, checked=family.endswith(CHECK)
        ).end
        for each in subjects(family)
    }
    refused = {name for name, end in ends.items() if end is trial.End.REFUSED}
    expected = {"qcow2-backing", "vmdk-text-odd", "vhd-differencing", "vhdx-differencing"}
    if family.endswith(CHECK):
        expected = {"qcow2-snapshot"}  # which shares its tables, and counts nothing twice
    assert refused <= expected
    assert len(refused) < len(ends)


@every_family
def test_a_case_is_the_same_each_time(family: str) -> None:
    for each in subjects(family):
        assert damage(each, Random("4711")) == damage(each, Random("4711"))
        assert any(damage(each, Random(str(n))) != each.data for n in range(3))


def test_the_harness_tells_what_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A traceback, a hang and a lot of memory are told; a harness that sees none proves nothing."""
    image = subject("qed")

    def broken(*_: object, **__: object) -> None:
        raise IndexError("out of range")

    def slow(*_: object, **__: object) -> None:
        begin = time.process_time()
        while time.process_time() < begin + 1.5 * trial.SECONDS:
            pass

    def greedy(*_: object, **__: object) -> None:
        bytearray(trial.BYTES + 1)

    for bad, message in ((broken, "IndexError"), (slow, " ms; at most"), (greedy, "of memory")):
        monkeypatch.setattr(trial, "_look", bad)
        with pytest.raises(trial.Fault, match=message):
            trial.run(image, bytearray(image.data), tmp_path)


@pytest.mark.parametrize("path", CRASHERS, ids=lambda path: path.name)
@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("checked", [False, True], ids=["read", "checked"])
def test_what_broke_a_rule_once(path: Path, checked: bool, declared: bool, tmp_path: Path) -> None:
    """What a longer run found, as small as it can be; its name begins with its format."""
    data = path.read_bytes()
    image = Subject(path.name, DiskFormat.named(path.name.partition("-")[0]), data, ())
    trial.run(image, bytearray(data), tmp_path, declared=declared, checked=checked)
