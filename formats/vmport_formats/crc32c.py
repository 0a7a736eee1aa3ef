"""CRC-32C (Castagnoli), the checksum of VHDX, XFS, btrfs and ext4.

The processor computes it, through google-crc32c, where that has a wheel; elsewhere `folded` does,
which is Python alone.

A checksum is a remainder: the message is a polynomial over GF(2), divided by a fixed one of degree
32.  Python's integers are such polynomials, and `<<` and `^` on a large one run at memory speed.
So a long message is folded: the upper half times x^n is the same remainder as the upper half times
(x^n mod P), which is a multiplication by at most 32 bits, that is at most 32 shifts.  Each fold
halves the message.  The usual table, a byte at a time, takes Python some 15 times as long.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Final

from vmport_formats.zeros import without_trailing_zeros

if TYPE_CHECKING:
    from collections.abc import Callable

_POLYNOMIAL: Final = 0x1_1EDC_6F41
_MASK: Final = 0xFFFF_FFFF
# The CRC takes the lowest bit of each byte first; as a polynomial that is the highest power.
_MIRRORED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_DIRECT_BITS: Final = 64


_fast: Callable[[bytes], int] | None = None
with suppress(ImportError):  # there are platforms that it has no wheel for
    from google_crc32c import implementation, value

    if implementation == "c":  # its own fall-back is the usual table
        _fast = value


def crc32c(data: bytes) -> int:
    """The CRC-32C of `data`, as an unsigned 32-bit number; that of nothing is 0."""
    return folded(data) if _fast is None else _fast(data)


def folded(data: bytes) -> int:
    """As `crc32c`, by folding.

    It takes about 0.13 ms for 4 KiB, 0.7 ms for 64 KiB and 13 ms for 1 MiB; zeros at the end, which
    most records of a fixed size have, cost next to nothing.
    """
    used = without_trailing_zeros(data)
    bits = 8 * len(used)
    message = int.from_bytes(used.translate(_MIRRORED), "big")
    # The register starts as all ones, which is the same as inverting the first 32 bits.
    value = (message << 32) ^ (_MASK << bits)
    remainder = _remainder(value, bits + 32)
    if zeros := len(data) - len(used):
        remainder = _remainder(_times(remainder, _power(8 * zeros)), 64)
    return int(f"{remainder:032b}"[::-1], 2) ^ _MASK


def _remainder(value: int, bits: int) -> int:
    """`value`, a polynomial of fewer than `bits` terms, modulo the CRC's polynomial."""
    while bits > _DIRECT_BITS:
        exponent = (bits - 1).bit_length() - 1
        low = 1 << exponent
        value = _times(value >> low, _power_of_two_power(exponent)) ^ (value & ((1 << low) - 1))
        bits = max(low, bits - low + 32)
    while (length := value.bit_length()) > 32:
        value ^= _POLYNOMIAL << (length - 33)
    return value


def _times(value: int, factor: int) -> int:
    """The product of two polynomials, of which `factor` is the small one."""
    product = 0
    while factor:
        bit = factor & -factor
        product ^= value << (bit.bit_length() - 1)
        factor ^= bit
    return product


@lru_cache(maxsize=1024)
def _power(exponent: int) -> int:
    """The polynomial x^exponent, modulo the CRC's."""
    product = 1
    while exponent:
        bit = exponent & -exponent
        factor = _power_of_two_power(bit.bit_length() - 1)
        product = _remainder(_times(product, factor), 64)
        exponent ^= bit
    return product


@cache
def _power_of_two_power(exponent: int) -> int:
    """The polynomial x^(2^exponent), modulo the CRC's."""
    if exponent <= 4:
        return 1 << (1 << exponent)
    root = _power_of_two_power(exponent - 1)
    return _remainder(_times(root, root), 64)
