"""Where the chunks of a DMG are: the ``blkx`` resources, in a property list or a resource fork.

Layout: the ``mish`` block as Apple's hdiutil writes it, which Apple has never published; Inside
Macintosh, "More Macintosh Toolbox", 1-121, on resource forks.
"""

from __future__ import annotations

import binascii
from array import array
from struct import Struct
from struct import error as StructError  # noqa: N812
from typing import TYPE_CHECKING, Final, NamedTuple
from xml.parsers import expat

from vmport_formats.disk.dmg.checksums import Checksum, read_checksum
from vmport_formats.disk.numbers import decoded
from vmport_formats.errors import CorruptInput, UnsafeInput, UnsupportedFeature
from vmport_formats.source import read_exactly
from vmport_formats.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.dmg.info import Trailer
    from vmport_formats.source import ByteSource

_MAX_TABLES: Final = 32 * MIB
"""Of a property list or resource fork; 150 GiB of disk in chunks of 256 KiB."""
_MAX_DEPTH: Final = 32

_TABLE = Struct(">4sIQQQII24s136sI")
_SIGNATURE: Final = b"mish"
_VERSION: Final = 1
_CHUNK_LENGTH: Final = 40
_NO_CONTENT: Final = frozenset({0x7FFF_FFFE, 0xFFFF_FFFF})
"""Kinds of chunks: comments, and what ends a table."""
_TOP: Final = (1 << 64) - 1

_RESOURCE_HEADER = Struct(">IIII")
_TYPE_LIST_AT: Final = 24
_TYPE = Struct(">4sHH")
_RESOURCE = Struct(">HHII")
_BLKX: Final = b"blkx"


class _Table(NamedTuple):
    """The header of a block table, big-endian."""

    signature: bytes
    version: int
    first_sector: int
    sectors: int
    data_offset: int
    buffers: int
    descriptor: int
    reserved: bytes
    checksum: bytes
    chunks: int


class Chunks(NamedTuple):
    """The chunks that have content, in columns of the same length, in the order of the tables."""

    kinds: array[int]
    starts: array[int]
    """Sectors of the disk."""
    counts: array[int]
    """Sectors of the disk."""
    offsets: array[int]
    """In the file."""
    lengths: array[int]
    """Bytes in the file."""


class BlockTable(NamedTuple):
    """One block table."""

    number: int
    """In the order in which they are stored."""
    at: int
    """Host offset of what holds it."""
    first: int
    """Sector of the disk."""
    sectors: int
    checksum: Checksum
    """Of its data, unpacked."""
    chunks: Chunks


def read_chunks(source: ByteSource, trailer: Trailer) -> Chunks:
    """The chunks of all block tables, as `read_tables`.

    Raises:
        CorruptInput, UnsafeInput, UnsupportedFeature: as `read_tables`.
    """
    chunks = Chunks(*(array("Q") for _ in Chunks._fields))
    for table in read_tables(source, trailer):
        for column, more in zip(chunks, table.chunks, strict=True):
            column.extend(more)
    return chunks


def read_tables(source: ByteSource, trailer: Trailer) -> list[BlockTable]:
    """What the block tables say; of the chunks, only that their numbers are not beyond all bounds.

    Raises:
        CorruptInput: a list or table breaks a rule (``dmg.property-list``, ``dmg.resource-fork``,
            ``dmg.block-table``).
        UnsafeInput: the property list defines entities (``dmg.property-list``).
        UnsupportedFeature: it is larger than 32 MiB.
    """
    length = trailer.xml_length or trailer.resource_length
    if length > _MAX_TABLES:
        raise UnsupportedFeature(
            source.name,
            code="dmg.block-table",
            problem=f"has block tables in {length} bytes; at most {_MAX_TABLES} are read",
        )
    if trailer.xml_length:
        at = trailer.xml_offset
        data = read_exactly(source, at, length, what="the property list")
        tables = _from_property_list(source, data, at)
    else:
        at = trailer.resource_offset
        data = read_exactly(source, at, length, what="the resource fork")
        tables = list(_from_resource_fork(source, data, at))
    return [
        _table(stored, trailer, source, number, place)
        for number, (place, stored) in enumerate(tables)
    ]


