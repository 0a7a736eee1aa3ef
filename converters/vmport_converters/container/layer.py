"""Entries as the one layer of an image: a tar in path order, compressed, and its two digests.

The content of every file is read once.  Of a file with several names the first in path order holds
the content, and the others are hard links to it: engines refuse a link before its target.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vmport_converters.container.digest import BackgroundDigest
from vmport_converters.container.gzip import BLOCK, GzipWriter
from vmport_formats.errors import UnreadableInput
from vmport_formats.filesystem.model import NANOSECONDS, EntryKind, printed
from vmport_formats.filesystem.tar.header import padding
from vmport_formats.filesystem.tar.writer import END_OF_ARCHIVE, encode_member

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from vmport_formats.filesystem.model import Entry


@dataclass(frozen=True, slots=True)
class Layer:
    """What an image says of a layer."""

    digest: str
    """Of the compressed layer."""
    size: int
    """Bytes, compressed."""
    diff_id: str
    """Digest of the uncompressed layer."""
    unpacked: int
    """Bytes, uncompressed."""


def write_layer(
    entries: Sequence[Entry],
    sink: Callable[[bytes], object],
    *,
    source: str,
    newest: int | None = None,
    on_bytes: Callable[[int], None] = lambda _length: None,
) -> Layer:
    """Hand the compressed layer that holds `entries` to `sink`, piece by piece.

    Times after `newest` (seconds since 1970) become it.  `source` is what messages call the source;
    `on_bytes` hears the length of each piece of content that was read.

    Raises:
        UnreadableInput: content could not be read, or was not as long as its entry says.
    """
    with closing(BackgroundDigest()) as diff_id, closing(BackgroundDigest()) as digest:

        def both(piece: bytes) -> None:
            sink(piece)
            digest.update(piece)

        with closing(GzipWriter(both)) as gzip:
            for block in _blocks(_members(entries, source, newest, on_bytes)):
                diff_id.update(block)
                gzip.write_block(block)
            gzip.finish()
        return Layer(
            digest=digest.finish(),
            size=digest.length,
            diff_id=diff_id.finish(),
            unpacked=diff_id.length,
        )


def _members(
    entries: Sequence[Entry],
    source: str,
    newest: int | None,
    on_bytes: Callable[[int], None],
) -> Iterator[bytes]:
    """The archive, in pieces."""
    first: dict[Hashable, bytes] = {}
    for entry in entries:
        if newest is not None and entry.mtime > newest * NANOSECONDS:
            entry = replace(entry, mtime=newest * NANOSECONDS)
        if entry.inode is not None:
            link_to = first.setdefault(entry.inode, entry.path)
            if link_to != entry.path:
                yield encode_member(entry, link_to=link_to)
                continue
        yield encode_member(entry)
        if entry.kind is not EntryKind.FILE or entry.content is None:
            continue
        done = 0
        for chunk in entry.content.chunks():
            done += len(chunk)
            yield chunk
            on_bytes(len(chunk))
        if done != entry.size:
            raise UnreadableInput(
                source,
                code="source.changed",
                problem=f"{printed(entry.path)} has {done} bytes, not {entry.size} as it said",
            )
        yield padding(done)
    yield END_OF_ARCHIVE


def _blocks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of `BLOCK`; the last may be shorter."""
    waiting = bytearray()
    for piece in pieces:
        waiting += piece
        while len(waiting) >= BLOCK:
            yield bytes(waiting[:BLOCK])
            del waiting[:BLOCK]
    if waiting:
        yield bytes(waiting)
