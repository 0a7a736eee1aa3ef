"""Whether the files of a disk are as they were, and whether a running machine writes to them."""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vmport_formats.errors import UnreadableInput

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from vmport_formats.references import Reference, Resolver

_F_OFD_GETLK: Final = 36
_FLOCK: Final = struct.Struct("hhqqi4x")
"""As the C library has it: l_type, l_whence, l_start, l_len, l_pid."""
_QEMU_WRITES: Final = 101
"""The byte that qemu locks as long as it may write: block/file-posix.c, RAW_LOCK_PERM_BASE + 1."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What shows that a file is the same as before, and unchanged."""

    device: int
    inode: int
    size: int
    modified: int
    """Nanoseconds since 1970."""

    @classmethod
    def of(cls, path: str) -> Self:
        """The stamp of the file at `path` now.

        Raises:
            UnreadableInput: there is none.
        """
        try:
            status = Path(path).stat()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UnreadableInput(
                path, code="source.open", problem=f"cannot open: {reason}"
            ) from error
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    @property
    def file(self) -> tuple[int, int]:
        """Which file it is, under whatever name."""
        return self.device, self.inode


class Stamps:
    """Every file that is read, by its absolute path, with its stamp from before the first byte."""

    def __init__(self) -> None:
        self._stamps: dict[str, Stamp] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._stamps)

    def remember(self, path: str | os.PathLike[str]) -> Stamp:
        """Note the file at `path`, if it is new.

        Raises:
            UnreadableInput: there is none.
        """
        name = os.fspath(path)
        absolute = str(Path(name).absolute())
        if absolute not in self._stamps:
            self._stamps[absolute] = Stamp.of(name)
        return self._stamps[absolute]

    def include(self, others: Stamps) -> None:
        """Note what the others have noted, as it was then."""
        self._stamps = others._stamps | self._stamps

    def noting(self, resolver: Resolver) -> Resolver:
        """The same resolver; what it grants is remembered."""

        def resolve(reference: Reference, *, named_by: str) -> Path:
            path = resolver(reference, named_by=named_by)
            self.remember(path)
            return path

        return resolve

    def check_unchanged(self) -> None:
        """That every file is still as it was.

        Raises:
            UnreadableInput: one has changed (``source.changed``).
        """
        for path, before in self._stamps.items():
            if Stamp.of(path) != before:
                raise UnreadableInput(
                    path,
                    code="source.changed",
                    problem="was changed while it was read; nothing was published",
                    hint="stop what writes to it, such as a running virtual machine, and try again",
                )

    def check_unused(self) -> None:
        """That no running qemu may write to one of the files.

        Raises:
            UnreadableInput: one does (``source.locked``).
        """
        for path in self._stamps:
            if _written_by_qemu(path):
                raise UnreadableInput(
                    path,
                    code="source.locked",
                    problem="is in use by another program, such as a running virtual machine",
                    hint="shut the machine down first, or convert a snapshot of its disk",
                )

    def holds(self, path: str | os.PathLike[str]) -> bool:
        """Whether the file at `path`, if there is one, is among those that are read."""
        try:
            file = Stamp.of(os.fspath(path)).file
        except UnreadableInput:
            return False
        return any(stamp.file == file for stamp in self._stamps.values())


def _written_by_qemu(path: str) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # whoever opens it to read will say so
        return False
    try:
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _QEMU_WRITES, 1, 0)
        found: bytes = fcntl.fcntl(descriptor, _F_OFD_GETLK, asked)
    except OSError:  # a file system, or a kernel, without such locks
        return False
    finally:
        os.close(descriptor)
    return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)
