"""Bitmaps that tell sector by sector what is there: as runs of bits that are alike."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal

from vmport_formats.disk.layer import Found, Run
from vmport_formats.source import read_exactly

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.source import ByteSource

_ALIKE: Final = re.compile("0+|1+")


def bit_runs(
    bitmap: bytes, count: int, *, first: Literal["lsb", "msb"], skip: int = 0
) -> Iterator[tuple[bool, int]]:
    """`count` bits of `bitmap`, as pairs of a bit and how many of it there are in a row.

    `first` is which bit of a byte comes first: its least or its most significant one.  `skip` bits
    come before those that count.
    """
    digits = f"{int.from_bytes(bitmap, 'little' if first == 'lsb' else 'big'):b}"
    digits = digits.zfill(8 * len(bitmap))
    if first == "lsb":
        digits = digits[::-1]
    for alike in _ALIKE.finditer(digits, skip, skip + count):
        yield alike[0][0] == "1", alike.end() - alike.start()


def bit_runs_at(
    source: ByteSource, at: int, start: int, end: int, *, first: Literal["lsb", "msb"]
) -> Iterator[tuple[bool, int]]:
    """As `bit_runs`, of the bits from `start` to `end` of a bitmap at host offset `at`.

    Raises:
        TruncatedInput: the file ends before.
    """
    skipped = start // 8
    bitmap = read_exactly(source, at + skipped, -(-end // 8) - skipped, what="a bitmap")
    return bit_runs(bitmap, end - start, first=first, skip=start - 8 * skipped)


def stored_runs(
    source: ByteSource, at: int, bits: Iterator[tuple[bool, int]], *, sector: int
) -> Iterator[Run]:
    """Runs of sectors that each have a place in a block from host offset `at` on.

    Those whose bit is set are stored there, the others are not in the image.
    """
    for here, count in bits:
        length = count * sector
        yield Run(length, Found.STORED, source, at) if here else Run(length, Found.ABSENT)
        at += length
