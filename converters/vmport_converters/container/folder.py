"""A root filesystem in a folder: walked by descriptor, so that no link leads outside.

Every step opens one name below an open folder and follows no link; a path is never handed to the
system as a whole.  What is read later is checked to be the thing that was seen first.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_converters.container.rootfs import Note, Rootfs, Tally
from vmport_formats.errors import UnreadableInput
from vmport_formats.filesystem.model import MAX_PATH, Device, Entry, EntryKind, parent, printed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_converters.container.rootfs import Limits

_CHUNK: Final = 1 << 20
_KEPT_OPEN: Final = 64
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: should a FIFO have taken the place of a file, opening it must not wait.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_NO_XATTRS: Final = frozenset({errno.ENOTSUP, errno.ENOSYS})
_SWAPPED: Final = frozenset({errno.ELOOP, errno.ENXIO, errno.ENODATA, errno.ESTALE})
"""What the system answers when a thing is not what it was a moment ago."""

_RUNTIME_MOUNTS: Final = frozenset({b"dev", b"proc", b"run", b"sys"})
"""Where a running system shows its kernel; nothing there is on its disk."""

_KINDS: Final = {
    stat.S_IFREG: EntryKind.FILE,
    stat.S_IFDIR: EntryKind.FOLDER,
    stat.S_IFLNK: EntryKind.SYMLINK,
    stat.S_IFCHR: EntryKind.CHARACTER_DEVICE,
    stat.S_IFBLK: EntryKind.BLOCK_DEVICE,
    stat.S_IFIFO: EntryKind.FIFO,
    stat.S_IFSOCK: EntryKind.SOCKET,
}


class _Identity(NamedTuple):
    """What tells that a file is still the one that was seen, and unchanged."""

    device: int
    inode: int
    size: int
    mtime: int
    ctime: int

    @classmethod
    def of(cls, status: os.stat_result) -> _Identity:
        return cls(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )


class _Folders:
    """Descriptors of folders below a root, the last few that were used kept open."""

    def __init__(self, root: int, name: str) -> None:
        self._root = root
        self.name = name
        self._parts: list[bytes] = []
        self._open: list[int | None] = []

    def close(self) -> None:
        """Close what is open; the root stays the caller's."""
        self._leave(0)

    def enter(self, path: bytes) -> int:
        """A descriptor of the folder at `path`; good until the next call.

        Raises:
            OSError: a component is gone, is no folder, or may not be entered.
        """
        parts = path.split(b"/") if path else []
        common = 0
        for mine, wanted in zip(self._parts, parts, strict=False):
            if mine != wanted:
                break
            common += 1
        self._leave(common)
        # The deepest one that is still open, then down from there.
        start = common
        while start and self._open[start - 1] is None:
            start -= 1
        above = self._root if start == 0 else self._open[start - 1]
        for depth in range(start, len(parts)):
            here = os.open(parts[depth], _FOLDER, dir_fd=above)
            if depth < len(self._open):
                self._open[depth] = here
            else:
                self._parts.append(parts[depth])
                self._open.append(here)
            self._close_above(depth - _KEPT_OPEN)
            above = here
        return self._root if above is None else above

    def _leave(self, depth: int) -> None:
        while len(self._open) > depth:
            self._parts.pop()
            descriptor = self._open.pop()
            if descriptor is not None:
                os.close(descriptor)

    def _close_above(self, depth: int) -> None:
        if depth >= 0:
            descriptor = self._open[depth]
            if descriptor is not None:
                os.close(descriptor)
                self._open[depth] = None


@dataclass(frozen=True, slots=True)
class _FolderContent:
    """The content of one file below the root."""

    folders: _Folders
    path: bytes
    seen: _Identity

    def chunks(self) -> Iterator[bytes]:
        """All bytes of the file.

        Raises:
            UnreadableInput: it cannot be read, or is not what it was when it was listed.
        """
        try:
            descriptor = self._open()
        except OSError as error:
            raise _unreadable(self.folders.name, self.path, error) from error
        try:
            self._check(descriptor)
            left = self.seen.size
            while left:
                try:
                    chunk = os.read(descriptor, min(left, _CHUNK))
                except OSError as error:
                    raise _unreadable(self.folders.name, self.path, error) from error
                if not chunk:
                    raise _changed(self.folders.name, self.path)
                left -= len(chunk)
                yield chunk
            self._check(descriptor)
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        above = self.folders.enter(parent(self.path))
        name = self.path.rpartition(b"/")[2]
        try:  # reading should not touch the source's access times; only its owner may ask for that
            return os.open(name, _FILE | os.O_NOATIME, dir_fd=above)
        except PermissionError:
            return os.open(name, _FILE, dir_fd=above)

    def _check(self, descriptor: int) -> None:
        if _Identity.of(os.fstat(descriptor)) != self.seen:
            raise _changed(self.folders.name, self.path)


class _Item(NamedTuple):
    """A name in a folder, and what the system says of it."""

    name: bytes
    status: os.stat_result
    target: bytes
    xattrs: tuple[tuple[str, bytes], ...]
    readable: bool