def _table(
    stored: bytes, trailer: Trailer, source: ByteSource, number: int, place: int
) -> BlockTable:

    def wrong(problem: str) -> CorruptInput:
        return CorruptInput(
            source.name, code="dmg.block-table", problem=f"block table {number} {problem}"
        )

    if len(stored) < _TABLE.size:
        raise wrong(f"has {len(stored)} bytes; must be at least {_TABLE.size}")
    table = _Table(*_TABLE.unpack_from(stored))
    if (table.signature, table.version) != (_SIGNATURE, _VERSION):
        raise wrong(f"begins with {stored[:8].hex(' ')}; must be 'mish', version 1")
    end = _TABLE.size + table.chunks * _CHUNK_LENGTH
    if end > len(stored):
        raise wrong(f"has {len(stored)} bytes; {table.chunks} chunks need {end}")
    if table.first_sector + table.sectors > trailer.sectors:
        raise wrong(
            f"is for sectors {table.first_sector} to {table.first_sector + table.sectors}; the "
            f"disk has {trailer.sectors}"
        )
    chunks = Chunks(*(array("Q") for _ in Chunks._fields))
    words = decoded(stored[_TABLE.size : end], 8, "big")
    base = trailer.data_offset + table.data_offset
    for at in range(0, len(words), 5):
        kind, start, count, offset, length = words[at : at + 5]
        kind >>= 32  # the lower half is a comment
        if not count or kind in _NO_CONTENT:
            continue
        if start + count > table.sectors:
            raise wrong(
                f"has a chunk for sectors {start} to {start + count}, but {table.sectors} in all"
            )
        for column, value in zip(
            chunks,
            (kind, table.first_sector + start, count, min(base + offset, _TOP), length),
            strict=True,
        ):
            column.append(value)
    checksum = read_checksum(table.checksum)
    return BlockTable(number, place, table.first_sector, table.sectors, checksum, chunks)


# --- Property list ------------------------------------------------------------------------------


def _from_property_list(source: ByteSource, data: bytes, at: int) -> list[tuple[int, bytes]]:
    """The ``Data`` of each ``dict`` in the array ``resource-fork``, ``blkx``; where it begins."""
    tables: list[tuple[int, bytes]] = []
    begin = 0
    path: list[str | None] = []
    text: list[str] | None = None
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def wrong(problem: str) -> CorruptInput:
        place = at + max(parser.CurrentByteIndex, 0)
        return CorruptInput(source.name, at=place, code="dmg.property-list", problem=problem)

    def started(tag: str, _: dict[str, str]) -> None:
        nonlocal begin, text
        if tag in ("dict", "array"):
            if len(path) == _MAX_DEPTH:
                raise wrong(f"the property list is nested deeper than {_MAX_DEPTH}")
            path.append("" if tag == "dict" else None)
        elif tag == "key" or (tag == "data" and path == ["resource-fork", "blkx", None, "Data"]):
            text = []
            begin = at + parser.CurrentByteIndex

    def ended(tag: str) -> None:
        nonlocal text
        if tag in ("dict", "array"):
            path.pop()
        elif text is not None:
            found, text = "".join(text), None
            if tag == "data":
                try:
                    packed = "".join(found.split()).encode()
                    tables.append((begin, binascii.a2b_base64(packed, strict_mode=True)))
                except ValueError as error:
                    raise wrong(f"a block table is no base64: {error}") from error
            elif path and path[-1] is not None:
                path[-1] = found

    def characters(found: str) -> None:
        if text is not None:
            text.append(found)

    def entity(*_: object) -> None:
        raise UnsafeInput(
            source.name,
            at=at,
            code="dmg.property-list",
            problem="the property list defines entities, which real ones never do",
        )

    parser.StartElementHandler = started
    parser.EndElementHandler = ended
    parser.CharacterDataHandler = characters
    parser.EntityDeclHandler = entity
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise wrong(f"the property list is not well-formed XML: {error}") from error
    except (LookupError, ValueError) as error:  # of the encoding that the XML declaration names
        raise wrong(f"the property list declares an encoding that is not read: {error}") from error
    return tables


# --- Resource fork ------------------------------------------------------------------------------


def _from_resource_fork(source: ByteSource, data: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """The resources of type ``blkx``, and where each begins."""
    try:
        data_at, map_at, data_length, map_length = _RESOURCE_HEADER.unpack_from(data)
        resources = data[data_at : data_at + data_length]
        resource_map = data[map_at : map_at + map_length]
        (types_at,) = _SHORT.unpack_from(resource_map, _TYPE_LIST_AT)
        (last_type,) = _SHORT.unpack_from(resource_map, types_at)
        for number in range((last_type + 1) & 0xFFFF):
            kind, last, list_at = _TYPE.unpack_from(
                resource_map, types_at + _SHORT.size + number * _TYPE.size
            )
            for index in range(last + 1 if kind == _BLKX else 0):
                _, _, place, _ = _RESOURCE.unpack_from(
                    resource_map, types_at + list_at + index * _RESOURCE.size
                )
                start = place & 0xFF_FFFF  # the upper byte has flags
                (length,) = _LONG.unpack_from(resources, start)
                table = resources[start + _LONG.size : start + _LONG.size + length]
                if len(table) < length:
                    raise StructError(f"a resource of {length} bytes reaches behind its end")
                yield at + data_at + start + _LONG.size, table
    except StructError as error:
        raise CorruptInput(
            source.name,
            at=at,
            code="dmg.resource-fork",
            problem=f"the resource fork breaks off, or leads out of itself: {error}",
        ) from error


_SHORT = Struct(">H")
_LONG = Struct(">I")
