"""Faults around a run: another run, a full file system, folders and names that refuse."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tests.faults import child
from tests.faults.scene import Broken, Stage, State
from vmport_formats.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from random import Random

    from tests.faults.tally import Tally

_NOBODY: Final = 65_534
_SHARES: Final = (0.02, 0.2, 0.4, 0.6, 0.8, 0.97)
"""Of the room that the destination needs, how much there is."""


def two_at_once(tally: Tally, stage: Stage, cases: int, life: float, dice: Random) -> None:
    """Let two runs make one destination: one wins; or both, when both may replace it."""
    for turn in range(cases):
        old, pause = turn % 2 == 1, dice.uniform(0, life * 0.7)
        with tally.case(f"{stage.output.name}, another run {pause * 1000:.1f} ms later"):
            stage.set_up(old=old)
            first = child.start(stage.words(force=old), stage.prepare())
            time.sleep(pause)
            second = child.start(stage.words(force=old), stage.prepare())
            ended = [first.wait(), second.wait()]
            codes = sorted(one.code for one in ended)
            if codes != ([0, 0] if old else [0, 6]):
                raise Broken(f"exit codes {codes}: {[one.said for one in ended]}")
            if stage.state() is not State.COMPLETE:
                raise Broken("no run made the destination")
            for one in ended:
                tally.add(one, stage.check(one, old=old, codes={0, 6}))


# --- Names and folders ---------------------------------------------------------------------------


def refusals(tally: Tally, stage: Stage) -> None:
    """Let the destination be something that must not be touched, or its folder forbid it."""
    for what, spoil in _SPOILED.items():
        with tally.case(f"{stage.output.name}, {what}"):
            place = stage.set_up(old=False) / stage.output.file
            spoil(place)
            before = place.lstat() if os.path.lexists(place) else None
            ended = child.run(stage.words(force=what != "an old one"), _unprivileged)
            place.parent.chmod(0o755)
            after = place.lstat() if os.path.lexists(place) else None
            if ended.code != 6 or "Traceback" in ended.said:
                raise Broken(f"exit code {ended.code}: {ended.said}")
            if _of(before) != _of(after) or len(list(place.parent.iterdir())) != bool(before):
                raise Broken("it was touched, or something is left behind")
            tally.add(ended, State.OLD if before else State.ABSENT)


def _of(status: os.stat_result | None) -> tuple[int, ...] | None:
    return status and (status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns)


def _unprivileged() -> None:
    """Root may do all."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)


def _write_old(place: Path) -> None:
    place.write_bytes(b"old")
    place.parent.chmod(0o777)


def _make_folder(place: Path) -> None:
    place.mkdir()
    place.parent.chmod(0o777)


def _make_fifo(place: Path) -> None:
    os.mkfifo(place)
    place.parent.chmod(0o777)


def _forbid(place: Path) -> None:
    place.parent.chmod(0o555)


def _forbid_old(place: Path) -> None:
    place.write_bytes(b"old")
    place.parent.chmod(0o555)


_SPOILED: Final[dict[str, Callable[[Path], None]]] = {
    "an old one": _write_old,
    "a folder": _make_folder,
    "a FIFO": _make_fifo,
    "in a folder that forbids writing": _forbid,
    "an old one in a folder that forbids writing": _forbid_old,
}


# --- A full file system --------------------------------------------------------------------------


def full(tally: Tally, stage: Stage) -> None:
    """Convert into a file system that has no room for it; root alone can mount one."""
    mebibytes = 16 + 2 * stage.source.stat().st_size // MIB
    with _mounted(stage.home, mebibytes) as place:
        usual, stage.folder = stage.folder, place / "folder"
        try:
            needed = _needed(stage)
            for old in (False, True):
                for share in _SHARES:
                    with tally.case(f"{stage.output.name}, {share:.0%} of the room"):
                        _fill(tally, stage, place / "ballast", int(needed * share), old=old)
        finally:
            stage.folder = usual


def _needed(stage: Stage) -> int:
    """Bytes that a file system with blocks of this size has less after a conversion."""
    stage.set_up(old=False)
    os.sync()
    before = os.statvfs(stage.folder)
    ended = child.run(stage.words(force=False), stage.prepare())
    stage.check(ended, old=False, codes={0})
    os.sync()
    return (before.f_bavail - os.statvfs(stage.folder).f_bavail) * before.f_frsize


def _fill(tally: Tally, stage: Stage, ballast: Path, room: int, *, old: bool) -> None:
    stage.set_up(old=old)
    os.sync()
    status = os.statvfs(stage.folder)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - room)
    ended = child.run(stage.words(force=old), stage.prepare())
    ballast.unlink()
    tally.add(ended, stage.check(ended, old=old, codes={6}))
    stage.check_next()


@contextmanager
def _mounted(home: Path, mebibytes: int) -> Iterator[Path]:
    medium, place = home / "medium", home / "mounted"
    with medium.open("wb") as file:
        file.truncate(mebibytes * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", medium], check=True)
    place.mkdir()
    subprocess.run(["mount", "-o", "loop", medium, place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
        place.rmdir()
        medium.unlink()
