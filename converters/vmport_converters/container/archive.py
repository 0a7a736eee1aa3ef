"""A root filesystem in a tar archive: read where it lies, never unpacked.

The members are put together as an unpacking tar would leave them: a later member replaces an
earlier one of the same name, and a hard link keeps the file that its target was at that time.
Where programs differ on what an archive means, it is refused.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Final

from vmport_converters.container.compression import decompress, detect
from vmport_converters.container.rootfs import Note, Rootfs, Tally, check_content
from vmport_formats.errors import (
    CorruptInput,
    UnknownFormat,
    UnreadableInput,
    UnsafeInput,
)
from vmport_formats.filesystem.model import (
    Entry,
    EntryKind,
    MemoryContent,
    parent,
    path_order,
    printed,
)
from vmport_formats.filesystem.tar.header import BLOCK, ZERO_BLOCK, is_header
from vmport_formats.filesystem.tar.reader import read_members
from vmport_formats.filesystem.tar.stream import SourceStream
from vmport_formats.source import FileSource, open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from vmport_converters.container.rootfs import Limits
    from vmport_formats.filesystem.tar.reader import Member
    from vmport_formats.filesystem.tar.sparse import Piece
    from vmport_formats.source import ByteSource

STDIN: Final = "-"

_CHUNK: Final = 1 << 20
_ZEROS: Final = bytes(_CHUNK)
_IMPLIED_MODE: Final = 0o755


@dataclass(frozen=True, slots=True)
class _MemberContent:
    """The content of one member."""

    source: ByteSource
    data: int
    size: int
    pieces: tuple[Piece, ...] | None

    def chunks(self) -> Iterator[bytes]:
        """All bytes of the file, holes as zeros.

        Raises:
            UnreadableInput: the archive cannot be read, or has become shorter.
        """
        if self.pieces is None:
            yield from self._read(self.data, self.size)
            return
        done, stored = 0, self.data
        for piece in self.pieces:
            yield from _zeros(piece.offset - done)
            yield from self._read(stored, piece.length)
            stored += piece.length
            done = piece.offset + piece.length
        yield from _zeros(self.size - done)

    def _read(self, offset: int, length: int) -> Iterator[bytes]:
        while length:
            chunk = self.source.read_at(offset, min(length, _CHUNK))
            if not chunk:
                raise UnreadableInput(
                    self.source.name,
                    at=offset,
                    code="source.changed",
                    problem="became shorter while it was read",
                )
            yield chunk
            offset += len(chunk)
            length -= len(chunk)


@contextmanager
def reading_archive(
    path: str,
    *,
    limits: Limits,
    spool: Path,
    on_bytes: Callable[[int], None] = lambda _length: None,
) -> Iterator[Rootfs]:
    """What the archive at `path` holds; content may be read until the block is left.

    ``-`` is standard input.  A stream, or a compressed archive, is unpacked once to an unnamed file
    in the folder `spool`, for its members to be read in path order; `on_bytes` hears the length
    of each piece that is read for that.

    Raises:
        InputError: it is no archive, or breaks the rules of its format.
        OSError: it cannot be unpacked to `spool`.
        UnsafeInput: a name leads out of it, or it holds more than the limits allow.
    """
    if path == STDIN:
        with _spooling(_stdin(on_bytes), "standard input", limits, spool) as unpacked:
            yield read_archive(unpacked, limits=limits)
        return
    with open_source(path) as source:
        start = source.read_at(0, BLOCK)
        if detect(start) is None:
            _check_magic(start, source.name)
            yield read_archive(source, limits=limits)
        else:
            with _spooling(_pieces(source, on_bytes), source.name, limits, spool) as unpacked:
                yield read_archive(unpacked, limits=limits)


def read_archive(source: ByteSource, *, limits: Limits) -> Rootfs:
    """What the uncompressed archive `source` holds; content is read from it later."""
    tree = _Tree(source, limits)
    for member in read_members(SourceStream(source)):
        tree.add(member)
    return tree.finish()


class _Tree:
    """The entries that the members so far have left."""

    def __init__(self, source: ByteSource, limits: Limits) -> None:
        self._source = source
        self._tally = Tally(source.name, limits)
        self._entries: dict[bytes, Entry] = {}
        self._forward: list[Member] = []
        self._several: set[object] = set()
        self._replaced = 0
        self._unreadable_acls = 0

    def add(self, member: Member) -> None:
        """Let `member` be unpacked over what is there.

        Raises:
            CorruptInput: it cannot be.
            UnsafeInput: programs differ on what it would leave.
        """
        self._unreadable_acls += member.unreadable_acl
        if member.kind is not None:
            self._put(self._entry(member), member.at)
            return
        target = self._entries.get(member.link)
        if target is None:
            self._forward.append(member)
        else:
            self._link(member, target)

    def finish(self) -> Rootfs:
        """All that is there at the end.

        Raises:
            CorruptInput: the target of a hard link never came.
        """
        self._resolve_forward()
        implied = self._imply_folders()
        entries = [
            entry if entry.inode in self._several else replace(entry, inode=None)
            for entry in (self._entries[path] for path in sorted(self._entries, key=path_order))
        ]
        notes = []
        if self._replaced:
            notes.append(
                Note("tar.replaced", f"{self._replaced} members were replaced by later ones")
            )
        if implied:
            notes.append(
                Note(
                    "tar.implied-folders",
                    f"{implied} folders have no member of their own; they were given mode "
                    f"{_IMPLIED_MODE:04o} and owner 0:0",
                )
            )
        if self._unreadable_acls:
            notes.append(
                Note(
                    "tar.acl-names",
                    f"{self._unreadable_acls} ACLs were left out: they name users without their "
                    "numbers; make the archive with tar --numeric-owner",
                )
            )
        return Rootfs(name=self._source.name, entries=entries, notes=tuple(notes))

    def _entry(self, member: Member) -> Entry:
        assert member.kind is not None  # noqa: S101 - hard links go another way
        content = None
        if member.kind is EntryKind.FILE:
            content = (
                _MemberContent(self._source, member.data, member.size, member.pieces)
                if member.size
                else MemoryContent(b"")
            )
        return Entry(
            path=member.path,
            kind=member.kind,
            mode=member.mode,
            uid=member.uid,
            gid=member.gid,
            mtime=member.mtime,
            size=member.size,
            target=member.link,
            device=member.device,
            xattrs=member.xattrs,
            inode=member.at if member.kind is not EntryKind.FOLDER else None,
            content=content,
        )

    def _link(self, member: Member, target: Entry) -> None:
        if target.kind is EntryKind.FOLDER:
            raise CorruptInput(
                self._source.name,
                at=member.at,
                code="tar.link-target",
                problem=f"{printed(member.path)} is a hard link to a folder",
            )
        if member.path == target.path:
            return
        self._several.add(target.inode)
        self._put(replace(target, path=member.path), member.at)

    def _put(self, entry: Entry, at: int) -> None:
        if not entry.path and entry.kind is not EntryKind.FOLDER:
            raise CorruptInput(
                self._source.name,
                at=at,
                code="tar.root",
                problem=f"the root is a {entry.kind}, not a folder",
            )
        self._check_way(entry.path, at)
        old = self._entries.get(entry.path)
        if old is None:
            self._tally.add(entry)
        else:
            self._replaced += 1
            if (old.kind is EntryKind.FOLDER) != (entry.kind is EntryKind.FOLDER):
                raise UnsafeInput(
                    self._source.name,
                    at=at,
                    code="tar.kind-changes",
                    problem=f"{printed(entry.path)} comes twice, as a {old.kind} and as a "
                    f"{entry.kind}; programs differ on what that leaves",
                    hint="make the archive again from one file system",
                )
        self._entries[entry.path] = entry

    def _check_way(self, path: bytes, at: int) -> None:
        """Whatever stands on the way to `path` must be a folder, or nothing yet."""
        above = parent(path)
        while above:
            there = self._entries.get(above)
            if there is not None:
                if there.kind is EntryKind.FOLDER:
                    return  # what is above it was checked when it came
                raise self._below_link(path, there, at)
            above = parent(above)

    def _resolve_forward(self) -> None:
        """Links that came before their targets, as some writers leave them."""
        waiting: dict[bytes, list[Member]] = {}
        for member in self._forward:
            waiting.setdefault(member.link, []).append(member)
        known = [path for path in waiting if path in self._entries]
        while known:
            target = known.pop()
            for member in waiting.pop(target, ()):
                self._link(member, self._entries[target])
                if member.path in waiting:  # it is the target of others
                    known.append(member.path)
        for members in waiting.values():
            raise CorruptInput(
                self._source.name,
                at=members[0].at,
                code="tar.link-target",
                problem=f"{printed(members[0].path)} is a hard link to "
                f"{printed(members[0].link)}, which the archive does not hold",
                hint="the archive was made of a part of a file system only",
            )

    def _imply_folders(self) -> int:
        """Add the folders that members lie in but that have no member themselves."""
        missing: set[bytes] = set()
        for path in self._entries:
            above = parent(path)
            there = self._entries.get(above)
            if path and there is not None and there.kind is not EntryKind.FOLDER:
                raise self._below_link(path, there, None)
            while above and above not in self._entries and above not in missing:
                missing.add(above)
                above = parent(above)
        for path in missing:
            self._entries[path] = Entry(
                path=path, kind=EntryKind.FOLDER, mode=_IMPLIED_MODE, uid=0, gid=0, mtime=0
            )
        return len(missing)

    def _below_link(self, path: bytes, there: Entry, at: int | None) -> UnsafeInput:
        return UnsafeInput(
            self._source.name,
            at=at,
            code="tar.below-link",
            problem=f"{printed(path)} lies below {printed(there.path)}, which is a {there.kind}",
            hint="make the archive again from one file system",
        )


@contextmanager
def _spooling(
    pieces: Iterator[bytes],
    name: str,
    limits: Limits,
    folder: Path,
) -> Iterator[FileSource]:
    """The stream in `pieces`, unpacked if it is compressed, as an unnamed file in `folder`."""
    start, pieces = _first_block(pieces)
    compression = detect(start)
    if compression is not None:
        start, pieces = _first_block(decompress(pieces, compression, name=name))
    _check_magic(start, name)
    with tempfile.TemporaryFile(dir=folder) as file:
        total = 0
        for piece in pieces:
            total += len(piece)
            check_content(name, total, limits)
            file.write(piece)
        file.flush()
        yield FileSource(file.fileno(), name=name, size=total)


def _first_block(pieces: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first block of a stream, or all if it is shorter, and the whole stream from its start."""
    start = b""
    for piece in pieces:
        start += piece
        if len(start) >= BLOCK:
            break
    return start[:BLOCK], chain((start,), pieces)


