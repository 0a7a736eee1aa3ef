"""POSIX ACLs: from the text that archives carry to the value of the attribute that Linux shows.

Source: acl(5), "ACL TEXT FORMS"; linux/posix_acl_xattr.h, version 2.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

_VERSION: Final = Struct("<I").pack(2)
_ENTRY: Final = Struct("<HHI")  # tag, permissions, id
_NO_ID: Final = 0xFFFFFFFF
_TAGS: Final = {"user": 0x01, "group": 0x04, "mask": 0x10, "other": 0x20}
_NAMED: Final = {"user": 0x02, "group": 0x08}
_SHORT: Final = {"u": "user", "g": "group", "m": "mask", "o": "other"}


ACCESS: Final = "system.posix_acl_access"
DEFAULT: Final = "system.posix_acl_default"
"""The attributes: whom a thing admits, and what things made in a folder begin with."""

NO_ENTRIES: Final = _VERSION
"""The value that takes an ACL away."""


def mode_as_acl(mode: int) -> bytes:
    """The ACL that says what the permission bits `mode` say, and no more.

    Where it is set, the kernel stores no ACL, and takes one away that was inherited.
    """
    shifts = ((_TAGS["user"], 6), (_TAGS["group"], 3), (_TAGS["other"], 0))
    return _VERSION + b"".join(_ENTRY.pack(tag, mode >> shift & 7, _NO_ID) for tag, shift in shifts)


def acl_as_mode(value: bytes) -> int | None:
    """The nine permission bits that Linux shows for a file with the ACL `value`.

    Those of the group are the mask, if there is one.  None: it is no ACL.
    """
    if not value.startswith(_VERSION) or len(value) % _ENTRY.size != len(_VERSION) % _ENTRY.size:
        return None
    entries = {tag: bits for tag, bits, _ in _ENTRY.iter_unpack(value[len(_VERSION) :])}
    user, other = entries.get(_TAGS["user"]), entries.get(_TAGS["other"])
    group = entries.get(_TAGS["mask"], entries.get(_TAGS["group"]))
    if user is None or group is None or other is None:
        return None
    return int((user & 7) << 6 | (group & 7) << 3 | other & 7)


def says_more_than_mode(value: bytes) -> bool:
    """Whether the ACL `value` has an entry beyond the three that permission bits are."""
    return len(value) > len(_VERSION) + 3 * _ENTRY.size


def encode_acl(text: str) -> bytes | None:
    """The value of ``system.posix_acl_*`` that `text` describes.

    Entries stand on lines or between commas; a fourth field, as star writes it, is the number.
    None: it names a user or group without a number, or is no ACL.
    """
    entries = []
    for item in text.replace(",", "\n").splitlines():
        line = item.partition("#")[0].strip()
        if not line:
            continue
        entry = _entry(line)
        if entry is None:
            return None
        entries.append(entry)
    if not entries or len({(tag, number) for tag, _, number in entries}) != len(entries):
        return None
    entries.sort(key=lambda entry: (entry[0], entry[2]))
    return _VERSION + b"".join(_ENTRY.pack(*entry) for entry in entries)


def _entry(line: str) -> tuple[int, int, int] | None:
    fields = [field.strip() for field in line.split(":")]
    if len(fields) == 2 and fields[0] in {"mask", "other", "m", "o"}:  # the short form without ::
        fields.insert(1, "")
    if not 3 <= len(fields) <= 4:
        return None
    kind = _SHORT.get(fields[0], fields[0])
    if kind not in _TAGS or fields[2].strip("rwxX-"):
        return None
    permissions = sum(bit for sign, bit in (("r", 4), ("w", 2), ("x", 1)) if sign in fields[2])
    if not fields[1]:
        return _TAGS[kind], permissions, _NO_ID
    number = next((field for field in (*fields[3:], fields[1]) if field.isdecimal()), None)
    if number is None or kind not in _NAMED or not int(number) < _NO_ID:
        return None
    return _NAMED[kind], permissions, int(number)
