"""CRC-32 of what is known only in parts: the checksum of gzip and of DMG, of IEEE 802.3.

A checksum is a remainder: to append n bytes multiplies it by x^8n, modulo the polynomial.  Bits are
reflected: the highest of a number is x^0.
"""

from __future__ import annotations

from typing import Final

_POLYNOMIAL: Final = 0xEDB8_8320
_ONE: Final = 1 << 31
_BYTE: Final = 1 << 23
"""x^8."""
_ALL: Final = 0xFFFF_FFFF


def combine_crc(first: int, second: int, length: int) -> int:
    """The CRC-32 of two runs of bytes together, from that of each; the second has `length` bytes.

    It takes as many steps as `length` has bits.
    """
    return _shifted(first, length) ^ second


def crc32_with_zeros(before: int, count: int) -> int:
    """The CRC-32 of something that has `before`, with `count` zero bytes behind it.

    It takes as many steps as `count` has bits.
    """
    return _shifted(before ^ _ALL, count) ^ _ALL


def _shifted(value: int, length: int) -> int:
    """`value` times x^(8 `length`)."""
    factor, power = _ONE, _BYTE
    while length:
        if length & 1:
            factor = _product(factor, power)
        power = _product(power, power)
        length >>= 1
    return _product(value, factor)


def _product(one: int, other: int) -> int:
    product = 0
    while one:
        if one & _ONE:
            product ^= other
        one = one << 1 & _ALL
        other = other >> 1 ^ (_POLYNOMIAL if other & 1 else 0)
    return product
