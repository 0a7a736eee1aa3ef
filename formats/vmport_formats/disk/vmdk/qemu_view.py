"""What qemu makes of a descriptor, where it is laxer than the format: its second meaning.

qemu looks for keys anywhere in the text, comments included, and for extents with a scan that runs
over line ends.  So a descriptor can mean one thing by its specification and another to qemu-img,
by accident (a blank line before an extent doubles it) or on purpose.  A converter that drives
qemu-img, or checks images for those who do, must know both.

Source: the behaviour of qemu 7.2 to 10, checked by experiment.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

# How much qemu reads when it looks for extents, and when it looks for ids and the parent.
_EXTENTS_WINDOW: Final = (1 << 20) - 1
KEYS_WINDOW: Final = 20 * 512 - 1
_MAX_TYPE: Final = 127
_MAX_PARENT: Final = 4095

_CREATE_TYPES: Final = frozenset(
    {
        b"monolithicFlat",
        b"vmfs",
        b"vmfsSparse",
        b"seSparse",
        b"twoGbMaxExtentSparse",
        b"twoGbMaxExtentFlat",
    }
)
_EXTENT_TYPES: Final = frozenset({b"FLAT", b"SPARSE", b"VMFS", b"VMFSSPARSE", b"SESPARSE"})

_LINE: Final = re.compile(rb"[^ \t\r\v\f\n][^\n]*")
# The pattern of qemu's scan, without going back on what was taken, just as scanf does not.
_SPACE: Final = rb"[ \t\n\r\v\f]"
_EXTENT: Final = re.compile(
    rb"RW" + _SPACE + rb"++([+-]?\d++)" + _SPACE + rb"*+([^ \t\n\r\v\f]{1,10}+)" + _SPACE + rb"*+"
    rb'"([^\n\r"]{1,511}+)(?:"' + _SPACE + rb"*+([+-]?\d++))?"
)
_LLONG_MAX: Final = (1 << 63) - 1


class QemuExtent(NamedTuple):
    """An extent, as qemu reads it."""

    sectors: int
    type: bytes
    name: bytes
    offset: int | None
    times: int = 1
    """How often it is found: again from each blank line before it."""


def qemu_extents(raw: bytes) -> tuple[QemuExtent, ...] | None:
    """The extents that qemu finds in the descriptor `raw`; None when it refuses the text."""
    text = raw[:_EXTENTS_WINDOW]
    if _value(text, b"createType", _MAX_TYPE) not in _CREATE_TYPES:
        return None
    found = []
    last = 0  # the end of the line before, that is its newline
    for line in _LINE.finditer(text):
        start, end = line.span()
        match = _EXTENT.match(text, start)
        extent = match and _extent(match)
        if match is not None and extent is None:
            return None
        # A scan that begins at a blank line skips it, and finds what follows once more.
        newlines = text.count(b"\n", last, start)
        if extent is not None and _is_read(extent):
            found.append(extent._replace(times=max(newlines, 1) if last else newlines + 1))
        last = end
    return tuple(found)


def qemu_parent(window: bytes) -> bytes | None:
    """The parent that qemu opens, going by the part of the file that it searches for one."""
    text = window[:KEYS_WINDOW].partition(b"\0")[0]
    return _value(text, b"parentFileNameHint", _MAX_PARENT)


def _value(text: bytes, key: bytes, limit: int) -> bytes | None:
    """What stands between the place two bytes after the first `key` and the next quote."""
    at = text.find(key)
    if at < 0:
        return None
    at += len(key) + 2
    end = text.find(b'"', at)
    return text[at:end] if at <= end <= at + limit else None


def _extent(match: re.Match[bytes]) -> QemuExtent | None:
    """The extent of a line that matched; None when qemu stops at it with an error."""
    sectors, kind, name, offset = match.groups()
    place = None if offset is None else _number(offset)
    extent = QemuExtent(_number(sectors), kind, name, place)
    if kind == b"FLAT":
        return None if place is None or place < 0 else extent
    return None if place is not None else extent


def _is_read(extent: QemuExtent) -> bool:
    """Extents of other types, or of no length, are passed over in silence."""
    return extent.sectors > 0 and extent.type in _EXTENT_TYPES


def _number(digits: bytes) -> int:
    value = int(digits) if len(digits) < 20 else _LLONG_MAX
    return max(min(value, _LLONG_MAX), -_LLONG_MAX - 1)
