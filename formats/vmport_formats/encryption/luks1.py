"""The header of LUKS version 1, which stands at the start of an encrypted disk or in a qcow2 file.

Specification: cryptsetup, "LUKS On-Disk Format Specification" 1.2.3.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.errors import CorruptInput, TruncatedInput, UnsupportedFeature
from vmport_formats.source import read_exactly
from vmport_formats.units import SECTOR

if TYPE_CHECKING:
    from vmport_formats.source import ByteSource

_MAGIC: Final = b"LUKS\xba\xbe"
_HEADER = Struct(">6sH32s32s32sII20s32sI40s")
_SLOT = Struct(">II32sII")
_SLOTS: Final = 8
_SLOT_IN_USE: Final = 0x00AC71F3
_SIZE: Final = _HEADER.size + _SLOTS * _SLOT.size


class _Fields(NamedTuple):
    """As stored, big-endian; eight key slots follow."""

    magic: bytes
    version: int
    cipher_name: bytes
    cipher_mode: bytes
    hash: bytes
    payload_sector: int
    key_length: int
    digest: bytes
    digest_salt: bytes
    digest_iterations: int
    uuid: bytes


class Slot(NamedTuple):
    """One key slot as stored."""

    state: int
    iterations: int
    salt: bytes
    material_sector: int
    stripes: int


class Header(NamedTuple):
    """A header whose parts lie where they may; whether its methods are known is not asked yet."""

    at: int
    """Its offset in the source, from which all others count."""
    cipher: str
    mode: str
    hash: str
    payload_offset: int
    """In bytes."""
    key_length: int
    """In bytes."""
    digest: bytes
    digest_salt: bytes
    digest_iterations: int
    uuid: str
    slots: tuple[tuple[int, Slot], ...]
    """Number and content of each slot that is in use."""


def matches(source: ByteSource) -> bool:
    """Whether the source begins with the magic number and version 1."""
    return source.read_at(0, 8) == _MAGIC + b"\0\1"


def read_header(source: ByteSource, at: int = 0) -> Header:
    """The header at offset `at`.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: codes ``luks.FIELD``.
    """
    if source.read_at(at, len(_MAGIC)) != _MAGIC:
        raise CorruptInput(
            source.name, at=at, code="luks.magic", problem="does not begin with LUKS's magic number"
        )
    data = read_exactly(source, at, _SIZE, what="the LUKS header", code="luks.header-outside")
    fields = _Fields(*_HEADER.unpack_from(data))
    if fields.version != 1:
        raise UnsupportedFeature(
            source.name,
            at=at + 6,
            code="luks.version",
            problem=f"LUKS version {fields.version}; only version 1 is a disk format",
            hint="read it as raw: its content stays as it is, encrypted",
        )
    payload = fields.payload_sector * SECTOR
    if payload < _SIZE:
        raise CorruptInput(
            source.name,
            at=at + 104,
            code="luks.payload-offset",
            problem=f"the payload starts at {payload:#x}, inside the header of {_SIZE} bytes",
        )
    if at + payload > source.size:
        raise TruncatedInput(
            source.name,
            at=at + 104,
            code="luks.payload-offset",
            problem=f"the payload starts at {at + payload:#x}, but the file ends at "
            f"{source.size:#x}",
            hint="the file is cut short; copy it again",
        )
    slots = [
        Slot(*_SLOT.unpack_from(data, _HEADER.size + number * _SLOT.size))
        for number in range(_SLOTS)
    ]
    for number, slot in enumerate(slots):
        start = slot.material_sector * SECTOR
        if not _SIZE <= start <= start + fields.key_length * slot.stripes <= payload:
            raise CorruptInput(
                source.name,
                at=slot_at(at, number) + 40,
                code="luks.key-slot",
                problem=f"the key material of slot {number} is {fields.key_length * slot.stripes} "
                f"bytes at {start:#x}; must be between the header and the payload at {payload:#x}",
            )
    return Header(
        at=at,
        cipher=_text(fields.cipher_name),
        mode=_text(fields.cipher_mode),
        hash=_text(fields.hash),
        payload_offset=payload,
        key_length=fields.key_length,
        digest=fields.digest,
        digest_salt=fields.digest_salt,
        digest_iterations=fields.digest_iterations,
        uuid=_text(fields.uuid),
        slots=tuple(item for item in enumerate(slots) if item[1].state == _SLOT_IN_USE),
    )


def slot_at(header: int, number: int) -> int:
    """The offset of a key slot's entry in the header at offset `header`."""
    return header + _HEADER.size + number * _SLOT.size


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "backslashreplace")
