"""A medium that fails after a write has been taken: the system says so once, and it is heard."""

from __future__ import annotations

import errno
import os
import subprocess
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from vmport_converters.disk.native import flush, output
from vmport_converters.disk.native.output import OutputFile
from vmport_formats.disk.composer import Write
from vmport_formats.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PART = MIB // 4


def _run(*words: str | Path) -> None:
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


@pytest.fixture
def overcommitted(tmp_path: Path) -> Iterator[Path]:
    """A file system of 96 MiB on a medium that has room for 8: what is too much fails late."""
    memory, place = tmp_path / "memory", tmp_path / "place"
    memory.mkdir()
    place.mkdir()
    with ExitStack() as stack:
        _run("mount", "-t", "tmpfs", "-o", "size=8m", "none", memory)
        stack.callback(_run, "umount", memory)
        medium = memory / "medium"
        with medium.open("wb") as file:
            file.truncate(96 * MIB)
        _run("mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-m", "0", medium)
        _run("mount", "-o", "loop,errors=continue", medium, place)
        stack.callback(_run, "umount", place)
        yield place


@pytest.mark.needs("mkfs.ext4", "mount")
@pytest.mark.needs_root
def test_it_is_heard_while_more_is_written(
    overcommitted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "_FLUSHED", PART)
    monkeypatch.setattr(flush, "_BEHIND", 2)
    parts = (Write(offset, os.urandom(PART)) for offset in range(0, 40 * MIB, PART))
    with OutputFile(overcommitted / "out") as written, pytest.raises(OSError) as caught:
        written.write(parts)
    assert caught.value.errno in {errno.EIO, errno.ENOSPC}
