"""A folder with a destination in it, and the promise that is checked after every fault."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING, Final

from tests.faults import child
from tests.faults.calls import Interposer
from vmport_formats.units import KIB

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.calls import Hook


class Broken(AssertionError):
    """The promise was not kept."""


class State(StrEnum):
    """What a user finds at the destination."""

    ABSENT = "absent"
    OLD = "as it was"
    COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class Output:
    """One way to write a disk."""

    name: str
    """For people."""
    suffix: str
    options: tuple[str, ...] = ()
    """Of the command line; BASE in them stands for a disk beside the source."""
    companions: tuple[str, ...] = ()
    """What appears besides ``out.SUFFIX``, the suffix left out."""
    native: bool = True
    """Our own engine writes it: the same bytes each time."""
    made_up: bool = False
    """No conversion at all, but files of random bytes."""
    refused: frozenset[str] = frozenset()
    """System calls that this machine is said not to have."""
    clones: int = 0
    """How often its files are said to be able to share blocks."""

    @property
    def file(self) -> str:
        return f"out{self.suffix}"

    @property
    def files(self) -> tuple[str, ...]:
        """All that appear, the destination first."""
        return (self.file, *(f"out{name}{self.suffix}" for name in self.companions))

    def words(self, source: Path, folder: Path, *, force: bool) -> list[str | Path]:
        """The command line."""
        forced = ["--force"] if force else []
        options = [option.replace("BASE", str(base_of(source))) for option in self.options]
        return ["-q", "convert", *forced, *options, source, folder / self.file]


_COPIES: Final = frozenset({"copy_file_range", "sendfile"})
_FIRST: Final = 1
"""The one that finds out whether blocks can be shared."""
NATIVE: Final = (
    Output("raw", ".raw"),
    Output("raw, by clones", ".raw", clones=1 << 30),
    Output("raw, by copy_file_range", ".raw", clones=_FIRST),
    Output("raw, by sendfile", ".raw", clones=_FIRST, refused=frozenset({"copy_file_range"})),
    Output("raw, by read and write", ".raw", clones=_FIRST, refused=_COPIES),
    Output("qcow2", ".qcow2"),
    Output("qcow2, compressed", ".qcow2", ("--compress", "fast")),
    Output("qcow2, zstd", ".qcow2", ("--compress", "zstd")),
    Output("qcow2, over a base", ".qcow2", ("-o", "backing_file=BASE,backing_fmt=raw")),
    Output("VMDK, sparse", ".vmdk", ("-o", "subformat=monolithicSparse")),
    Output("VMDK, stream", ".vmdk", ("-o", "subformat=streamOptimized")),
    Output("VHD, dynamic", ".vhd", ("-o", "subformat=dynamic")),
    Output("VHD, fixed", ".vhd", ("-o", "subformat=fixed")),
    Output("VHDX, dynamic", ".vhdx"),
    Output("VHDX, fixed", ".vhdx", ("-o", "subformat=fixed")),
    Output("VDI, dynamic", ".vdi"),
    Output("VDI, static", ".vdi", ("-o", "static=on")),
)
SET: Final = Output("a set of three files", ".set", (), ("-1", "-2"), made_up=True)
PREALLOCATED: Final = (
    Output("raw, set aside", ".raw", ("-o", "preallocation=falloc")),
    Output("raw, full", ".raw", ("-o", "preallocation=full")),
    Output("qcow2, set aside", ".qcow2", ("-o", "preallocation=falloc")),
    Output("qcow2, full", ".qcow2", ("-o", "preallocation=full")),
)
"""Met when they are named, as those of qemu-img."""
BY_QEMU: Final = (
    Output("VHDX, by qemu-img", ".vhdx", ("--engine", "qemu-img"), native=False),
    Output(
        "VMDK of two files, by qemu-img",
        ".vmdk",
        ("-o", "subformat=monolithicFlat"),
        ("-flat",),
        native=False,
    ),
)


def base_of(source: Path) -> Path:
    """A raw disk that overlays rest on, and that holds something else than `source`."""
    return source.parent / "base.raw"


def make_disk(path: Path, size: int, *, seed: int) -> None:
    """A raw disk of every kind of block: random bytes, text, zeros, and holes."""
    dice = Random(seed)
    unit = 64 * KIB
    with path.open("wb") as file:
        for place in range(0, size - unit, unit):
            kind = dice.randrange(5)
            if kind < 2:
                data = dice.randbytes(unit)
            elif kind == 2:
                data = (dice.randbytes(512) + b"text" * 384) * (unit // 2048)
            elif kind == 3:
                data = bytes(4 * KIB) + dice.randbytes(4 * KIB) + bytes(unit - 8 * KIB)
            else:
                continue
            file.seek(place)
            file.write(data)
        file.truncate(size)


@dataclass
class Stage:
    """A place for cases of one output: the source, what must come of it, and a folder."""

    output: Output
    source: Path
    home: Path
    """Holds the rest; of our own."""
    small: Path = field(init=False)
    """A source that is converted in no time."""
    folder: Path = field(init=False)
    """Where the destination is; fresh for each case."""
    _wanted: Path = field(init=False)
    _old: Path = field(init=False)

    def __post_init__(self) -> None:
        self.home.mkdir()
        self.folder, self._wanted = self.home / "folder", self.home / "wanted"
        self._old, self.small = self.home / "old", self.home / "small.raw"
        make_disk(self.small, 192 * KIB, seed=2)
        make_disk(base_of(self.small), 128 * KIB, seed=4)
        self._old.mkdir()
        for name in self.output.files:
            (self._old / name).write_bytes(Random(name).randbytes(70_001))
        self._wanted.mkdir()
        if self.output.made_up:
            for name in self.output.files:
                (self._wanted / name).write_bytes(Random(f"new {name}").randbytes(20_011))
            return
        ended = child.run(self.output.words(self.source, self._wanted, force=False))
        if ended.code:
            raise Broken(f"{self.output.name}: no conversion at all: {ended.said}")
        compare = ["qemu-img", "compare", "-f", "raw" if self.source.suffix == ".raw" else "qcow2"]
        kind = {".vhd": "vpc"}.get(self.output.suffix, self.output.suffix[1:])
        wanted = self._wanted / self.output.file
        done = subprocess.run(
            [*compare, "-F", kind, self.source, wanted], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Broken(f"{self.output.name}: {done.stdout}{done.stderr}")

    def set_up(self, *, old: bool) -> Path:
        """A fresh folder; `old`: with other files of the destination's names in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if old:
            shutil.copytree(self._old, self.folder)
        else:
            self.folder.mkdir()
        return self.folder

    def through(self, hook: Hook) -> Callable[[], None]:
        """What puts `hook` between the conversion and its system calls."""
        between = Interposer(
            hook,
            folder=self.folder,
            sources=[self.source, base_of(self.source)],
            refused=self.output.refused,
            clones=self.output.clones,
        )
        return between.install

    def prepare(self) -> Callable[[], object]:
        """What makes a child's system as the output wants it."""
        if self.output.refused or self.output.clones:
            return self.through(lambda _call, do, _arguments, _paths: do())
        return lambda: None

    def words(self, *, force: bool) -> list[str | Path]:
        """The conversion that is tried."""
        return self.output.words(self.source, self.folder, force=force)

    def wanted(self, name: str) -> bytes:
        """What a file of the destination holds in the end."""
        return (self._wanted / name).read_bytes()

    def state(self) -> State:
        """What is at the destination, all of its files taken together.

        Raises:
            Broken: neither nothing, nor what was there, nor all of what should be.
        """
        there = [name for name in self.output.files if os.path.lexists(self.folder / name)]
        if not there:
            return State.ABSENT
        if len(there) < len(self.output.files):
            if self.output.file in there:
                raise Broken(f"of {self.output.files} only {there} are there")
            return State.ABSENT  # companions without the file that names them
        if self._alike(self._old):
            return State.OLD
        if self._alike(self._wanted) if self.output.native else self._equal():
            return State.COMPLETE
        sizes = [(self.folder / name).stat().st_size for name in there]
        raise Broken(f"{there} of {sizes} bytes is neither the old one nor complete")

    def _alike(self, other: Path) -> bool:
        return all(
            filecmp.cmp(self.folder / name, other / name, shallow=False)
            for name in self.output.files
        )

    def _equal(self) -> bool:
        done = child.run(
            ["compare", self.folder / self.output.file, self.source, "--allow", self.folder]
        )
        return done.code == 0

    def leftovers(self) -> list[str]:
        """Names in the folder that are not the destination's."""
        return sorted({path.name for path in self.folder.iterdir()} - {*self.output.files})

    def check(
        self, ended: child.Ended, *, old: bool, codes: set[int], killed: bool = False
    ) -> State:
        """That the promise holds after a run, and that it ended with one of these codes.

        Raises:
            Broken: it does not.
        """
        state = self.state()
        before = State.OLD if old else State.ABSENT
        if "Traceback" in ended.said or "Exception ignored" in ended.said:
            raise Broken(f"a traceback: {ended.said}")
        if ended.code not in codes:
            raise Broken(f"exit code {ended.code}, not {sorted(codes)}: {ended.said}")
        if ended.code == 0 and state is not State.COMPLETE:
            raise Broken(f"exit code 0, but the destination is {state}")
        if state not in {before, State.COMPLETE}:
            raise Broken(f"the destination is {state}, and was {before}")
        if ended.code > 0:
            _check_message(ended)
        if killed:
            if stray := [name for name in self.leftovers() if not name.startswith(".out.")]:
                raise Broken(f"left behind: {stray}")
        elif left := self.leftovers():
            raise Broken(f"left behind: {left}")
        if state is State.ABSENT and (there := _names(self.folder)) and not killed:
            raise Broken(f"half a set: {there}")
        return state

    def check_next(self) -> None:
        """That the next run to the same destination succeeds, and removes what the last one left.

        Raises:
            Broken: it does not.
        """
        ended = child.run(self.output.words(self.small, self.folder, force=True))
        if ended.code or ended.said:
            raise Broken(f"the next run ended with {ended.code}: {ended.said}")
        if _names(self.folder) != sorted(self.output.files):
            raise Broken(f"after the next run there is {_names(self.folder)}")


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _check_message(ended: child.Ended) -> None:
    """That it says in one line why it failed; a hint may follow."""
    lines = [line for line in ended.said.splitlines() if not line.startswith("vmport: warning: ")]
    start = "vmport: interrupted" if ended.code == 130 else "vmport: error: "
    if not lines or not lines[0].startswith(start):
        raise Broken(f"it says {ended.said!r}")
    if len(lines) > 2 or (len(lines) == 2 and not lines[1].startswith("  hint: ")):
        raise Broken(f"it says more than one line and a hint: {ended.said!r}")
