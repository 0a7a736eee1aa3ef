"""A sample of the matrix of `make faults`; and that its power cuts find what is not flushed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.faults.power import Event, Kind, Medium, Order

CONTENT = Random("new").randbytes(5000)
OLD = {"out": b"old"}
SETS = "a set of three files"
FEW = ["--kills=6", "--stops=3", "--cuts=40", "--pairs=3", "--most=2"]
OUTPUTS = ["raw, by copy_file_range", "VMDK, stream", SETS]


def _matrix(words: list[str], outputs: list[str]) -> str:
    """The table that `make faults` prints; fails when a promise was broken."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", *words, *(f"--output={name}" for name in outputs)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.needs("qemu-img")
def test_a_sample_of_the_matrix() -> None:
    assert "| power cut | 40 |" in _matrix(FEW, OUTPUTS)


def test_a_set_of_files_is_never_mixed_after_a_power_cut() -> None:
    assert "| power cut | 400 |" in _matrix(["--cuts=400"], [SETS])


def _written(*, flushed: bool) -> list[Event]:
    return [
        Event(Kind.FOLDER, "staging"),
        Event(Kind.MAKE, "staging/out"),
        Event(Kind.WRITE, "staging/out", data=CONTENT),
        *([Event(Kind.FLUSH, "staging/out")] if flushed else []),
        Event(Kind.RENAME, "staging/out", "out"),
    ]


def _found(events: list[Event], order: Order, folder: Path) -> set[bytes | None]:
    """What many power cuts behind the last event leave of the destination."""
    found: set[bytes | None] = set()
    for seed in range(400):
        place = folder / f"{seed}"
        place.mkdir(parents=True)
        medium = Medium(OLD, events)
        medium.make(place, *medium.left(order, Random(seed)))
        out = place / "out"
        found.add(out.read_bytes() if out.exists() else None)
    return found


@pytest.mark.parametrize("order", Order)
def test_what_is_flushed_is_whole_after_a_power_cut(order: Order, tmp_path: Path) -> None:
    found = _found(_written(flushed=True), order, tmp_path / "cut")
    assert found == {CONTENT} if order is Order.EARLY else found == {OLD["out"], CONTENT}
    named = [*_written(flushed=True), Event(Kind.FLUSH, "."), Event(Kind.FLUSH, "staging")]
    assert _found(named, order, tmp_path / "named") == {CONTENT}


@pytest.mark.parametrize("order", Order)
def test_what_is_not_flushed_may_be_lost_or_torn(order: Order, tmp_path: Path) -> None:
    found = _found(_written(flushed=False), order, tmp_path)
    assert {b"", CONTENT} <= found
    torn = found - {b"", CONTENT, OLD["out"]}
    assert torn
    for content in torn:
        assert content is not None
        for place in range(0, len(content), 512):
            part = content[place : place + 512]
            assert part in (CONTENT[place : place + 512], bytes(len(part)))
