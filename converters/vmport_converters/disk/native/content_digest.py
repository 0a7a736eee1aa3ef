"""The digest of what a disk holds, whatever the format it is kept in.

The disk is seen in blocks of 64 KiB, the last one filled up with zeros.  Each block that is not all
zeros counts as its index (8 bytes, big-endian) and the BLAKE3 hash of its bytes (32); the digest
is the BLAKE3 hash of all of these in order.  So it follows the content alone: a hole, a block of
zeros and the end of the disk are alike, and cost nothing.

BLAKE3 runs at 3.6 GB/s here, and SHA-256 at 1.6 where the processor has instructions for it, at a
quarter of that where it has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blake3 import blake3

from vmport_formats.units import KIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BLOCK: Final = 64 * KIB
"""Bytes that are hashed at a time."""
NAME: Final = "vmport-blake3-64k"
"""What this way of hashing is called."""


def block_digests(
    shift: int, buffer: bytearray, spans: Iterable[tuple[int, int]]
) -> Iterator[tuple[int, bytes]]:
    """For `ContentDigest.add`: the blocks of `spans` of a buffer that is from `shift` on the disk.

    None of them may be all zeros.
    """
    view = memoryview(buffer)
    for start, end in spans:
        for place in range(start, end, BLOCK):
            yield (shift + place) // BLOCK, blake3(view[place : place + BLOCK]).digest()


class ContentDigest:
    """The digest of the blocks that were added, in ascending order."""

    def __init__(self) -> None:
        self._whole = blake3()

    def add(self, blocks: Iterable[tuple[int, bytes]]) -> None:
        """Count blocks: the index of each, and its digest."""
        self._whole.update(b"".join([index.to_bytes(8) + digest for index, digest in blocks]))

    def __str__(self) -> str:
        return f"{NAME}:{self._whole.hexdigest()}"
