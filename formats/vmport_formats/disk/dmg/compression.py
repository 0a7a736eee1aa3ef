"""What the chunks of a DMG are compressed with, but for zlib; bounded as `disk.codecs` is."""

from __future__ import annotations

import bz2
import lzma
from typing import Final, Protocol

from vmport_formats.units import MIB

_XZ_MEMORY: Final = 80 * MIB
"""What ``xz -9`` takes to unpack, and somewhat more; a stream that asks for more is refused."""


def unbzip2(packed: bytes, size: int) -> bytes:
    """`size` bytes out of a bzip2 stream; what follows it is ignored.

    Raises:
        ValueError: the stream is broken, does not end, or yields another size.
    """
    return _unpack(bz2.BZ2Decompressor(), packed, size)


def unxz(packed: bytes, size: int) -> bytes:
    """`size` bytes out of an xz stream, which Apple calls LZMA; what follows it is ignored.

    Raises:
        ValueError: the stream is broken, does not end, yields another size, or needs more than 80
            MiB of memory.
    """
    return _unpack(lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY), packed, size)


def unadc(packed: bytes, size: int) -> bytes:
    """`size` bytes out of Apple Data Compression; what follows what yields them is ignored.

    The data is a row of three kinds of things, told by the upper bits of their first byte: bytes
    as they are, and two kinds of copies of bytes that have come before.

    Raises:
        ValueError: it ends before, or copies what has not come yet.
    """
    data = bytearray()
    at = 0
    while len(data) < size:
        head = packed[at : at + 3]
        if not head:
            raise ValueError(f"it yields {len(data)} bytes, not {size}")
        if head[0] & 0x80:
            length = (head[0] & 0x7F) + 1
            data += packed[at + 1 : at + 1 + length]
            at += 1 + length
            continue
        width = 3 if head[0] & 0x40 else 2
        if len(head) < width:
            raise ValueError("it ends in the middle of a copy")
        if width == 3:
            length, back = (head[0] & 0x3F) + 4, head[1] << 8 | head[2]
        else:
            length, back = (head[0] >> 2) + 3, (head[0] & 3) << 8 | head[1]
        at += width
        start = len(data) - back - 1
        if start < 0:
            raise ValueError(f"it copies from {back + 1} bytes back, but has {len(data)}")
        piece = data[start : start + length]
        # What is copied may go on with what it yields.
        data += piece if len(piece) == length else (piece * (length // len(piece) + 1))[:length]
    if len(data) > size:
        raise ValueError(f"it yields more than {size} bytes")
    return bytes(data)


class _Stream(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def _unpack(stream: _Stream, packed: bytes, size: int) -> bytes:
    # One byte more than wanted, so that a stream of the right size comes to its end.
    try:
        data = stream.decompress(packed, size + 1)
        while len(data) <= size and not stream.eof and not stream.needs_input:
            data += stream.decompress(b"", size + 1 - len(data))
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise ValueError(str(error)) from error
    if len(data) > size:
        raise ValueError(f"it yields more than {size} bytes")
    if len(data) < size:
        raise ValueError(f"it yields {len(data)} bytes, not {size}")
    if not stream.eof:
        raise ValueError("it does not end there")
    return data
