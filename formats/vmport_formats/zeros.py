"""Zeros at the end of a record or table, of which they are often the most, at memory speed."""

from __future__ import annotations

from typing import Final

_PAGE: Final = bytes(4096)


def without_trailing_zeros(data: bytes) -> bytes:
    """`data` up to its last byte that is not zero; `bytes.rstrip` looks at one byte at a time."""
    end = len(data)
    while data.endswith(_PAGE, 0, end):
        end -= len(_PAGE)
    return data[:end].rstrip(b"\0")
