"""DMG content: chunks of any length, each stored in its own way.

Its checksums are over whole tables and the whole file, so that only who reads all of it can check
them, as `check` does; bzip2, xz and zlib have their own in each chunk.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from operator import add, gt
from typing import TYPE_CHECKING, Final

from vmport_formats.disk.codecs import inflate
from vmport_formats.disk.dmg.block_tables import Chunks, read_chunks
from vmport_formats.disk.dmg.compression import unadc, unbzip2, unxz
from vmport_formats.disk.dmg.info import read_info, read_trailer
from vmport_formats.disk.layer import Found, Run, Unit, cut
from vmport_formats.errors import CorruptInput, UnsupportedFeature
from vmport_formats.units import MIB, SECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.layer import Opener
    from vmport_formats.disk.model import ImageInfo
    from vmport_formats.source import ByteSource

_ZERO: Final = 0
_RAW: Final = 1
_IGNORED: Final = 2
"""Free space, of which nothing is stored."""
_PACKED: Final = {
    0x8000_0004: unadc,
    0x8000_0005: inflate,
    0x8000_0006: unbzip2,
    0x8000_0008: unxz,
}
_UNSUPPORTED: Final = {0x8000_0007: "LZFSE"}
_MAX_CHUNK: Final = 64 * MIB
"""Of a compressed chunk, packed or not; as in qemu."""


class DmgLayer:
    """A `layer.Layer`."""

    def __init__(self, source: ByteSource, info: ImageInfo, chunks: Chunks, end: int) -> None:
        """`chunks` are in the order of the disk; what they hold lies before host offset `end`."""
        self.info = info
        self.size = int(info.virtual_size)
        self._source = source
        self._chunks = chunks
        self._end = end

    def runs(self, offset: int, length: int) -> Iterator[Run]:
        """See `layer.Layer.runs`."""
        first = max(0, bisect_right(self._chunks.starts, offset // SECTOR) - 1)
        start = self._chunks.starts[first] * SECTOR if self._chunks.starts else 0
        if offset < start:
            raise gap(self._source, offset // SECTOR)
        return cut(self._runs(first, offset + length), start, offset, offset + length)

    def _runs(self, number: int, end: int) -> Iterator[Run]:
        starts, counts = self._chunks.starts, self._chunks.counts
        sector = starts[number] if starts else 0
        while sector * SECTOR < end:
            if number == len(starts) or starts[number] != sector:
                raise gap(self._source, sector)
            yield self._run(number)
            sector += counts[number]
            number += 1

    def _run(self, number: int) -> Run:
        return run_of(self._source, self._end, *(column[number] for column in self._chunks))


def run_of(
    source: ByteSource, end: int, kind: int, sector: int, count: int, at: int, stored: int
) -> Run:
    """The run that a chunk is; what it holds lies before host offset `end`.

    Raises:
        CorruptInput: it breaks a rule (``dmg.chunk``).
    """
    length = count * SECTOR
    if kind == _ZERO:
        return Run(length, Found.ZERO)
    if kind == _IGNORED:
        return Run(length, Found.ABSENT)
    if at + stored > end:
        problem = f"ends at {at + stored:#x}, behind the start of the trailer at {end:#x}"
        raise _wrong(source, sector, problem)
    if kind == _RAW:
        if stored < length:
            raise _wrong(source, sector, f"stores {stored} bytes for {length} of the disk")
        return Run(length, Found.STORED, source, at)
    if max(length, stored) > _MAX_CHUNK:
        raise _wrong(
            source,
            sector,
            f"packs {length} bytes into {stored}; at most {_MAX_CHUNK} are unpacked at once",
        )
    code = "dmg.compressed-chunk"
    unit = Unit(sector * SECTOR, length, source, at, stored, _PACKED[kind], code)
    return Run(length, Found.PACKED, unit=unit)


def _wrong(source: ByteSource, sector: int, problem: str) -> CorruptInput:
    return CorruptInput(
        source.name,
        code="dmg.chunk",
        problem=f"the chunk for sector {sector} of the disk {problem}",
    )


def gap(source: ByteSource, sector: int) -> CorruptInput:
    """What is wrong with the image in `source` when nothing is for a sector of the disk."""
    return CorruptInput(
        source.name, code="dmg.gap", problem=f"no chunk is for sector {sector} of the disk"
    )


def overlap(source: ByteSource, sector: int) -> CorruptInput:
    """What is wrong with the image in `source` when two chunks are for a sector of the disk."""
    return CorruptInput(
        source.name,
        code="dmg.overlap",
        problem=f"two chunks are for sector {sector} of the disk",
    )


def open_layer(source: ByteSource, opener: Opener) -> DmgLayer:
    """The content of an Apple disk image.

    Raises:
        CorruptInput, TruncatedInput: as `info.read_info`; also when a block table breaks a rule, or
            two chunks are for the same sectors (``dmg.overlap``).
        UnsupportedFeature: as `info.read_info`; also for a kind of chunk that cannot be read, by
            name (``dmg.compression``).
        UnsafeInput: the property list defines entities.
    """
    info = read_info(source)
    trailer = read_trailer(source)
    chunks = read_chunks(source, trailer)
    check_kinds(source, chunks)
    ordered = _ordered(chunks)
    ends = array("Q", map(add, ordered.starts, ordered.counts))
    for number, overlaps in enumerate(map(gt, ends, ordered.starts[1:])):
        if overlaps:
            raise overlap(source, ordered.starts[number + 1])
    return DmgLayer(source, info, ordered, trailer.at)


def check_kinds(source: ByteSource, chunks: Chunks) -> None:
    """Check that chunks are of kinds that can be read.

    Raises:
        UnsupportedFeature: one is not (``dmg.compression``).
    """
    for kind in set(chunks.kinds) - {_ZERO, _RAW, _IGNORED, *_PACKED}:
        name = _UNSUPPORTED.get(kind)
        raise UnsupportedFeature(
            source.name,
            code="dmg.compression",
            problem=f"has chunks that are compressed with {name}, which is not known here"
            if name
            else f"has chunks of type {kind:#010x}, which is not known here",
            hint="convert it on a Mac first: hdiutil convert OLD.dmg -format UDZO -o NEW.dmg",
        )


def _ordered(chunks: Chunks) -> Chunks:
    """The chunks in the order of the disk."""
    order = sorted(range(len(chunks.starts)), key=chunks.starts.__getitem__)
    return Chunks(*(array("Q", map(column.__getitem__, order)) for column in chunks))
