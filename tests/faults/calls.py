"""Stands between a process and its system calls: counts them, and lets one of them go wrong.

It wraps the functions of `os` that our own code calls, `fcntl.ioctl` where it clones, `io.open`
where it writes, and those of the C library.  Only calls that concern the folder of the destination,
or the source, are counted.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import io
import os
import signal
import struct
import threading
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from vmport_converters import _posix
from vmport_converters.disk.native import flush, output

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


class Role(StrEnum):
    """What a call concerns."""

    OUTPUT = "output"
    SOURCE = "source"


@dataclass(frozen=True, slots=True)
class Call:
    """One system call, told from all others of the same run."""

    role: Role
    name: str
    """The function's: pwritev, fsync, renameat2, ..."""
    number: int
    """Among those of the same name and role, from 0."""


class Hook(Protocol):
    """What stands in between."""

    def __call__(
        self, call: Call, do: Callable[[], Any], arguments: tuple[Any, ...], paths: list[str]
    ) -> Any:
        """Do it, or not; `paths` are those of the files concerned, in the order of the call."""
        ...


_BY_DESCRIPTOR: Final = (
    "close", "pread", "preadv", "pwrite", "pwritev", "write", "ftruncate", "fsync", "fdatasync",
)  # fmt: skip
_BY_PATH: Final = ("open", "mkdir", "unlink", "rmdir", "truncate")
_BY_TWO_PATHS: Final = ("rename", "replace", "link")
_COPYING: Final = {"copy_file_range": (0, 1), "sendfile": (1, 0)}
"""Functions of two descriptors, with the places of that which is read and of the other."""

READS: Final = frozenset({"pread", "preadv"})
CLONE: Final = "ioctl"
WHOLE_WRITES: Final = frozenset({CLONE})
"""Those that do all or nothing."""
COPIES: Final = WHOLE_WRITES | _COPYING.keys()
"""Those inside the kernel."""
WRITES: Final = COPIES | {"pwrite", "pwritev", "write"}
FICLONERANGE: Final = 0x4020_940D
_FLUSHED: Final = 96 * 1024
"""Bytes after which a flush begins: as little as that, so that a small disk sees it."""
CLONED: Final = struct.Struct("=qQQQ")
"""What it is about: descriptor, offset and length of what is read; offset of the other."""
_REAL: Final = {
    name: getattr(os, name)
    for name in ("pread", "pwritev", "preadv", "pwrite", "write", "copy_file_range", "sendfile")
}
"""As they are before anything stands in between."""
FLUSHES: Final = frozenset({"fdatasync"})
"""Those while more is written."""
CLEANING: Final = frozenset({"unlink", "rmdir"})


class Interposer:
    """Puts `hook` around each call that concerns `folder` or a file of `sources`, for good."""

    def __init__(
        self,
        hook: Hook,
        *,
        folder: Path,
        sources: Sequence[Path] = (),
        refused: frozenset[str] = frozenset(),
        clones: int = 0,
    ) -> None:
        """`refused`: calls that this system has not; `clones`: so often files share blocks."""
        self._hook = hook
        self._refused = refused
        self._clones = clones
        self._folder = os.path.realpath(folder)
        self._sources = {os.path.realpath(path) for path in sources}
        self._counts: dict[tuple[Role, str], int] = {}
        self._lock = threading.Lock()

    def install(self) -> None:
        """From now on, in this process."""
        for name in _BY_DESCRIPTOR:
            self._wrap(name, lambda args, _words: [_path_of(args[0])])
        for name in _BY_PATH:
            self._wrap(name, lambda args, words: [_absolute(args[0], words.get("dir_fd"))])
        for name in _BY_TWO_PATHS:
            self._wrap(name, lambda args, _words: [_absolute(path) for path in args[:2]])
        for name, (read, written) in _COPYING.items():
            self._wrap(name, partial(_paths_of_two, (written, read)))
        self._wrap_clone()
        self._wrap_open()
        # Each flush is waited for, so that every run makes the same calls.
        output._FLUSHED, flush._BEHIND = _FLUSHED, 0  # type: ignore[misc]
        _posix._libc = lambda: _Library(self)  # type: ignore[assignment,return-value]

    def _wrap(
        self, name: str, paths_of: Callable[[tuple[Any, ...], dict[str, Any]], list[str]]
    ) -> None:
        original = _refuse if name in self._refused else getattr(os, name)

        def wrapped(*args: Any, **words: Any) -> Any:
            return self.around(name, args, paths_of(args, words), lambda: original(*args, **words))

        setattr(os, name, wrapped)

    def _wrap_clone(self) -> None:
        original = fcntl.ioctl

        def wrapped(descriptor: Any, request: int, *rest: Any) -> Any:
            if request != FICLONERANGE:
                return original(descriptor, request, *rest)
            do = partial(original, descriptor, request, *rest)
            if self._clones:
                self._clones -= 1
                do = partial(_clone, descriptor, *CLONED.unpack(rest[0]))
            return self.around(CLONE, (descriptor, request, *rest), [_path_of(descriptor)], do)

        fcntl.ioctl = wrapped

    def _wrap_open(self) -> None:
        original = io.open

        def wrapped(
            path: Any, mode: str = "r", buffering: int = -1, encoding: Any = None, *rest: Any
        ) -> Any:
            if mode != "w" or isinstance(path, int) or self._role([_absolute(path)]) is None:
                return original(path, mode, buffering, encoding, *rest)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            raw = io.BufferedWriter(_Written(os.open(path, flags, 0o666)))
            return io.TextIOWrapper(raw, encoding=encoding)

        io.open = wrapped  # type: ignore[assignment]

    def around(
        self, name: str, args: tuple[Any, ...], paths: list[str], do: Callable[[], Any]
    ) -> Any:
        """Give the call to the hook, if it concerns us."""
        role = self._role(paths)
        if role is None:
            return do()
        with self._lock:
            number = self._counts.get((role, name), 0)
            self._counts[role, name] = number + 1
        return self._hook(Call(role, name, number), do, args, paths)

    def _role(self, paths: list[str]) -> Role | None:
        for path in paths:
            if path in self._sources:
                return Role.SOURCE
            if path == self._folder or path.startswith(self._folder + "/"):
                return Role.OUTPUT
        return None


