"""Reads a streamOptimized VMDK from its first byte to its last, as the specification has it.

Written from VMware's "Virtual Disk Format 5.0", "Stream-Optimized Compressed Sparse Extents", and
what ESXi is known to insist on; it shares nothing with the project's own reader, and is stricter.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SECTOR = 512
GRAIN = 128  # sectors
ENTRIES = 512
GD_AT_END = 0xFFFF_FFFF_FFFF_FFFF
EOS, TABLE, DIRECTORY, FOOTER = range(4)
# What open-vmdk's reader has room for: a grain and a sector, of which the marker takes 12 bytes.
MOST_PACKED = (GRAIN + 1) * SECTOR - 12


@dataclass
class Stream:
    """What was found."""

    capacity: int
    """Sectors."""
    descriptor: str
    grains: dict[int, bytes] = field(default_factory=dict)
    """Content by the grain's number."""
    order: list[str] = field(default_factory=list)
    """Of the markers; grains in a row are one."""


def walk(path: Path, *, whole_grains: bool = True) -> Stream:
    """All of the stream at `path`; AssertionError where it breaks a rule.

    `whole_grains`: the disk's size is a multiple of a grain's, as the specification advises.
    """
    data = path.read_bytes()
    assert len(data) % SECTOR == 0
    head = data[:SECTOR]
    capacity, places = _header(head)
    assert not (whole_grains and capacity % GRAIN), "no whole grains"
    assert places == (0, GD_AT_END), "the header leaves the directory to the footer"
    text, padding = data[SECTOR : 21 * SECTOR].split(b"\0", 1)
    assert not any(padding)
    assert not any(data[21 * SECTOR : GRAIN * SECTOR])
    stream = Stream(capacity, text.decode("utf-8"))
    at = GRAIN  # the overhead
    last = -1
    open_grains: dict[int, int] = {}
    tables: dict[int, int] = {}
    directory = 0
    while True:
        value, size, kind = struct.unpack_from("<QII", data, at * SECTOR)
        if size:
            number = _grain_number(value, last, capacity)
            packed = data[at * SECTOR + 12 : at * SECTOR + 12 + size]
            stream.grains[number] = _inflate(packed)
            if stream.order[-1:] != ["grains"]:
                stream.order.append("grains")
            open_grains[number] = at
            last = number
            end = at * SECTOR + 12 + size
            at = -(-end // SECTOR)
            assert not any(data[end : at * SECTOR])
            continue
        assert not any(data[at * SECTOR + 16 : (at + 1) * SECTOR])
        if kind == EOS:
            stream.order.append("end")
            assert value == 0
            assert at == len(data) // SECTOR - 1, "nothing follows the end"
            break
        at += 1
        body = data[at * SECTOR : (at + value) * SECTOR]
        assert len(body) == value * SECTOR
        if kind == TABLE:
            stream.order.append("table")
            number = _table(body, open_grains)
            assert number not in tables
            tables[number] = at
            open_grains.clear()
        elif kind == DIRECTORY:
            stream.order.append("directory")
            _directory(body, capacity, tables)
            directory = at
        elif kind == FOOTER:
            stream.order.append("footer")
            assert value == 1
            assert _header(body) == (capacity, (0, directory))
            assert body[:56] + body[64:] == head[:56] + head[64:], "but for the directory's place"
        else:
            raise AssertionError(f"marker of type {kind}")
        at += value
    assert not open_grains, "every grain is in a table"
    assert stream.order[-4:] in (
        ["table", "directory", "footer", "end"],
        ["directory", "footer", "end"],
    )
    return stream


def _header(sector: bytes) -> tuple[int, tuple[int, int]]:
    """Capacity, and places of the redundant and the other directory."""
    magic, version, flags, capacity, grain = struct.unpack_from("<4sIIQQ", sector)
    descriptor, descriptor_size, entries, redundant, directory, overhead = struct.unpack_from(
        "<QQIQQQ", sector, 28
    )
    unclean, newlines, compression = struct.unpack_from("<B4sH", sector, 72)
    assert magic == b"KDMV"
    assert version == 3, "ESXi: sparse VMDK version too old"
    assert flags == 1 << 0 | 1 << 16 | 1 << 17  # newline test, compressed, markers
    assert capacity > 0
    assert grain == GRAIN
    assert (descriptor, descriptor_size) == (1, 20)
    assert entries == ENTRIES
    assert overhead == GRAIN
    assert (unclean, newlines, compression) == (0, b"\n \r\n", 1)
    assert not any(sector[79:])
    return capacity, (redundant, directory)


def _grain_number(sector: int, last: int, capacity: int) -> int:
    number, rest = divmod(sector, GRAIN)
    assert rest == 0
    assert last < number, "in the order of the disk"
    assert sector < capacity
    return number


def _inflate(packed: bytes) -> bytes:
    assert len(packed) <= MOST_PACKED
    stream = zlib.decompressobj()
    content = stream.decompress(packed)
    assert stream.eof
    assert not stream.unused_data
    assert len(content) == GRAIN * SECTOR, "also the last one of the disk is whole"
    return content


def _table(body: bytes, grains: dict[int, int]) -> int:
    """Its number: it places just the grains that came since the last one, all of its own reach."""
    assert len(body) == 4 * ENTRIES
    assert grains, "a table of no grains is left out"
    (number,) = {grain // ENTRIES for grain in grains}
    expected = [grains.get(number * ENTRIES + index, 0) for index in range(ENTRIES)]
    assert list(struct.unpack(f"<{ENTRIES}I", body)) == expected
    return number


def _directory(body: bytes, capacity: int, tables: dict[int, int]) -> None:
    count = -(-capacity // (GRAIN * ENTRIES))
    assert len(body) == -(-4 * count // SECTOR) * SECTOR
    found = struct.unpack(f"<{len(body) // 4}I", body)
    assert list(found) == [tables.get(number, 0) for number in range(len(found))]
