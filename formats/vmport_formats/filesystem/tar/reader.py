"""The members of a tar archive, one after the other, from a stream that is never unpacked.

Reads v7, ustar, PAX, GNU tar's and star's archives, sparse members among them.  Names are checked
here: none leads out of the archive's root.
"""

from __future__ import annotations

import re
from base64 import b64decode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vmport_formats.errors import CorruptInput, TruncatedInput, UnsafeInput, UnsupportedFeature
from vmport_formats.filesystem.acl import (
    ACCESS,
    DEFAULT,
    acl_as_mode,
    encode_acl,
    says_more_than_mode,
)
from vmport_formats.filesystem.model import NANOSECONDS, Device, EntryKind
from vmport_formats.filesystem.tar.header import (
    BLOCK,
    ZERO_BLOCK,
    Header,
    is_header,
    padding,
    parse_extension,
    parse_header,
)
from vmport_formats.filesystem.tar.pax import (
    MAX_RECORDS,
    parse_integer,
    parse_records,
    parse_time,
)
from vmport_formats.filesystem.tar.sparse import Piece, check_map, read_gnu_map, read_pax_map

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.filesystem.tar.stream import TarStream

_MAX_LONG_NAME: Final = 1 << 16
_LARGEST_ID: Final = 0xFFFFFFFF
_LOOK_AHEAD: Final = 256  # blocks after the end; tar pads to 20, tape drives to more

_PERCENT: Final = re.compile(rb"%([0-9A-Fa-f]{2})")

_KINDS: Final = {
    b"0": EntryKind.FILE,
    b"\0": EntryKind.FILE,
    b"7": EntryKind.FILE,  # "contiguous": a hint to a file system that few have
    b"S": EntryKind.FILE,
    b"2": EntryKind.SYMLINK,
    b"3": EntryKind.CHARACTER_DEVICE,
    b"4": EntryKind.BLOCK_DEVICE,
    b"5": EntryKind.FOLDER,
    b"D": EntryKind.FOLDER,  # GNU tar --incremental: a list of names follows
    b"6": EntryKind.FIFO,
}
_WITH_DATA: Final = frozenset({b"0", b"\0", b"7", b"S", b"D"})
_EXTENSIONS: Final = frozenset({b"x", b"X", b"g", b"L", b"K", b"V"})

_ACL_KEYWORDS: Final = {
    b"SCHILY.acl.access": ACCESS,
    b"SCHILY.acl.default": DEFAULT,
}


@dataclass(frozen=True, slots=True)
class Member:
    """One member: its metadata as the archive states it, and where its data stand."""

    at: int
    """Offset of its first header."""
    path: bytes
    """Without leading ``./`` and doubled slashes; empty for the root."""
    kind: EntryKind | None
    """None: another name of the member that `link` names."""
    mode: int
    uid: int
    gid: int
    mtime: int
    """Nanoseconds since 1970."""
    size: int
    """Bytes of the file, holes included."""
    link: bytes
    """A symlink's target as it stands, or a hard link's path in the form of `path`."""
    device: Device | None
    xattrs: tuple[tuple[str, bytes], ...]
    """Sorted by name."""
    unreadable_acl: bool
    """It has an ACL that names a user by name only, and so cannot be carried on."""
    data: int
    """Offset of its data."""
    stored: int
    """Bytes of data; fewer than `size` when it is sparse."""
    pieces: tuple[Piece, ...] | None
    """Where the data belong; None when they are the whole file."""


def read_members(stream: TarStream, *, look_past_end: bool = True) -> Iterator[Member]:
    """The members in `stream`, in their order, up to the end-of-archive marker.

    While a member is in hand its data may be read from the stream; what is left is passed over.
    `look_past_end` makes sure that no second archive follows; else nothing is read after the end.

    Raises:
        CorruptInput: a header or record breaks the rules of the format.
        TruncatedInput: the archive ends before a member does, or without a marker.
        UnsafeInput: a name leads out of the archive's root.
        UnsupportedFeature: a member of a kind that is not known.
    """
    return _Reader(stream, look_past_end=look_past_end).members()


