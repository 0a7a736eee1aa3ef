"""The only place where a destination appears: absent, as it was, or complete; never half-written.

Output is written inside a staging folder beside the destination, under its final name, so that
formats of several files name each other rightly.  Leaving the block without an exception flushes
all of it to the medium, then renames it into place without replacing anything (unless forced),
companions first and the named destination last.  Any exception removes the staging folder.  A run
that was killed leaves one behind; it holds no lock any more, and the next run to the same
destination removes it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vmport_formats.errors import OutputError, VmportError

if TYPE_CHECKING:
    from collections.abc import Iterator

_AT_FDCWD: Final = -100
_RENAME_NOREPLACE: Final = 1
_RENAME_EXCHANGE: Final = 2


@dataclass(frozen=True, slots=True)
class Staging:
    """Where to write: `path` stands in for the destination; `folder` holds it and companions."""

    path: Path
    folder: Path


@contextmanager
def publishing(
    destination: Path, *, force: bool = False, folder_marker: str | None = None
) -> Iterator[Staging]:
    """Write to the yielded `Staging.path`; it appears as `destination` when the block ends well.

    `destination` may become a file or a folder.  `force` replaces a regular file; a folder is
    replaced only when it is empty or holds an entry called `folder_marker`, so that a slip of the
    hand does not cost somebody's home.

    Raises:
        OutputError: the destination exists, its folder does not, or a write failed.
    """
    _check_destination(destination, force=force, folder_marker=folder_marker)
    try:
        _remove_leftovers(destination)
        folder, lock = _make_staging(destination)
    except OSError as error:
        raise _output_error(destination, error) from error
    try:
        try:
            yield Staging(folder / destination.name, folder)
        except OSError as error:
            if isinstance(error, VmportError | BrokenPipeError):
                raise
            raise _output_error(destination, error) from error
        try:
            _flush_tree(folder)
            _move_into_place(folder, destination, force=force, folder_marker=folder_marker)
            _flush(destination.parent)
        except OSError as error:
            raise _output_error(destination, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _check_destination(destination: Path, *, force: bool, folder_marker: str | None) -> None:
    if destination.name in {"", ".", ".."}:
        raise OutputError(
            destination, code="output.name", problem="is not a name that a file can have"
        )
    try:
        mode = destination.lstat().st_mode
    except FileNotFoundError:
        if not destination.parent.is_dir():
            raise OutputError(
                destination,
                code="output.no-folder",
                problem=f"its folder {destination.parent} does not exist",
                hint="create it first",
            ) from None
        return
    except OSError as error:
        raise _output_error(destination, error) from error
    if not force:
        raise _exists(destination)
    if stat.S_ISDIR(mode):
        if not any(destination.iterdir()):
            return
        if folder_marker is None or not (destination / folder_marker).exists():
            raise OutputError(
                destination,
                code="output.folder",
                problem="is a folder with other content; it is not replaced, even with --force",
                hint="remove it yourself, or choose another name",
            )
    elif not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
        raise OutputError(
            destination,
            code="output.special",
            problem="is neither a regular file nor a folder; it is not replaced",
        )


def _exists(path: Path) -> OutputError:
    return OutputError(
        path,
        code="output.exists",
        problem="exists already; it was not touched",
        hint="pass --force to replace it",
    )


def _output_error(destination: Path, error: OSError) -> OutputError:
    if error.errno == errno.EEXIST:
        return _exists(destination)
    reason = error.strerror or str(error)
    return OutputError(destination, code="output.write", problem=f"cannot be written: {reason}")


def _make_staging(destination: Path) -> tuple[Path, int]:
    """A new folder beside `destination` and the descriptor that holds its lock."""
    while True:
        folder = destination.parent / f".{destination.name[:200]}.vmport-{secrets.token_hex(6)}"
        folder.mkdir(mode=0o700)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            mine = os.path.samestat(folder.stat(), os.fstat(lock))
        except FileNotFoundError:  # somebody's sweep came between mkdir and flock
            mine = False
        if mine:
            return folder, lock
        os.close(lock)


def _remove_leftovers(destination: Path) -> None:
    pattern = re.compile(re.escape(f".{destination.name[:200]}.vmport-") + "[0-9a-f]{12}")
    with os.scandir(destination.parent) as entries:
        found = [
            Path(entry)
            for entry in entries
            if pattern.fullmatch(entry.name)
            and entry.is_dir(follow_symlinks=False)
            and entry.stat(follow_symlinks=False).st_uid == os.geteuid()
        ]
    for folder in found:
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass  # its run is alive
        finally:
            os.close(lock)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_tree(folder: Path) -> None:
    for here, _folders, files in os.walk(folder):
        for name in files:
            _flush(Path(here, name))
        _flush(Path(here))


def _move_into_place(
    folder: Path, destination: Path, *, force: bool, folder_marker: str | None
) -> None:
    """Move every entry of `folder` beside it, the destination's own last; all or nothing."""
    found = (entry.name for entry in folder.iterdir())
    names = sorted(found, key=lambda name: (name == destination.name, name))
    if destination.name not in names:
        raise OutputError(
            destination, code="output.missing", problem="nothing was written under this name"
        )
    for name in names:
        companion = destination.parent / name
        if name != destination.name:
            _check_destination(companion, force=force, folder_marker=None)
    moved: list[Path] = []
    try:
        for name in names:
            target = destination.parent / name
            _rename(folder / name, target, force=force, folder_marker=folder_marker)
            moved.append(target)
    except BaseException:
        if not force:
            for target in moved:
                target.unlink()
        raise


def _rename(source: Path, target: Path, *, force: bool, folder_marker: str | None) -> None:
    if not force:
        _renameat2(source, target, _RENAME_NOREPLACE)
    elif source.is_dir() and target.is_dir():
        _check_destination(target, force=True, folder_marker=folder_marker)
        # The old one goes into the staging folder, and away with it.
        _renameat2(source, target, _RENAME_EXCHANGE)
    else:
        source.replace(target)


def _renameat2(source: Path, target: Path, flags: int) -> None:
    """renameat2(2), which Python does not offer; link(2) where a file system knows no flags."""
    libc = ctypes.CDLL(None, use_errno=True)
    status = libc.renameat2(
        _AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), ctypes.c_uint(flags)
    )
    if status == 0:
        return
    code = ctypes.get_errno()
    if code == errno.EINVAL and flags == _RENAME_NOREPLACE and source.is_file():
        os.link(source, target)
        source.unlink()
        return
    raise OSError(code, os.strerror(code), str(target))
