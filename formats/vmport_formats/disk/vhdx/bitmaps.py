"""The bitmap blocks of a differencing VHDX: where each is.

Source: [MS-VHDX] sections 2.4 and 2.5.1.2.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Final

from vmport_formats.disk.vhdx.block_table import ENTRY, STATE_MASK, State, offset_in
from vmport_formats.errors import CorruptInput, TruncatedInput
from vmport_formats.source import read_exactly
from vmport_formats.units import MIB

if TYPE_CHECKING:
    from vmport_formats.disk.occupancy import Occupancy
    from vmport_formats.source import ByteSource

BITMAP_SIZE: Final = MIB


class Bitmaps:
    """Finds the bitmaps of chunks, which are as many blocks as one bitmap is for.

    Safe in several threads at once.
    """

    def __init__(
        self, source: ByteSource, table_at: int, chunk_ratio: int, occupancy: Occupancy
    ) -> None:
        """The table at host offset `table_at` has the entry of a bitmap behind each chunk's."""
        self._source = source
        self._table_at = table_at
        self._ratio = chunk_ratio
        self._occupancy = occupancy
        self._found: dict[int, int] = {}
        self._lock = Lock()

    def at(self, chunk: int) -> int:
        """The host offset of a chunk's bitmap.

        Raises:
            CorruptInput: there is none, or it is where none can be.
            TruncatedInput: it is behind the end of the file.
        """
        with self._lock:
            if chunk not in self._found:
                self._found[chunk] = self._find(chunk)
            return self._found[chunk]

    def _find(self, chunk: int) -> int:
        entry_at = self._table_at + ENTRY * ((chunk + 1) * self._ratio + chunk)
        entry = read_exactly(self._source, entry_at, ENTRY, what="the entry of a bitmap")
        value = int.from_bytes(entry, "little")
        try:
            if value & STATE_MASK != State.FULLY_PRESENT:
                raise ValueError(
                    f"is in state {value & STATE_MASK}; must be in state {State.FULLY_PRESENT:d}, "
                    "for there is a block of which a part is stored"
                )
            at = offset_in(value)
            if at < MIB:
                raise ValueError(f"points to {at:#x}, into the headers")
            if at + BITMAP_SIZE > self._source.size:
                raise TruncatedInput(
                    self._source.name,
                    at=entry_at,
                    code="vhdx.bitmap-entry",
                    problem=f"this entry of a bitmap points to {BITMAP_SIZE} bytes at {at:#x}, but "
                    f"the file ends at {self._source.size:#x}",
                    hint="the file is cut short; copy it again",
                )
            if self._occupancy.take([(at, at + BITMAP_SIZE)]):
                raise ValueError(f"points to {at:#x}, where something else lies")
        except ValueError as error:
            raise CorruptInput(
                self._source.name,
                at=entry_at,
                code="vhdx.bitmap-entry",
                problem=f"this entry of a bitmap {error}",
            ) from None
        return at
