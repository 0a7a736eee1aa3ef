"""cloop content: every block of the disk is compressed by itself, one after the other."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from vmport_formats.disk.cloop.info import OFFSETS, read_info
from vmport_formats.disk.codecs import inflate
from vmport_formats.disk.layer import Found, Run, Unit, cut
from vmport_formats.disk.numbers import decoded
from vmport_formats.errors import CorruptInput, TruncatedInput, UnsupportedFeature
from vmport_formats.source import read_exactly
from vmport_formats.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.layer import Opener
    from vmport_formats.disk.model import ImageInfo
    from vmport_formats.source import ByteSource

MAX_UNPACKED: Final = 16 * MIB
"""Largest block whose content is read: it is unpacked as a whole.  Real ones have 64 or 256 KiB."""
_BATCH: Final = 4096
"""Blocks whose offsets are read at a time."""


class CloopLayer:
    """A `layer.Layer`."""

    def __init__(self, source: ByteSource, info: ImageInfo, block_size: int) -> None:
        self.info = info
        self.size = int(info.virtual_size)
        self._source = source
        self._block_size = block_size
        self._data = OFFSETS + 8 * (self.size // block_size + 1)

    def runs(self, offset: int, length: int) -> Iterator[Run]:
        """See `layer.Layer.runs`."""
        first, end = offset // self._block_size, offset + length
        runs = self._blocks(first, -(-end // self._block_size))
        return cut(runs, first * self._block_size, offset, end)

    def _blocks(self, first: int, last: int) -> Iterator[Run]:
        for start in range(first, last, _BATCH):
            count = min(_BATCH, last - start)
            stored = read_exactly(
                self._source, OFFSETS + 8 * start, 8 * (count + 1), what="the block offsets"
            )
            for index, (at, end) in enumerate(pairwise(decoded(stored, 8, "big"))):
                self._check(start + index, at, end)
                unit = Unit(
                    (start + index) * self._block_size,
                    self._block_size,
                    self._source,
                    at,
                    end - at,
                    inflate,
                    "cloop.compressed-block",
                )
                yield Run(self._block_size, Found.PACKED, unit=unit)

    def _check(self, number: int, at: int, end: int) -> None:
        """That block `number` can lie from `at` to `end`; info has looked at the first ones only.

        Raises:
            CorruptInput, TruncatedInput: it cannot.
        """
        place = OFFSETS + 8 * number
        if at < self._data:
            problem = f"is at {at:#x}, in the block offsets that end at {self._data:#x}"
        elif end <= at:
            place, problem = place + 8, f"ends at {end:#x}, but begins at {at:#x}"
        elif end - at > 2 * self._block_size + 1024:
            place, problem = place + 8, f"has {end - at} bytes for {self._block_size} of the disk"
        elif end > self._source.size:
            raise TruncatedInput(
                self._source.name,
                at=place + 8,
                code="cloop.offsets",
                problem=f"block {number} ends at {end:#x}, but the file at {self._source.size:#x}",
                hint="the file is cut short; copy it again",
            )
        else:
            return
        raise CorruptInput(
            self._source.name, at=place, code="cloop.offsets", problem=f"block {number} {problem}"
        )


def open_layer(source: ByteSource, opener: Opener) -> CloopLayer:
    """The content of a cloop image.

    Raises:
        CorruptInput, TruncatedInput: as `info.read_info`.
        UnsupportedFeature: its blocks are of more than 16 MiB.
    """
    info = read_info(source)
    assert info.cluster_size is not None  # noqa: S101 - cloop always has one
    if info.cluster_size > MAX_UNPACKED:
        raise UnsupportedFeature(
            source.name,
            code="cloop.block-size",
            problem=f"a block has {info.cluster_size} bytes; content is read of blocks up to "
            f"{MAX_UNPACKED}",
        )
    return CloopLayer(source, info, info.cluster_size)
