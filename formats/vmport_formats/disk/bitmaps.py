"""Bitmaps that tell sector by sector what is there: as runs of bits that are alike."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

_ALIKE: Final = re.compile("0+|1+")


def bit_runs(
    bitmap: bytes, count: int, *, first: Literal["lsb", "msb"]
) -> Iterator[tuple[bool, int]]:
    """The first `count` bits of `bitmap`, as pairs of a bit and how many of it there are in a row.

    `first` is which bit of a byte comes first: its least or its most significant one.
    """
    digits = f"{int.from_bytes(bitmap, 'little' if first == 'lsb' else 'big'):b}"
    digits = digits.zfill(8 * len(bitmap))
    if first == "lsb":
        digits = digits[::-1]
    for alike in _ALIKE.finditer(digits, 0, count):
        yield alike[0][0] == "1", alike.end() - alike.start()
