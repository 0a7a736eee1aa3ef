"""DMG metadata: the trailer.

Layout: the ``koly`` block as Apple's hdiutil writes it; Apple has never published it.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.disk.dmg.checksums import LENGTH as _CHECKSUM_LENGTH
from vmport_formats.disk.dmg.checksums import Checksum, read_checksum
from vmport_formats.disk.model import DiskFormat, ImageInfo
from vmport_formats.errors import CorruptInput, TruncatedInput, UnsupportedFeature
from vmport_formats.source import read_exactly
from vmport_formats.units import MAX_SIZE, SECTOR, Bytes

if TYPE_CHECKING:
    from vmport_formats.source import ByteSource

_TRAILER_LENGTH: Final = 512
_MARK: Final = b"koly\0\0\0\4\0\0\2\0"
"""Signature, version 4, length 512."""
_FIRST = Struct(">4sIII5QII")
DATA_CHECKSUM_AT: Final = 0x50
"""In the trailer: of all that is stored."""
MASTER_CHECKSUM_AT: Final = 0x160
"""In the trailer: of the checksums of the block tables."""
_XML = Struct(">QQ")
_XML_AT: Final = 0xD8
_LAST = Struct(">IQ")
_LAST_AT: Final = 0x1E8
_KINDS: Final = {1: "device", 2: "partition"}


class _First(NamedTuple):
    """The beginning of the trailer as stored, big-endian."""

    signature: bytes
    version: int
    length: int
    flags: int
    running_data_offset: int
    data_offset: int
    data_length: int
    resource_offset: int
    resource_length: int
    segment: int
    segments: int


class Trailer(NamedTuple):
    """What the trailer says of the rest of the file; offsets and lengths in bytes."""

    at: int
    """Where it is itself; everything else lies before."""
    data_offset: int
    data_length: int
    resource_offset: int
    resource_length: int
    xml_offset: int
    xml_length: int
    kind: int
    sectors: int
    """Of the disk."""
    data_checksum: Checksum
    master_checksum: Checksum


def matches(source: ByteSource) -> bool:
    """Whether the last 512 bytes begin with the mark of a UDIF trailer."""
    return (
        source.size >= _TRAILER_LENGTH
        and source.read_at(source.size - _TRAILER_LENGTH, len(_MARK)) == _MARK
    )


def read_info(source: ByteSource) -> ImageInfo:
    """The metadata of an Apple disk image.

    Raises:
        CorruptInput, TruncatedInput: codes ``dmg.FIELD``.
        UnsupportedFeature: it is one of several segments (``dmg.segments``).
    """
    trailer = read_trailer(source)
    return ImageInfo(
        DiskFormat.DMG,
        variant="UDIF",
        virtual_size=Bytes(trailer.sectors * SECTOR),
        file_size=Bytes(source.size),
        details={"image-variant": _KINDS.get(trailer.kind, trailer.kind)},
    )


def read_trailer(source: ByteSource) -> Trailer:
    """The trailer; what it names lies before it.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: as `read_info`.
    """
    if not matches(source):
        raise CorruptInput(
            source.name,
            at=max(source.size - _TRAILER_LENGTH, 0),
            code="dmg.magic",
            problem="does not end with a UDIF trailer ('koly')",
            hint="the trailer is the last 512 bytes: perhaps the file is cut short",
        )
    at = source.size - _TRAILER_LENGTH
    trailer = read_exactly(source, at, _TRAILER_LENGTH, what="the UDIF trailer")
    first = _First(*_FIRST.unpack_from(trailer))
    xml_offset, xml_length = _XML.unpack_from(trailer, _XML_AT)
    kind, sectors = _LAST.unpack_from(trailer, _LAST_AT)
    if first.segments > 1:
        raise UnsupportedFeature(
            source.name,
            at=at + 60,
            code="dmg.segments",
            problem=f"is segment {first.segment} of {first.segments}; only whole images are read",
            hint="join them with `hdiutil convert` first",
        )
    if sectors * SECTOR > MAX_SIZE:
        raise CorruptInput(
            source.name,
            at=at + _LAST_AT + 4,
            code="dmg.sectors",
            problem=f"virtual size of {sectors} sectors; at most 2^63-1 bytes",
        )
    for what, field, offset, length in (
        ("data fork", 0x18, first.data_offset, first.data_length),
        ("resource fork", 0x28, first.resource_offset, first.resource_length),
        ("property list", _XML_AT, xml_offset, xml_length),
    ):
        if length and offset + length > at:
            raise TruncatedInput(
                source.name,
                at=at + field,
                code=f"dmg.{what.replace(' ', '-')}",
                problem=f"the {what} ends at {offset + length:#x}, behind the start of the trailer "
                f"at {at:#x}",
            )
    if not first.resource_length and not xml_length:
        raise CorruptInput(
            source.name,
            at=at + _XML_AT,
            code="dmg.block-table",
            problem="has neither a property list nor a resource fork, so no block table",
        )
    return Trailer(
        at,
        first.data_offset,
        first.data_length,
        first.resource_offset,
        first.resource_length,
        xml_offset,
        xml_length,
        kind,
        sectors,
        _checksum(trailer, DATA_CHECKSUM_AT),
        _checksum(trailer, MASTER_CHECKSUM_AT),
    )


def _checksum(trailer: bytes, at: int) -> Checksum:
    return read_checksum(trailer[at : at + _CHECKSUM_LENGTH])
