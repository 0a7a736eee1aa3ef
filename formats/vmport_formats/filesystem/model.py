"""What a file system holds: one entry a name, whatever it was read from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

NANOSECONDS: Final = 1_000_000_000
"""In one second."""

MAX_PATH: Final = 4095
"""The longest path that Linux takes in one call: PATH_MAX less its final NUL, in bytes."""

MAX_NAME: Final = 255
"""The longest name of one entry (NAME_MAX), in bytes."""


class EntryKind(StrEnum):
    """What an entry is."""

    FILE = "file"
    FOLDER = "folder"
    SYMLINK = "symlink"
    CHARACTER_DEVICE = "character device"
    BLOCK_DEVICE = "block device"
    FIFO = "FIFO"
    SOCKET = "socket"


class Device(NamedTuple):
    """What a device node stands for."""

    major: int
    minor: int


class Content(Protocol):
    """The bytes of a regular file, to be read once or again."""

    def chunks(self) -> Iterator[bytes]:
        """All bytes in order, holes as zeros, in pieces of any length."""
        ...


@dataclass(frozen=True, slots=True)
class MemoryContent:
    """A `Content` that is held in memory."""

    data: bytes

    def chunks(self) -> Iterator[bytes]:
        """The bytes, in one piece."""
        if self.data:
            yield self.data


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a file system, and the thing that it names.

    Names and link targets are bytes: Linux demands no encoding of them.
    """

    path: bytes
    """From the root: no leading, trailing or doubled slash; empty for the root itself."""
    kind: EntryKind
    mode: int
    """The twelve permission bits, set-user-id, set-group-id and sticky among them."""
    uid: int
    gid: int
    mtime: int
    """Nanoseconds since 1970; negative before."""
    size: int = 0
    """Bytes of a regular file, holes included; 0 for all else."""
    target: bytes = b""
    """Where a symlink points."""
    device: Device | None = None
    """Of a device node."""
    xattrs: tuple[tuple[str, bytes], ...] = ()
    """Extended attributes, sorted by name; ACLs as Linux shows them, ``system.posix_acl_*``."""
    inode: Hashable | None = None
    """The same for all names of one file that has several; None when it has one."""
    content: Content | None = None
    """Of a regular file."""
    readable: bool = True
    """False: the content, or what a folder holds, may not be read."""

    @property
    def name(self) -> bytes:
        """The last component of its path."""
        return self.path.rpartition(b"/")[2]


def path_order(path: bytes) -> bytes:
    """A sort key: by component, so that a folder comes right before all that it holds."""
    return path.replace(b"/", b"\0")


def parent(path: bytes) -> bytes:
    """The folder that holds `path`; empty for the root."""
    return path.rpartition(b"/")[0]


def printed(path: bytes) -> str:
    """A path as people write it, from ``/``; undecodable bytes survive as surrogates."""
    return "/" + path.decode("utf-8", "surrogateescape")
