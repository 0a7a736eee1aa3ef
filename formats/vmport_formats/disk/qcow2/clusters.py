"""What the entries of a qcow2 L2 table say of their clusters and subclusters.

Source: qemu's ``docs/interop/qcow2.rst``, "Cluster mapping", "Extended L2 Entries".  Entries that
go on alike are taken together, so that a table of one long run costs little more than its reading.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.disk.codecs import inflate_raw, unzstd
from vmport_formats.disk.layer import Found, Run, Unit
from vmport_formats.disk.numbers import reach
from vmport_formats.disk.qcow2.entries import (
    ALL_ZEROS,
    COMPRESSED,
    COPIED,
    OFFSET,
    overlapped,
)
from vmport_formats.disk.qcow2.header import Compression, Incompatible
from vmport_formats.errors import CorruptInput, TruncatedInput

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterator, Sequence

    from vmport_formats.disk.layer import Cipher
    from vmport_formats.disk.qcow2.claims import Claims
    from vmport_formats.disk.qcow2.entries import Taken
    from vmport_formats.disk.qcow2.header import Header
    from vmport_formats.source import ByteSource

_RESERVED: Final = 0x3F00_0000_0000_01FE

_SUBCLUSTERS: Final = 32
_STORED: Final = (1 << _SUBCLUSTERS) - 1
"""The half of a bitmap with the subclusters that are stored; the upper half has those of zeros."""
_UNIFORM: Final = {0: Found.ABSENT, _STORED: Found.STORED, _STORED << _SUBCLUSTERS: Found.ZERO}
"""Bitmaps of clusters whose subclusters are all alike."""


class Clusters:
    """Reads L2 entries; each pointer is checked before it is believed."""

    def __init__(
        self,
        source: ByteSource,
        header: Header,
        taken: Sequence[Taken],
        claims: Claims,
        *,
        data: ByteSource | None = None,
        cipher: Cipher | None = None,
    ) -> None:
        """`data` is the external data file, where there is one."""
        self._source = source
        self._taken = taken
        self._claims = claims
        self._data = source if data is None else data
        self._has_data_file = data is not None
        self._cipher = cipher
        self._size = header.cluster_size
        self._offset_bits = 62 - (header.cluster_bits - 8)
        self._unpack = unzstd if header.compression is Compression.ZSTD else inflate_raw
        self._extended = header.has(Incompatible.EXTENDED_L2)
        self.words = 2 if self._extended else 1
        """Of 8 bytes, that an entry has."""
        # The flag for zeros came with version 3, and extended entries have bitmaps instead.
        no_flag = self._extended or header.version == 2
        self._reserved = _RESERVED | ALL_ZEROS if no_flag else _RESERVED

    def claim(self, words: array[int], where: int) -> None:
        """Note what the entries in `words`, from offset `where` on, claim for themselves."""
        if not self._has_data_file:  # there every cluster has its own place anyway
            entries = words[0::2] if self._extended else words
            self._claims.note(entries, where, 8 * self.words)

    def runs(self, words: array[int], where: int, guest: int) -> Iterator[Run]:
        """The runs of the entries in `words`.

        The entries lie in the file from offset `where`, and their clusters on the disk from offset
        `guest`.

        Raises:
            CorruptInput: an entry breaks a rule, or points where no cluster can be.
            TruncatedInput: it points behind the end of the file.
        """
        entries = words[0::2] if self._extended else words
        bitmaps = words[1::2] if self._extended else None
        index = 0
        while index < len(entries):
            entry = entries[index]
            place = where + 8 * self.words * index
            if entry & COMPRESSED:
                count = 1
                yield self._packed(entry, bitmaps[index] if bitmaps else 0, place, guest)
            else:
                bitmap = bitmaps[index] if bitmaps else self._bitmap(entry)
                self._check(entry, bitmap, place)
                at, found = entry & OFFSET, _UNIFORM.get(bitmap)
                if found is None:
                    count = 1
                    if bitmap & _STORED:
                        self._check_place(at, count, place, guest)
                    yield from self._subclusters(at, bitmap)
                else:
                    step = self._size if at or found is Found.STORED else 0
                    count = reach(entries, index, len(entries), step)
                    if bitmaps:
                        count = min(count, reach(bitmaps, index, len(bitmaps), 0))
                    if found is Found.STORED:
                        self._check_place(at, count, place, guest)
                    yield self._run(count * self._size, found, at)
            index += count
            guest += count * self._size

    def _bitmap(self, entry: int) -> int:
        """What an entry without a bitmap would have as one."""
        if entry & ALL_ZEROS:
            return _STORED << _SUBCLUSTERS
        return _STORED if self._is_placed(entry) else 0

    def _is_placed(self, entry: int) -> bool:
        """Whether the entry has a host offset: 0 is one in a data file only."""
        return bool(entry & OFFSET or (self._has_data_file and entry & COPIED))

    def _subclusters(self, at: int, bitmap: int) -> Iterator[Run]:
        size = self._size // _SUBCLUSTERS
        for number in range(_SUBCLUSTERS):
            found = _UNIFORM[_STORED * (bitmap >> number & (1 | 1 << _SUBCLUSTERS))]
            yield self._run(size, found, at + number * size)

    def _run(self, length: int, found: Found, at: int) -> Run:
        if found is Found.STORED:
            return Run(length, found, self._data, at, cipher=self._cipher)
        return Run(length, found)

    def _packed(self, entry: int, bitmap: int, place: int, guest: int) -> Run:
        at = entry & ((1 << self._offset_bits) - 1)
        sectors = (entry & (COMPRESSED - 1)) >> self._offset_bits
        if entry & COPIED or bitmap:
            raise self._wrong(place, "is of a compressed cluster, but has the flags of a plain one")
        if self._has_data_file:
            raise self._wrong(place, "is of a compressed cluster, which a data file cannot hold")
        if at >= self._source.size:
            raise self._outside(place, at)
        self._check_free(at, at + 1, place)
        packed = (sectors + 1) * 512 - at % 512
        unit = Unit(
            guest, self._size, self._source, at, packed, self._unpack, "qcow2.compressed-cluster"
        )
        return Run(self._size, Found.PACKED, unit=unit)

    def _check(self, entry: int, bitmap: int, place: int) -> None:
        """The rules that an entry keeps by itself."""
        if entry & self._reserved:
            raise self._wrong(place, f"sets bits that are reserved: {entry & self._reserved:#x}")
        if bitmap & bitmap >> _SUBCLUSTERS:
            raise self._wrong(place, "marks a subcluster as stored and as zeros at once")
        if not self._is_placed(entry) and (bitmap & _STORED or entry == COPIED):
            raise self._wrong(place, "marks a cluster as stored, but does not say where")
        if entry & OFFSET & (self._size - 1):
            raise self._wrong(
                place,
                f"points to {entry & OFFSET:#x}; must be a multiple of the cluster size of "
                f"{self._size}",
            )

    def _check_place(self, at: int, count: int, place: int, guest: int) -> None:
        """That `count` clusters from `at` on can be where they are said to be."""
        if self._has_data_file:
            if at != guest:
                raise self._wrong(
                    place, f"points to {at:#x} of the data file; must be {guest:#x}, as on the disk"
                )
        else:
            self._check_free(at, at + count * self._size, place)
            twice = self._claims.contradicted(place, 8 * self.words, count)
            if twice is not None:
                raise self._wrong(
                    place + 8 * self.words * twice,
                    f"says that it alone points to {at + twice * self._size:#x}, and so does "
                    "another",
                )
        last = at + (count - 1) * self._size
        if last >= self._data.size:  # what a file lacks of its last cluster reads as zeros
            fitting = max(0, -(-(self._data.size - at) // self._size))
            raise self._outside(place + 8 * self.words * fitting, at + fitting * self._size)

    def _check_free(self, start: int, end: int, place: int) -> None:
        if hit := overlapped(self._taken, start, end):
            before = max(0, hit.start - start) // self._size
            raise self._wrong(
                place + 8 * self.words * before,
                f"points to {start + before * self._size:#x}, into {hit.what}",
            )

    def _outside(self, place: int, at: int) -> TruncatedInput:
        return TruncatedInput(
            self._source.name,
            at=place,
            code="qcow2.l2-entry",
            problem=f"this L2 table entry points to {at:#x}, but {self._data.name} ends at "
            f"{self._data.size:#x}",
            hint="the file is cut short; copy it again",
        )

    def _wrong(self, place: int, problem: str) -> CorruptInput:
        return CorruptInput(
            self._source.name,
            at=place,
            code="qcow2.l2-entry",
            problem=f"this L2 table entry {problem}",
        )
