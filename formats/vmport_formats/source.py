"""Random access to the bytes of one file that the caller named, and to nothing else.

Everything that reads a binary format takes a `ByteSource`.  `open_source` is the only way from a
path to one; it accepts regular files (and block devices on request), never blocks on a FIFO, and
never looks at the suffix.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final, Protocol, Self

from vmport_formats.errors import TruncatedInput, UnreadableInput

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType


_HEAD: Final = 16 << 10
"""Bytes at the start of a file that are read once: most of what tells what it is is there."""


class ByteSource(Protocol):
    """Bytes that can be read at any offset."""

    @property
    def name(self) -> str:
        """What to call it in a message: the path as the user gave it."""
        ...

    @property
    def size(self) -> int:
        """Length in bytes."""
        ...

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer, or none, only at the end of the source."""
        ...

    def read_into(self, offset: int, target: memoryview) -> int:
        """Fill `target` from `offset`, without a copy on the way; how many bytes that were."""
        ...

    def data_ranges(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """The parts (start, end) of a range that may hold other bytes than zeros, in order."""
        ...


class FileSource:
    """A `ByteSource` over an open file descriptor, which it closes at the end of a `with` alone."""

    __slots__ = ("_descriptor", "_head", "allocated", "identity", "modified", "name", "size")

    def __init__(
        self,
        descriptor: int,
        *,
        name: str,
        size: int,
        allocated: int = 0,
        identity: tuple[int, int] | None = None,
        modified: float | None = None,
    ) -> None:
        self._descriptor = descriptor
        self._head: bytes | None = None
        self.name = name
        self.size = size
        self.allocated = allocated
        """Bytes that the file takes on its file system, which are fewer when it has holes."""
        self.identity = identity
        """Device and inode, the same for all names of one file, where that is known."""
        self.modified = modified
        """When it was changed last, in seconds since 1970-01-01 UTC, where that is known."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    def fileno(self) -> int:
        """Its descriptor, for the system's own ways to copy."""
        return self._descriptor

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer only at the end of the file."""
        size = self.size
        if length <= 0 or not 0 <= offset < size:
            return b""
        end = offset + length
        if end > _HEAD:
            return self._read(offset, length if end <= size else size - offset)
        if self._head is None:
            self._head = self._read(0, min(_HEAD, size))
        return self._head[offset:end]

    def _read(self, offset: int, length: int) -> bytes:
        """Just `length` bytes from `offset`, which the file has."""
        try:
            chunk = os.pread(self._descriptor, length, offset)
        except OSError as error:
            raise self._unreadable(offset, error) from error
        if len(chunk) == length:
            return chunk
        rest = bytearray(length - len(chunk))  # more than 2 GiB, or a file system's mood
        self.read_into(offset + len(chunk), memoryview(rest))
        return chunk + rest

    def read_into(self, offset: int, target: memoryview) -> int:
        """Fill `target` from `offset`; fewer bytes than it holds only at the end of the file."""
        wanted = max(0, min(len(target), self.size - offset)) if offset >= 0 else 0
        done = 0
        while done < wanted:
            try:
                count = os.preadv(self._descriptor, [target[done:wanted]], offset + done)
            except OSError as error:
                raise self._unreadable(offset + done, error) from error
            if not count:
                raise UnreadableInput(
                    self.name,
                    at=offset + done,
                    code="source.changed",
                    problem=f"ends here now, but was {self.size} bytes long when it was opened",
                    hint="nothing may write to the file while it is read",
                )
            done += count
        return done

    def _unreadable(self, offset: int, error: OSError) -> UnreadableInput:
        return UnreadableInput(
            self.name, at=offset, code="source.read", problem=f"cannot read: {error.strerror}"
        )

    def data_ranges(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """What of a range is not a hole of the file system, as far as that tells."""
        end = min(offset + length, self.size)
        while offset < end:
            try:
                start = os.lseek(self._descriptor, offset, os.SEEK_DATA)
                stop = os.lseek(self._descriptor, start, os.SEEK_HOLE)
            except OSError as error:
                if error.errno == errno.ENXIO:  # a hole up to the end
                    return
                start, stop = offset, end  # a file system that cannot tell
            if start >= end:
                return
            yield start, min(stop, end)
            offset = stop


class MemorySource:
    """A `ByteSource` over bytes in memory."""

    __slots__ = ("_data", "name", "size")

    def __init__(self, data: bytes, *, name: str = "<memory>") -> None:
        self._data = data
        self.name = name
        self.size = len(data)

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer only at the end."""
        if offset < 0 or length <= 0:
            return b""
        return self._data[offset : offset + length]

    def read_into(self, offset: int, target: memoryview) -> int:
        """Fill `target` from `offset`; fewer bytes than it holds only at the end."""
        data = self.read_at(offset, len(target))
        target[: len(data)] = data
        return len(data)

    def data_ranges(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """All of the range: memory has no holes."""
        end = min(offset + length, self.size)
        if offset < end:
            yield offset, end


def read_exactly(
    source: ByteSource, offset: int, length: int, *, what: str, code: str = "source.truncated"
) -> bytes:
    """Just `length` bytes from `offset`.

    Raises:
        TruncatedInput: the source ends first; `what` names the thing that was to be read, and
            `code` is the error's.
    """
    data = source.read_at(offset, length)
    if len(data) != length:
        raise TruncatedInput(
            source.name,
            at=offset,
            code=code,
            problem=f"{what} needs {length} bytes here, but the file ends at {source.size:#x}",
            hint="the file is cut short; copy it again",
        )
    return data


def open_source(path: str | os.PathLike[str], *, allow_devices: bool = False) -> FileSource:
    """Open `path` for reading, if it is a regular file (or a block device, when allowed).

    It is open until the `with` ends that it is to be used in.

    Raises:
        UnreadableInput: it does not exist, may not be read, or is a folder, FIFO or the like.
    """
    name = os.fspath(path)
    try:
        # O_NONBLOCK: opening a FIFO without a writer must fail, not wait.
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise UnreadableInput(
            name, code="source.open", problem=f"cannot open: {error.strerror}"
        ) from error
    except ValueError as error:  # an embedded NUL
        raise UnreadableInput(name, code="source.open", problem=f"cannot open: {error}") from error
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            size = status.st_size
        elif stat.S_ISBLK(status.st_mode) and allow_devices:
            size = os.lseek(descriptor, 0, os.SEEK_END)
        else:
            raise UnreadableInput(
                name,
                code="source.not-regular",
                problem=f"is a {_kind(status.st_mode)}, not a regular file",
                hint="pass a file in it"
                if stat.S_ISDIR(status.st_mode)
                else "copy its content to a file first",
            )
    except BaseException:
        os.close(descriptor)
        raise
    return FileSource(
        descriptor,
        name=name,
        size=size,
        allocated=status.st_blocks * 512,  # whatever the block size
        identity=(status.st_dev, status.st_ino),
        modified=status.st_mtime,
    )


def read_text(path: str | os.PathLike[str], *, limit: int, what: str) -> bytes:
    """All bytes of a small file that holds text, such as a descriptor.

    Raises:
        UnreadableInput: as `open_source`; also when it is larger than `limit` bytes.
    """
    with open_source(path) as source:
        if source.size > limit:
            raise UnreadableInput(
                source.name,
                code="source.too-large",
                problem=f"{what} of {source.size} bytes; at most {limit} are read",
                hint=f"is this really {what}?",
            )
        return source.read_at(0, source.size)


def _kind(mode: int) -> str:
    names = {
        stat.S_IFDIR: "folder",
        stat.S_IFIFO: "FIFO",
        stat.S_IFSOCK: "socket",
        stat.S_IFCHR: "character device",
        stat.S_IFBLK: "block device",
    }
    return names.get(stat.S_IFMT(mode), "special file")
