"""An entry as the header of a tar member: ustar where that says all, PAX records for the rest.

Never a sparse member: Docker imports one, runs it, and then cannot save it (moby#37680).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from vmport_formats.filesystem.model import NANOSECONDS, Entry, EntryKind
from vmport_formats.filesystem.tar.header import (
    BLOCK,
    MAX_ID,
    MAX_SIZE,
    format_header,
    padding,
    split_name,
)
from vmport_formats.filesystem.tar.pax import format_records, format_time

if TYPE_CHECKING:
    from collections.abc import Mapping

_TYPEFLAGS: Final[Mapping[EntryKind, bytes]] = {
    EntryKind.FILE: b"0",
    EntryKind.SYMLINK: b"2",
    EntryKind.CHARACTER_DEVICE: b"3",
    EntryKind.BLOCK_DEVICE: b"4",
    EntryKind.FOLDER: b"5",
    EntryKind.FIFO: b"6",
}

END_OF_ARCHIVE: Final = bytes(2 * BLOCK)


def encode_member(entry: Entry, *, link_to: bytes | None = None) -> bytes:
    """The header blocks of `entry`; the content of a regular file and its padding come after.

    `link_to` makes it another name of the member that has this path, without content.

    Raises:
        KeyError: it is a socket, which no archive can hold.
        ValueError: an attribute's name has an equals sign, or a device number is too large.
    """
    name = entry.path or b"."
    if entry.kind is EntryKind.FOLDER:
        name += b"/"
    typeflag = _TYPEFLAGS[entry.kind] if link_to is None else b"1"
    target = entry.target if link_to is None else link_to
    major, minor = entry.device or (0, 0)
    if max(major, minor) > MAX_ID:
        raise ValueError(f"device number {major}:{minor}")
    size = entry.size if typeflag == b"0" else 0
    seconds = entry.mtime // NANOSECONDS
    header = format_header(
        name,
        typeflag=typeflag,
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        # A PAX record says the size where the field cannot; readers know the record first.
        size=size if size <= MAX_SIZE else 0,
        mtime=seconds,
        linkname=target,
        major=major,
        minor=minor,
    )
    records = _records(entry, name, target, size, with_xattrs=link_to is None)
    return _encode_records(records) + header if records else header


def _records(
    entry: Entry, name: bytes, target: bytes, size: int, *, with_xattrs: bool
) -> list[tuple[bytes, bytes]]:
    """What the ustar header cannot say of `entry`."""
    records = []
    # Bytes that are no UTF-8 go where every reader takes them as they are, if they fit there.
    if split_name(name) is None or (not name.isascii() and _is_utf8(name)):
        records.append((b"path", name))
    if len(target) > 100 or (not target.isascii() and _is_utf8(target)):
        records.append((b"linkpath", target))
    if entry.mtime % NANOSECONDS or not 0 <= entry.mtime <= MAX_SIZE * NANOSECONDS:
        records.append((b"mtime", format_time(entry.mtime)))
    if entry.uid > MAX_ID:
        records.append((b"uid", b"%d" % entry.uid))
    if entry.gid > MAX_ID:
        records.append((b"gid", b"%d" % entry.gid))
    if size > MAX_SIZE:
        records.append((b"size", b"%d" % size))
    if any(not _is_utf8(value) for _, value in records):
        # POSIX wants UTF-8 in records unless this one stands before them.
        records.insert(0, (b"hdrcharset", b"BINARY"))
    if with_xattrs:
        for key, value in entry.xattrs:
            if "=" in key or "\0" in key:
                raise ValueError(f"attribute {key!r}")
            records.append((b"SCHILY.xattr." + key.encode("utf-8", "surrogateescape"), value))
    return records


def _encode_records(records: list[tuple[bytes, bytes]]) -> bytes:
    data = format_records(records)
    return b"".join((_extended_header(len(data)), data, padding(len(data))))


@lru_cache(maxsize=4096)
def _extended_header(size: int) -> bytes:
    """The header before `size` bytes of records; its name means nothing, so all have the same."""
    return format_header(b"././@PaxHeader", typeflag=b"x", mode=0o644, size=size)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
