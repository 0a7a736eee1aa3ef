"""Where the parts of an image are written: an OCI layout, as a folder or as one tar.

Source: OCI image specification 1.1, "Image Layout".
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Protocol

from vmport_formats.filesystem.tar.header import format_header, padding
from vmport_formats.filesystem.tar.writer import END_OF_ARCHIVE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from vmport_converters.container.layer import Layer

LAYOUT_FILE = "oci-layout"
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


class Store(Protocol):
    """An OCI layout in the making."""

    def add_layer(self, write: Callable[[Callable[[bytes], object]], Layer]) -> Layer:
        """Let `write` hand a blob over, whose digest is known when all of it is written."""
        ...

    def add_blob(self, data: bytes) -> str:
        """Add a blob and return its digest."""
        ...

    def add_file(self, name: str, data: bytes) -> None:
        """Add a file at the top of the layout."""
        ...


def blob_path(digest: str) -> str:
    """Where the blob of `digest` is, inside a layout."""
    algorithm, _, encoded = digest.partition(":")
    return f"blobs/{algorithm}/{encoded}"


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class FolderStore:
    """A layout as a folder, which must not exist yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        (path / "blobs/sha256").mkdir(parents=True)

    def add_layer(self, write: Callable[[Callable[[bytes], object]], Layer]) -> Layer:
        """Let `write` hand a blob over, whose digest is known when all of it is written."""
        unfinished = self._path / "blobs/unfinished"
        with unfinished.open("xb") as file:
            layer = write(file.write)
        unfinished.rename(self._path / blob_path(layer.digest))
        return layer

    def add_blob(self, data: bytes) -> str:
        """Add a blob and return its digest."""
        digest = _digest(data)
        (self._path / blob_path(digest)).write_bytes(data)
        return digest

    def add_file(self, name: str, data: bytes) -> None:
        """Add a file at the top of the layout."""
        (self._path / name).write_bytes(data)


class ArchiveStore:
    """A layout as a tar, in a file that is open for reading and writing.

    Nothing is written twice: the header of a layer, whose name is its digest, is written after it,
    into the place that was left for it.
    """

    def __init__(self, file: IO[bytes], *, mtime: int) -> None:
        self._file = file
        self._mtime = mtime
        for folder in ("blobs/", "blobs/sha256/"):
            file.write(format_header(folder.encode(), typeflag=b"5", mode=0o755, mtime=mtime))

    def add_layer(self, write: Callable[[Callable[[bytes], object]], Layer]) -> Layer:
        """Let `write` hand a blob over, whose digest is known when all of it is written."""
        start = self._file.tell()
        self._file.write(self._header("unfinished", 0))
        layer = write(self._file.write)
        self._file.write(padding(layer.size))
        end = self._file.tell()
        self._file.seek(start)
        self._file.write(self._header(blob_path(layer.digest), layer.size))
        self._file.seek(end)
        return layer

    def add_blob(self, data: bytes) -> str:
        """Add a blob and return its digest."""
        digest = _digest(data)
        self.add_file(blob_path(digest), data)
        return digest

    def add_file(self, name: str, data: bytes) -> None:
        """Add a file at the top of the layout."""
        self._file.write(b"".join((self._header(name, len(data)), data, padding(len(data)))))

    def finish(self) -> None:
        """Write the end of the archive."""
        self._file.write(END_OF_ARCHIVE)

    def _header(self, name: str, size: int) -> bytes:
        return format_header(name.encode(), typeflag=b"0", mode=0o644, size=size, mtime=self._mtime)


@contextmanager
def writing_archive(path: Path, *, mtime: int) -> Iterator[ArchiveStore]:
    """An `ArchiveStore` at `path`, which must not exist yet; its members get the time `mtime`."""
    with path.open("x+b") as file:
        store = ArchiveStore(file, mtime=mtime)
        yield store
        store.finish()
