"""Composes a monolithicSparse VMDK: grains as they are, their tables in two copies before them.

    header | descriptor | directory | tables | directory | tables | grains

Source: VMware, "Virtual Disk Format 5.0", "Hosted Sparse Extents".
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vmport_formats.disk.composer import Write
from vmport_formats.disk.vmdk.description import Description
from vmport_formats.disk.vmdk.sparse import MAGIC, NEWLINES, Flag, SparseHeader
from vmport_formats.disk.vmdk.written_tables import (
    DESCRIPTOR_AT,
    DESCRIPTOR_SECTORS,
    GRAIN,
    GRAIN_SECTORS,
    TABLE_ENTRIES,
    TABLE_SECTORS,
    GrainTables,
    Table,
    capacity_of,
    check_fits,
    little,
)
from vmport_formats.units import SECTOR, Bytes, sectors_to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.composer import Data

_DIRECTORY_PART: Final = 1 << 16
"""Entries of a directory that are written at a time."""


@dataclass(frozen=True, slots=True)
class SparseOptions(Description):
    """How a monolithicSparse VMDK is written."""


class SparseComposer:
    """See `composer.Composer`.

    All tables have their places from the start; those of no data are never written, and so are
    holes of the file.
    """

    pack: Final = None
    grain: Final = int(GRAIN)

    def __init__(self, size: int, options: SparseOptions | None = None) -> None:
        """Of a disk of `size` bytes, rounded up to a sector, or to a grain where `options` say so.

        Raises:
            ValueError: there is no disk of this size.
            OutputError: not even its tables would fit into a file.
        """
        self._options = options or SparseOptions()
        self._capacity = capacity_of(size, whole_grains=self._options.whole_grains)
        self._tables = GrainTables(-(-self._capacity // GRAIN_SECTORS))
        count = self._tables.count
        directory = -(-4 * count // SECTOR)
        self._directories = (
            DESCRIPTOR_AT + DESCRIPTOR_SECTORS,
            DESCRIPTOR_AT + DESCRIPTOR_SECTORS + directory + count * TABLE_SECTORS,
        )
        self._first_tables = tuple(at + directory for at in self._directories)
        overhead = self._first_tables[1] + count * TABLE_SECTORS
        self._overhead = -(-overhead // GRAIN_SECTORS) * GRAIN_SECTORS
        check_fits(self._overhead)
        self._end = self._overhead

    @property
    def virtual_size(self) -> Bytes:
        """Of the disk as it is written."""
        return sectors_to_bytes(self._capacity)

    @property
    def length(self) -> int:
        """See `Composer`."""
        return self._end * SECTOR

    def begin(self) -> Iterator[Write]:
        """See `Composer`."""
        flags = Flag.NEWLINE_DETECTION | Flag.REDUNDANT_GRAIN_DIRECTORY
        zeroed = self._options.zeroed_grain
        header = SparseHeader(
            MAGIC,
            version=2 if zeroed else 1,
            flags=flags | (Flag.ZEROED_GRAINS if zeroed else 0),
            capacity=self._capacity,
            grain_size=GRAIN_SECTORS,
            descriptor_offset=DESCRIPTOR_AT,
            descriptor_size=DESCRIPTOR_SECTORS,
            num_gtes_per_gt=TABLE_ENTRIES,
            rgd_offset=self._directories[0],
            gd_offset=self._directories[1],
            overhead=self._overhead,
            unclean_shutdown=0,
            newline_characters=NEWLINES,
            compress_algorithm=0,
        )
        yield Write(0, header.sector())
        text = self._options.text("monolithicSparse", self._capacity)
        yield Write(DESCRIPTOR_AT * SECTOR, text)
        for directory, tables in zip(self._directories, self._first_tables, strict=True):
            for first in range(0, self._tables.count, _DIRECTORY_PART):
                last = min(first + _DIRECTORY_PART, self._tables.count)
                places = range(
                    tables + first * TABLE_SECTORS, tables + last * TABLE_SECTORS, TABLE_SECTORS
                )
                yield Write(directory * SECTOR + 4 * first, little(array("I", places)))

    def add(self, offset: int, data: Data) -> Iterator[Write]:
        """See `Composer`.

        Raises:
            OutputError: the file is larger than its tables can express.
        """
        for table in self._tables.put(offset, len(data), self._end):
            yield from self._both(table)
        yield Write(self._end * SECTOR, data)
        self._end += len(data) // SECTOR

    def add_packed(self, offset: int, packed: bytes) -> Iterator[Write]:
        """Raises ValueError: this kind of disk is not compressed."""
        raise ValueError(f"{len(packed)} bytes for {offset}: grains are stored as they are")

    def finish(self) -> Iterator[Write]:
        """See `Composer`."""
        if table := self._tables.last():
            yield from self._both(table)

    def _both(self, table: Table) -> Iterator[Write]:
        for tables in self._first_tables:
            yield Write((tables + table.number * TABLE_SECTORS) * SECTOR, table.data)
