"""The 512-byte header block of a tar archive, both ways.

Source: POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from vmport_formats.errors import CorruptInput

BLOCK: Final = 512

_USTAR: Final = Struct("100s8s8s8s12s12s8xc100s8s64x8s8s155s12x")
_CHECKSUM: Final = slice(148, 156)
_POSIX: Final = b"ustar\x0000"
_NO_NAMES: Final = bytes(64)  # of the user and group
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


def is_header(block: bytes) -> bool:
    """Whether the checksum of `block` is right; nothing else is looked at."""
    if len(block) != BLOCK or block == ZERO_BLOCK:
        return False
    return _has_right_checksum(block)


def parse_header(block: bytes, *, archive: str, at: int) -> Header:
    """The header in `block`, which is not all zeros and stands at offset `at` of `archive`.

    Raises:
        CorruptInput: the checksum is wrong, or a field is no number.
    """
    _check(block, archive, at)
    name, mode, uid, gid, size, mtime, typeflag, linkname, magic, major, minor, prefix = (
        _USTAR.unpack(block)
    )
    name = name.partition(b"\0")[0]
    if magic[:6] == _POSIX[:6]:
        if block[508:] == _STAR_TRAILER:
            prefix = block[_STAR_PREFIX]
        prefix = prefix.partition(b"\0")[0]
        if prefix:
            name = prefix + b"/" + name
    is_device = typeflag in {b"3", b"4"}  # elsewhere, old programs leave anything in these fields
    fields = {
        "mode": mode,
        "user id": uid,
        "group id": gid,
        "size": size,
        "time": mtime,
        "major number": major if is_device else b"\0",
        "minor number": minor if is_device else b"\0",
    }
    numbers = [_number(what, field, archive, at) for what, field in fields.items()]
    mode_bits, uid_number, gid_number, length, seconds, major_number, minor_number = numbers
    return Header(
        name=name,
        mode=mode_bits,
        uid=uid_number,
        gid=gid_number,
        size=length,
        mtime=seconds,
        typeflag=typeflag,
        linkname=linkname.partition(b"\0")[0],
        major=major_number,
        minor=minor_number,
    )


def parse_extension(block: bytes, *, archive: str, at: int) -> tuple[bytes, int]:
    """The typeflag of the header in `block`, and how many bytes it says to follow.

    It is all that counts in a header that only tells more of the next one.

    Raises:
        CorruptInput: the checksum is wrong, or the size is no number.
    """
    _check(block, archive, at)
    return block[156:157], _number("size", block[124:136], archive, at)


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
    prefix, short = (b"", name) if len(name) <= 100 else split_name(name) or (b"", name[:100])
    before = b"%b%07o\0%07o\0%07o\0%b%011o\0" % (
        short.ljust(100, b"\0"),
        mode,
        min(uid, MAX_ID),
        min(gid, MAX_ID),
        b"%011o\0" % size if size <= MAX_SIZE else b"\x80" + size.to_bytes(11, "big"),
        min(max(mtime, 0), MAX_SIZE),
    )
    after = b"%b%b%b%b%07o\0%07o\0%b" % (
        typeflag,
        linkname[:100].ljust(100, b"\0"),
        _POSIX,
        _NO_NAMES,
        major,
        minor,
        prefix.ljust(167, b"\0"),
    )
    return b"%b%06o\0 %b" % (before, sum(before) + sum(after) + 8 * 0x20, after)


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


def _check(block: bytes, archive: str, at: int) -> None:
    if not _has_right_checksum(block):
        raise CorruptInput(
            archive,
            at=at,
            code="tar.checksum",
            problem="no tar header stands here: its checksum is wrong",
            hint="the archive is damaged, or is no tar archive",
        )


def _number(what: str, field: bytes, archive: str, at: int) -> int:
    value = parse_number(field)
    if value is None or not -_LARGEST_BINARY <= value <= _LARGEST_BINARY:
        problem = f"the {what} in this header is no number"
    elif value < 0 and what == "size":
        problem = f"a member has a size of {value} bytes"
    else:
        return value
    raise CorruptInput(
        archive, at=at, code="tar.number", problem=problem, hint="the archive is damaged"
    )


def parse_number(field: bytes) -> int | None:
    """Octal digits between blanks and NULs, or two's complement with the first bit set.

    An empty field is 0; None: it is no number.
    """
    if field[0] & 0x80:
        bits = len(field) * 8 - 1
        value = int.from_bytes(field, "big") & ((1 << bits) - 1)
        negative = field[0] & 0x40
        return value - (1 << bits) if negative else value
    digits = field[:-1]  # as nearly all programs write them: zeros first, one NUL
    if not digits.isdigit() or field[-1]:
        digits = field.strip(b" \0")
        digits = digits.partition(b"\0")[0].rstrip(b" ")
    if not digits:
        return 0
    # Not `int` alone, which takes signs and underscores as well.
    return None if digits.strip(b"01234567") else int(digits, 8)


def _has_right_checksum(block: bytes) -> bool:
    """Whether it is the sum of the bytes, itself taken as blanks."""
    stated = parse_number(block[_CHECKSUM])
    total = sum(block) - sum(block[_CHECKSUM]) + 8 * 0x20
    if stated == total:
        return True
    # Some old programs took bytes as signed.
    outside = block[:148] + block[156:]
    return stated == total - 2 * sum(byte & 0x80 for byte in outside)
