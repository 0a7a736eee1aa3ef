"""What a folder holds, as the system itself tells: the truth that exports are compared with."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path


@dataclass(frozen=True)
class Facts:
    """All that is known of one name."""

    kind: int
    mode: int
    uid: int
    gid: int
    mtime: int | None
    """Nanoseconds; None where it is not to be compared."""
    content: str
    """The SHA-256 of a file, the target of a link."""
    device: int
    xattrs: tuple[tuple[str, bytes], ...]
    first_name: bytes | None
    """Of several names of one file the first in order; None when it has one."""


def look_at(root: Path, *, skip: Container[bytes] = frozenset()) -> dict[bytes, Facts]:
    """The facts of all names below `root` (the root itself as ``b""``); `skip` and below are not.

    Works on ``/proc/PID/root`` as well, so that a container can be seen as from inside.
    """
    base = os.fsencode(root)
    found: dict[bytes, tuple[os.stat_result, Facts]] = {}
    _look(base, b"", skip, found)
    names: dict[tuple[int, int], list[bytes]] = {}
    for path, (status, _) in found.items():
        if not stat.S_ISDIR(status.st_mode):
            names.setdefault((status.st_dev, status.st_ino), []).append(path)
    first = {path: min(group) for group in names.values() if len(group) > 1 for path in group}
    return {
        path: Facts(**{**_fields(facts), "first_name": first.get(path)})  # type: ignore[arg-type]
        for path, (_, facts) in found.items()
    }


def _look(
    base: bytes,
    path: bytes,
    skip: Container[bytes],
    found: dict[bytes, tuple[os.stat_result, Facts]],
) -> None:
    full = base + b"/" + path
    status = os.lstat(full + b"." if not path else full)
    kind = stat.S_IFMT(status.st_mode)
    content = ""
    if kind == stat.S_IFREG:
        with open(full, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    elif kind == stat.S_IFLNK:
        content = os.fsdecode(os.readlink(full))  # noqa: PTH115 - bytes
    follow = not path
    xattrs = tuple(
        (name, os.getxattr(full, name, follow_symlinks=follow))
        for name in sorted(os.listxattr(full, follow_symlinks=follow))
    )
    facts = Facts(
        kind=kind,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        mtime=status.st_mtime_ns,
        content=content,
        device=status.st_rdev,
        xattrs=xattrs,
        first_name=None,
    )
    found[path] = status, facts
    if kind == stat.S_IFDIR:
        for name in sorted(os.listdir(full)):  # noqa: PTH208 - bytes
            below = path + b"/" + name if path else name
            if below not in skip:
                _look(base, below, skip, found)


def _fields(facts: Facts) -> dict[str, object]:
    return {name: getattr(facts, name) for name in Facts.__dataclass_fields__}
