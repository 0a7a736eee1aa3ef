"""Streams are known by their content, unpacked whole, and never half."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
from typing import TYPE_CHECKING

import pytest
from backports import zstd

from vmport_converters.container.compression import decompress, detect
from vmport_formats.errors import CorruptInput, TruncatedInput, UnsupportedFeature, VmportError

if TYPE_CHECKING:
    from collections.abc import Callable

_DATA = random.Random(1).randbytes(70_000) + b"0" * 3_000_000

_checksummed: dict[int, int] = {zstd.CompressionParameter.checksum_flag: 1}
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: zstd.compress(data, options=_checksummed),
}


def _unpack(data: bytes, step: int = 1 << 20) -> bytes:
    compression = detect(data)
    assert compression is not None
    pieces = [data[start : start + step] for start in range(0, len(data), step)]
    return b"".join(decompress(pieces, compression, name="x"))


@pytest.mark.parametrize("name", COMPRESSORS)
@pytest.mark.parametrize("step", [97, 1 << 20])
def test_whole_and_in_pieces_and_one_after_the_other(name: str, step: int) -> None:
    packed = COMPRESSORS[name](_DATA)
    compression = detect(packed)
    assert compression is not None
    assert compression.name == name
    assert _unpack(packed, step) == _DATA
    assert _unpack(packed + packed, step) == _DATA * 2
    assert _unpack(packed + bytes(512), step) == _DATA


@pytest.mark.parametrize("name", COMPRESSORS)
def test_cut_short_or_damaged(name: str) -> None:
    packed = COMPRESSORS[name](_DATA)
    for cut in (10, len(packed) // 2, len(packed) - 1):
        with pytest.raises(TruncatedInput):
            _unpack(packed[:cut])
    damaged = bytearray(packed)
    damaged[len(packed) // 2] ^= 0xFF
    with pytest.raises(VmportError):
        _unpack(bytes(damaged))
    with pytest.raises(VmportError):
        _unpack(packed + b"no stream")


def test_one_that_wants_too_much_memory_is_refused() -> None:
    greedy = lzma.compress(b"x", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}])
    with pytest.raises(UnsupportedFeature, match="too much memory"):
        _unpack(greedy)


@pytest.mark.parametrize("start", [b"", b"\x1f", b"ustar", b"QFI\xfb", bytes(512)])
def test_anything_else_is_no_stream(start: bytes) -> None:
    assert detect(start) is None


def test_a_bomb_comes_out_in_small_pieces() -> None:
    packed = gzip.compress(bytes(64 << 20), 1)
    compression = detect(packed)
    assert compression is not None
    assert max(map(len, decompress([packed], compression, name="x"))) <= 1 << 20
    assert CorruptInput.exit_code == 3
