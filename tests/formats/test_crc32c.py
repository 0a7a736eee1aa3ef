"""CRC-32C against published values, the sum by the book, and the time it may take."""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.disks import vhdx
from vmport_formats.crc32c import crc32c


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
def test_published_values(data: bytes, expected: int) -> None:
    """RFC 3720, appendix B.4, and the check value of the CRC catalogue."""
    assert crc32c(data) == expected


@given(st.binary(max_size=600))
def test_any_length(data: bytes) -> None:
    assert crc32c(data) == vhdx.crc32c(data)


@pytest.mark.parametrize("length", [4095, 4096, 4097, 65536, 70001])
def test_the_lengths_that_formats_use(length: int) -> None:
    data = os.urandom(length)
    assert crc32c(data) == vhdx.crc32c(data)


def test_it_is_faster_than_a_table() -> None:
    data = os.urandom(1 << 17)
    begin = time.process_time()
    crc32c(data)
    folded = time.process_time()
    vhdx.crc32c(data)
    assert folded - begin < (time.process_time() - folded) / 3
