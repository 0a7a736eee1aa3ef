"""A root filesystem to export: its entries, in path order, and what is to be said of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vmport_formats.errors import UnsafeInput
from vmport_formats.filesystem.model import EntryKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vmport_formats.filesystem.model import Entry

_MAX_HOPS: Final = 40  # as Linux


@dataclass(frozen=True, slots=True)
class Note:
    """Something that the user should know about an export, though it does not stop it."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What a source may make us use; a tar of a few kilobytes can unpack to terabytes."""

    content: int = 64 << 30
    """Bytes of all files together, holes included."""
    entries: int = 4_000_000
    metadata: int = 2 << 30
    """Bytes of names, link targets and attributes together."""


@dataclass(frozen=True, slots=True)
class Rootfs:
    """What a folder or an archive holds."""

    name: str
    """What to call the source in a message."""
    entries: Sequence[Entry]
    """In `path_order`; the root is the first, if the source says anything of it."""
    notes: tuple[Note, ...]


class Tally:
    """Counts what a source has made us hold, and stops it at the limits."""

    __slots__ = ("_entries", "_limits", "_metadata", "_source")

    def __init__(self, source: str, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._entries = 0
        self._metadata = 0

    def add(self, entry: Entry) -> None:
        """Count `entry`.

        Raises:
            UnsafeInput: the source has more entries, or longer names, than the limits allow.
        """
        self._entries += 1
        self._metadata += len(entry.path) + len(entry.target)
        self._metadata += sum(len(key) + len(value) for key, value in entry.xattrs)
        if self._entries > self._limits.entries:
            raise UnsafeInput(
                self._source,
                code="export.entries",
                problem=f"holds more than {self._limits.entries} entries",
                hint="export a part of it",
            )
        if self._metadata > self._limits.metadata:
            raise UnsafeInput(
                self._source,
                code="export.metadata",
                problem=f"names and attributes exceed {self._limits.metadata} bytes",
                hint="export a part of it",
            )


def check_content(source: str, total: int, limits: Limits) -> None:
    """Stop when `total` bytes of content are more than the limits allow.

    Raises:
        UnsafeInput: they are.
    """
    if total > limits.content:
        from vmport_formats.units import format_size

        raise UnsafeInput(
            source,
            code="export.content",
            problem=f"unpacks to more than {format_size(limits.content)}",
            hint="leave parts out with --drop, or allow more with --max-size",
        )


class Links:
    """The symlinks of a root filesystem, to follow paths inside it and never out of it."""

    __slots__ = ("_targets",)

    def __init__(self, targets: Mapping[bytes, bytes]) -> None:
        self._targets = targets

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> Links:
        """Those among `entries`."""
        return cls({e.path: e.target for e in entries if e.kind is EntryKind.SYMLINK})

    def resolve(self, path: bytes, *, follow_last: bool = True) -> bytes | None:
        """Where `path` leads, as the kernel would go with this root as ``/``.

        Whether it exists is not asked.  None: its links run in circles.
        """
        todo = path.split(b"/")[::-1]
        done: list[bytes] = []
        hops = 0
        while todo:
            part = todo.pop()
            if part in {b"", b"."}:
                continue
            if part == b"..":
                if done:
                    done.pop()
                continue
            done.append(part)
            target = self._targets.get(b"/".join(done))
            if target is None or (not follow_last and not any(todo)):
                continue
            hops += 1
            if hops > _MAX_HOPS:
                return None
            done.pop()
            if target.startswith(b"/"):
                done.clear()
            todo += target.split(b"/")[::-1]
        return b"/".join(done)