def _stdin(on_bytes: Callable[[int], None]) -> Iterator[bytes]:
    while True:
        try:
            piece = os.read(0, _CHUNK)
        except OSError as error:
            raise UnreadableInput(
                "standard input", code="source.read", problem=f"cannot read: {error.strerror}"
            ) from error
        if not piece:
            return
        on_bytes(len(piece))
        yield piece


def _check_magic(start: bytes, name: str) -> None:
    """Nothing but a tar archive begins with a tar header, or with the mark of an empty one."""
    block = start[:BLOCK]
    if is_header(block) or block == ZERO_BLOCK:
        return
    raise UnknownFormat(
        name,
        code="export.format",
        problem="is neither a folder nor a tar archive" if start else "is empty",
        hint="export takes a folder, or a tar archive, plain or compressed by gzip, zstd, xz or "
        "bzip2; mount a disk image first, and export the folder",
    )


def _pieces(source: ByteSource, on_bytes: Callable[[int], None]) -> Iterator[bytes]:
    offset = 0
    while chunk := source.read_at(offset, _CHUNK):
        offset += len(chunk)
        on_bytes(len(chunk))
        yield chunk


def _zeros(length: int) -> Iterator[bytes]:
    while length:
        piece = _ZEROS[:length]
        length -= len(piece)
        yield piece
