"""Compressed streams, known by how they begin, unpacked within bounds of memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from vmport_formats.errors import CorruptInput, TruncatedInput, UnsupportedFeature
from vmport_formats.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_PIECE: Final = 1 << 20
_MEMORY: Final = 256 * MIB
"""The most that a decompressor may hold: ``xz -9`` needs 65 MiB."""
_ZSTD_WINDOW: Final = 27
"""A power of two: 128 MiB, the most that zstd itself takes unless told otherwise."""


class _Decompressor(Protocol):
    """What bz2, lzma, isal and zstd have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes: ...


class Compression(NamedTuple):
    """A way to compress a stream: its name, its first bytes, and how to begin to unpack it.

    `start` returns a decompressor and what it raises.
    """

    name: str
    magic: bytes
    start: Callable[[], tuple[_Decompressor, tuple[type[Exception], ...]]]


def _gzip() -> tuple[_Decompressor, tuple[type[Exception], ...]]:
    try:
        from isal import igzip_lib
    except ImportError:
        import zlib

        return _Zlib(), (zlib.error,)
    decompressor = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    return decompressor, (igzip_lib.IsalError,)  # type: ignore[return-value]


def _zstd() -> tuple[_Decompressor, tuple[type[Exception], ...]]:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:  # before Python 3.14
        from backports import zstd
    options = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW}
    return zstd.ZstdDecompressor(options=options), (zstd.ZstdError,)


def _xz() -> tuple[_Decompressor, tuple[type[Exception], ...]]:
    import lzma

    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY), (lzma.LZMAError,)


def _bzip2() -> tuple[_Decompressor, tuple[type[Exception], ...]]:
    import bz2

    return bz2.BZ2Decompressor(), (OSError, ValueError)


class _Zlib:
    """zlib with the manners of the others, where isal has no wheel."""

    def __init__(self) -> None:
        import zlib

        self._stream = zlib.decompressobj(wbits=31)  # a gzip header and trailer

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        return not self._stream.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes:
        return self._stream.decompress(self._stream.unconsumed_tail + data, max(max_length, 0))


COMPRESSIONS: Final = (
    Compression("gzip", b"\x1f\x8b\x08", _gzip),
    Compression("zstd", b"\x28\xb5\x2f\xfd", _zstd),
    Compression("xz", b"\xfd7zXZ\x00", _xz),
    Compression("bzip2", b"BZh", _bzip2),
)


def detect(start: bytes) -> Compression | None:
    """How the stream that begins with `start` is compressed; None when in no known way."""
    return next((known for known in COMPRESSIONS if start.startswith(known.magic)), None)


def decompress(pieces: Iterable[bytes], compression: Compression, *, name: str) -> Iterator[bytes]:
    """What `pieces` unpack to, in pieces of at most 1 MiB.

    Several streams one after the other count as one; zeros between and after are padding.

    Raises:
        CorruptInput: the stream breaks the rules of its format.
        TruncatedInput: it ends early.
        UnsupportedFeature: unpacking it would take too much memory.
    """
    stream: _Decompressor | None = None
    errors: tuple[type[Exception], ...] = ()
    position = 0
    for piece in pieces:
        data = piece
        while data or (stream is not None and not stream.needs_input):
            if stream is None:
                data = data.lstrip(b"\0")
                if not data:
                    break
                stream, errors = compression.start()
            try:
                output = stream.decompress(data, _PIECE)
            except MemoryError as error:
                raise _failure(compression, name, position, error) from error
            except errors as error:
                raise _failure(compression, name, position, error) from error
            data = b""
            if output:
                yield output
            if stream.eof:
                data, stream = stream.unused_data, None
        position += len(piece)
    if stream is not None:
        raise TruncatedInput(
            name,
            at=position,
            code=f"{compression.name}.truncated",
            problem=f"the {compression.name} stream ends before its end mark",
            hint="the file is cut short; copy or make it again",
        )


def _failure(
    compression: Compression, name: str, position: int, error: Exception
) -> CorruptInput | UnsupportedFeature:
    if isinstance(error, MemoryError) or "memory" in str(error).lower():
        return UnsupportedFeature(
            name,
            code=f"{compression.name}.memory",
            problem=f"to unpack this {compression.name} stream takes too much memory",
            hint=f"compress it again with a window of at most {1 << _ZSTD_WINDOW} bytes",
        )
    return CorruptInput(
        name,
        at=position,
        code=f"{compression.name}.corrupt",
        problem=f"the {compression.name} stream is damaged about here",
        hint="copy or make the file again",
    )
