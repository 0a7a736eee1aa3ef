"""The file that is being written: the one place where the native engine writes."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from vmport_converters.disk.native.flush import Flush
from vmport_formats.units import GIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from vmport_formats.disk.composer import Data, Write

_MOST_PARTS: Final = 512
"""What one call takes: Linux allows 1024."""
_MOST_BYTES: Final = 4 * MIB
_RESERVED: Final = GIB
_FLUSHED: Final = 16 * MIB
"""Bytes after which the medium is told to take them."""


class OutputFile:
    """A new file; what is not written is a hole.

    The medium begins to take what is written while more is being prepared, and is never far behind:
    so there is little to wait for in the end, and an interruption is heard soon.

    Raises:
        OSError: from every method, when the system refuses.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        self._unflushed = 0
        self._flush: Flush | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_exception: object) -> None:
        os.close(self._descriptor)
        if self._flush is not None:  # nobody cares for the content
            self._flush.end()
            if kind is None or issubclass(kind, Exception):  # else: an interruption does not wait
                with suppress(OSError):
                    self._flush.wait()

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
        self.written(offset - start)

    def written(self, count: int) -> None:
        """Note that `count` more bytes have been written, by whatever way."""
        self._unflushed += count
        if self._unflushed >= _FLUSHED:
            self._unflushed = 0
            self._flushing().begin()

    def reserve(self, length: int) -> None:
        """Have the file system set blocks aside for all of the first `length` bytes.

        What is not written there reads as zeros, as before.
        """
        for start in range(0, length, _RESERVED):  # between two, an interruption is heard
            os.posix_fallocate(self._descriptor, start, min(_RESERVED, length - start))

    def set_length(self, length: int) -> None:
        """Make it that long: holes are added, or what is behind is cut off."""
        os.ftruncate(self._descriptor, length)

    def flush(self) -> Flush:
        """Begin to bring all of it to the medium, which may go on after it is closed."""
        flush, self._flush = self._flushing(), None
        flush.begin_last()
        return flush

    def _flushing(self) -> Flush:
        if self._flush is None:
            self._flush = Flush(os.dup(self._descriptor))
        return self._flush
