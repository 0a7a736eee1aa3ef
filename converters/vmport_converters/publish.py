"""The only place where a destination appears: absent, as it was, or complete; never half-written.

Output is written inside a staging folder beside the destination, under its final name, so that
formats of several files name each other rightly.  Leaving the block without an exception flushes
all of it to the medium, then renames it into place without replacing anything (unless forced),
companions first and the named destination last.  Any exception undoes all of that.

A run that was killed leaves its staging folder behind.  It holds no lock any more, so the next run
to the same destination knows it for dead, undoes what it had moved, and removes it:

=========  =====================================================================================
``lock``   a file, locked as long as the run lives
``new/``   what is being written
``moves``  only while several files move: which, with their inodes, the named destination last
``old/``   what they displaced
=========  =====================================================================================
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import stat
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vmport_converters._posix import (
    flush,
    flush_folder,
    flush_tree,
    is_folder,
    remove_tree,
    rename_new,
)
from vmport_converters.interruption import held, owe, settle
from vmport_formats.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


_PATIENCE: Final = 200
_PAUSE: Final = 0.02
"""Seconds, each of those times, that another run may take to move its files."""


@dataclass(frozen=True, slots=True)
class Staging:
    """Where to write: `path` stands in for the destination.  All three are absolute.

    Everything else in `folder`, where it lies, is published beside the destination.  `scratch` is
    a folder of its own, for what the work needs; it is thrown away.
    """

    path: Path
    folder: Path
    scratch: Path


@contextmanager
def publishing(
    destination: Path, *, force: bool = False, folder_marker: str | None = None
) -> Iterator[Staging]:
    """Write to the yielded `Staging.path`; it appears as `destination` when the block ends well.

    `destination` may become a file or a folder.  `force` replaces a file (of a symbolic link, the
    link itself); a folder is replaced only when it is empty or holds an entry called
    `folder_marker`, so that a slip of the hand does not cost somebody's home.

    Raises:
        OutputError: the destination exists, its folder does not, or a write failed.
    """
    owed = None
    try:
        with _reported(destination):
            _check_target(destination, force=force, folder_marker=folder_marker)
            _sweep(destination)
            with held():
                run = _Run.begin(destination)
                owed = owe(run.end)
            new, scratch = run.new.absolute(), run.scratch.absolute()
            yield Staging(new / destination.name, new, scratch)
            flush_tree(run.new)
            with held():
                _move_into_place(run, force=force, folder_marker=folder_marker)
                flush_folder(destination.parent)
    finally:
        if owed is not None:
            settle(owed)


@contextmanager
def _reported(destination: Path) -> Iterator[None]:
    """What the system refuses becomes an `OutputError` that says which file and why."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EEXIST:
            raise _exists(destination) from error
        reason = error.strerror or str(error)
        raise OutputError(
            destination, code="output.write", problem=f"cannot be written: {reason}"
        ) from error


def _exists(path: Path) -> OutputError:
    return OutputError(
        path,
        code="output.exists",
        problem="exists already; it was not touched",
        hint="pass --force to replace it",
    )


def _check_target(path: Path, *, force: bool, folder_marker: str | None) -> None:
    """Refuse a destination that cannot become one, before any work is done."""
    if path.name in {"", ".", ".."}:
        raise OutputError(path, code="output.name", problem="is not a name that a file can have")
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise OutputError(
                path,
                code="output.no-folder",
                problem=f"its folder {path.parent} does not exist",
                hint="create it first",
            ) from None
        return
    if stat.S_ISDIR(mode):
        _check_folder(path, force=force, marker=folder_marker)
    elif not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
        raise OutputError(
            path,
            code="output.special",
            problem="is neither a regular file nor a folder; it is not replaced, even with --force",
            hint="choose another name",
        )
    elif not force:
        raise _exists(path)


def _check_folder(path: Path, *, force: bool, marker: str | None) -> None:
    if marker is None:
        raise OutputError(
            path,
            code="output.folder",
            problem="is a folder; it is not replaced by a file, even with --force",
            hint=f"name a file in it, such as {path / 'NAME'}",
        )
    if any(path.iterdir()) and not (path / marker).exists():
        raise OutputError(
            path,
            code="output.folder",
            problem="is a folder with other content; it is not replaced, even with --force",
            hint="remove it yourself, or choose another name",
        )
    if not force:
        raise _exists(path)


