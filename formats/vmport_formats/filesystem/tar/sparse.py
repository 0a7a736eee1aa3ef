"""Sparse members: where the pieces of data of a file with holes belong.

GNU tar has four ways to say it: a map in the header and in blocks after it (type ``S``), and three
that use PAX records (0.0, 0.1 and 1.0, the last with a map before the data).
Source: GNU tar manual, "Sparse Formats".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.errors import CorruptInput, UnsupportedFeature
from vmport_formats.filesystem.tar.header import BLOCK, parse_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

MAX_PIECES: Final = 1 << 20
"""The most pieces of one file that are accepted."""

_IN_HEADER: Final = range(386, 386 + 4 * 24, 24)
_IN_BLOCK: Final = range(0, 21 * 24, 24)


class Piece(NamedTuple):
    """A run of data: `length` bytes that belong at `offset` of the file."""

    offset: int
    length: int


def read_gnu_map(
    block: bytes, read_block: Callable[[], bytes], *, archive: str, at: int
) -> tuple[int, list[Piece]]:
    """The size and map of a member of type ``S`` whose header is `block`.

    `read_block` hands over the blocks that go on with the map.

    Raises:
        CorruptInput: a number is malformed or there are too many pieces.
    """
    size = _header_number(block[483:495], archive=archive, at=at)
    pieces = list(_pieces(block, _IN_HEADER, archive=archive, at=at))
    more = block[482]
    while more:
        block = read_block()
        pieces += _pieces(block, _IN_BLOCK, archive=archive, at=at)
        more = block[504]
        if len(pieces) > MAX_PIECES:
            raise _too_many(archive, at)
    return size, pieces


def read_pax_map(
    records: Sequence[tuple[bytes, bytes]],
    read_block: Callable[[], bytes],
    *,
    archive: str,
    at: int,
) -> tuple[int, list[Piece]] | None:
    """The size and map that ``GNU.sparse`` records give; None when the file is not sparse.

    Raises:
        CorruptInput: a number is malformed or there are too many pieces.
        UnsupportedFeature: the map is of a version that is not known.
    """
    last = dict(records)
    if not any(keyword.startswith(b"GNU.sparse.") for keyword in last):
        return None
    version = last.get(b"GNU.sparse.major"), last.get(b"GNU.sparse.minor")
    if version == (b"1", b"0"):
        size = last.get(b"GNU.sparse.realsize")
        numbers = _numbers_before_data(read_block, archive=archive, at=at)
    elif version in {(None, None), (b"0", b"0"), (b"0", b"1")}:
        size = last.get(b"GNU.sparse.size") or last.get(b"GNU.sparse.realsize")
        listed = last.get(b"GNU.sparse.map")
        if listed is not None:
            numbers = listed.split(b",") if listed else []
        else:
            wanted = {b"GNU.sparse.offset", b"GNU.sparse.numbytes"}
            numbers = [value for keyword, value in records if keyword in wanted]
    else:
        raise UnsupportedFeature(
            archive,
            at=at,
            code="tar.sparse-version",
            problem="a sparse member uses a version of the format that is not known",
        )
    if size is None or len(numbers) % 2:
        raise _corrupt(archive, at)
    values = [_decimal(number, archive=archive, at=at) for number in numbers]
    if len(values) > 2 * MAX_PIECES:
        raise _too_many(archive, at)
    pieces = [Piece(*pair) for pair in zip(values[::2], values[1::2], strict=True)]
    return _decimal(size, archive=archive, at=at), pieces


def check_map(pieces: Iterable[Piece], size: int, stored: int, *, archive: str, at: int) -> None:
    """Check that `pieces` stand in order within `size` bytes, and are `stored` bytes in all.

    Raises:
        CorruptInput: they are not.
    """
    end = total = 0
    for piece in pieces:
        if piece.offset < end or piece.offset + piece.length > size:
            raise _corrupt(archive, at)
        end = piece.offset + piece.length
        total += piece.length
    if total != stored:
        raise _corrupt(archive, at)


def _pieces(block: bytes, places: Iterable[int], *, archive: str, at: int) -> Iterator[Piece]:
    for place in places:
        offset, length = block[place : place + 12], block[place + 12 : place + 24]
        if not length.strip(b"\0"):  # the map ends with an empty slot
            return
        yield Piece(
            _header_number(offset, archive=archive, at=at),
            _header_number(length, archive=archive, at=at),
        )


def _numbers_before_data(read_block: Callable[[], bytes], *, archive: str, at: int) -> list[bytes]:
    """The lines of a version 1.0 map: their count, then an offset and a length each."""
    lines: list[bytes] = []
    rest = b""
    wanted = 1
    while len(lines) < wanted:
        *whole, rest = (rest + read_block()).split(b"\n")
        lines += whole
        if len(rest) > BLOCK or len(lines) > 2 * MAX_PIECES + BLOCK:
            raise _corrupt(archive, at)
        if lines and wanted == 1:
            count = _decimal(lines[0], archive=archive, at=at)
            if count > MAX_PIECES:
                raise _too_many(archive, at)
            wanted = 1 + 2 * count
    return lines[1:wanted]


def _header_number(field: bytes, *, archive: str, at: int) -> int:
    value = parse_number(field)
    if value is None or value < 0:
        raise _corrupt(archive, at)
    return value


def _decimal(digits: bytes, *, archive: str, at: int) -> int:
    if not digits.isdigit() or len(digits) > 19:
        raise _corrupt(archive, at)
    return int(digits)


def _corrupt(archive: str, at: int) -> CorruptInput:
    return CorruptInput(
        archive,
        at=at,
        code="tar.sparse",
        problem="the map of a sparse member is malformed",
        hint="the archive is damaged",
    )


def _too_many(archive: str, at: int) -> CorruptInput:
    return CorruptInput(
        archive,
        at=at,
        code="tar.sparse",
        problem=f"a sparse member has more than {MAX_PIECES} pieces",
    )
