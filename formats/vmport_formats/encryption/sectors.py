"""AES over disk sectors, as dm-crypt and qemu do it: any number of sectors in one call.

Each sector of 512 bytes is encrypted on its own, with an initialisation vector made from its
number.  A library call a sector would take most of the time, so the modes are composed here from
one AES call for a whole read, and exclusive-or over the bytes as one large number.

Sources: IEEE 1619-2007 (XTS); Linux, "dm-crypt", on the generation of vectors.
"""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass
from enum import StrEnum
from sys import byteorder
from typing import TYPE_CHECKING, Final

from vmport_formats.units import SECTOR

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.modes import ECB

_BLOCK: Final = 16
_WORDS: Final = SECTOR // 8
_AT_ONCE: Final = 128 * SECTOR
"""What large numbers are handled fastest with: they stay in the processor's cache."""


class Mode(StrEnum):
    """How the blocks of a sector hang together."""

    CBC = "cbc"
    XTS = "xts"


class Vector(StrEnum):
    """How a sector's number becomes its initialisation vector."""

    PLAIN = "plain"
    """The lower 32 bits, little-endian."""
    PLAIN64 = "plain64"
    ESSIV = "essiv"
    """64 bits, encrypted with a hash of the key."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """What a sector is encrypted with, but for the key: ``aes-cbc-essiv:sha256``."""

    mode: Mode
    vector: Vector
    vector_hash: str | None = None
    """Of `Vector.ESSIV`, by hashlib's name for it."""

    @classmethod
    def parse(cls, cipher: str, mode: str) -> Scheme:
        """The scheme that LUKS calls, say, ``aes`` and ``cbc-essiv:sha256``.

        Raises:
            ValueError: it is none of those that are known here.
        """
        if cipher != "aes":
            raise ValueError(f"cipher {cipher!r}; only 'aes' is known")
        chaining, _, rest = mode.partition("-")
        vector, _, vector_hash = rest.partition(":")
        scheme = cls(Mode(chaining), Vector(vector), vector_hash or None)
        if (scheme.vector is Vector.ESSIV) != (vector_hash in {"md5", "sha256"}):
            # The hash is an AES key, so it has the length of one.
            raise ValueError(f"vectors by {rest!r}; ESSIV is known with md5 or sha256")
        return scheme

    @property
    def key_sizes(self) -> frozenset[int]:
        """Bytes of the keys that fit: two AES keys for XTS, else one."""
        return frozenset({32, 64} if self.mode is Mode.XTS else {16, 24, 32})


class SectorCipher:
    """Decrypts sectors; safe in several threads at once."""

    def __init__(self, scheme: Scheme, key: bytes) -> None:
        """`key` is as long as one of `Scheme.key_sizes`."""
        assert len(key) in scheme.key_sizes  # noqa: S101 - the caller knows what it reads
        self._mode = scheme.mode
        self._narrow = scheme.vector is Vector.PLAIN
        self._essiv = None
        if scheme.vector_hash is not None:
            self._essiv = _aes(hashlib.new(scheme.vector_hash, key).digest())
        half = len(key) // 2
        self._tweak = _aes(key[half:]) if scheme.mode is Mode.XTS else None
        self._data = _aes(key[:half] if scheme.mode is Mode.XTS else key)

    def decrypt(self, data: bytes, first: int) -> bytes:
        """The plain text of whole sectors, which count from number `first`."""
        assert len(data) % SECTOR == 0  # noqa: S101
        parts = (
            self._part(data[start : start + _AT_ONCE], first + start // SECTOR)
            for start in range(0, len(data), _AT_ONCE)
        )
        return b"".join(parts)

    def _part(self, data: bytes, first: int) -> bytes:
        vectors = self._vectors(first, len(data) // SECTOR)
        if self._tweak is not None:
            tweaks = _number(_tweaks(self._tweak.encryptor().update(vectors)))
            return _xor(self._data.decryptor().update(_xor(data, tweaks)), tweaks)
        before = array("Q", bytes(_BLOCK) + data[:-_BLOCK])
        halves = array("Q", vectors)
        before[0::_WORDS], before[1::_WORDS] = halves[0::2], halves[1::2]
        return _xor(self._data.decryptor().update(data), _number(before.tobytes()))

    def _vectors(self, first: int, count: int) -> bytes:
        """16 bytes for each sector: its number, little-endian, perhaps encrypted."""
        halves = array("Q", bytes(_BLOCK * count))
        numbers = range(first, first + count)
        halves[0::2] = array("Q", [n & 0xFFFF_FFFF for n in numbers] if self._narrow else numbers)
        if byteorder == "big":
            halves.byteswap()
        vectors = halves.tobytes()
        return vectors if self._essiv is None else self._essiv.encryptor().update(vectors)


@dataclass(frozen=True, slots=True)
class GuestNumbered:
    """A `disk.layer.Cipher` that counts sectors on the virtual disk."""

    cipher: SectorCipher

    def decrypt(self, data: bytes, *, guest_offset: int, host_offset: int) -> bytes:
        """The plain text of `data`."""
        return self.cipher.decrypt(data, guest_offset // SECTOR)


@dataclass(frozen=True, slots=True)
class HostNumbered:
    """A `disk.layer.Cipher` that counts sectors in the image file."""

    cipher: SectorCipher

    def decrypt(self, data: bytes, *, guest_offset: int, host_offset: int) -> bytes:
        """The plain text of `data`."""
        return self.cipher.decrypt(data, host_offset // SECTOR)


def _tweaks(first: bytes) -> bytes:
    """For every block of every sector its XTS tweak, from those of the sectors' first blocks.

    Each tweak is the one before times x in GF(2^128), little-endian.  All sectors go through that
    side by side, as 128-bit lanes of one number.
    """
    count = len(first) // _BLOCK
    lowest = _number((b"\1" + bytes(_BLOCK - 1)) * count)
    others = (1 << 128 * count) - 1 - lowest
    lanes = _number(first)
    tweaks = array("Q", bytes(SECTOR * count))
    for at in range(0, _WORDS, 2):
        halves = array("Q", lanes.to_bytes(_BLOCK * count, "little"))
        tweaks[at::_WORDS], tweaks[at + 1 :: _WORDS] = halves[0::2], halves[1::2]
        lanes = (lanes << 1 & others) ^ (lanes >> 127 & lowest) * 0x87
    return tweaks.tobytes()


def _xor(data: bytes, number: int) -> bytes:
    return (_number(data) ^ number).to_bytes(len(data), "little")


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _aes(key: bytes) -> Cipher[ECB]:
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import ECB

    return Cipher(AES(key), ECB())  # noqa: S305 - the bare block cipher that a mode is made of
