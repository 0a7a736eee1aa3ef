"""The reference counts that a qcow2 file stores for its clusters.

Source: qemu's ``docs/interop/qcow2.rst``, "Host cluster management".
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from vmport_formats.disk.numbers import decoded, reach
from vmport_formats.source import read_exactly
from vmport_formats.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.counts import Numbers
    from vmport_formats.disk.qcow2.header import Header
    from vmport_formats.source import ByteSource

RESERVED: Final = 0x1FF
_CACHE: Final = 4 * MIB


class StoredRefcounts:
    """The refcount table and its blocks."""

    def __init__(self, source: ByteSource, header: Header) -> None:
        """The table must lie in the file, as `header.check_tables` sees to.

        Raises:
            TruncatedInput: it does not.
        """
        self._source = source
        self._size = header.cluster_size
        self._bits = header.refcount_bits
        self.per_block = 8 * self._size // self._bits
        """Clusters that a block is for."""
        self.table_at = header.refcount_table_offset
        length = header.refcount_table_clusters * self._size
        data = read_exactly(source, self.table_at, length, what="the refcount table")
        self.table = decoded(data, 8, "big")
        self._blocks: OrderedDict[int, Numbers] = OrderedDict()

    def entries(self) -> Iterator[tuple[int, int]]:
        """Index and value of each entry of the table that is not 0."""
        index = 0
        while index < len(self.table):
            if self.table[index]:
                yield index, self.table[index]
                index += 1
            else:
                index += reach(self.table, index, len(self.table), 0)

    @property
    def reach(self) -> int:
        """The first cluster behind all that have a count."""
        used = len(self.table.tobytes().rstrip(b"\0"))
        return -(-used // self.table.itemsize) * self.per_block

    def readable(self, entry: int) -> bool:
        """Whether this entry can be that of a block; one behind the file's end is of zeros."""
        return not (entry & ~RESERVED) % self._size

    def of(self, first: int, last: int) -> Numbers | None:
        """The counts of clusters in one block's reach; None where the block cannot be read."""
        index, start = divmod(first, self.per_block)
        entry = self.table[index] if index < len(self.table) else 0
        if not entry:
            return bytes(last - first)
        if not self.readable(entry):
            return None
        return self._block(entry & ~RESERVED)[start : start + last - first]

    def at(self, cluster: int) -> int | None:
        """The count of one cluster; None where its block cannot be read."""
        numbers = self.of(cluster, cluster + 1)
        return None if numbers is None else numbers[0]

    def ranges(self, first: int, last: int) -> Iterator[tuple[int, Numbers | None]]:
        """The counts from `first` to `last`, block by block: of which cluster on, and which."""
        while first < last:
            stop = min(last, (first // self.per_block + 1) * self.per_block)
            yield first, self.of(first, stop)
            first = stop

    def _block(self, at: int) -> Numbers:
        if (known := self._blocks.get(at)) is not None:
            self._blocks.move_to_end(at)
            return known
        end = max(at, min(at + self._size, self._source.size))
        if next(self._source.data_ranges(at, end - at), None) is None:
            numbers: Numbers = bytes(self.per_block)
        else:
            data = self._source.read_at(at, self._size).ljust(self._size, b"\0")
            numbers = unpack_counts(data, self._bits)
        self._blocks[at] = numbers
        if len(self._blocks) > max(1, _CACHE // self._size):
            self._blocks.popitem(last=False)
        return numbers


def unpack_counts(data: bytes, bits: int) -> Numbers:
    """The numbers in a refcount block: as bytes where all of them fit."""
    if bits == 8:
        return data
    if bits > 8:
        width = bits // 8
        low = data[width - 1 :: width]
        if len(data) - data.count(0) == len(low) - low.count(0):  # nothing but in the low bytes
            return low
        if bits == 16:
            numbers = array("Q")
            numbers.extend(high << 8 | one for high, one in zip(data[0::2], low, strict=True))
            return numbers
        if bits == 32:
            return array("Q", decoded(data, 4, "big"))
        return decoded(data, 8, "big")
    # Narrower ones fill a byte from its least significant bit.
    per_byte = 8 // bits
    numbers_of = bytearray(len(data) * per_byte)
    mask = (1 << bits) - 1
    for place in range(per_byte):
        table = bytes(value >> place * bits & mask for value in range(256))
        numbers_of[place::per_byte] = data.translate(table)
    return bytes(numbers_of)
