"""A disk with more data than one VMDK can hold is refused before a byte is written."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from vmport.cli import run
from vmport_converters.disk import plan

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


@pytest.fixture(autouse=True)
def a_low_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of 2 TiB, which no test can have."""
    monkeypatch.setattr(plan, "_LARGEST_SPARSE_VMDK", 2 * MIB)


@pytest.mark.parametrize("more", [(), ("--dry-run",)], ids=["convert", "dry-run"])
def test_a_vmdk_that_would_be_too_long(
    more: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "full.raw", tmp_path / "out"
    source.write_bytes(random.Random(1).randbytes(3 * MIB))
    out.mkdir()
    assert run(["convert", *more, str(source), str(out / "disk.vmdk")]) == 2
    told = capsys.readouterr().err
    assert "3 MiB of data do not fit into this kind of VMDK, whose file ends at 2 MiB" in told
    assert "-o subformat=twoGbMaxExtentSparse" in told
    assert not any(out.iterdir())
    # It may pack well; that is said before the work begins.
    stream = ["-o", "subformat=streamOptimized", str(source), str(out / "disk.vmdk")]
    assert run(["convert", *more, *stream]) == 0
    assert more or "if the 3 MiB of data do not pack into that" in capsys.readouterr().err
    assert run(["convert", *more, str(source), str(out / "disk.vhdx")]) == 0


def test_a_large_disk_with_little_data(tmp_path: Path) -> None:
    source = tmp_path / "sparse.raw"
    with source.open("xb") as file:
        file.write(random.Random(1).randbytes(MIB))
        file.truncate(8 * MIB)
    assert run(["convert", str(source), str(tmp_path / "disk.vmdk")]) == 0
