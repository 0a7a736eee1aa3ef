"""CRC-32C against published values, the sum by the book, and the time it may take."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.disks import vhdx
from vmport_formats.crc32c import crc32c, folded

if TYPE_CHECKING:
    from collections.abc import Callable

# The processor's where there is one, and our own, which takes its place elsewhere.
pytestmark = pytest.mark.parametrize("checksum", [crc32c, folded])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xE306_9283),
        (bytes(32), 0x8A91_36AA),
        (b"\xff" * 32, 0x62A8_AB43),
        (bytes(range(32)), 0x46DD_794E),
        (bytes(range(31, -1, -1)), 0x113F_DB5C),
    ],
)
def test_published_values(checksum: Callable[[bytes], int], data: bytes, expected: int) -> None:
    """RFC 3720, appendix B.4, and the check value of the CRC catalogue."""
    assert checksum(data) == expected


@given(st.binary(max_size=600))
def test_any_length(checksum: Callable[[bytes], int], data: bytes) -> None:
    assert checksum(data) == vhdx.crc32c(data)


@pytest.mark.parametrize("length", [4095, 4096, 4097, 65536, 70001])
def test_the_lengths_that_formats_use(checksum: Callable[[bytes], int], length: int) -> None:
    data = os.urandom(length)
    assert checksum(data) == vhdx.crc32c(data)


def test_it_is_faster_than_a_table(checksum: Callable[[bytes], int]) -> None:
    data = os.urandom(1 << 17)
    begin = time.process_time()
    checksum(data)
    done = time.process_time()
    vhdx.crc32c(data)
    assert done - begin < (time.process_time() - done) / 3
