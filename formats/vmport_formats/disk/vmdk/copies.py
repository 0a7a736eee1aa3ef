"""The grain tables of a VMDK, which are there twice: what differs between the two.

Source: VMware, "Virtual Disk Format 5.0", "Grain Directories and Grain Tables in Sparse Extents".
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.check import Faults
    from vmport_formats.source import ByteSource

_PART: Final = 1 << 20
"""Bytes of tables that are compared at a time."""


class Span(NamedTuple):
    """Grain tables that follow each other in the directory and in the file."""

    number: int
    """Of the first."""
    tables: int
    at: int


def paired(
    tables: list[Span], copies: list[Span], size: int
) -> Iterator[tuple[int, int, int | None, int | None]]:
    """Number, how many, and offsets in both: None where one has no table."""
    edges = sorted(
        {edge for span in (*tables, *copies) for edge in (span.number, span.number + span.tables)}
    )
    ones, others = iter(tables), iter(copies)
    one, other = next(ones, None), next(others, None)
    for number, following in pairwise(edges):
        while one is not None and one.number + one.tables <= number:
            one = next(ones, None)
        while other is not None and other.number + other.tables <= number:
            other = next(others, None)
        places = [
            span.at + (number - span.number) * size
            if span is not None and span.number <= number
            else None
            for span in (one, other)
        ]
        if places != [None, None]:
            yield number, following - number, places[0], places[1]


def compare(
    source: ByteSource, one: int, other: int, length: int, width: int, faults: Faults
) -> None:
    """Tables in a row, and the copies of them."""
    for start in range(0, length, _PART):
        part = min(_PART, length - start)
        _compare_part(source, one + start, other + start, part, width, faults)


def _compare_part(
    source: ByteSource, one: int, other: int, length: int, width: int, faults: Faults
) -> None:
    """A part of a table, or of several, and the copy of it."""
    if not any(next(source.data_ranges(at, length), None) for at in (one, other)):
        return
    first, second = source.read_at(one, length), source.read_at(other, length)
    if first == second:
        return
    different = [
        index
        for index in range(0, length, width)
        if first[index : index + width] != second[index : index + width]
    ]
    text = f"this copy of a grain table entry differs from the entry at {one + different[0]:#x}" + (
        f", and so do {len(different) - 1} more behind it" if different[1:] else ""
    )
    faults.error("vmdk.redundant-table", other + different[0], text, len(different))
