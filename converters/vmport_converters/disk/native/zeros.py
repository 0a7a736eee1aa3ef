"""Finds zeros in what was read, and makes them."""

from __future__ import annotations

from typing import Final

from vmport_formats.units import MIB

_ZEROS: Final = bytes(4 * MIB)


def zeros(length: int) -> bytes | memoryview:
    """So many of them."""
    return memoryview(_ZEROS)[:length] if length <= len(_ZEROS) else bytes(length)


def data_spans(buffer: bytearray, at: int, end: int, size: int) -> list[tuple[int, int]]:
    """Where from `at` to `end`, in steps of `size`, the buffer is not all zeros.

    To compare with zeros by `startswith` takes neither a copy nor a look at each byte by itself.
    """
    nothing = _ZEROS if len(_ZEROS) == size else memoryview(_ZEROS)[:size]
    spans: list[tuple[int, int]] = []
    begin = -1
    for place in range(at, end, size):
        if buffer.startswith(nothing, place, place + size):
            if begin >= 0:
                spans.append((begin, place))
                begin = -1
        elif begin < 0:
            begin = place
    if begin >= 0:
        spans.append((begin, end))
    return spans