class _Written(io.RawIOBase):
    """A file for Python's own layers, which writes by the functions of `os`."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: Any) -> int:
        return os.write(self._descriptor, data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._descriptor)


def _refuse(*_args: Any, **_words: Any) -> Any:
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))


def _clone(target: int, source: int, at: int, length: int, offset: int) -> int:
    """What a file system does whose files can share blocks, as far as one can see."""
    _REAL["pwrite"](target, _REAL["pread"](source, length, at), offset)
    return 0


def _paths_of_two(
    order: tuple[int, int], args: tuple[Any, ...], _words: dict[str, Any]
) -> list[str]:
    return [_path_of(args[at]) for at in order]


class _Library:
    """The C library, as `_posix` uses it."""

    def __init__(self, between: Interposer) -> None:
        self._real = ctypes.CDLL(None, use_errno=True)
        self._between = between

    def _done(self, name: str, args: tuple[Any, ...], paths: list[str]) -> int:
        do = getattr(self._real, name)
        try:
            done = self._between.around(name, args, paths, lambda: do(*args))
        except OSError as error:
            ctypes.set_errno(error.errno or 0)
            return -1
        return int(done)

    def renameat2(self, *args: Any) -> int:
        return self._done("renameat2", args, [_absolute(os.fsdecode(args[at])) for at in (1, 3)])

    def syncfs(self, descriptor: int) -> int:
        return self._done("syncfs", (descriptor,), [_path_of(descriptor)])


def _path_of(descriptor: Any) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{int(descriptor)}").removesuffix(" (deleted)")  # noqa: PTH115
    except OSError:
        return ""


def _absolute(path: Any, folder: int | None = None) -> str:
    if isinstance(path, int):
        return _path_of(path)
    base = os.getcwd() if folder is None else _path_of(folder)  # noqa: PTH109
    # Only the folder is resolved: a link is itself, not what it leads to.
    whole = os.path.join(base, os.fsdecode(path))  # noqa: PTH118
    return os.path.join(os.path.realpath(os.path.dirname(whole)), os.path.basename(whole))  # noqa: PTH118, PTH119, PTH120


# --- Hooks ---------------------------------------------------------------------------------------


class Kind(StrEnum):
    """What goes wrong."""

    ENOSPC = "ENOSPC"
    EIO = "EIO"
    SHORT = "short"
    SIGKILL = "SIGKILL"
    SIGINT = "SIGINT"
    SIGTERM = "SIGTERM"


class Counting:
    """Lets everything through, and remembers it."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._lock = threading.Lock()

    def __call__(
        self, call: Call, do: Callable[[], Any], arguments: tuple[Any, ...], paths: list[str]
    ) -> Any:
        with self._lock:
            self.calls.append(call)
        return do()


@dataclass(frozen=True, slots=True)
class Failing:
    """Lets one call go wrong; and, if `sticky`, all later ones that write, too."""

    where: Call
    kind: Kind
    fired: Callable[[], object]
    late: bool = False
    """A signal comes after the call, instead of before it."""

    def __call__(
        self, call: Call, do: Callable[[], Any], arguments: tuple[Any, ...], paths: list[str]
    ) -> Any:
        if call != self.where:
            return do()
        self.fired()
        if self.kind is Kind.SHORT:
            return _partly(call.name, do, arguments)
        if self.kind in {Kind.ENOSPC, Kind.EIO}:
            if call.name == "close":  # that lets go of it, whatever it says
                do()
            code = errno.ENOSPC if self.kind is Kind.ENOSPC else errno.EIO
            raise OSError(code, os.strerror(code))
        done = do() if self.late else None
        os.kill(os.getpid(), signal.Signals[self.kind])
        return done if self.late else do()


@dataclass(frozen=True, slots=True)
class Meddling:
    """Somebody else does something just before one call."""

    where: Call
    meddle: Callable[[], object]
    fired: Callable[[], object]

    def __call__(
        self, call: Call, do: Callable[[], Any], arguments: tuple[Any, ...], paths: list[str]
    ) -> Any:
        if call == self.where:
            self.fired()
            self.meddle()
        return do()


def _partly(name: str, do: Callable[[], Any], arguments: tuple[Any, ...]) -> Any:
    """Do about a third of it, an odd number of bytes, as the system may."""
    if name in {"pwritev", "preadv"}:
        descriptor, parts, offset = arguments[:3]
        wanted = sum(memoryview(part).nbytes for part in parts) // 3 | 1
        some = []
        for part in parts:
            some.append(memoryview(part).cast("B")[:wanted])
            wanted -= some[-1].nbytes
            if not wanted:
                break
        return _REAL[name](descriptor, some, offset)
    if name in {"pwrite", "write"}:
        data = memoryview(arguments[1]).cast("B")
        return _REAL[name](arguments[0], data[: data.nbytes // 3 | 1], *arguments[2:])
    if name == "pread":
        return do()[: arguments[1] // 3 | 1]
    if name == "copy_file_range":
        source, target, count, *places = arguments
        return _REAL[name](source, target, count // 3 | 1, *places)
    if name == "sendfile":
        target, source, offset, count = arguments
        return _REAL[name](target, source, offset, count // 3 | 1)
    raise AssertionError(f"{name} cannot be cut short")
