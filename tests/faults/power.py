"""A power cut: what a run asked of the file system is written down, and what may be left is made.

What was flushed is there.  Of what came later, each write to a file may be there, be lost, or be
torn at sectors.  Names follow one of three kinds of file system: all in the order in which they
were made, up to some point; each folder's in their order, up to a point of its own; or all of them
at once, long before the data.
"""

from __future__ import annotations

import atexit
import json
import os
import pickle
import shutil
import threading
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from tests.faults import child
from tests.faults.calls import CLONE, CLONED, Call, Role
from tests.faults.scene import Broken, Stage, State
from vmport_converters.publish import publishing
from vmport_formats.units import SECTOR

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from random import Random


class Kind(StrEnum):
    """What was asked."""

    MAKE = "make"
    FOLDER = "mkdir"
    WRITE = "write"
    LENGTH = "length"
    RENAME = "rename"
    LINK = "link"
    REMOVE = "remove"
    FLUSH = "flush"
    FLUSH_ALL = "flush all"


class Order(StrEnum):
    """Which names are there after a cut."""

    PREFIX = "prefix"
    FOLDERS = "folders"
    EARLY = "early"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing asked of the file system; paths are relative to the folder."""

    kind: Kind
    path: str = ""
    to: str = ""
    offset: int = 0
    """Of a write; or the length."""
    data: bytes = b""
    inode: int = 0
    """Of a file that was made."""


_PREAD: Final = os.pread


class Log:
    """Lets everything through, one call at a time, and writes down what it did."""

    def __init__(self, folder: Path) -> None:
        self.events: list[Event] = []
        self._folder = os.path.realpath(folder)
        self._lock = threading.RLock()

    def __call__(
        self, call: Call, do: Callable[[], Any], arguments: tuple[Any, ...], paths: list[str]
    ) -> Any:
        if call.role is Role.SOURCE:
            return do()
        with self._lock:
            names = [os.path.relpath(path, self._folder) for path in paths]
            return self._done(call.name, do, arguments, names, paths[0])

    def _done(
        self, name: str, do: Callable[[], Any], args: tuple[Any, ...], names: list[str], path: str
    ) -> Any:
        if name == "open":
            new = not os.path.lexists(path)
            done = do()
            if args[1] & os.O_CREAT and new:
                self._add(Event(Kind.MAKE, names[0], inode=os.fstat(done).st_ino))
            elif args[1] & os.O_TRUNC:
                self._add(Event(Kind.LENGTH, names[0]))
            return done
        target = args[1] if name == "copy_file_range" else args[0]
        place = os.lseek(target, 0, os.SEEK_CUR) if name in {"write", "sendfile"} else 0
        done = do()
        data = None
        match name:
            case "pwritev":
                place, data = args[2], b"".join(args[1])[:done]
            case "pwrite":
                place, data = args[2], bytes(args[1])[:done]
            case "write":
                data = bytes(args[1])[:done]
            case "copy_file_range":
                place, data = args[4], _PREAD(args[0], done, args[3])
            case "sendfile":
                data = _PREAD(args[1], done, args[2])
            case str() if name == CLONE:
                source, at, length, place = CLONED.unpack(args[2])
                data = _PREAD(source, length, at)
            case "ftruncate" | "truncate":
                self._add(Event(Kind.LENGTH, names[0], offset=args[1]))
            case "fsync" | "fdatasync":
                self._add(Event(Kind.FLUSH, names[0]))
            case "syncfs":
                self._add(Event(Kind.FLUSH_ALL))
            case "mkdir":
                self._add(Event(Kind.FOLDER, names[0]))
            case "unlink" | "rmdir":
                self._add(Event(Kind.REMOVE, names[0]))
            case "rename" | "replace":
                self._add(Event(Kind.RENAME, names[0], names[1]))
            case "renameat2" if done == 0:
                self._add(Event(Kind.RENAME, names[0], names[1]))
            case "link":
                self._add(Event(Kind.LINK, names[0], names[1]))
        if data is not None:
            self._add(Event(Kind.WRITE, names[0], offset=place, data=data))
        return done

    def _add(self, event: Event) -> None:
        self.events.append(event)


# --- What a medium may hold ----------------------------------------------------------------------


@dataclass(slots=True)
class _Thing:
    """A file or a folder."""

    folder: bool
    content: bytes = b""
    """Of a file that was there before."""
    changes: list[tuple[int, Event]] = field(default_factory=list)
    flushed: int = -1
    """The last event that made it safe."""
    inode: int = 0


@dataclass(frozen=True, slots=True)
class _Naming:
    """In one folder a name came to mean something, or nothing."""

    when: int
    folder: int
    name: str
    thing: int | None
    follows: int | None = None
    """The folder where it must be found before it goes from here."""


class Medium:
    """All that was asked, up to a cut."""

    def __init__(self, before: Mapping[str, bytes], events: Sequence[Event]) -> None:
        self._things = [_Thing(folder=True)]
        self._names: dict[tuple[int, str], int] = {}
        self._namings: list[_Naming] = []
        self._cut = len(events)
        for name, content in before.items():
            self._things.append(_Thing(folder=False, content=content))
            self._names[0, name] = len(self._things) - 1
        self._first = dict(self._names)
        for when, event in enumerate(events):
            self._follow(when, event)

    def _follow(self, when: int, event: Event) -> None:
        match event.kind:
            case Kind.MAKE | Kind.FOLDER:
                thing = _Thing(folder=event.kind is Kind.FOLDER, inode=event.inode)
                self._things.append(thing)
                self._name(when, event.path, len(self._things) - 1)
            case Kind.WRITE | Kind.LENGTH:
                if (found := self._find(event.path)) is not None:
                    self._things[found].changes.append((when, event))
            case Kind.FLUSH:
                if (found := self._find(event.path)) is not None:
                    self._things[found].flushed = when
            case Kind.FLUSH_ALL:
                for thing in self._things:
                    thing.flushed = when
            case Kind.REMOVE:
                self._name(when, event.path, None)
            case Kind.RENAME | Kind.LINK:
                self._name(when, event.to, self._find(event.path))
                if event.kind is Kind.RENAME:
                    self._name(when, event.path, None, follows=self._split(event.to)[0])

    def _split(self, path: str) -> tuple[int, str]:
        folder, _, name = path.rpartition("/")
        found = self._find(folder)
        assert found is not None, path
        return found, name

    def _find(self, path: str) -> int | None:
        here: int | None = 0
        for name in path.split("/"):
            if name not in {"", "."} and here is not None:
                here = self._names.get((here, name))
        return here

    def _name(self, when: int, path: str, thing: int | None, follows: int | None = None) -> None:
        folder, name = self._split(path)
        self._namings.append(_Naming(when, folder, name, thing, follows))
        if thing is None:
            self._names.pop((folder, name), None)
        else:
            self._names[folder, name] = thing

    def left(self, order: Order, dice: Random) -> tuple[dict[tuple[int, str], int], list[bytes]]:
        """Names and contents that may be found when the power is back."""
        end = dict.fromkeys(range(len(self._things)), self._cut)
        folders = [number for number, thing in enumerate(self._things) if thing.folder]
        safe = {number: self._things[number].flushed for number in folders}
        if order is Order.PREFIX:
            end = dict.fromkeys(end, dice.randint(max(safe.values()) + 1, self._cut))
        elif order is Order.FOLDERS:
            for number, flushed in safe.items():
                later = dice.randint(flushed + 1, self._cut)
                end[number] = dice.choice((flushed + 1, later))
        names = dict(self._first)
        for it in self._namings:
            if it.when >= end[it.folder] or (it.follows is not None and it.when >= end[it.follows]):
                continue
            if it.thing is None:
                names.pop((it.folder, it.name), None)
            else:
                names[it.folder, it.name] = it.thing
        fate = dice.choice(("lost", "there", "any", "any"))
        return names, [_content(thing, fate, dice) for thing in self._things]

    def make(
        self, folder: Path, names: Mapping[tuple[int, str], int], contents: Sequence[bytes]
    ) -> None:
        """Put that into `folder`, which is empty."""
        found: dict[int, Path] = {0: folder}
        journals = []
        waiting = [0]
        while waiting:
            here = waiting.pop()
            for name in [name for parent, name in names if parent == here]:
                number, path = names[here, name], found[here] / name
                if self._things[number].folder:
                    if number not in found:
                        path.mkdir(mode=0o700)
                        found[number] = path
                        waiting.append(number)
                elif number in found:
                    os.link(found[number], path)
                else:
                    path.write_bytes(contents[number])
                    found[number] = path
                    if name == "moves":
                        journals.append(path)
        for path in journals:
            self._rewrite(path, found)

    def _rewrite(self, journal: Path, found: Mapping[int, Path]) -> None:
        """Let a journal speak of the files that were just made, as it did of those they are."""
        moves = json.loads(journal.read_bytes())
        for _, identity in moves:
            inode, _, modified = identity
            for number, thing in enumerate(self._things):
                if thing.inode == inode and not thing.folder and number in found:
                    os.utime(found[number], ns=(modified, modified))
                    identity[0] = found[number].stat().st_ino
                    break
            else:
                identity[0] = 0
        journal.write_text(json.dumps(moves), encoding="ascii")


def _content(thing: _Thing, fate: str, dice: Random) -> bytes:
    content = bytearray(thing.content)
    for when, event in thing.changes:
        does = "there"
        if when > thing.flushed:
            does = dice.choice(("lost", "there", "torn")) if fate == "any" else fate
        if does == "lost":
            continue
        if event.kind is Kind.LENGTH:
            del content[event.offset :]
            content.extend(bytes(event.offset - len(content)))
            continue
        place, data = event.offset, memoryview(event.data)
        while data:
            part = data[: SECTOR - place % SECTOR]
            if does == "there" or dice.randrange(2):
                content.extend(bytes(max(0, place + len(part) - len(content))))
                content[place : place + len(part)] = part
            place, data = place + len(part), data[len(part) :]
    return bytes(content)


# --- Runs ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Run:
    """A run that went well, as the file system saw it."""

    stage: Stage
    old: bool
    before: Mapping[str, bytes]
    events: Sequence[Event]

    def check(self, cut: int, order: Order, dice: Random) -> State:
        """Cut the power after so many events, and see what is left, and whether work goes on.

        Raises:
            Broken: it is neither what was there before nor what should be.
        """
        medium = Medium(self.before, self.events[:cut])
        names, contents = medium.left(order, dice)
        stage = self.stage
        shutil.rmtree(stage.folder, ignore_errors=True)
        stage.folder.mkdir()
        medium.make(stage.folder, names, contents)
        state = stage.state()
        if cut == len(self.events) and state is not State.COMPLETE:
            raise Broken(f"the run had ended well, and the destination is {state}")
        if state is State.OLD and not self.old:
            raise Broken("something is there that never was")
        if state is State.ABSENT and self.old and len(stage.output.files) == 1:
            raise Broken("what was there is gone")
        if stray := [name for name in stage.leftovers() if not name.startswith(".out.")]:
            raise Broken(f"left behind: {stray}")
        if len(stage.output.files) > 1:
            self._sweep(state)
        else:
            stage.check_next()
        return state

    def _sweep(self, state: State) -> None:
        """Let the next run begin, but come to nothing: it has to bring back what was there."""

        class Enough(Exception):
            pass

        try:
            with publishing(self.stage.folder / self.stage.output.file, force=True):
                raise Enough
        except Enough:
            pass
        now = self.stage.state()
        if left := self.stage.leftovers():
            raise Broken(f"the next run leaves behind: {left}")
        wanted = State.OLD if self.old else State.ABSENT
        if now is not wanted and now is not State.COMPLETE:
            raise Broken(f"the next run makes of {state} {now}")
        if now is State.ABSENT and (
            there := sorted(path.name for path in self.stage.folder.iterdir())
        ):
            raise Broken(f"half a set: {there}")


def recorded(stage: Stage, *, old: bool) -> Run:
    """Run the conversion once, and write down all that it asks of the file system.

    An output of several files is not converted, but moved into place as it is.
    """
    log, path = Log(stage.folder), stage.home / "events"
    stage.set_up(old=old)
    before = {there.name: there.read_bytes() for there in stage.folder.iterdir()}

    def write_down() -> None:
        path.write_bytes(pickle.dumps(log.events))

    def prepare() -> None:
        atexit.register(write_down)  # before the command line's own, so it runs after these
        stage.through(log)()
        if len(stage.output.files) > 1:
            _publish(stage, force=old)
            write_down()
            os._exit(0)

    ended = child.run(stage.words(force=old), prepare)
    if ended.code or stage.state() is not State.COMPLETE:
        raise Broken(f"a run without a fault fails: {ended.said}")
    return Run(stage, old, before, pickle.loads(path.read_bytes()))


def _publish(stage: Stage, *, force: bool) -> None:
    with publishing(stage.folder / stage.output.file, force=force) as staging:
        for name in stage.output.files:
            descriptor = os.open(staging.folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            os.pwrite(descriptor, stage.wanted(name), 0)
            os.close(descriptor)


def cuts(run: Run, cases: int, dice: Random) -> list[tuple[int, Order]]:
    """Where to cut: half of them anywhere, half near the end, where names change; one behind it."""
    last = len(run.events)
    near = max(0, last - 30)
    places = [last, *(dice.randint(0 if turn % 2 else near, last) for turn in range(1, cases))]
    return [(place, [*Order][turn % len(Order)]) for turn, place in enumerate(places)]
