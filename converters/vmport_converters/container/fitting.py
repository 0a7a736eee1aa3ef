"""What entries must be like for an image to hold them, and for engines to unpack them rightly."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from vmport_converters.container.rootfs import Note
from vmport_converters.container.xattrs import is_carried, travels
from vmport_formats.errors import UnsupportedFeature
from vmport_formats.filesystem.acl import ACCESS, DEFAULT, NO_ENTRIES, mode_as_acl
from vmport_formats.filesystem.model import (
    MAX_NAME,
    MAX_PATH,
    Entry,
    EntryKind,
    parent,
    printed,
)
from vmport_formats.filesystem.tar.header import MAX_ID

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

WHITEOUT: Final = b".wh."
"""How a name begins that engines take for a removed file: OCI image specification, "Whiteouts"."""


def check_expressible(source: str, entries: Iterable[Entry]) -> None:
    """Stop at the first of `entries` that no image can hold.

    Raises:
        UnsupportedFeature: there is one; `source` is what to call the source.
    """
    for entry in entries:
        problem = _inexpressible(entry)
        if problem is not None:
            code, text = problem
            raise UnsupportedFeature(
                source,
                code=code,
                problem=f"{printed(entry.path)} {text}",
                hint="leave it out with --drop",
            )


def _inexpressible(entry: Entry) -> tuple[str, str] | None:
    """Why no image can hold `entry`; None: it can."""
    if entry.name.startswith(WHITEOUT):
        return (
            "export.whiteout",
            "has a name that engines take for a removed file; is this a layer of an image, "
            "rather than a whole root file system?",
        )
    if entry.kind is EntryKind.CHARACTER_DEVICE and entry.device == (0, 0):
        return (
            "export.whiteout",
            "is a device 0:0, by which overlay file systems mark a removed file; is this the upper "
            "folder of an overlay, rather than a whole root file system?",
        )
    if len(entry.path) > MAX_PATH or len(entry.name) > MAX_NAME:
        return (
            "export.long-path",
            f"has a path longer than {MAX_PATH} bytes, or a name longer than {MAX_NAME}; "
            "no engine can unpack it",
        )
    if len(entry.target) > MAX_PATH:
        return "export.long-path", f"points to a path longer than {MAX_PATH} bytes"
    if entry.device is not None and max(entry.device) > MAX_ID:
        return "export.device", f"has a device number above {MAX_ID}"
    return None


def fit(
    entries: Iterable[Entry], *, owner: tuple[int, int] | None
) -> tuple[list[Entry], list[Note]]:
    """`entries` with the attributes and owners that the image shall have.

    `owner` is the user and group of all of them; None: they keep theirs.
    """
    stripped: dict[str, int] = {}
    finished = []
    giving: set[bytes] = set()  # the folders whose ACL is given to what is made in them
    for entry in entries:
        xattrs = entry.xattrs
        if xattrs:
            xattrs = tuple(pair for pair in xattrs if is_carried(entry.kind, *pair))
            for key, _ in set(entry.xattrs) - set(xattrs):
                stripped[key] = stripped.get(key, 0) + 1
            if entry.kind is EntryKind.FOLDER and any(key == DEFAULT for key, _ in xattrs):
                giving.add(entry.path)
        if giving and entry.path and parent(entry.path) in giving:
            xattrs = _without_inheritance(entry, xattrs)
        uid, gid = owner or (entry.uid, entry.gid)
        if xattrs != entry.xattrs or (uid, gid) != (entry.uid, entry.gid):
            finished.append(replace(entry, xattrs=xattrs, uid=uid, gid=gid))
        else:
            finished.append(entry)
    notes = [
        Note(
            "export.attribute",
            f"attribute {key} was left out of {count} {'entry' if count == 1 else 'entries'}: "
            + (
                "its value or place is not one that engines accept"
                if travels(key)
                else "it has a meaning on the source machine only"
            ),
        )
        for key, count in sorted(stripped.items())
    ]
    return finished, notes


def _without_inheritance(
    entry: Entry, xattrs: tuple[tuple[str, bytes], ...]
) -> tuple[tuple[str, bytes], ...]:
    """`xattrs` so that an engine which makes `entry` takes away what its folder's ACL gave it."""
    if entry.kind is EntryKind.SYMLINK:
        return xattrs
    wanted = {ACCESS: mode_as_acl(entry.mode)}
    if entry.kind is EntryKind.FOLDER:
        wanted[DEFAULT] = NO_ENTRIES
    return tuple(sorted({**wanted, **dict(xattrs)}.items()))


def surprises(entries: Sequence[Entry]) -> Iterator[Note]:
    """What would surprise the user of the image."""
    names = {entry.path for entry in entries if b"/" not in entry.path}
    if not names & {b"bin", b"usr", b"sbin", b"app"}:
        yield Note(
            "export.no-root",
            "there is no /bin, /sbin or /usr: is the source really a root file system?",
        )
    root = entries[0] if entries and not entries[0].path else None
    if root is not None and root.mode & 0o005 != 0o005:
        yield Note(
            "export.closed-root",
            f"/ has mode {root.mode:04o}, so only user {root.uid} and root can run anything in the "
            "image; chmod 755 the source folder if that is not meant",
        )
