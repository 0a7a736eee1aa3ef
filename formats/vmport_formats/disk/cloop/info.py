"""cloop metadata: the header and its block offsets.

Layout: cloop's ``compressed_loop.h``; a shell script, then two numbers, then the offsets.
"""

from __future__ import annotations

from itertools import pairwise
from struct import Struct
from typing import TYPE_CHECKING, Final

from vmport_formats.disk.model import DiskFormat, ImageInfo
from vmport_formats.disk.numbers import decoded
from vmport_formats.errors import CorruptInput, TruncatedInput
from vmport_formats.source import read_exactly
from vmport_formats.units import MIB, SECTOR, Bytes

if TYPE_CHECKING:
    from vmport_formats.source import ByteSource

_MAGIC: Final = b"#!/bin/sh\n#V2.0 Format\n"
_SIZES = Struct(">II")
_SIZES_AT: Final = 128
OFFSETS: Final = _SIZES_AT + _SIZES.size
"""Where the block offsets are, one more than there are blocks."""
_MAX_BLOCK: Final = 64 * MIB
_SCANNED: Final = 8 * MIB
"""How much of the offsets is looked at: 256 GiB of disk at 256 KiB a block."""


def matches(source: ByteSource) -> bool:
    """Whether the file begins with the script's first two lines."""
    return source.read_at(0, len(_MAGIC)) == _MAGIC


def read_info(source: ByteSource) -> ImageInfo:
    """The metadata of a cloop image.

    Raises:
        CorruptInput, TruncatedInput: codes ``cloop.FIELD``.
    """
    if not matches(source):
        raise CorruptInput(
            source.name, at=0, code="cloop.magic", problem="does not begin with cloop's script"
        )
    sizes = read_exactly(
        source, _SIZES_AT, _SIZES.size, what="the cloop header", code="cloop.header-outside"
    )
    block_size, blocks = _SIZES.unpack(sizes)
    if not SECTOR <= block_size <= _MAX_BLOCK or block_size % SECTOR:
        raise CorruptInput(
            source.name,
            at=_SIZES_AT,
            code="cloop.block-size",
            problem=f"a block has {block_size} bytes; must be a multiple of 512, to {_MAX_BLOCK}",
        )
    _check_offsets(source, blocks)
    return ImageInfo(
        DiskFormat.CLOOP,
        variant="v2.0",
        virtual_size=Bytes(block_size * blocks),
        file_size=Bytes(source.size),
        cluster_size=Bytes(block_size),
    )


def _check_offsets(source: ByteSource, blocks: int) -> None:
    """One more offset than blocks, never falling, the last one inside the file."""
    length = 8 * (blocks + 1)
    if OFFSETS + length > source.size:
        raise TruncatedInput(
            source.name,
            at=_SIZES_AT + 4,
            code="cloop.blocks",
            problem=f"the offsets of {blocks} blocks end at {OFFSETS + length:#x}, but the "
            f"file at {source.size:#x}",
            hint="the file is cut short; copy it again",
        )
    stored = read_exactly(source, OFFSETS, min(length, _SCANNED), what="the block offsets")
    for index, (here, following) in enumerate(pairwise(decoded(stored, 8, "big"))):
        if here > following:
            raise CorruptInput(
                source.name,
                at=OFFSETS + 8 * (index + 1),
                code="cloop.offsets",
                problem=f"block {index + 1} is at {following:#x}, before its predecessor",
            )
    last_at = OFFSETS + length - 8
    end = int.from_bytes(read_exactly(source, last_at, 8, what="the last block offset"), "big")
    if end > source.size:
        raise TruncatedInput(
            source.name,
            at=last_at,
            code="cloop.file-size",
            problem=f"the last block ends at {end:#x}, but the file at {source.size:#x}",
            hint="the file is cut short; copy it again",
        )
