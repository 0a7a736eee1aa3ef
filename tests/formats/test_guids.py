"""UUIDs as text and as bytes, beside Python's own."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from vmport_formats.guids import little_endian, of_little_endian, of_network_order


@given(st.binary(min_size=16, max_size=16))
def test_as_python_reads_and_writes_them(data: bytes) -> None:
    assert of_little_endian(data) == str(UUID(bytes_le=data))
    assert of_network_order(data) == str(UUID(bytes=data))
    assert little_endian(of_little_endian(data)) == data