@dataclass(frozen=True, slots=True)
class _Run:
    """The staging folder of one run, as in the table above."""

    destination: Path
    folder: Path
    lock: int
    """The descriptor of the lock file; closing it, also by dying, lets go of the lock."""

    @property
    def new(self) -> Path:
        return self.folder / "new"

    @property
    def old(self) -> Path:
        return self.folder / "old"

    @property
    def moves(self) -> Path:
        return self.folder / "moves"

    @property
    def scratch(self) -> Path:
        return self.folder / "scratch"

    @classmethod
    def begin(cls, destination: Path) -> _Run:
        while True:
            folder = destination.parent / f"{_prefix(destination)}{os.urandom(6).hex()}"
            folder.mkdir(mode=0o700)
            try:
                if run := cls._lock(destination, folder, fresh=True):
                    run.new.mkdir()
                    run.scratch.mkdir()
                    return run
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise

    @classmethod
    def adopt(cls, destination: Path, folder: Path) -> _Run | None:
        """The dead run whose staging folder this is; None while it lives, or when it is gone."""
        return cls._lock(destination, folder, fresh=False)

    @classmethod
    def _lock(cls, destination: Path, folder: Path, *, fresh: bool) -> _Run | None:
        """None: somebody else holds it; or, while we made it, a sweep took it for dead."""
        # A file, because over NFS a folder cannot be locked.
        name = folder / "lock"
        try:
            lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), name.lstat()):
                return cls(destination, folder, lock)
        except (BlockingIOError, FileNotFoundError):
            pass
        except OSError:
            # A file system without locks: nobody else can take ours for dead either.
            if fresh:
                return cls(destination, folder, lock)
        os.close(lock)
        return None

    def end(self) -> None:
        """Undo what is half done, remove the staging folder, let go of the lock."""
        try:
            with suppress(OSError):
                _undo(self)
                remove_tree(self.folder)
        finally:
            with suppress(OSError):  # it is let go of all the same
                os.close(self.lock)


def _prefix(destination: Path) -> str:
    # A name has at most 255 bytes, and the staging folder's holds the destination's.
    stem = os.fsencode(destination.name)[:200].decode(errors="ignore")
    return f".{stem}.vmport-"


def _sweep(destination: Path) -> None:
    """Undo and remove what dead runs to the same destination have left."""
    pattern = re.compile(re.escape(_prefix(destination)) + "[0-9a-f]{12}")
    try:
        with os.scandir(destination.parent) as entries:
            names = [entry.name for entry in entries if pattern.fullmatch(entry.name)]
    except PermissionError:  # a folder that one may write to but not list
        return
    for name in names:
        folder = destination.parent / name
        with suppress(OSError):  # live runs come and go meanwhile
            status = folder.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
                dead = _Run.adopt(destination, folder)
                if dead is not None:
                    dead.end()


def _move_into_place(run: _Run, *, force: bool, folder_marker: str | None) -> None:
    """Move every entry of the new folder beside the destination, whose own comes last."""
    destination = run.destination
    names = sorted(
        (entry.name for entry in run.new.iterdir()),
        key=lambda name: (name == destination.name, name),
    )
    if destination.name not in names:
        raise OutputError(
            destination, code="output.missing", problem="nothing was written under this name"
        )
    for name in names[:-1]:
        _check_target(destination.parent / name, force=force, folder_marker=None)
    staged = run.new / destination.name
    if len(names) > 1:
        _move_set(run, names, force=force)
    elif not force:
        rename_new(staged, destination)
    elif not is_folder(staged) and not is_folder(destination):
        staged.replace(destination)
    else:
        if destination.exists():
            _check_target(destination, force=True, folder_marker=folder_marker)
        _move_set(run, names, force=True)


def _move_set(run: _Run, names: list[str], *, force: bool) -> None:
    """Move what no single rename can: the destination is absent in between, and never mixed.

    Whatever goes wrong, `_undo` brings back what was there, now or in the sweep of a later run.
    """
    parent = run.destination.parent
    with _alone_in(parent):
        _write_journal(run, names)
        if force:
            run.old.mkdir()
            flush_folder(run.folder)
            for name in reversed(names):
                if os.path.lexists(parent / name):
                    (parent / name).rename(run.old / name)
            flush_folder(run.old)  # before what is in it is displaced
        for name in names:
            if name == run.destination.name:
                flush_folder(parent)
            rename_new(run.new / name, parent / name)


def _write_journal(run: _Run, names: list[str]) -> None:
    part = run.moves.with_suffix(".part")
    part.write_text(
        json.dumps([(name, _identity(run.new / name)) for name in names]), encoding="ascii"
    )
    flush(part)
    part.rename(run.moves)
    flush_folder(run.folder)


def _undo(run: _Run) -> None:
    """Take back what `_move_set` has moved, unless it came to its end."""
    try:
        moves: list[tuple[str, list[int]]] = json.loads(run.moves.read_text(encoding="ascii"))
    except FileNotFoundError:
        return
    parent = run.destination.parent
    *companions, (last, its_identity) = moves
    with _alone_in(parent):
        if _identity(parent / last) == its_identity:
            return
        for name, identity in companions:
            if _identity(parent / name) == identity:
                (parent / name).unlink()
        for name, _identity_of_new in moves:
            if os.path.lexists(run.old / name):
                with suppress(FileExistsError):  # somebody else was faster
                    rename_new(run.old / name, parent / name)
        flush_folder(parent)  # before the journal, and what it is about, are removed


def _identity(path: Path) -> list[int] | None:
    """Tells a file from any other that may get its name later; None when there is none."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return [status.st_ino, status.st_size, status.st_mtime_ns]


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other runs from moving files in `folder`, where its file system knows such locks.

    Ours are held for an instant; somebody else's must not hold us up for ever.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        yield
        return
    try:
        for _ in range(_PATIENCE):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_PAUSE)
            except OSError:  # there are no such locks here
                break
            else:
                break
        yield
    finally:
        os.close(descriptor)
