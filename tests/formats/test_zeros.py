"""Trailing zeros: the quick way finds what `bytes.rstrip` finds."""

from __future__ import annotations

import pytest

from vmport_formats.zeros import without_trailing_zeros


@pytest.mark.parametrize("length", [0, 1, 4095, 4096, 4097, 8192, 9000, 65536])
@pytest.mark.parametrize("zeros", [0, 1, 4095, 4096, 5000, 65536])
def test_as_rstrip(length: int, zeros: int) -> None:
    data = b"\1\0" * (max(0, length - zeros) // 2) + bytes(min(zeros, length))
    assert without_trailing_zeros(data) == data.rstrip(b"\0")
