"""Copies ranges of files inside the kernel: shared where it can, else without a detour through us.

The ways are tried in the order of their cost, and one that the system refuses once is not asked for
again: FICLONERANGE shares the blocks of both files, copy_file_range copies inside one file system
(or lets it share, or the server of a network copy), sendfile also across, and read and write always
work.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_FICLONERANGE: Final = 0x4020_940D
_RANGE: Final = struct.Struct("=qQQQ")
"""struct file_clone_range: src_fd, src_offset, src_length, dest_offset."""
_BUFFER: Final = 256 * 1024
_REFUSALS: Final = frozenset(
    {
        errno.EBADF,
        errno.EINVAL,
        errno.ENOSYS,
        errno.ENOTTY,
        errno.EOPNOTSUPP,
        errno.EPERM,
        errno.ETXTBSY,
        errno.EXDEV,
    }
)
"""What the system says when it has no such way here; all else is a failure."""


class CannotRead(OSError):
    """It is the file that is read, not the other, that fails."""


class KernelCopy:
    """Copies into one file."""

    def __init__(self, target: int) -> None:
        """`target` is a descriptor open for writing."""
        self._target = target
        self._ways: list[Callable[[int, int, int, int], int]] = [
            self._copy_file_range,
            self._sendfile,
            self._read_and_write,
        ]

    def share(self, source: int, at: int, length: int, offset: int) -> bool:
        """Let `target` have these bytes of `source` by sharing their blocks; False: impossible.

        Raises:
            OSError: the system failed.
        """
        if not length:  # which would mean: all up to the end of `source`
            return True
        try:
            fcntl.ioctl(self._target, _FICLONERANGE, _RANGE.pack(source, at, length, offset))
        except OSError as error:
            if error.errno in _REFUSALS:
                return False
            raise
        return True

    def copy(self, source: int, at: int, length: int, offset: int) -> None:
        """Copy `length` bytes of `source` from `at`, which it has, to `offset`.

        Raises:
            CannotRead: `source` failed.
            OSError: the system failed otherwise.
            EOFError: `source` is shorter than it was.
        """
        done = 0
        while done < length:
            part = length - done
            try:
                count = self._ways[0](source, at + done, part, offset + done)
            except OSError as error:
                if len(self._ways) == 1 or error.errno not in _REFUSALS | {errno.EIO}:
                    raise
                if error.errno == errno.EIO:  # of which file, only the last way can tell
                    del self._ways[:-1]
                else:
                    self._ways.pop(0)
                continue
            if count == 0:
                if len(self._ways) == 1:
                    raise EOFError
                self._ways.pop(0)  # there are file systems that answer so instead of refusing
            done += count

    def _copy_file_range(self, source: int, at: int, length: int, offset: int) -> int:
        return os.copy_file_range(source, self._target, length, at, offset)

    def _sendfile(self, source: int, at: int, length: int, offset: int) -> int:
        os.lseek(self._target, offset, os.SEEK_SET)
        return os.sendfile(self._target, source, at, length)

    def _read_and_write(self, source: int, at: int, length: int, offset: int) -> int:
        try:
            data = os.pread(source, min(length, _BUFFER), at)
        except OSError as error:
            raise CannotRead(error.errno, error.strerror) from error
        return os.pwrite(self._target, data, offset) if data else 0
