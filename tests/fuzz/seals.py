"""Makes checksums right again after damage, so that the damage gets behind them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from fixtures.disks import vhd as vhd_file
from fixtures.disks import vhdx as vhdx_file
from vmport_formats.crc32c import crc32c

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_LOG = 1 << 20


def vhd(data: bytearray, sound: bytes) -> None:
    """Of the footer, its copy and the dynamic disk header."""
    for at, length, field in (
        (0, 512, 64),
        (vhd_file.HEADER_AT, 1024, 36),
        (max(len(data) - 512, 0), 512, 64),
    ):
        part = bytes(data[at : at + length])
        looks_right = part[:8] in (b"conectix", b"cxsparse")
        if len(part) == length and looks_right and part != sound[at : at + length]:
            data[at : at + length] = vhd_file.checksum(part, field)


def vhdx(data: bytearray, sound: bytes) -> None:
    """Of both headers, both region tables and the first entry of the log."""
    for at, length in _summed(data):
        part = data[at : at + length]
        if len(part) == length and part != sound[at : at + length]:
            part[4:8] = bytes(4)
            part[4:8] = struct.pack("<I", crc32c(bytes(part)))
            data[at : at + length] = part


def _summed(data: bytearray) -> Iterator[tuple[int, int]]:
    for at in vhdx_file.HEADERS:
        yield at, 4096
    for at in vhdx_file.REGION_TABLES:
        yield at, 65536
    if data[vhdx_file.LOG_AT : vhdx_file.LOG_AT + 4] == b"loge":
        length = int.from_bytes(data[vhdx_file.LOG_AT + 8 : vhdx_file.LOG_AT + 12], "little")
        if 64 <= length <= _MOST_LOG:
            yield vhdx_file.LOG_AT, length
