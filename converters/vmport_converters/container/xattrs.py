"""Which extended attributes may travel in an image, and on what."""

from __future__ import annotations

import re
from typing import Final

from vmport_formats.filesystem.model import EntryKind

_TRAVELLING: Final = re.compile(
    r"user\.(?!overlay\.)[^=]+|security\.capability|system\.posix_acl_(access|default)"
)
"""The rest belongs to one machine or one mount: SELinux labels, IMA hashes, ``trusted.*``.

A name with an equals sign cannot be written in a PAX record.
"""

_CAPABILITY_LENGTHS: Final = {1: 12, 2: 20, 3: 24}
"""Bytes of a ``security.capability`` value, by its revision: linux/capability.h."""


def travels(key: str) -> bool:
    """Whether an attribute of this name means the same on another machine."""
    return _TRAVELLING.fullmatch(key) is not None


def is_carried(kind: EntryKind, key: str, value: bytes) -> bool:
    """Whether engines can set this attribute on an entry of this kind."""
    if not travels(key):
        return False
    if key.startswith("user."):  # the kernel allows these on files and folders only
        return kind in {EntryKind.FILE, EntryKind.FOLDER}
    if key == "security.capability":
        revision = value[3] if len(value) >= 4 else 0
        return kind is EntryKind.FILE and len(value) == _CAPABILITY_LENGTHS.get(revision)
    return kind is not EntryKind.SYMLINK