class _Reader:
    """The state that headers leave for those after them."""

    def __init__(self, stream: TarStream, *, look_past_end: bool) -> None:
        self._look_past_end = look_past_end
        self._stream = stream
        self._archive = stream.name
        self._global: dict[bytes, bytes] = {}

    def members(self) -> Iterator[Member]:
        stream = self._stream
        start: int | None = None
        records: list[tuple[bytes, bytes]] = []
        long_name = long_link = None
        stored = 0
        while True:
            at = stream.position
            block = stream.read(BLOCK)
            if block == ZERO_BLOCK and start is None:
                if self._look_past_end:
                    self._check_end()
                return
            if len(block) < BLOCK or block == ZERO_BLOCK:
                raise self._truncated(at, "before its end-of-archive marker")
            start = at if start is None else start
            typeflag = block[156:157]
            if typeflag in _EXTENSIONS:
                typeflag, stored = parse_extension(block, archive=self._archive, at=at)
            if typeflag in {b"x", b"X"}:
                records = parse_records(self._side(stored), archive=self._archive, at=at + BLOCK)
            elif typeflag == b"g":
                data = self._side(stored)
                self._global.update(parse_records(data, archive=self._archive, at=at + BLOCK))
                start = None if not records and long_name is None and long_link is None else start
            elif typeflag == b"L":
                long_name = self._side(stored, _MAX_LONG_NAME).partition(b"\0")[0]
            elif typeflag == b"K":
                long_link = self._side(stored, _MAX_LONG_NAME).partition(b"\0")[0]
            elif typeflag == b"V":  # the name of the volume
                self._pass_over(stored + len(padding(stored)))
                start = None
            else:
                header = parse_header(block, archive=self._archive, at=at)
                if long_name is not None:
                    header = header._replace(name=long_name)
                if long_link is not None:
                    header = header._replace(linkname=long_link)
                yield from self._member(header, block, records, start)
                start, records, long_name, long_link = None, [], None, None

    def _member(
        self, header: Header, block: bytes, records: list[tuple[bytes, bytes]], at: int
    ) -> Iterator[Member]:
        merged = {**self._global, **dict(records)} if self._global else dict(records)
        # An empty value takes back what was said before; only an attribute may really be empty.
        stated = {
            keyword: value
            for keyword, value in merged.items()
            if value or keyword.startswith(b"SCHILY.xattr.")
        }
        name = stated.get(b"GNU.sparse.name") or stated.get(b"path") or header.name
        kind = self._kind(header, name, at)
        end = self._stream.position + self._stored(header, stated, at)
        size, pieces = 0, None
        if header.typeflag == b"S":
            before = self._stream.position
            size, pieces = read_gnu_map(block, self._block, archive=self._archive, at=at)
            end += self._stream.position - before  # the size does not count these blocks
        elif kind is EntryKind.FILE:
            sparse = read_pax_map(records, self._block, archive=self._archive, at=at)
            size, pieces = sparse or (end - self._stream.position, None)
        stored = end - self._stream.position if kind is EntryKind.FILE else 0
        if pieces is not None:
            check_map(pieces, size, stored, archive=self._archive, at=at)
        uid, gid, mtime = self._times_and_owner(header, stated, at)
        device = None
        if kind in {EntryKind.CHARACTER_DEVICE, EntryKind.BLOCK_DEVICE}:
            device = Device(header.major, header.minor)
        xattrs, unreadable_acl = self._xattrs(stated, at)
        yield Member(
            at=at,
            path=self._path(name, at, "a member"),
            kind=kind,
            mode=_mode(header.mode, xattrs),
            uid=uid,
            gid=gid,
            mtime=mtime,
            size=size,
            link=self._link(kind, stated.get(b"linkpath") or header.linkname, at),
            device=device,
            xattrs=xattrs,
            unreadable_acl=unreadable_acl,
            data=self._stream.position,
            stored=stored,
            pieces=None if pieces is None else tuple(pieces),
        )
        end += -end % BLOCK
        self._pass_over(end - self._stream.position)

    def _stored(self, header: Header, stated: dict[bytes, bytes], at: int) -> int:
        """The bytes that follow the header."""
        stored = header.size
        if b"size" in stated:
            stored = parse_integer(stated[b"size"], archive=self._archive, at=at)
        if header.typeflag in _WITH_DATA:
            return stored
        if header.typeflag == b"1" and stored:
            raise UnsupportedFeature(
                self._archive,
                at=at,
                code="tar.link-data",
                problem="a hard link states a size; readers differ on whether data follow",
                hint="make the archive again with GNU tar or bsdtar",
            )
        return 0

    def _times_and_owner(
        self, header: Header, stated: dict[bytes, bytes], at: int
    ) -> tuple[int, int, int]:
        uid, gid, mtime = header.uid, header.gid, header.mtime * NANOSECONDS
        if b"uid" in stated:
            uid = parse_integer(stated[b"uid"], archive=self._archive, at=at)
        if b"gid" in stated:
            gid = parse_integer(stated[b"gid"], archive=self._archive, at=at)
        if b"mtime" in stated:
            mtime = parse_time(stated[b"mtime"], archive=self._archive, at=at)
        if min(uid, gid) < 0 or max(uid, gid) > _LARGEST_ID:
            raise self._corrupt(at, "tar.owner", "an owner is not between 0 and 2^32 - 1")
        return uid, gid, mtime

    def _link(self, kind: EntryKind | None, link: bytes, at: int) -> bytes:
        if kind is None:
            return self._path(link, at, "the target of a hard link")
        if kind is not EntryKind.SYMLINK:
            return b""
        if not link or b"\0" in link:
            raise self._corrupt(at, "tar.link", "a symlink has no target")
        return link

    def _kind(self, header: Header, name: bytes, at: int) -> EntryKind | None:
        if header.typeflag == b"1":
            return None
        if header.typeflag in {b"0", b"\0"} and name.endswith(b"/"):  # as v7 wrote folders
            return EntryKind.FOLDER
        kind = _KINDS.get(header.typeflag)
        if kind is None:
            raise UnsupportedFeature(
                self._archive,
                at=at,
                code="tar.type",
                problem=f"a member is of type {header.typeflag!r}, which is not known",
            )
        return kind

    def _xattrs(
        self, stated: dict[bytes, bytes], at: int
    ) -> tuple[tuple[tuple[str, bytes], ...], bool]:
        """The extended attributes, and whether there was an ACL that cannot be carried on."""
        found: dict[str, bytes] = {}
        unreadable = False
        for keyword, value in stated.items():
            if keyword.startswith(b"SCHILY.xattr."):
                found[keyword[13:].decode("utf-8", "surrogateescape")] = value
            elif keyword.startswith(b"LIBARCHIVE.xattr."):
                # libarchive's own form: a percent-encoded name, a value in base 64 unpadded.
                name = _PERCENT.sub(lambda code: bytes.fromhex(code[1].decode()), keyword[17:])
                try:
                    decoded = b64decode(value + b"=" * (-len(value) % 4), validate=True)
                except ValueError:
                    raise self._corrupt(at, "tar.xattr", "an attribute is not base 64") from None
                found.setdefault(name.decode("utf-8", "surrogateescape"), decoded)
            elif keyword == b"RHT.security.selinux":
                found.setdefault("security.selinux", value)
            elif keyword in _ACL_KEYWORDS:
                acl = encode_acl(value.decode("utf-8", "surrogateescape"))
                if acl is None:
                    unreadable = True
                elif keyword == b"SCHILY.acl.default" or says_more_than_mode(acl):
                    found.setdefault(_ACL_KEYWORDS[keyword], acl)
        return tuple(sorted(found.items())), unreadable

    def _path(self, name: bytes, at: int, what: str) -> bytes:
        """`name` in normal form.

        Raises:
            UnsafeInput: it is absolute or has a component ``..``.
        """
        if not name or b"\0" in name:
            raise self._corrupt(at, "tar.name", f"{what} has no name")
        parts = name.split(b"/")
        if name.startswith(b"/") or b".." in parts:
            raise UnsafeInput(
                self._archive,
                at=at,
                code="tar.escape",
                problem=f"{what} is called {name.decode(errors='backslashreplace')}, "
                "which leads out of the archive",
                hint="make the archive again, from inside the root folder: tar -C ROOT -cf FILE .",
            )
        return b"/".join(part for part in parts if part not in {b"", b"."})

    def _side(self, length: int, limit: int = MAX_RECORDS) -> bytes:
        """The content of a header that describes another member."""
        at = self._stream.position
        if length > limit:
            raise self._corrupt(
                at, "tar.extended-size", f"an extended header of {length} bytes; at most {limit}"
            )
        data = self._stream.read(length)
        if len(data) != length:
            raise self._truncated(at, "inside an extended header")
        self._pass_over(len(padding(length)))
        return data

    def _block(self) -> bytes:
        at = self._stream.position
        block = self._stream.read(BLOCK)
        if len(block) != BLOCK:
            raise self._truncated(at, "inside the map of a sparse member")
        return block

    def _pass_over(self, length: int) -> None:
        at = self._stream.position
        if length < 0:
            raise self._corrupt(at, "tar.sparse", "the map of a sparse member exceeds its data")
        if length and not self._stream.skip(length):
            raise self._truncated(at, "inside a member")

    def _check_end(self) -> None:
        """Nothing but padding may follow: another archive there would be lost unannounced."""
        for _ in range(_LOOK_AHEAD):
            if is_header(self._stream.read(BLOCK)):
                raise UnsupportedFeature(
                    self._archive,
                    at=self._stream.position - BLOCK,
                    code="tar.concatenated",
                    problem="a second archive follows the end of the first",
                    hint="join them with tar --concatenate, or export them one by one",
                )

    def _corrupt(self, at: int, code: str, problem: str) -> CorruptInput:
        return CorruptInput(
            self._archive, at=at, code=code, problem=problem, hint="the archive is damaged"
        )

    def _truncated(self, at: int, where: str) -> TruncatedInput:
        return TruncatedInput(
            self._archive,
            at=at,
            code="tar.truncated",
            problem=f"the archive ends {where}",
            hint="it is cut short; copy or make it again",
        )


def _mode(stated: int, xattrs: tuple[tuple[str, bytes], ...]) -> int:
    """The permission bits; bsdtar states those without the ACL, and Linux shows those with it."""
    acl = dict(xattrs).get(ACCESS)
    shown = None if acl is None else acl_as_mode(acl)
    return stated & 0o7777 if shown is None else stated & 0o7000 | shown
