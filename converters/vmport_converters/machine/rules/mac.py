"""MAC addresses, and the ranges that belong to VMware."""

from __future__ import annotations

import re
from typing import Final

_MAC: Final = re.compile(r"([0-9A-Fa-f]{1,2})[:-]" * 5 + r"([0-9A-Fa-f]{1,2})|([0-9A-Fa-f]{12})")


def parse_mac(text: str, *, bare: bool = False) -> bytes | None:
    """The six bytes of an address with colons or hyphens (or, if `bare`, nothing) between them."""
    found = _MAC.fullmatch(text.strip())
    if found is None or (found[7] is not None and not bare):
        return None
    if found[7] is not None:
        return bytes.fromhex(found[7])
    return bytes(int(found[group], 16) for group in range(1, 7))


def is_multicast(mac: bytes) -> bool:
    """Whether it addresses a group; no card can have such an address."""
    return bool(mac[0] & 1)


def is_vmware_static(mac: bytes) -> bool:
    """Whether it lies in the range that VMware lets people choose from."""
    return mac[:3] == b"\x00\x50\x56" and mac[3] <= 0x3F


def is_vmware_generated(mac: bytes) -> bool:
    """Whether a host or vCenter may have generated it."""
    return mac[:3] == b"\x00\x0c\x29" or (mac[:3] == b"\x00\x50\x56" and 0x80 <= mac[3] <= 0xBF)
