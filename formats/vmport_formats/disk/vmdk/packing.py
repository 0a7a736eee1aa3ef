"""The compressed grains of a stream: what is before each, and how it is unpacked.

Source: VMware, "Virtual Disk Format 5.0", "Stream-Optimized Compressed Sparse Extents".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vmport_formats.disk.codecs import inflate
from vmport_formats.disk.vmdk.sparse import GRAIN_MARKER

_MOST_PACKED: Final = 2
"""How often the size of a grain a compressed one can be: deflate makes nothing twice as long."""


def most_packed(grain: int) -> int:
    """How many bytes a grain of `grain` bytes takes at the most, its marker included."""
    return GRAIN_MARKER.size + _MOST_PACKED * grain


@dataclass(frozen=True, slots=True)
class Unpacking:
    """How one compressed grain is unpacked."""

    sector: int
    """Of the extent, where the grain begins."""
    grain: int
    marked: bool

    def __call__(self, packed: bytes, size: int) -> bytes | bytearray:
        """`size` bytes; raises ValueError when it is not this grain, or not as long.

        The last grain of a disk is packed whole, or no longer than the disk.
        """
        if self.marked:
            packed = self._marked(packed)
        if size < self.grain:
            try:
                return inflate(packed, self.grain)[:size]
            except ValueError:
                pass
        return inflate(packed, size)

    def _marked(self, data: bytes) -> bytes:
        if len(data) < GRAIN_MARKER.size:
            raise ValueError("its marker is cut off")
        sector, length = GRAIN_MARKER.unpack_from(data)
        room = len(data) - GRAIN_MARKER.size
        if sector != self.sector:
            raise ValueError(
                f"its marker says that it belongs to sector {sector}, not {self.sector}"
            )
        if not 0 < length <= room:
            raise ValueError(
                f"its marker says that it has {length} bytes; there is room for {room}"
            )
        return data[GRAIN_MARKER.size : GRAIN_MARKER.size + length]
