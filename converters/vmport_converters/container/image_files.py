"""The files of an image, be they in a folder or in a tar; and a layer among them, unpacked."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Final, Protocol

from vmport_converters.container.compression import decompress, detect
from vmport_formats.filesystem.model import EntryKind
from vmport_formats.filesystem.tar.reader import read_members
from vmport_formats.filesystem.tar.stream import SourceStream
from vmport_formats.source import FileSource, open_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from vmport_converters.container.digest import BackgroundDigest
    from vmport_formats.source import ByteSource

_CHUNK: Final = 1 << 20


class ImageFiles(Protocol):
    """The files of an image."""

    def sizes(self) -> Mapping[str, int]:
        """The bytes of each, by its path in the image."""
        ...

    def pieces(self, name: str) -> Iterator[bytes]:
        """The content of one of them."""
        ...


class _FolderFiles:
    def __init__(self, path: Path) -> None:
        self._path = path

    def sizes(self) -> Mapping[str, int]:
        found = sorted(self._path.rglob("*"))
        return {
            item.relative_to(self._path).as_posix(): item.lstat().st_size
            for item in found
            if not item.is_dir() or item.is_symlink()
        }

    def pieces(self, name: str) -> Iterator[bytes]:
        with open_source(self._path / name) as source:
            yield from _pieces(source, 0, source.size)


class _ArchiveFiles:
    def __init__(self, source: FileSource) -> None:
        self._source = source
        members = list(read_members(SourceStream(source)))
        self._places = {
            member.path.decode(errors="surrogateescape"): (member.data, member.size)
            for member in members
            if member.stored == member.size and not member.link and member.kind is EntryKind.FILE
        }

    def sizes(self) -> Mapping[str, int]:
        return {name: size for name, (_, size) in self._places.items()}

    def pieces(self, name: str) -> Iterator[bytes]:
        yield from _pieces(self._source, *self._places[name])


@contextmanager
def opening_image(path: Path) -> Iterator[ImageFiles]:
    """The files of the image at `path`, a folder or a tar.

    Raises:
        InputError: it is neither, or cannot be read.
    """
    if path.is_dir():
        yield _FolderFiles(path)
    else:
        with open_source(path) as source:
            yield _ArchiveFiles(source)


class LayerStream:
    """The tar in a layer, as it is unpacked, and the digest of all of it."""

    def __init__(self, pieces: Iterator[bytes], digest: BackgroundDigest, name: str) -> None:
        first = next(pieces, b"")
        known = detect(first)
        self.name = name
        self.compression = known.name if known else None
        whole = chain((first,), pieces)
        self._pieces = decompress(whole, known, name=name) if known else whole
        self._digest = digest
        self._buffer = memoryview(b"")
        self.position = 0

    def read(self, length: int) -> bytes:
        """Just `length` bytes; fewer only at the end."""
        parts = []
        while length:
            if not self._buffer and not self._fill():
                break
            part = self._buffer[:length]
            self._buffer = self._buffer[len(part) :]
            parts.append(part)
            length -= len(part)
            self.position += len(part)
        return parts[0].tobytes() if len(parts) == 1 else b"".join(parts)

    def skip(self, length: int) -> bool:
        """Pass over `length` bytes; False when there were fewer."""
        while length:
            if not self._buffer and not self._fill():
                return False
            step = min(length, len(self._buffer))
            self._buffer = self._buffer[step:]
            length -= step
            self.position += step
        return True

    def drain(self) -> bool:
        """Read what is left; whether it is nothing but zeros."""
        clean = not any(self._buffer)
        while self._fill():
            clean = clean and not any(self._buffer)
        return clean

    def _fill(self) -> bool:
        piece = next(self._pieces, b"")
        self._digest.update(piece)
        self._buffer = memoryview(piece)
        return bool(piece)


def _pieces(source: ByteSource, offset: int, length: int) -> Iterator[bytes]:
    end = offset + length
    while offset < end and (piece := source.read_at(offset, min(end - offset, _CHUNK))):
        offset += len(piece)
        yield piece
