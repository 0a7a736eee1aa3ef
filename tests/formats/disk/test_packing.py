"""Streams that are packed for images, as zlib, the reference, and qemu's window unpack them."""

from __future__ import annotations

import random
import subprocess
import sys
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmport_formats.disk import packing
from vmport_formats.disk.codecs import unzstd

if TYPE_CHECKING:
    from collections.abc import Callable

    from vmport_formats.disk.composer import Data

    Pack = Callable[[Data], bytes]

WINDOWS: dict[Pack, int] = {
    packing.zlib_fast: 15,
    packing.zlib_small: 15,
    packing.narrow_deflate_fast: -12,
    packing.narrow_deflate_small: -12,
}


def unpacked(packed: bytes, window: int) -> bytes:
    """What zlib makes of it, with no more to look back to than the window has."""
    stream = zlib.decompressobj(window)
    data = bytearray()
    while not stream.eof:
        part = stream.decompress(packed, 256)
        assert part or stream.eof
        data += part
        packed = stream.unconsumed_tail
    assert not stream.unused_data
    return bytes(data)


@st.composite
def grains(draw: st.DrawFn) -> bytes:
    """Data that repeats from near and from far."""
    chance = random.Random(draw(st.integers(0, 1 << 32)))
    words = [chance.randbytes(chance.choice((3, 60, 2000, 7000))) for _ in range(draw(sizes))]
    data = b"".join(chance.choices(words, k=30)) if words else b""
    return data[: draw(st.sampled_from((512, 4096, 65536)))]


sizes = st.integers(0, 6)


@pytest.mark.parametrize("pack", WINDOWS, ids=lambda pack: pack.__name__)
@given(data=grains())
def test_zlib_unpacks_it_within_the_window(pack: Pack, data: bytes) -> None:
    packed = pack(data)
    assert type(packed) is bytes
    assert unpacked(packed, WINDOWS[pack]) == data
    assert pack(memoryview(bytearray(data))) == packed


@given(data=grains())
def test_zstd_says_the_length_and_keeps_it(data: bytes) -> None:
    small, fast = packing.zstd_small(data), packing.zstd_fast(data)
    assert unzstd(small, len(data)) == unzstd(fast, len(data)) == data
    assert small[4] >> 6 or small[4] >> 5 & 1  # RFC 8878, 3.1.1.1.1: Frame_Content_Size is there


def test_without_wheels_zlib_packs() -> None:
    program = """
import sys, zlib
sys.modules["isal"] = sys.modules["deflate"] = None
from vmport_formats.disk import packing
data = bytes(range(256)) * 64
assert zlib.decompress(packing.zlib_fast(data)) == data
assert zlib.decompress(packing.zlib_small(data)) == data
for name in ("narrow_deflate_fast", "narrow_deflate_small"):
    assert zlib.decompress(getattr(packing, name)(data), -15) == data
"""
    subprocess.run([sys.executable, "-c", program], check=True)
