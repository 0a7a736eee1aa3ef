"""Compression of one unit of a disk, for those who write images: fast, or small.

Each function is pure, lets other threads run meanwhile, and answers with the whole stream, even
where that is longer than the data; whether to keep it is for the format to say.  It is isal and
libdeflate that do it where they have a wheel, and zlib where they have none.

The same data give the same stream wherever the same library does it, but for isal's: in some ten
thousand grains a few come out with other codes, and the same content, when another thread packs
them, under load.  (Seen with isal 1.9.1 at its levels 1 and 2, never at 0.)

Measured on grains of 64 KiB of a Debian system, MB/s on one thread and what is left of the data:

=========  =================  =================  =================
.          window of 32 KiB   window of 4 KiB    zstd
=========  =================  =================  =================
fast       370, 0.347         380, 0.358         330, 0.326
small      105, 0.311          39, 0.327          79, 0.303
=========  =================  =================  =================

libdeflate has no window but that of 32 KiB, and with one of 4 KiB no other library is both smaller
and quicker than zlib: zlib-ng leaves more at levels 2 to 8 (0.356 to 0.337), and is as slow at 9.
"""

from __future__ import annotations

import sys
import zlib
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from vmport_formats.disk.composer import Data


class Effort(StrEnum):
    """What compression is to be."""

    FAST = "fast"
    SMALL = "small"


_WINDOW: Final = zlib.MAX_WBITS
_NARROW: Final = 12
"""4 KiB: the window that qemu inflates a cluster of qcow2 with."""
_FAST: Final = 1
_SMALL: Final = 6
_SMALL_BY_LIBDEFLATE: Final = 5
"""Smaller than zlib's 6, by 0.8 %; its own 6 is smaller by 1.3 %, and takes a sixth longer."""
_ZSTD_FAST: Final = 2
_ZSTD_SMALL: Final = 6
"""qemu has 3."""


def _by_zlib(level: int, window: int) -> Callable[[Data], bytes]:
    def pack(data: Data) -> bytes:
        stream = zlib.compressobj(level, zlib.DEFLATED, window)
        return stream.compress(data) + stream.flush()

    return pack


_zlib_fast = _by_zlib(_FAST, _WINDOW)
_zlib_small = _by_zlib(_SMALL, _WINDOW)
_narrow_fast = _by_zlib(_FAST, -_NARROW)
_narrow_small = _by_zlib(_SMALL, -_NARROW)

with suppress(ImportError):
    from isal import igzip_lib

    def _by_isal(flag: int, window: int) -> Callable[[Data], bytes]:
        def pack(data: Data) -> bytes:
            return igzip_lib.compress(data, _FAST, flag, igzip_lib.MEM_LEVEL_DEFAULT, window)

        return pack

    _zlib_fast = _by_isal(igzip_lib.COMP_ZLIB, _WINDOW)
    _narrow_fast = _by_isal(igzip_lib.COMP_DEFLATE, _NARROW)

with suppress(ImportError):
    from deflate import zlib_compress

    def _by_libdeflate(compress: Callable[[Data, int], bytearray]) -> Callable[[Data], bytes]:
        return lambda data: bytes(compress(data, _SMALL_BY_LIBDEFLATE))

    _zlib_small = _by_libdeflate(zlib_compress)


def zlib_fast(data: Data) -> bytes:
    """A zlib stream (VMDK)."""
    return _zlib_fast(data)


def zlib_small(data: Data) -> bytes:
    """A zlib stream (VMDK), of the fewest bytes."""
    return _zlib_small(data)


def narrow_deflate_fast(data: Data) -> bytes:
    """A raw deflate stream that looks back 4 KiB at most (qcow2)."""
    return _narrow_fast(data)


def narrow_deflate_small(data: Data) -> bytes:
    """A raw deflate stream that looks back 4 KiB at most (qcow2), of the fewest bytes."""
    return _narrow_small(data)


def zstd_fast(data: Data) -> bytes:
    """A zstd frame that says the length of its content."""
    return _zstd(data, _ZSTD_FAST)


def zstd_small(data: Data) -> bytes:
    """A zstd frame that says the length of its content, of the fewest bytes."""
    return _zstd(data, _ZSTD_SMALL)


def _zstd(data: Data, level: int) -> bytes:
    if sys.version_info >= (3, 14):
        from compression.zstd import compress
    else:
        from backports.zstd import compress

    return compress(data, level)