@contextmanager
def reading_folder(path: Path, *, limits: Limits) -> Iterator[Rootfs]:
    """What the folder at `path` holds; content may be read until the block is left.

    Raises:
        UnreadableInput: it may not be read, or something vanished while it was looked at.
        UnsafeInput: it holds more than the limits allow.
    """
    name = str(path)
    try:
        root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise UnreadableInput(
            name, code="source.open", problem=f"cannot open: {error.strerror}"
        ) from error
    folders = _Folders(root, name)
    try:
        if not Path("/proc/self/fd").is_dir():
            raise UnreadableInput(
                name,
                code="export.no-proc",
                problem="a folder is read through /proc, which is not mounted",
            )
        walk = _Walk(root, folders)
        tally = Tally(name, limits)
        entries = []
        for entry in walk.entries():
            tally.add(entry)
            entries.append(entry)
        yield Rootfs(name=name, entries=entries, notes=tuple(walk.notes))
    finally:
        folders.close()
        os.close(root)


class _Walk:
    """One pass over the names below a root; no file is opened."""

    def __init__(self, root: int, folders: _Folders) -> None:
        self._root = root
        self._name = folders.name
        self._folders = folders
        self._privileged = os.geteuid() == 0
        self.notes: list[Note] = []

    def entries(self) -> Iterator[Entry]:
        try:
            status = os.fstat(self._root)
            xattrs = _xattrs(f"/proc/self/fd/{self._root}", follow=True)
        except OSError as error:
            raise _unreadable(self._name, b"", error) from error
        yield self._entry(b"", _Item(b"", status, b"", xattrs, readable=True))
        stack = [(b"", iter(self._list(b"")), status.st_dev)]
        while stack:
            above, items, device = stack[-1]
            item = next(items, None)
            if item is None:
                stack.pop()
                continue
            path = above + b"/" + item.name if above else item.name
            yield self._entry(path, item)
            if not stat.S_ISDIR(item.status.st_mode) or not item.readable:
                continue
            if path in _RUNTIME_MOUNTS and item.status.st_dev != device:
                self.notes.append(
                    Note(
                        "export.mounted",
                        f"{printed(path)} is another file system, mounted there by a running "
                        "system; what it shows was left out",
                    )
                )
            elif len(path) <= MAX_PATH:  # what lies deeper no engine can unpack; see `selection`
                stack.append((path, iter(self._list(path)), item.status.st_dev))

    def _list(self, path: bytes) -> list[_Item]:
        try:
            descriptor = self._folders.enter(path)
            names = sorted(os.fsencode(name) for name in os.listdir(descriptor))  # noqa: PTH208
        except OSError as error:
            raise _unreadable(self._name, path, error) from error
        items = []
        for name in names:
            try:
                items.append(self._look(descriptor, name))
            except OSError as error:
                raise _unreadable(self._name, path + b"/" + name, error) from error
        return items

    def _look(self, folder: int, name: bytes) -> _Item:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        kind = stat.S_IFMT(status.st_mode)
        target = os.readlink(name, dir_fd=folder) if kind == stat.S_IFLNK else b""
        readable = self._privileged or kind not in {stat.S_IFREG, stat.S_IFDIR}
        if not readable:
            wanted = os.R_OK | os.X_OK if kind == stat.S_IFDIR else os.R_OK
            readable = os.access(name, wanted, dir_fd=folder, effective_ids=True)
        # There is no lgetxattrat; the link in /proc is the folder itself, and no path.
        xattrs = _xattrs(b"/proc/self/fd/%d/%b" % (folder, name), follow=False) if readable else ()
        return _Item(name, status, target, xattrs, readable)

    def _entry(self, path: bytes, item: _Item) -> Entry:
        status = item.status
        kind = _KINDS[stat.S_IFMT(status.st_mode)]
        is_file = kind is EntryKind.FILE
        is_device = kind in {EntryKind.CHARACTER_DEVICE, EntryKind.BLOCK_DEVICE}
        several = kind is not EntryKind.FOLDER and status.st_nlink > 1
        return Entry(
            path=path,
            kind=kind,
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            mtime=status.st_mtime_ns,
            size=status.st_size if is_file else 0,
            target=item.target,
            device=Device(os.major(status.st_rdev), os.minor(status.st_rdev))
            if is_device
            else None,
            xattrs=item.xattrs,
            inode=(status.st_dev, status.st_ino) if several else None,
            content=_FolderContent(self._folders, path, _Identity.of(status)) if is_file else None,
            readable=item.readable,
        )


def _xattrs(path: str | bytes, *, follow: bool) -> tuple[tuple[str, bytes], ...]:
    try:
        names = os.listxattr(path, follow_symlinks=follow)
    except OSError as error:
        if error.errno in _NO_XATTRS:
            return ()
        raise
    if not names:
        return ()
    return tuple((name, os.getxattr(path, name, follow_symlinks=follow)) for name in sorted(names))


def _unreadable(root: str, path: bytes, error: OSError) -> UnreadableInput:
    if isinstance(error, FileNotFoundError | NotADirectoryError) or error.errno in _SWAPPED:
        return _changed(root, path)
    return UnreadableInput(
        _place(root, path), code="source.read", problem=f"cannot be read: {error.strerror}"
    )


def _changed(root: str, path: bytes) -> UnreadableInput:
    return UnreadableInput(
        _place(root, path),
        code="source.changed",
        problem="changed while it was read",
        hint="stop what writes to it, or export a snapshot",
    )


def _place(root: str, path: bytes) -> str:
    return os.path.join(root, os.fsdecode(path)) if path else root  # noqa: PTH118
