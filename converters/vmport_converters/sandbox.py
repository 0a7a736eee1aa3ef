"""Confines an outside program to the files that it is given, with the kernel's Landlock.

We build the set of rules and the program is born into it: whatever a parser of its own is talked
into, it can open nothing else, and connect nowhere.  It takes no privilege, and binds root too.
Source: Linux, ``Documentation/userspace-api/landlock.rst``.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from contextlib import suppress
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

# The same numbers on every architecture.
_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_VERSION: Final = 1
_PATH_BENEATH: Final = 1


class _Access(IntFlag):
    """Rights to files; each is denied unless a rule grants it."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


_READ: Final = _Access.EXECUTE | _Access.READ_FILE | _Access.READ_DIR
_WRITE: Final = (
    _Access.READ_FILE
    | _Access.READ_DIR
    | _Access.WRITE_FILE
    | _Access.TRUNCATE
    | _Access.MAKE_REG
    | _Access.REMOVE_FILE
)
_OF_FILES: Final = (
    _Access.EXECUTE | _Access.WRITE_FILE | _Access.READ_FILE | _Access.TRUNCATE | _Access.IOCTL_DEV
)
# Rights that later versions of the interface added: since which, and how many there are then.
_SINCE: Final = {1: 13, 2: 14, 3: 15, 5: 16}
_NETWORK: Final = 0b11  # bind and connect by TCP, since version 4
_SCOPES: Final = 0b11  # abstract sockets of others, and signals to them, since version 6

_SYSTEM: Final = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/nix/store",
    "/gnu/store",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/dev/urandom",
    "/dev/zero",
    "/sys/devices/system/cpu",
)
"""What a program needs to start: itself, its libraries, nothing of anybody's."""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What a program may touch besides itself and its libraries."""

    readable: tuple[Path, ...]
    """Files, and folders with all that is in them."""
    writable: tuple[Path, ...]
    """Folders in which it may make, read and write files."""


def landlock_version() -> int:
    """The version of the interface that the kernel offers; 0 for none."""
    return max(_syscall(_CREATE_RULESET, None, 0, _VERSION), 0)


def make_ruleset(sandbox: Sandbox, program: str) -> int | None:
    """A descriptor of the rules under which `program` is to live; None where there is no Landlock.

    Raises:
        OSError: a path of `sandbox` does not exist.
    """
    version = landlock_version()
    if not version:
        return None
    rights = (1 << max(count for since, count in _SINCE.items() if since <= version)) - 1
    attributes = struct.pack(
        "QQQ",
        rights,
        _NETWORK if version >= 4 else 0,
        _SCOPES if version >= 6 else 0,
    )[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = _syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        return None
    try:
        for path in (*map(Path, _SYSTEM), *_around(program)):
            with suppress(FileNotFoundError):
                _allow(ruleset, path, _READ & rights)
        with suppress(FileNotFoundError):  # qemu opens it for writing
            _allow(ruleset, Path("/dev/null"), _WRITE & rights)
        for path in sandbox.readable:
            _allow(ruleset, path, _READ & rights)
        for path in sandbox.writable:
            _allow(ruleset, path, _WRITE & rights)
    except BaseException:
        os.close(ruleset)
        raise
    return ruleset


def _around(program: str) -> Iterator[Path]:
    """A program in a prefix of its own, and its libraries beside it."""
    real = Path(program).resolve()
    yield real
    prefix = real.parent.parent
    for name in ("lib", "lib64", "share", "libexec"):
        yield prefix / name


def _allow(ruleset: int, path: Path, access: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            access &= _OF_FILES
        rule = struct.pack("=Qi", access, descriptor)
        if _syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0) < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(path))
    finally:
        os.close(descriptor)


def _syscall(number: int, *arguments: int | bytes | None) -> int:
    words = [
        ctypes.c_char_p(item) if isinstance(item, bytes) else ctypes.c_long(item or 0)
        for item in arguments
    ]
    return int(ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number), *words))
