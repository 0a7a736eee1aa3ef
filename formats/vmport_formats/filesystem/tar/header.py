"""The 512-byte header block of a tar archive, both ways.

Source: POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from vmport_formats.errors import CorruptInput

BLOCK: Final = 512

_USTAR: Final = Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_CHECKSUM: Final = slice(148, 156)
_POSIX: Final = b"ustar\x0000"
_GNU: Final = b"ustar  \x00"
_STAR_TRAILER: Final = b"tar\x00"  # at 508: star's own variant, whose prefix is shorter
_STAR_PREFIX: Final = slice(345, 476)
_LARGEST_BINARY: Final = (1 << 63) - 1

ZERO_BLOCK: Final = bytes(BLOCK)

MAX_SIZE: Final = 0o77777777777
"""The largest size or time that eleven octal digits hold: 8 GiB less one."""
MAX_ID: Final = 0o7777777
"""The largest user, group or device number that seven octal digits hold."""


class Header(NamedTuple):
    """A header block, its numbers decoded; names are as they stand, cut at the first NUL."""

    name: bytes
    mode: int
    uid: int
    gid: int
    size: int  # bytes
    mtime: int  # seconds since 1970
    typeflag: bytes
    linkname: bytes
    major: int
    minor: int
    gnu: bool
    """Written by GNU tar in its own format."""


def is_header(block: bytes) -> bool:
    """Whether the checksum of `block` is right; nothing else is looked at."""
    if len(block) != BLOCK or block == ZERO_BLOCK:
        return False
    return _stated_checksum(block) in _checksums(block)


def parse_header(block: bytes, *, archive: str, at: int) -> Header:
    """The header in `block`, which is not all zeros and stands at offset `at` of `archive`.

    Raises:
        CorruptInput: the checksum is wrong, or a field is no number.
    """
    if _stated_checksum(block) not in _checksums(block):
        raise CorruptInput(
            archive,
            at=at,
            code="tar.checksum",
            problem="no tar header stands here: its checksum is wrong",
            hint="the archive is damaged, or is no tar archive",
        )
    (
        name,
        mode,
        uid,
        gid,
        size,
        mtime,
        _,
        typeflag,
        linkname,
        magic,
        _,
        _,
        major,
        minor,
        prefix,
    ) = _USTAR.unpack(block)
    if magic[:6] == _POSIX[:6]:
        if block[508:] == _STAR_TRAILER:
            prefix = block[_STAR_PREFIX]
        prefix = _text(prefix)
        name = _text(name) if not prefix else prefix + b"/" + _text(name)
    else:
        name = _text(name)

    def number(what: str, field: bytes) -> int:
        value = parse_number(field)
        if value is None or not -_LARGEST_BINARY <= value <= _LARGEST_BINARY:
            raise CorruptInput(
                archive,
                at=at,
                code="tar.number",
                problem=f"the {what} in this header is no number",
                hint="the archive is damaged",
            )
        return value

    length = number("size", size)
    if length < 0:
        raise CorruptInput(
            archive, at=at, code="tar.size", problem=f"a member has a size of {length} bytes"
        )
    return Header(
        name=name,
        mode=number("mode", mode),
        uid=number("user id", uid),
        gid=number("group id", gid),
        size=length,
        mtime=number("time", mtime),
        typeflag=typeflag,
        linkname=_text(linkname),
        major=number("device number", major),
        minor=number("device number", minor),
        gnu=magic == _GNU,
    )


def format_header(
    name: bytes,
    *,
    typeflag: bytes,
    mode: int,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    mtime: int = 0,
    linkname: bytes = b"",
    major: int = 0,
    minor: int = 0,
) -> bytes:
    """A POSIX header block.

    What does not fit its field is cut short here; a PAX record must carry the whole of it.  Only
    a size above 8 GiB is kept, in the binary form that GNU tar made and every reader knows.
    """
    prefix, short = split_name(name) or (b"", name[:100])
    block = _USTAR.pack(
        short,
        _octal(mode, 7),
        _octal(_fitting(uid, MAX_ID), 7),
        _octal(_fitting(gid, MAX_ID), 7),
        _octal(size, 11) if size <= MAX_SIZE else b"\x80" + size.to_bytes(11, "big"),
        _octal(_fitting(mtime, MAX_SIZE), 11),
        b" " * 8,
        typeflag,
        linkname[:100],
        _POSIX,
        b"",
        b"",
        _octal(major, 7),
        _octal(minor, 7),
        prefix,
    )
    return b"".join((block[:148], b"%06o\0 " % sum(block), block[156:]))


def split_name(name: bytes) -> tuple[bytes, bytes] | None:
    """`name` as the prefix and name of a ustar header; None when it fits no split."""
    if len(name) <= 100:
        return b"", name
    if len(name) > 256:
        return None
    # The slash between the two is not stored: at most 155 bytes before it, 100 after.
    cut = name.rfind(b"/", len(name) - 101, 156)
    if cut <= 0 or cut == len(name) - 1 or len(name) - cut - 1 > 100:
        return None
    return name[:cut], name[cut + 1 :]


def padding(size: int) -> bytes:
    """The zeros that fill the last block of `size` bytes of content."""
    return bytes(-size % BLOCK)


def _fitting(value: int, limit: int) -> int:
    return min(max(value, 0), limit)


def _octal(value: int, digits: int) -> bytes:
    return b"%0*o\0" % (digits, value)


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def parse_number(field: bytes) -> int | None:
    """Octal digits between blanks and NULs, or two's complement with the first bit set.

    An empty field is 0; None: it is no number.
    """
    if field[0] & 0x80:
        bits = len(field) * 8 - 1
        value = int.from_bytes(field, "big") & ((1 << bits) - 1)
        negative = field[0] & 0x40
        return value - (1 << bits) if negative else value
    digits = field.strip(b" \0")
    digits = digits.partition(b"\0")[0].rstrip(b" ")
    if not digits:
        return 0
    if digits.strip(b"01234567"):
        return None
    return int(digits, 8)


def _stated_checksum(block: bytes) -> int | None:
    return parse_number(block[_CHECKSUM])


def _checksums(block: bytes) -> tuple[int, int]:
    """The sum of the bytes with the checksum as blanks; some old programs took them as signed."""
    total = sum(block) - sum(block[_CHECKSUM]) + 8 * 0x20
    outside = block[:148] + block[156:]
    high = sum(byte & 0x80 for byte in outside) << 1 if not outside.isascii() else 0
    return total, total - high
