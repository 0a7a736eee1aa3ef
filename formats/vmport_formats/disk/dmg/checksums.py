"""The checksums of a DMG: what its trailer and its block tables say their data sums to.

Layout: as Apple's hdiutil writes it, which Apple has never published: a kind, a length in bits, and
room for 128 bytes.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterable

_HEAD = Struct(">II")
VALUE_AT: Final = _HEAD.size
"""Where the value is in a stored checksum."""
LENGTH: Final = 136
"""Of a stored checksum."""
_NONE: Final = 0
_CRC32: Final = 2
_MOST_BITS: Final = 8 * (LENGTH - _HEAD.size)


class Checksum(NamedTuple):
    """One as stored."""

    kind: int
    bits: int
    room: bytes
    """For its value, which is at the start."""

    @property
    def is_there(self) -> bool:
        """Whether there is one at all."""
        return self.kind != _NONE and self.bits != 0

    @property
    def is_known(self) -> bool:
        """Whether it is a CRC-32, the only kind that is in use."""
        return (self.kind, self.bits) == (_CRC32, 32)

    @property
    def crc32(self) -> int:
        """Its value, if it is known."""
        return int.from_bytes(self.room[:4], "big")

    @property
    def value(self) -> bytes:
        """Its value as stored, of whatever kind."""
        return self.room[: min(self.bits, _MOST_BITS) // 8]


def read_checksum(stored: bytes) -> Checksum:
    """The checksum in `LENGTH` bytes."""
    kind, bits = _HEAD.unpack_from(stored)
    return Checksum(kind, bits, stored[_HEAD.size : LENGTH])


def crc32_of_all(checksums: Iterable[Checksum]) -> int:
    """What the checksums of all block tables, in their order, sum to."""
    total = 0
    for checksum in checksums:
        total = crc32(checksum.value, total)
    return total
