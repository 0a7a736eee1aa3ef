"""The numbers in a table: from bytes and back, and how far they go on alike."""

from __future__ import annotations

from array import array
from sys import byteorder
from typing import Literal


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
            numbers = array(entries.typecode, range(value, value + ahead * step, step))
        else:
            numbers = entries[here - 1 : here + ahead - 1]
        if entries[here : here + ahead] == numbers:
            count += ahead
            ahead *= 2
        else:
            count += 1
            ahead //= 2
    return count
