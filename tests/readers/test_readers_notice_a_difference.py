"""The readers of `make readers` find the disk that is there, and notice one that is not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.content import seven_zip
from tests.readers.__main__ import ask
from tests.readers.disks import GRAIN, opaque, plain
from tests.readers.programs import READERS

if TYPE_CHECKING:
    from pathlib import Path

FAST = [reader for reader in READERS if reader.name in {"qemu-img", "7-Zip", "libvmdk"}]
pytestmark = pytest.mark.needs(*(name for reader in FAST for name in reader.needs))


def test_the_disk_that_is_there_and_another(tmp_path: Path) -> None:
    source = tmp_path / "source.raw"
    source.write_bytes(b"\x05" * (3 * GRAIN + 512) + bytes(2 * GRAIN))
    disk = plain(source, tmp_path)
    for reader in FAST:
        found = ask(reader, disk, tmp_path)
        assert found.good, found
        assert found.cells[2:5] == ("equal", "equal", "equal")
        other = replace(disk, digest="0" * 64)
        assert not ask(reader, other, tmp_path).good
    for path in disk.images.values():
        path.write_bytes(path.read_bytes()[:-GRAIN])
    for reader in FAST:
        assert not ask(reader, disk, tmp_path).good


def test_an_opaque_disk_is_the_same_further_behind(tmp_path: Path) -> None:
    source = tmp_path / "source.raw"
    source.write_bytes(b"\x05" * 512 + bytes(GRAIN) + b"\x06" * (2 * GRAIN - 512))
    disk = opaque(source, tmp_path)
    for path in disk.images.values():
        content = seven_zip(path)
        assert len(content) == 4 * GRAIN
        assert content.strip(b"\0") == source.read_bytes()
        assert not any(content[:512])


def test_a_reader_that_is_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is said so; only where CI is set, and Debian has it, is that a failure."""
    source = tmp_path / "source.raw"
    source.write_bytes(bytes(GRAIN))
    disk = plain(source, tmp_path)
    missing = replace(FAST[0], needs=("no-such-program",))
    monkeypatch.delenv("CI", raising=False)
    row = ask(missing, disk, tmp_path)
    assert row.good
    assert "no-such-program is not here" in row.cells
    monkeypatch.setenv("CI", "true")
    assert not row.good
    assert replace(row, reader=replace(missing, packaged=False)).good
