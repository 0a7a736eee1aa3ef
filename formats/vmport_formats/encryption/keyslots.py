"""From a passphrase through a key slot of LUKS to the key of the sectors.

Specification: cryptsetup, "LUKS On-Disk Format Specification" 1.2.3, "Master key recovery".
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final

from vmport_formats.encryption.luks1 import slot_at
from vmport_formats.encryption.sectors import Scheme, SectorCipher
from vmport_formats.errors import CorruptInput, LockedInput, UnsupportedFeature
from vmport_formats.source import read_exactly
from vmport_formats.units import SECTOR

if TYPE_CHECKING:
    from vmport_formats.encryption.luks1 import Header, Slot
    from vmport_formats.source import ByteSource

_DIGEST: Final = 20
_HASHES: Final = frozenset({"md5", "ripemd160", "sha1", "sha224", "sha256", "sha384", "sha512"})
MAX_KEY_MATERIAL: Final = 1 << 20
"""Bytes of a key's stripes; 64 bytes in the usual 4000 have a quarter of that."""
MAX_HASHING: Final = 1 << 27
"""Rounds of PBKDF2 that all slots together may cost: some four slots of two seconds each on the
fastest processors, and about a minute on a slow one."""


def unlock(source: ByteSource, header: Header, passphrase: bytes | None) -> SectorCipher:
    """The cipher of the sectors, with the key that `passphrase` gives.

    Raises:
        LockedInput: there is no passphrase, or it fits no key slot (``luks.passphrase``).
        UnsupportedFeature: a cipher or hash that is not known here (``luks.cipher``,
            ``luks.hash``), or one that would take minutes (``luks.iterations``).
        CorruptInput, TruncatedInput: codes ``luks.FIELD``.
    """
    if passphrase is None:
        raise LockedInput(
            source.name,
            at=header.at,
            code="luks.passphrase",
            problem="the content is encrypted with LUKS, and no passphrase was given",
        )
    scheme = _scheme(source, header)
    _check_work(source, header)
    for number, slot in header.slots:
        material = _material(source, header, number, slot)
        derived = _pbkdf2(header, passphrase, slot.salt, slot.iterations, header.key_length)
        stripes = SectorCipher(scheme, derived).decrypt(material, 0)
        key = _merged(stripes, header.key_length, slot.stripes, header.hash)
        digest = _pbkdf2(header, key, header.digest_salt, header.digest_iterations, _DIGEST)
        if hmac.compare_digest(digest, header.digest):
            return SectorCipher(scheme, key)
    raise LockedInput(
        source.name,
        at=header.at,
        code="luks.passphrase",
        problem=f"the passphrase opens none of the {len(header.slots)} key slots in use",
    )


def _scheme(source: ByteSource, header: Header) -> Scheme:
    try:
        scheme = Scheme.parse(header.cipher, header.mode)
    except ValueError as error:
        raise UnsupportedFeature(
            source.name,
            at=header.at + 8,
            code="luks.cipher",
            problem=f"is encrypted with {header.cipher}-{header.mode}, which cannot be read: "
            f"{error}",
            hint="AES is known, with xts or cbc, and plain, plain64 or essiv",
        ) from error
    if header.key_length not in scheme.key_sizes:
        raise CorruptInput(
            source.name,
            at=header.at + 108,
            code="luks.key-length",
            problem=f"a key of {header.key_length} bytes; {header.cipher}-{header.mode} takes "
            f"{' or '.join(map(str, sorted(scheme.key_sizes)))}",
        )
    if header.hash not in _HASHES or header.hash not in hashlib.algorithms_available:
        raise UnsupportedFeature(
            source.name,
            at=header.at + 72,
            code="luks.hash",
            problem=f"hashes with {header.hash!r}, which is not known here",
        )
    return scheme


def _check_work(source: ByteSource, header: Header) -> None:
    """That trying every slot takes a bounded time; PBKDF2 cannot be stopped once it runs."""
    if not header.slots:
        raise CorruptInput(
            source.name,
            at=slot_at(header.at, 0),
            code="luks.key-slot",
            problem="no key slot is in use, so nothing opens it",
        )
    length = hashlib.new(header.hash).digest_size
    digest = header.digest_iterations * -(-_DIGEST // length)
    work = 0
    for number, slot in header.slots:
        if not slot.iterations or not header.digest_iterations or not slot.stripes:
            raise CorruptInput(
                source.name,
                at=slot_at(header.at, number),
                code="luks.key-slot",
                problem=f"key slot {number} has no iterations or no stripes",
            )
        work += slot.iterations * -(-header.key_length // length) + digest
    if work > MAX_HASHING:
        raise UnsupportedFeature(
            source.name,
            at=header.at,
            code="luks.iterations",
            problem=f"trying all key slots takes {work} rounds of hashing; at most {MAX_HASHING} "
            "are done",
        )


def _material(source: ByteSource, header: Header, number: int, slot: Slot) -> bytes:
    """The encrypted stripes of a slot, up to a whole sector."""
    length = header.key_length * slot.stripes
    if length > MAX_KEY_MATERIAL:
        raise UnsupportedFeature(
            source.name,
            at=slot_at(header.at, number) + 44,
            code="luks.stripes",
            problem=f"the key material of slot {number} has {length} bytes; at most "
            f"{MAX_KEY_MATERIAL} are read",
        )
    return read_exactly(
        source,
        header.at + slot.material_sector * SECTOR,
        -(-length // SECTOR) * SECTOR,
        what="the key material",
        code="luks.key-slot",
    )


def _merged(stripes: bytes, length: int, count: int, hash_name: str) -> bytes:
    """The key out of its stripes: each is needed, so that wiping one wipes the key."""
    state = bytes(length)
    for number in range(count):
        if number:
            state = _diffused(state, hash_name)
        stripe = stripes[number * length : (number + 1) * length]
        mixed = int.from_bytes(state, "big") ^ int.from_bytes(stripe, "big")
        state = mixed.to_bytes(length, "big")
    return state


def _diffused(block: bytes, hash_name: str) -> bytes:
    """Every hash-sized part replaced by the hash of its number and itself."""
    size = hashlib.new(hash_name).digest_size
    parts = (
        hashlib.new(hash_name, index.to_bytes(4, "big") + block[start : start + size]).digest()
        for index, start in enumerate(range(0, len(block), size))
    )
    return b"".join(parts)[: len(block)]


def _pbkdf2(header: Header, secret: bytes, salt: bytes, iterations: int, length: int) -> bytes:
    return hashlib.pbkdf2_hmac(header.hash, secret, salt, iterations, length)
