"""How OVF writes sizes: a number beside a unit such as ``byte * 2^20``, ``MegaBytes`` or ``GB``.

The units are the programmatic units of DMTF DSP0004, annex C; OVF 0.9 and many products use plain
names instead.  A name counts in powers of two, as every product that writes it does: ``MegaBytes``
is 2^20 bytes.
"""

from __future__ import annotations

import re
from typing import Final

_LARGEST: Final = 1 << 80
"""No unit is larger: 2^80 bytes is a yobibyte."""

_FACTOR: Final = re.compile(r"(\d{1,30})(?:\s*\^\s*\+?(\d{1,3}))?")
_NAMES: Final = {
    **dict.fromkeys(("byte", "bytes", "b", "octet", "octets"), 1),
    **{
        spelling: 1 << (10 * power)
        for power, prefix in enumerate(("kilo", "mega", "giga", "tera", "peta"), start=1)
        for spelling in (
            f"{prefix}byte",
            f"{prefix}bytes",
            f"{prefix[:2]}bibyte",
            f"{prefix[:2]}bibytes",
            f"{prefix[0]}b",
            f"{prefix[0]}ib",
        )
    },
}


def bytes_in(unit: str) -> int | None:
    """How many bytes `unit` stands for; None when it is no unit of size.

    >>> bytes_in("byte * 2^20"), bytes_in("MegaBytes"), bytes_in("byte*1024*1024")
    (1048576, 1048576, 1048576)
    """
    head, *factors = unit.strip().lower().split("*")
    size = _NAMES.get(head.strip())
    if size is None or len(factors) > 8:
        return None
    for text in factors:
        found = _FACTOR.fullmatch(text.strip())
        if found is None:
            return None
        base, exponent = int(found[1]), int(found[2] or "1")
        if base > 1 and exponent * base.bit_length() > 2 * _LARGEST.bit_length():
            return None
        size *= base**exponent
        if size > _LARGEST:
            return None
    return size or None
