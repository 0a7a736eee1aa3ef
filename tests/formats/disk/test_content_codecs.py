"""Units are unpacked to the size that they must have, with one verdict whatever library does it."""

from __future__ import annotations

import re
import tracemalloc
import zlib
from typing import TYPE_CHECKING

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from vmport_formats.disk import codecs

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 4096
CONTENT = bytes(range(256)) * 8 + bytes(2048)


def deflated(content: bytes, window: int = -12, level: int = 6) -> bytes:
    stream = zlib.compressobj(level, zlib.DEFLATED, window)
    return stream.compress(content) + stream.flush()


def verdict(unpack: Callable[[bytes, int], bytes | bytearray], packed: bytes) -> bytes | str:
    try:
        return bytes(unpack(packed, SIZE))
    except ValueError as error:
        return str(error)


CODECS = {
    "raw deflate": (codecs.inflate_raw, deflated(CONTENT)),
    "zlib": (codecs.inflate, zlib.compress(CONTENT)),
    "zstd": (codecs.unzstd, zstd.compress(CONTENT)),
}
each_codec = pytest.mark.parametrize(("unpack", "packed"), CODECS.values(), ids=CODECS.keys())


def test_the_fast_library_is_there() -> None:
    """It is a dependency: without it every other test here would compare zlib with itself."""
    assert codecs._fast


@each_codec
def test_what_follows_is_ignored(unpack: Callable[[bytes, int], bytes], packed: bytes) -> None:
    """A sector's rest belongs to the next unit."""
    assert unpack(packed, SIZE) == CONTENT
    assert unpack(packed + b"\xff" * 511, SIZE) == CONTENT


@each_codec
def test_another_size_is_refused(unpack: Callable[[bytes, int], bytes], packed: bytes) -> None:
    with pytest.raises(ValueError, match=f"yields {SIZE} bytes, not {SIZE + 1}"):
        unpack(packed, SIZE + 1)
    with pytest.raises(ValueError, match=f"yields more than {SIZE - 1} bytes"):
        unpack(packed, SIZE - 1)


@each_codec
def test_no_part_of_a_unit_is_enough(unpack: Callable[[bytes, int], bytes], packed: bytes) -> None:
    for length in range(len(packed)):
        assert isinstance(verdict(unpack, packed[:length]), str), length


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_libdeflate_and_zlib_agree_on_damage(data: st.DataObject) -> None:
    """On what is sound, on the bytes, and on the words for what is not.

    But for code words that no encoder writes, as they mean nothing: libdeflate gives them a sense.
    """
    unpack, packed = data.draw(st.sampled_from(list(CODECS.values())[:2]))
    damaged = bytearray(packed)
    for _ in range(data.draw(st.integers(0, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.MonkeyPatch.context() as patch:
        with_it = verdict(unpack, bytes(damaged))
        patch.setattr(codecs, "_fast", {})
        without_it = verdict(unpack, bytes(damaged))
    if isinstance(with_it, bytes) and isinstance(without_it, str):
        assert re.search(r"invalid (literal/length|distance) code", without_it)
    else:
        assert with_it == without_it


@pytest.mark.parametrize(
    ("unpack", "bomb"),
    [
        (codecs.inflate_raw, deflated(bytes(1 << 25), -15, 9)),
        (codecs.inflate, zlib.compress(bytes(1 << 25), 9)),
        (codecs.unzstd, zstd.compress(bytes(1 << 25), 19)),
    ],
    ids=list(CODECS),
)
def test_a_bomb_takes_no_memory(unpack: Callable[[bytes, int], bytes], bomb: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"more than|[Ww]indow|memory"):
            unpack(bomb, SIZE)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_several_zstd_frames_are_one_unit() -> None:
    """As in qemu: the frames of a cluster follow each other."""
    frames = b"".join(zstd.compress(CONTENT[at : at + 1000]) for at in range(0, SIZE, 1000))
    assert codecs.unzstd(frames + b"\0" * 100, SIZE) == CONTENT
    many = zstd.compress(b"") * 100_000 + zstd.compress(CONTENT)
    assert "yields 0 bytes" in str(verdict(codecs.unzstd, many))


def test_a_zstd_window_has_a_limit() -> None:
    """What a frame asks for would be allocated before a byte of it is unpacked."""
    stream = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
    packed = stream.compress(CONTENT) + stream.flush()
    with pytest.raises(ValueError, match=r"memory|[Ww]indow"):
        codecs.unzstd(packed, SIZE)
