"""UUIDs between the two orders of bytes in which disk formats store them, and what people write.

`uuid.UUID` knows both too, and more; its import takes longer than it takes to read an image.
"""

from __future__ import annotations

from struct import Struct

# Microsoft's GUIDs have the first three parts as little-endian numbers; so has VDI.
_LITTLE = Struct("<IHH8s")
_NETWORK = Struct(">IHH8s")


def of_little_endian(data: bytes) -> str:
    """The UUID in 16 bytes, the first three parts of which are little-endian."""
    return _text(_LITTLE, data)


def of_network_order(data: bytes) -> str:
    """The UUID in 16 bytes, as RFC 9562 orders them."""
    return _text(_NETWORK, data)


def little_endian(text: str) -> bytes:
    """The 16 bytes that `of_little_endian` shows as `text`."""
    first, second, third, *rest = text.split("-")
    numbers = (int(part, 16) for part in (first, second, third))
    return _LITTLE.pack(*numbers, bytes.fromhex("".join(rest)))


def _text(struct: Struct, data: bytes) -> str:
    first, second, third, rest = struct.unpack(data)
    return f"{first:08x}-{second:04x}-{third:04x}-{rest.hex('-', 6)}"
