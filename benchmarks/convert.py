"""Converting a disk, beside qemu-img and open-vmdk: ``python -m benchmarks stream``, and others.

The source is warm, the output goes to the file system of `.cache`.  ``--only`` takes a part of the
name of a conversion.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from benchmarks.debian_disk import CACHE
from benchmarks.images import IMAGES, disk, made
from benchmarks.installed import program
from benchmarks.measure import Failed, Program, faster, larger, take_turns, warm
from benchmarks.page import run
from benchmarks.table import Chapter, Goal, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from benchmarks.images import Disk
    from benchmarks.measure import Outcome
    from benchmarks.page import Options

BEST: Final = ("-W", "-m", "16")
"""Of qemu-img: writes may overtake each other, and 16 are under way at once."""
FLUSH: Final = ("-t", "writeback")
"""Of qemu-img: bring the file to the medium before it ends.  By itself it does not."""
FAST: Final = "vmport fast, --no-verify"
FAST_VERIFIED: Final = "vmport fast"
SMALL: Final = "vmport small, --no-verify"
SMALL_VERIFIED: Final = "vmport small"
ZSTD: Final = "vmport zstd, --no-verify"
ZSTD_VERIFIED: Final = "vmport zstd"
OURS: Final = "vmport --no-verify"
OURS_VERIFIED: Final = "vmport"
QEMU: Final = "qemu-img"
QEMU_FLUSHED: Final = "qemu-img -t writeback"
QEMU_BEST: Final = "qemu-img -W -m 16"
QEMU_BEST_FLUSHED: Final = "qemu-img -W -m 16 -t writeback"
QEMU_OFFLOADED: Final = "qemu-img -C -t writeback"
OPEN_VMDK: Final = "vmdk-convert -n 2 -c 1"

_TEXT: Final = "The disk: {what}; {virtual:.1f} GiB, {data:.0f} MB of data."


@dataclass(frozen=True, slots=True)
class _Way:
    """A program that converts, and what it promises."""

    name: str
    argv: tuple[str, ...]
    """Without source and target, which follow."""
    flushed: str = "no"
    verified: str = "no"
    runs: int | None = None


@dataclass(frozen=True, slots=True)
class _Job:
    """One conversion, by several programs."""

    name: str
    source: str
    """Of `IMAGES`."""
    suffix: str
    ways: tuple[_Way, ...]
    beside: str
    """The way that all are set beside."""
    goals: tuple[tuple[str, str, str | None, str, float, bool], ...]
    """What is to be reached: name, ours, ours verified, theirs, limit; whether of size."""


def _ours(name: str, *options: str) -> _Way:
    verified = "no" if "--no-verify" in options else "yes"
    return _Way(name, (program("vmport"), "-q", "convert", *options), "yes", verified)


def _both(name: str, *options: str) -> tuple[_Way, _Way]:
    """As it comes, and without verification."""
    unverified = f"{name}, --no-verify" if " " in name else f"{name} --no-verify"
    return _ours(name, *options), _ours(unverified, "--no-verify", *options)


def _qemu(name: str, source: str, *options: str, runs: int | None = None) -> _Way:
    flushed = "yes" if "writeback" in options else "no"
    argv = ("qemu-img", "convert", "-f", IMAGES[source][0], *options)
    return _Way(name, argv, flushed, runs=runs)


def _unpackings() -> Iterator[_Job]:
    yield _unpacked("VMDK, streamOptimized", "streamOptimized → raw", 2.5)
    yield _unpacked("qcow2, deflate", "qcow2 deflate → raw", 2.5)
    yield _unpacked("qcow2, zstd", "qcow2 zstd → raw", 1)


def _plains() -> Iterator[_Job]:
    yield _plain("raw", "qcow2", "qcow2", ("-O", "qcow2"))
    yield _plain("qcow2", "raw", "raw", ("-O", "raw"))
    yield _plain("qcow2", "VDI", "vdi", ("-O", "vdi"))
    yield _plain("qcow2", "VHD", "vhd", ("-O", "vpc", "-o", "force_size=on"))
    fixed = ("-O", "vpc", "-o", "subformat=fixed,force_size=on")
    yield _plain("qcow2", "VHD fixed", "vhd", fixed, ("-o", "subformat=fixed"))
    yield _plain("qcow2", "VMDK", "vmdk", ("-O", "vmdk"))
    yield _plain("raw", "raw", "raw", ("-O", "raw"))
    yield _plain("qcow2", "VHDX", "vhdx", ("-O", "vhdx"))


def _stream() -> _Job:
    option = ("-o", "subformat=streamOptimized")
    ways: tuple[_Way, ...] = (
        _qemu(QEMU, "raw", "-O", "vmdk", *option),
        *_both(FAST_VERIFIED, "--compress", "fast", *option),
        *_both(SMALL_VERIFIED, "--compress", "small", *option),
    )
    tool = shutil.which("vmdk-convert")
    if tool is not None:
        ways += (_Way(OPEN_VMDK, (tool, "-n", "2", "-c", "1"), "yes"),)  # it calls fsync(2)
    return _Job(
        "raw → streamOptimized VMDK",
        "raw",
        "vmdk",
        ways,
        QEMU,
        (
            ("→ streamOptimized, fast, beside qemu-img", FAST, FAST_VERIFIED, QEMU, 15, False),
            ("the same: size of the file", FAST, None, QEMU, 1.12, True),
            ("→ streamOptimized, small, beside qemu-img", SMALL, SMALL_VERIFIED, QEMU, 5, False),
            ("the same: size of the file", SMALL, None, QEMU, 1, True),
            (
                "→ streamOptimized, fast, beside open-vmdk `vmdk-convert -n 2 -c 1`",
                FAST, FAST_VERIFIED, OPEN_VMDK, 2.5, False,
            ),
        ),
    )  # fmt: skip


def _packed() -> Iterator[_Job]:
    name = "→ compressed qcow2 (deflate), fast, beside `qemu-img convert -c -W -m 16`"
    deflate = ("-O", "qcow2", "-c")
    yield _Job(
        "raw → qcow2, deflate",
        "raw",
        "qcow2",
        (
            _qemu(QEMU_BEST, "raw", *deflate, *BEST),
            *_both(FAST_VERIFIED, "--compress", "fast"),
            *_both(SMALL_VERIFIED, "--compress", "small"),
            _qemu(QEMU, "raw", *deflate, runs=2),
        ),
        QEMU_BEST,
        (
            (name, FAST, FAST_VERIFIED, QEMU_BEST, 8, False),
            ("the same: size of the file", FAST, None, QEMU_BEST, 1.10, True),
        ),
    )
    zstd = ("-O", "qcow2", "-c", "-o", "compression_type=zstd")
    name = "→ compressed qcow2 (zstd), beside qemu-img's with `-W -m 16`, which flushes too"
    yield _Job(
        "raw → qcow2, zstd",
        "raw",
        "qcow2",
        (
            _qemu(QEMU_BEST_FLUSHED, "raw", *zstd, *BEST, *FLUSH),
            *_both(ZSTD_VERIFIED, "--compress", "zstd"),
            _qemu(QEMU_BEST, "raw", *zstd, *BEST),
            _qemu(QEMU, "raw", *zstd),
        ),
        QEMU_BEST_FLUSHED,
        ((name, ZSTD, ZSTD_VERIFIED, QEMU_BEST_FLUSHED, 1, False),),
    )


def _unpacked(source: str, name: str, wanted: float) -> _Job:
    goal = f"{name}, beside qemu-img that flushes"
    raw = ("-O", "raw")
    return _Job(
        name,
        source,
        "raw",
        (
            _qemu(QEMU_FLUSHED, source, *raw, *FLUSH),
            *_both(OURS_VERIFIED),
            _qemu(QEMU, source, *raw),
            _qemu(QEMU_BEST_FLUSHED, source, *raw, *BEST, *FLUSH),
        ),
        QEMU_FLUSHED,
        ((goal, OURS, OURS_VERIFIED, QEMU_FLUSHED, wanted, False),),
    )


def _plain(
    source: str, target: str, suffix: str, asked: tuple[str, ...], ours: tuple[str, ...] = ()
) -> _Job:
    name = f"{source} → {target}"
    best = _qemu(QEMU_BEST_FLUSHED, source, *asked, *BEST, *FLUSH)
    ways: tuple[_Way, ...] = (
        best,
        *_both(OURS_VERIFIED, *ours),
        _qemu(QEMU_FLUSHED, source, *asked, *FLUSH),
        _qemu(QEMU_BEST, source, *asked, *BEST, runs=2),
        _qemu(QEMU, source, *asked, runs=2),
    )
    within = 1 / 1.05
    goals = [
        (f"{name}, beside qemu-img's best that flushes too", OURS, OURS_VERIFIED,
         QEMU_BEST_FLUSHED, within, False),
        (f"{name}, beside plain qemu-img that flushes too", OURS, OURS_VERIFIED,
         QEMU_FLUSHED, 1.0, False),
    ]  # fmt: skip
    if source == target == "raw":
        ways += (_qemu(QEMU_OFFLOADED, source, *asked, "-C", *FLUSH),)
        goals.append(
            (f"{name}, beside `qemu-img convert -C` that flushes too", OURS, OURS_VERIFIED,
             QEMU_OFFLOADED, within, False)
        )  # fmt: skip
    return _Job(name, source, suffix, ways, QEMU_BEST_FLUSHED, tuple(goals))


def stream(options: Options) -> Chapter:
    """What VMware imports."""
    chapter = _chapter("To streamOptimized VMDK", [_stream()], options)
    if shutil.which("vmdk-convert") is not None:
        return chapter
    lacking = "Open-vmdk's `vmdk-convert` is not on the PATH; CONTRIBUTING says how to build it."
    return replace(chapter, text=f"{chapter.text}\n\n{lacking}")


def packed(options: Options) -> Chapter:
    """What is compressed."""
    return _chapter("To compressed qcow2", _packed(), options)


def unpacked(options: Options) -> Chapter:
    """What was compressed."""
    return _chapter("From compressed to raw", _unpackings(), options)


def plain(options: Options) -> Chapter:
    """What is not compressed."""
    return _chapter("Uncompressed pairs", _plains(), options)


def _chapter(title: str, jobs: Iterable[_Job], options: Options) -> Chapter:
    source = disk(options.size)
    tables, goals = [], []
    for job in jobs:
        if options.wants(job.name):
            outcomes = _measured(job, source, options)
            tables.append(_table(job, outcomes))
            goals += [_goal(wanted, outcomes) for wanted in job.goals]
    size = source.path.stat().st_size
    text = _TEXT.format(what=source.what, virtual=size / (1 << 30), data=source.data / 1e6)
    return Chapter(title, text, tuple(tables), tuple(goals))


def _measured(job: _Job, source: Disk, options: Options) -> dict[str, Outcome]:
    image = made(job.source, source.path)
    warm(image)
    folder = CACHE / "output"
    shutil.rmtree(folder, ignore_errors=True)  # what an interrupted run left
    folder.mkdir()
    target: Path = folder / f"disk.{job.suffix}"
    programs = [
        Program(way.name, (*way.argv, str(image), str(target)), way.runs) for way in job.ways
    ]
    try:
        return take_turns(programs, options.runs, target, label=job.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _table(job: _Job, outcomes: Mapping[str, Outcome]) -> Table:
    rows = []
    for way in job.ways:
        outcome = outcomes[way.name]
        runs = f" (at most {way.runs} runs)" if way.runs else ""
        name = f"{way.name}{runs}"
        if isinstance(outcome, Failed):
            rows.append((name, way.flushed, way.verified, outcome.reason[:160], "", "", "", ""))
            continue
        speed, size = faster(outcomes, way.name, job.beside), larger(outcomes, way.name, job.beside)
        rows.append(
            (
                name,
                way.flushed,
                way.verified,
                f"{outcome.wall:.2f}",
                f"{outcome.work:.2f}",
                f"{outcome.size / 1e6:.1f}",
                "" if speed is None else f"{speed:.2f}",
                "" if size is None else f"{size:.3f}",
            )
        )
    columns = (
        "program", "flushed", "verified", "wall, s", "processor, s", "file, MB", "times as fast",
        "times as large",
    )  # fmt: skip
    return Table(job.name, columns, tuple(rows), texts=3)


def _goal(
    wanted: tuple[str, str, str | None, str, float, bool], outcomes: Mapping[str, Outcome]
) -> Goal:
    name, ours, verified, theirs, limit, of_size = wanted
    if of_size:
        found = larger(outcomes, ours, theirs)
        return Goal(name, "times as large", limit, found, at_least=False)
    compared = None if verified is None else faster(outcomes, verified, theirs)
    return Goal(name, "times as fast", limit, faster(outcomes, ours, theirs), compared)


if __name__ == "__main__":
    run([stream, packed, unpacked, plain], __doc__.splitlines()[0])
