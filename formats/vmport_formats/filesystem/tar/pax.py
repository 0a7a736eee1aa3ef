"""PAX extended header records, both ways.

Source: POSIX.1-2017, pax, "pax Extended Header"; the ``SCHILY.``, ``LIBARCHIVE.`` and ``GNU.``
records are described in star(5) and libarchive-formats(5).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from vmport_formats.errors import CorruptInput
from vmport_formats.filesystem.model import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_RECORDS: Final = 1 << 20
"""The most bytes of records before one member; the kernel allows 64 KiB of attributes a file."""

_LENGTH: Final = re.compile(rb"([1-9][0-9]{0,9}) ")
_DECIMAL: Final = re.compile(rb"(-?)([0-9]{1,19})(?:\.([0-9]*))?")
_INTEGER: Final = re.compile(rb"[0-9]{1,19}")


def parse_records(data: bytes, *, archive: str, at: int) -> list[tuple[bytes, bytes]]:
    """The keywords and values of the records in `data`, which stand at offset `at`.

    Raises:
        CorruptInput: a record's length does not lead from its start to a newline.
    """
    records = []
    position = 0
    while position < len(data):
        found = _LENGTH.match(data, position)
        end = position + int(found.group(1)) if found else 0
        keyword, equals, value = data[found.end() if found else 0 : max(end - 1, 0)].partition(b"=")
        # Records may be followed by the NULs of a careless writer; nothing else may be.
        if found is None and not data[position:].strip(b"\0"):
            break
        if found is None or not found.end() < end <= len(data) or not equals or not keyword:
            raise _corrupt(archive, at + position, "a PAX record is malformed")
        if data[end - 1] != 0x0A:
            raise _corrupt(archive, at + position, "a PAX record does not end in a newline")
        records.append((keyword, value))
        position = end
    return records


def format_records(records: Iterable[tuple[bytes, bytes]]) -> bytes:
    """`records` as the content of an extended header."""
    return b"".join(_format_record(keyword, value) for keyword, value in records)


def _format_record(keyword: bytes, value: bytes) -> bytes:
    rest = len(keyword) + len(value) + 3  # the blank, the equals sign, the newline
    length = rest + len(str(rest))
    if len(str(length)) != len(str(rest)):  # its own digits pushed it over a power of ten
        length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, keyword, value)


def parse_time(value: bytes, *, archive: str, at: int) -> int:
    """Seconds since 1970, with a fraction, as nanoseconds; finer digits are cut off.

    Raises:
        CorruptInput: it is no decimal number.
    """
    found = _DECIMAL.fullmatch(value)
    if found is None:
        raise _corrupt(archive, at, "a time in a PAX record is no number")
    sign, seconds, fraction = found.groups()
    total = int(seconds) * NANOSECONDS + int((fraction or b"").ljust(9, b"0")[:9])
    return -total if sign else total


def format_time(nanoseconds: int) -> bytes:
    """Nanoseconds since 1970 as a decimal number of seconds."""
    sign = b"-" if nanoseconds < 0 else b""
    seconds, rest = divmod(abs(nanoseconds), NANOSECONDS)
    fraction = (b".%09d" % rest).rstrip(b"0") if rest else b""
    return b"%b%d%b" % (sign, seconds, fraction)


def parse_integer(value: bytes, *, archive: str, at: int) -> int:
    """A number that is not negative.

    Raises:
        CorruptInput: it is none, or above 2^63 - 1.
    """
    if _INTEGER.fullmatch(value) is None or int(value) >= 1 << 63:
        raise _corrupt(archive, at, "a number in a PAX record is malformed")
    return int(value)


def _corrupt(archive: str, at: int, problem: str) -> CorruptInput:
    return CorruptInput(
        archive, at=at, code="tar.pax", problem=problem, hint="the archive is damaged"
    )
