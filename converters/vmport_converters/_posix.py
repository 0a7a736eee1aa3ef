"""What Python's os lacks: renaming onto nothing, flushing a whole tree, removing a stubborn one."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

_AT_FDCWD: Final = -100
_RENAME_NOREPLACE: Final = 1
_FSYNCED_SINGLY: Final = 64
"""Trees of more files are flushed with their whole file system: one call, not a thousand."""


def is_folder(path: Path) -> bool:
    """Whether it is one itself, not a link to one."""
    return path.is_dir() and not path.is_symlink()


def rename_new(source: Path, target: Path) -> None:
    """Rename, but never onto something: renameat2(2), which Python does not offer."""
    paths = os.fsencode(source), os.fsencode(target)
    if _libc().renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_NOREPLACE) == 0:
        return
    error = _last_error(target)
    if error.errno not in {errno.EINVAL, errno.ENOSYS}:
        raise error
    # A file system (NFS) or kernel without the flag.
    if is_folder(source):
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        source.rename(target)
    else:
        os.link(source, target, follow_symlinks=False)
        source.unlink()


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _last_error(path: Path) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code), str(path))


def free_space(folder: Path) -> int:
    """Bytes that may still be written to the file system of `folder`."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def flush_tree(folder: Path) -> None:
    """Bring all files in `folder`, and their names, to the medium; follow no link, open no FIFO."""
    paths = [folder]
    for here, folders, files in os.walk(folder):
        paths += [Path(here, name) for name in (*folders, *files)]
        if len(paths) > _FSYNCED_SINGLY:
            _flush_file_system(folder)
            return
    try:
        for path in paths:
            if stat.S_IFMT(path.lstat().st_mode) in {stat.S_IFREG, stat.S_IFDIR}:
                flush(path)
    except PermissionError:  # not ours to read, such as a shadow file in a root file system
        _flush_file_system(folder)


def flush(path: Path) -> None:
    """Bring a file's content, or a folder's names, to the medium."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(path: Path) -> None:
    """Bring the names in a folder to the medium, even if we may not list it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # a folder that one may write to but not read
        os.sync()
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_file_system(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc().syncfs(descriptor) != 0:
            raise _last_error(folder)
    finally:
        os.close(descriptor)


def remove_tree(folder: Path) -> None:
    """Remove `folder` and all that is in it; what one refusal stops, it tries once more."""
    with suppress(OSError):
        _open_up(folder)
    with suppress(OSError):  # closing a folder may fail, which is not among what is ignored
        shutil.rmtree(folder, ignore_errors=True)
    if os.path.lexists(folder):
        shutil.rmtree(folder)


def _open_up(folder: Path) -> None:
    """Let its folders be emptied: a published tree may hold some that forbid that."""
    for _here, folders, _files, descriptor in os.fwalk(folder):
        for name in folders:
            mode = os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode) and mode & stat.S_IRWXU != stat.S_IRWXU:
                os.chmod(name, stat.S_IRWXU, dir_fd=descriptor)
