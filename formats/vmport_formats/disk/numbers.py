"""The numbers in a table: from bytes and back, and how far they go on alike."""

from __future__ import annotations

from array import array
from functools import cache
from sys import byteorder
from typing import Final, Literal

_CODES: Final = {4: "I", 8: "Q"}
_LANES: Final = 1 << 12
"""At the most, at a time."""
_FEW: Final = 64
"""Fewer are made one by one as fast."""


def decoded(data: bytes, width: Literal[4, 8], order: Literal["little", "big"]) -> array[int]:
    """The numbers of `width` bytes in `data`."""
    numbers = array("I" if width == 4 else "Q", data)
    if byteorder != order:
        numbers.byteswap()
    return numbers


def encoded(numbers: array[int], order: Literal["little", "big"]) -> bytes:
    """The bytes of numbers, each as wide as the array has them."""
    if byteorder != order:
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def progression(first: int, count: int, step: int, width: Literal[4, 8] = 8) -> array[int]:
    """`count` numbers of `width` bytes, from `first` on, each `step` more than the one before.

    As lanes of one large number: to make them one by one takes ten times as long.
    """
    if not step:
        return array(_CODES[width], [first]) * count
    if count < _FEW:
        return array(_CODES[width], range(first, first + count * step, step))
    numbers = array(_CODES[width])
    lanes = min(_LANES, 1 << (count - 1).bit_length())
    ones, ramp = _lanes(width, lanes)
    steps = ramp * step
    for done in range(0, count, lanes):
        # What is more than a lane holds goes to those behind it, which are not wanted then.
        row = (ones * (first + done * step) + steps).to_bytes((lanes + 2) * width, "little")
        numbers.frombytes(row[: min(lanes, count - done) * width])
    if byteorder == "big":
        numbers.byteswap()
    return numbers


@cache
def _lanes(width: int, count: int) -> tuple[int, int]:
    """A one in each of `count` lanes, and in each its index."""
    index = array(_CODES[width], range(count))
    if byteorder == "big":
        index.byteswap()
    ones = ((1 << 8 * width * count) - 1) // ((1 << 8 * width) - 1)
    return ones, int.from_bytes(index.tobytes(), "little")


def reach(entries: array[int], index: int, end: int, step: int) -> int:
    """How many entries from `index` on, itself included, go up by `step`.

    As long as they do, twice as many are compared each time.
    """
    first = entries[index]
    top = 1 << 8 * entries.itemsize
    count = ahead = 1
    while (here := index + count) < end and entries[here] == (value := first + count * step):
        ahead = min(ahead, end - here)
        if step:
            ahead = min(ahead, -(-(top - value) // step))
            numbers = progression(value, ahead, step, 4 if entries.itemsize == 4 else 8)
        else:
            numbers = entries[here - 1 : here + ahead - 1]
        if entries[here : here + ahead] == numbers:
            count += ahead
            ahead *= 2
        else:
            count += 1
            ahead //= 2
    return count
