"""The map of a disk: as ``qemu-img map --output=json`` has it, and as a table for people.

A map may have millions of extents, so both are printed as it is read.
"""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Final

from vmport.render.console import result_stream
from vmport.render.errors import printable
from vmport_formats.disk.extents import ExtentKind
from vmport_formats.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vmport_formats.disk.extents import Extent

_AT_ONCE: Final = 1000
"""Lines that are written together."""
_NOTHING: Final = "-"


def map_fields(extent: Extent) -> dict[str, object]:
    """An entry by the names of ``qemu-img map``; `filename` is its schema's, which it never prints.

    What reads as zeros is no data here, even where a file has room for it.
    """
    fields: dict[str, object] = {
        "start": extent.offset,
        "length": extent.length,
        "depth": extent.depth,
        "present": extent.kind is not ExtentKind.HOLE,
        "zero": extent.kind.reads_zero,
        "data": not extent.kind.reads_zero,
        "compressed": extent.kind is ExtentKind.COMPRESSED,
    }
    if extent.host_offset is not None:
        fields["offset"] = extent.host_offset
    if extent.host_file is not None:
        fields["filename"] = extent.host_file
    return fields


def print_map_json(extents: Iterable[Extent]) -> None:
    """Print an array with an entry a line."""
    stream = result_stream()
    before = "["
    for batch in _batches(json.dumps(map_fields(extent)) for extent in extents):
        stream.write(before + ",\n".join(batch))
        before = ",\n"
    stream.write("]\n" if before != "[" else "[]\n")


def print_map(extents: Iterable[Extent], size: int) -> None:
    """Print a table of a disk of `size` bytes, and what it adds up to."""
    stream = result_stream()
    width = max(len("offset"), len(f"{size:#x}"))
    totals: Counter[ExtentKind] = Counter()
    head = ("offset".rjust(width), "length".rjust(width), "kind".ljust(10), "depth")
    stream.write(f"{'  '.join((*head, 'host offset'.rjust(width + 5)))}  host file\n")

    def line(extent: Extent) -> str:
        totals[extent.kind] += extent.length
        place = _NOTHING if extent.host_offset is None else f"{extent.host_offset:#x}"
        file = _NOTHING if extent.host_file is None else printable(extent.host_file)
        return (
            f"{extent.offset:#{width}x}  {extent.length:#{width}x}  {extent.kind:10}  "
            f"{extent.depth:5}  {place:>{width + 5}}  {file}"
        )

    for batch in _batches(map(line, extents)):
        stream.write("\n".join(batch) + "\n")
    parts = [f"{kind} {format_size(totals[kind])}" for kind in ExtentKind if totals[kind]]
    stream.write(f"total {format_size(sum(totals.values()))}: {', '.join(parts) or 'nothing'}\n")


def _batches(lines: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(lines)
    while batch := list(islice(iterator, _AT_ONCE)):
        yield batch
