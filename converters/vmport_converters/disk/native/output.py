"""The file that is being written: the one place where the native engine writes."""

from __future__ import annotations

import errno
import os
from collections import deque
from threading import Thread
from typing import TYPE_CHECKING, Final, Self

from vmport_converters._posix import await_writeback, start_writeback
from vmport_formats.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from vmport_formats.disk.composer import Data, Write

_MOST_PARTS: Final = 512
"""What one call takes: Linux allows 1024."""
_MOST_BYTES: Final = 4 * MIB
_STARTED: Final = 32 * MIB
"""Bytes after which the medium is told to begin."""
_BEHIND: Final = 8
"""That many times `_STARTED` are in its hands at the most."""


class OutputFile:
    """A new file; what is not written is a hole.

    The medium begins to take what is written while more is being prepared, and is never far behind:
    so there is little to wait for in the end, and an interruption is heard soon.

    Raises:
        OSError: from every method, when the system refuses.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        self._unstarted = 0
        self._started: deque[int] = deque()
        """Where the file ended when the medium was told to begin, the last few times."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        os.close(self._descriptor)

    def fileno(self) -> int:
        """Its descriptor, for the system's own ways to copy."""
        return self._descriptor

    def write(self, writes: Iterable[Write]) -> None:
        """Do all of these; neighbours become one call."""
        parts: list[Data] = []
        begin = end = 0
        for offset, data in writes:
            if offset != end or len(parts) == _MOST_PARTS or end - begin >= _MOST_BYTES:
                self._write(parts, begin)
                parts, begin, end = [], offset, offset
            parts.append(data)
            end += len(data)
        self._write(parts, begin)

    def _write(self, parts: list[Data], offset: int) -> None:
        start = offset
        while parts:
            done = os.pwritev(self._descriptor, parts, offset)
            if not done and any(parts):  # it would not ever
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            offset += done
            while parts and done >= len(parts[0]):
                done -= len(parts.pop(0))
            if parts and done:  # it took a part of one
                parts[0] = memoryview(parts[0])[done:]
        self.written(offset, offset - start)

    def written(self, end: int, count: int) -> None:
        """Note that `count` more bytes have been written, up to `end`, by whatever way."""
        self._unstarted += count
        if self._unstarted >= _STARTED:
            self._unstarted = 0
            start_writeback(self._descriptor)
            self._started.append(end)
            if len(self._started) > _BEHIND:
                await_writeback(self._descriptor, self._started.popleft())

    def set_length(self, length: int) -> None:
        """Make it that long: holes are added, or what is behind is cut off."""
        os.ftruncate(self._descriptor, length)

    def flush(self) -> Flush:
        """Begin to bring all of it to the medium, which may go on after it is closed."""
        return Flush(os.dup(self._descriptor))


class Flush:
    """Brings a written file to the medium while it is read back.

    On a descriptor that was there when it was written: one that is opened later might not hear of
    an error that came before.
    """

    def __init__(self, descriptor: int) -> None:
        """`descriptor` becomes ours."""
        self._failure: OSError | None = None
        # A daemon: an interrupted run does not wait for the medium.
        self._thread = Thread(
            target=self._run, args=(descriptor,), name="vmport-flush", daemon=True
        )
        self._thread.start()

    @classmethod
    def of(cls, path: Path) -> Self:
        """Of a file that another program has written.

        Raises:
            OSError: it cannot be opened.
        """
        return cls(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))

    def _run(self, descriptor: int) -> None:
        try:
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._failure = error

    def wait(self) -> None:
        """Until it is there.

        Raises:
            OSError: the system failed.
        """
        self._thread.join()
        if self._failure is not None:
            raise self._failure
