"""Units of size and place as types, so that a sector count is never taken for a byte count."""

from __future__ import annotations

import re
from typing import Final, NewType

Bytes = NewType("Bytes", int)
"""A length in bytes."""

Sectors = NewType("Sectors", int)
"""A length in sectors of 512 bytes, whatever the sector size of the device."""

GuestOffset = NewType("GuestOffset", int)
"""A place on the virtual disk, in bytes."""

HostOffset = NewType("HostOffset", int)
"""A place in the image file, in bytes."""

SECTOR: Final = Bytes(512)
KIB: Final = Bytes(1 << 10)
MIB: Final = Bytes(1 << 20)
GIB: Final = Bytes(1 << 30)

MAX_SIZE: Final = Bytes((1 << 63) - 1)
"""The largest size or offset that a signed 64-bit file offset can express."""


def sectors_to_bytes(count: int) -> Bytes:
    """The length of `count` 512-byte sectors, in bytes."""
    return Bytes(count * SECTOR)


def format_size(size: int) -> str:
    """`size` bytes for a reader: ``4 GiB``, ``1.5 MiB``, ``512 bytes``."""
    value = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"):
        if abs(value) < 1024 or unit == "EiB":
            return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def parse_size(text: str) -> Bytes:
    """The bytes of a size as people write it: ``4096``, ``0x1000``, ``64K``, ``64KiB``, ``2g``.

    Units count in 1024s.

    Raises:
        ValueError: it is no such size, or above 2^63-1.
    """
    found = re.fullmatch(
        r"(0x[0-9a-f]{1,16})|([0-9]{1,19})(?:b|([kmgtpe])(?:i?b)?)?", text.strip().lower()
    )
    if found is None:
        raise ValueError(text)
    shift = 10 * "bkmgtpe".index(found[3] or "b")
    size = int(found[1], 16) if found[1] else int(found[2]) << shift
    if size > MAX_SIZE:
        raise ValueError(text)
    return Bytes(size)
