"""Decompression with a bound: a unit yields the size that it must, or an error, never more.

Deflate goes through libdeflate, which takes a third of zlib's time for a unit that is whole.  What
it refuses, zlib judges, so that the verdict and its words are the same with and without it.  (But
for the four code words that RFC 1951 has no meaning for: libdeflate takes them for their
neighbours.)
"""

from __future__ import annotations

import sys
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_RAW: Final = -zlib.MAX_WBITS
_ZLIB: Final = zlib.MAX_WBITS

_fast: dict[int, Callable[[bytes, int], bytearray]] = {}
_refusals: tuple[type[Exception], ...] = ()
with suppress(ImportError):  # there are platforms that it has no wheel for
    from deflate import DeflateError, deflate_decompress, zlib_decompress

    _fast = {_RAW: deflate_decompress, _ZLIB: zlib_decompress}
    _refusals = (DeflateError,)

_ZSTD_WINDOW_LOG: Final = 23
"""8 MiB, four times the largest cluster; what a frame asks for is allocated."""
_ZSTD_FRAMES: Final = 64


def inflate_raw(packed: bytes, size: int) -> bytes | bytearray:
    """`size` bytes out of a raw deflate stream (qcow2); what follows the stream is ignored.

    Raises:
        ValueError: the stream is broken, does not end, or yields another size.
    """
    return _inflate(packed, size, _RAW)


def inflate(packed: bytes, size: int) -> bytes | bytearray:
    """`size` bytes out of a zlib stream (VMDK, DMG); what follows the stream is ignored.

    Raises:
        ValueError: the stream is broken, does not end, yields another size, or has a checksum that
            is not that of its bytes.
    """
    return _inflate(packed, size, _ZLIB)


def _inflate(packed: bytes, size: int, window: int) -> bytes | bytearray:
    if window in _fast:
        try:
            data = _fast[window](packed, size)
        except _refusals:
            pass
        else:
            if len(data) == size:
                return data
    stream = zlib.decompressobj(window)
    try:
        found = stream.decompress(packed, size)
        if not stream.eof:  # the end is still to come, or more than is wanted
            found += stream.decompress(stream.unconsumed_tail, 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    return _checked(found, size, ended=stream.eof)


def unzstd(packed: bytes, size: int) -> bytes:
    """`size` bytes out of one zstd frame or several; what follows them is ignored.

    Raises:
        ValueError: a frame is broken, does not end, or needs a window of more than 8 MiB; there are
            more than 64; or they yield another size.
    """
    if sys.version_info >= (3, 14):
        from compression.zstd import DecompressionParameter, ZstdDecompressor, ZstdError
    else:
        from backports.zstd import DecompressionParameter, ZstdDecompressor, ZstdError

    data = b""
    ended = False
    for _ in range(_ZSTD_FRAMES):
        stream = ZstdDecompressor(options={DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})
        try:
            data += stream.decompress(packed, size - len(data))
            if not stream.eof:  # the end is still to come, or more than is wanted
                data += stream.decompress(b"", 1)
        except ZstdError as error:
            raise ValueError(str(error)) from error
        ended, packed = stream.eof, stream.unused_data
        if len(data) >= size or not (ended and packed):
            break
    return _checked(data, size, ended=ended)


def _checked(data: bytes, size: int, *, ended: bool) -> bytes:
    if len(data) > size:
        raise ValueError(f"it yields more than {size} bytes")
    if len(data) < size:
        raise ValueError(f"it yields {len(data)} bytes, not {size}")
    if not ended:
        raise ValueError("it does not end there")
    return data
