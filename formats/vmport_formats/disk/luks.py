"""LUKS version 1 as a disk format: a raw disk that is encrypted as a whole, as qemu makes it.

Specification: cryptsetup, "LUKS On-Disk Format Specification" 1.2.3.  qemu takes version 2 for raw,
and so does this; `raw` says that such a disk is encrypted.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.disk.model import DiskFormat, ImageInfo
from vmport_formats.errors import CorruptInput, TruncatedInput, UnsupportedFeature
from vmport_formats.source import read_exactly
from vmport_formats.units import SECTOR, Bytes

if TYPE_CHECKING:
    from vmport_formats.source import ByteSource

_MAGIC: Final = b"LUKS\xba\xbe"
_VERSION_1: Final = b"\0\1"
_HEADER = Struct(">6sH32s32s32sII20s32sI40s")
_SLOT = Struct(">II32sII")
_SLOTS: Final = 8
_SLOT_IN_USE: Final = 0x00AC71F3


class _Header(NamedTuple):
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


class _Slot(NamedTuple):
    """One key slot as stored."""

    state: int
    iterations: int
    salt: bytes
    material_sector: int
    stripes: int


def matches(source: ByteSource) -> bool:
    """Whether the file begins with the magic number and version 1."""
    return source.read_at(0, 8) == _MAGIC + _VERSION_1


def read_info(source: ByteSource) -> ImageInfo:
    """The metadata of a LUKS disk; what it holds cannot be seen without its key.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: codes ``luks.FIELD``.
    """
    if source.read_at(0, 6) != _MAGIC:
        raise CorruptInput(
            source.name, at=0, code="luks.magic", problem="does not begin with LUKS's magic number"
        )
    size = _HEADER.size + _SLOTS * _SLOT.size
    data = read_exactly(source, 0, size, what="the LUKS header", code="luks.header-outside")
    header = _Header(*_HEADER.unpack_from(data))
    if header.version != 1:
        raise UnsupportedFeature(
            source.name,
            at=6,
            code="luks.version",
            problem=f"LUKS version {header.version}; only version 1 is a disk format",
            hint="read it as raw: its content stays as it is, encrypted",
        )
    payload = header.payload_sector * SECTOR
    if payload < size:
        raise CorruptInput(
            source.name,
            at=104,
            code="luks.payload-offset",
            problem=f"the payload starts at {payload:#x}, inside the header of {size} bytes",
        )
    if payload > source.size:
        raise TruncatedInput(
            source.name,
            at=104,
            code="luks.payload-offset",
            problem=f"the payload starts at {payload:#x}, but the file ends at {source.size:#x}",
            hint="the file is cut short; copy it again",
        )
    slots = [
        _Slot(*_SLOT.unpack_from(data, _HEADER.size + number * _SLOT.size))
        for number in range(_SLOTS)
    ]
    for number, slot in enumerate(slots):
        start = slot.material_sector * SECTOR
        if not size <= start <= start + header.key_length * slot.stripes <= payload:
            raise CorruptInput(
                source.name,
                at=_HEADER.size + number * _SLOT.size + 40,
                code="luks.key-slot",
                problem=f"the key material of slot {number} is {header.key_length * slot.stripes} "
                f"bytes at {start:#x}; must be between the header and the payload at {payload:#x}",
            )
    return ImageInfo(
        DiskFormat.LUKS,
        variant="v1",
        virtual_size=Bytes((source.size - payload + SECTOR - 1) // SECTOR * SECTOR),
        file_size=Bytes(source.size),
        encrypted=True,
        details={
            "cipher": f"{_text(header.cipher_name)}-{_text(header.cipher_mode)}",
            "hash-alg": _text(header.hash),
            "key-bits": header.key_length * 8,
            "uuid": _text(header.uuid),
            "payload-offset": payload,
            "active-slots": sum(slot.state == _SLOT_IN_USE for slot in slots),
        },
    )


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "backslashreplace")
