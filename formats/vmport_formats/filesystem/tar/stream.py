"""What an archive is read from: bytes in order, some of them passed over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from vmport_formats.source import ByteSource


class TarStream(Protocol):
    """Bytes in order, with a way to pass over some."""

    @property
    def name(self) -> str:
        """What to call it in a message."""
        ...

    @property
    def position(self) -> int:
        """How many bytes lie behind."""
        ...

    def read(self, length: int) -> bytes:
        """Just `length` bytes; fewer only at the end."""
        ...

    def skip(self, length: int) -> bool:
        """Pass over `length` bytes; False when there were fewer."""
        ...


class SourceStream:
    """A `TarStream` over random access; what is passed over is never read."""

    __slots__ = ("_source", "position")

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self.position = 0

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return self._source.name

    def read(self, length: int) -> bytes:
        """Just `length` bytes; fewer only at the end."""
        data = self._source.read_at(self.position, length)
        self.position += len(data)
        return data

    def skip(self, length: int) -> bool:
        """Pass over `length` bytes; False when there were fewer."""
        self.position += length
        return self.position <= self._source.size
