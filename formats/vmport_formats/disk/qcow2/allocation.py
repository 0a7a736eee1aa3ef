"""Which clusters of a qcow2 file are given out, in ascending order, and how often each is used.

A refcount block comes out once no count in it can change any more: one of them is in memory.

Source: qemu's ``docs/interop/qcow2.rst``, "Host cluster management".
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final

from vmport_formats.disk.composer import Write
from vmport_formats.disk.numbers import encoded

if TYPE_CHECKING:
    from collections.abc import Iterator

_TYPE_CODES: Final = {16: "H", 32: "I", 64: "Q"}
"""Of arrays whose numbers have that many bits; narrower ones are kept as bytes."""


class Allocation:
    """Clusters one after the other, each with its count."""

    def __init__(self, cluster_size: int, refcount_bits: int) -> None:
        self._size = cluster_size
        self._bits = refcount_bits
        self._per_block = 8 * cluster_size // refcount_bits
        self._one = array(_TYPE_CODES.get(refcount_bits, "B"), [1])
        self._counts = self._one[:0]
        self._blocks = array("Q")
        self.first = 0
        """The first cluster whose count is not written yet."""
        self.end = 0
        """The first cluster that is not given out."""
        self.most = (1 << refcount_bits) - 1
        """Of the count of a cluster."""
        self.table_at = 0
        """Host offset of the refcount table, once `finish` was exhausted."""
        self.table_clusters = 0

    def take(self, clusters: int) -> int:
        """The host offset of the first of so many new ones, in a row, each with a count of 1."""
        at = self.end * self._size
        self.end += clusters
        self._counts.extend(self._one * clusters)
        return at

    def count(self, cluster: int) -> int:
        """How often a cluster, from `first` on, is used so far."""
        return self._counts[cluster - self.first]

    def share(self, cluster: int) -> None:
        """Count one more use of a cluster, from `first` on."""
        self._counts[cluster - self.first] += 1

    def complete(self) -> Iterator[Write]:
        """The refcount blocks in whose reach every cluster is given out; they are final now."""
        while len(self._counts) >= self._per_block:
            yield self._block(self.take(1))

    def finish(self) -> Iterator[Write]:
        """The other refcount blocks, and their table; they end the file."""
        yield from self.complete()
        start = self.end
        blocks = self.table_clusters = 0
        while True:  # until they count themselves, too
            end = start + blocks + self.table_clusters
            more = -(-(end - self.first) // self._per_block)
            clusters = -(-8 * (len(self._blocks) + more) // self._size)
            if (more, clusters) == (blocks, self.table_clusters):
                break
            blocks, self.table_clusters = more, clusters
        self.take(blocks + self.table_clusters)
        for number in range(blocks):
            yield self._block((start + number) * self._size)
        self.table_at = (start + blocks) * self._size
        yield Write(self.table_at, encoded(self._blocks, "big"))

    def _block(self, at: int) -> Write:
        """The block of the clusters from `first` on, at a place of the file."""
        self._blocks.append(at)
        counts = self._counts[: self._per_block]
        del self._counts[: self._per_block]
        self.first += self._per_block
        return Write(at, encoded(counts, "big") if self._bits >= 8 else self._narrow(counts))

    def _narrow(self, counts: array[int]) -> bytes:
        """Counts of less than a byte: they fill one from its least significant bit."""
        per_byte = 8 // self._bits
        counts.frombytes(bytes(-len(counts) % per_byte))
        merged = 0
        for place in range(per_byte):
            lane = counts[place::per_byte].tobytes()
            merged |= int.from_bytes(lane, "little") << place * self._bits
        return merged.to_bytes(len(counts) // per_byte, "little")
