"""gzip, written by several threads at once and yet always the same.

Blocks of a fixed length are compressed alone, each with the 32 KiB before it as its dictionary, so
that the output depends on the input only, not on how many threads there are or which is first.
isal is several times as fast as zlib; its output is the same on every x86-64 processor with SSE4.2.
At its level 0 alone: those above make 4 % less of it, but not always the same (see `packing`).
Source: RFC 1951 and 1952.
"""

from __future__ import annotations

import os
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.crc32 import combine_crc

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK: Final = 1 << 20
_WINDOW: Final = 1 << 15
_LEVEL: Final = 0
"""Of isal, which has 0 to 3."""
_MOST_THREADS: Final = 8
_HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # no name, no time, no system
_LAST_BLOCK: Final = b"\x03\x00"  # an empty one with fixed codes, marked as the final


class GzipWriter:
    """Compresses what is written to it, in order, into `sink`.

    Every call of `sink` happens in the thread that writes.
    """

    def __init__(self, sink: Callable[[bytes], object]) -> None:
        self._sink = sink
        self._threads = max(1, min(_MOST_THREADS, len(os.sched_getaffinity(0))))
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="gzip")
        self._waiting: deque[Future[_Deflated]] = deque()
        self._dictionary = b""
        self._crc = 0
        self._length = 0
        sink(_HEADER)

    def write_block(self, block: bytes) -> None:
        """Take `block`: `BLOCK` bytes, or fewer if it is the last."""
        self._waiting.append(self._pool.submit(_deflate, block, self._dictionary))
        self._dictionary = block[-_WINDOW:]
        while len(self._waiting) > 2 * self._threads:
            self._take()

    def finish(self) -> None:
        """Write what is left, and the trailer."""
        while self._waiting:
            self._take()
        trailer = self._crc.to_bytes(4, "little") + (self._length % (1 << 32)).to_bytes(4, "little")
        self._sink(_LAST_BLOCK + trailer)

    def close(self) -> None:
        """Stop the threads, finished or not."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _take(self) -> None:
        done = self._waiting.popleft().result()
        self._crc = combine_crc(self._crc, done.crc, done.length)
        self._length += done.length
        self._sink(done.data)


class _Deflated(NamedTuple):
    """A block, compressed."""

    data: bytes
    crc: int
    """CRC-32 of the block as it was."""
    length: int
    """Bytes of the block as it was."""


def _deflate(block: bytes, dictionary: bytes) -> _Deflated:
    try:
        from isal import isal_zlib
    except ImportError:  # no wheel for this processor
        plain = zlib.compressobj(6, zlib.DEFLATED, -15, zdict=dictionary)
        data = plain.compress(block) + plain.flush(zlib.Z_SYNC_FLUSH)
        return _Deflated(data, zlib.crc32(block), len(block))
    if dictionary:
        fast = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, -15, zdict=dictionary)
    else:
        fast = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, -15)
    data = fast.compress(block) + fast.flush(isal_zlib.Z_SYNC_FLUSH)
    return _Deflated(data, isal_zlib.crc32(block), len(block))
