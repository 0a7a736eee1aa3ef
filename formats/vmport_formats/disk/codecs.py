"""Decompression with a bound: a unit yields the size that it must, or an error, never more."""

from __future__ import annotations

import zlib


def inflate_raw(packed: bytes, size: int) -> bytes:
    """`size` bytes out of a raw deflate stream (qcow2); what follows the stream is ignored.

    Raises:
        ValueError: the stream is broken or yields another size.
    """
    return _inflate(packed, size, -zlib.MAX_WBITS)


def inflate(packed: bytes, size: int) -> bytes:
    """`size` bytes out of a zlib stream (VMDK, DMG); what follows the stream is ignored.

    Raises:
        ValueError: the stream is broken or yields another size.
    """
    return _inflate(packed, size, zlib.MAX_WBITS)


def _inflate(packed: bytes, size: int, window: int) -> bytes:
    stream = zlib.decompressobj(window)
    try:
        data = stream.decompress(packed, size)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(data) != size:
        raise ValueError(f"it yields {len(data)} bytes, not {size}")
    return data


def unzstd(packed: bytes, size: int) -> bytes:
    """`size` bytes out of a zstd frame; what follows the frame is ignored.

    Raises:
        ValueError: the frame is broken or yields another size.
    """
    from backports.zstd import ZstdDecompressor, ZstdError

    stream = ZstdDecompressor()
    try:
        data = stream.decompress(packed, size)
    except ZstdError as error:
        raise ValueError(str(error)) from error
    if len(data) != size:
        raise ValueError(f"it yields {len(data)} bytes, not {size}")
    return data
