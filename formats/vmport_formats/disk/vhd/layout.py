"""The records of a VHD file, each as its specification lays it out.

Source: Microsoft, "Virtual Hard Disk Image Format Specification", version 1.0, October 2006.  All
numbers are big-endian.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

COOKIE: Final = b"conectix"
HEADER_COOKIE: Final = b"cxsparse"
FOOTER_LENGTH: Final = 512
HEADER_LENGTH: Final = 1024
UNUSED_ENTRY: Final = 0xFFFF_FFFF
"""A block that the table of a dynamic disk does not place."""

MAX_SECTORS: Final = 0xFF00_0000
"""2040 GiB: what a table of 32-bit sector numbers can place, less what the bitmaps take."""
MAX_CYLINDERS, MAX_HEADS, MAX_SECTORS_PER_TRACK = 65535, 16, 255

PARENT_UNIQUE_ID_AT: Final = 40
"""Of the dynamic header."""

EPOCH: Final = 946_684_800
"""2000-01-01 00:00:00 UTC, from which VHD counts its seconds, as a Unix time."""


class DiskType(IntEnum):
    """The kinds of VHD that are defined; all other numbers are reserved or deprecated."""

    FIXED = 2
    DYNAMIC = 3
    DIFFERENCING = 4


class Footer(NamedTuple):
    """The "Hard Disk Footer Format": the last sector, and a copy in the first unless fixed."""

    cookie: bytes
    features: int
    version: int  # 0x0001_0000: major in the upper half
    data_offset: int  # bytes, of the dynamic header; all ones for a fixed disk
    time_stamp: int  # see EPOCH
    creator_application: bytes
    creator_version: int
    creator_host_os: bytes
    original_size: int  # bytes
    current_size: int  # bytes
    cylinders: int
    heads: int
    sectors: int  # a track
    disk_type: int
    checksum: int
    unique_id: bytes  # a UUID in network order
    saved_state: int

    @property
    def geometry_sectors(self) -> int:
        """How many sectors the geometry counts."""
        return self.cylinders * self.heads * self.sectors

    @property
    def has_largest_geometry(self) -> bool:
        """Whether the geometry is the largest, which disks beyond its reach (127 GiB) carry."""
        return self.geometry_sectors == MAX_CYLINDERS * MAX_HEADS * MAX_SECTORS_PER_TRACK


class DynamicHeader(NamedTuple):
    """The "Dynamic Disk Header Format", less its parent locators."""

    cookie: bytes
    data_offset: int  # unused: all ones
    table_offset: int  # bytes
    header_version: int
    max_table_entries: int
    block_size: int  # bytes, without the sector bitmap that precedes each block
    checksum: int
    parent_unique_id: bytes
    parent_time_stamp: int  # of the last change of the parent's file; see EPOCH
    reserved: int
    parent_unicode_name: bytes  # UTF-16BE, padded with NULs


class ParentLocator(NamedTuple):
    """One of the eight places where a differencing disk says how to find its parent."""

    platform_code: bytes
    data_space: int  # sectors in the specification, bytes in Microsoft's own files
    data_length: int  # bytes
    reserved: int
    data_offset: int  # bytes


_FOOTER: Final = Struct(">8sIIQI4sI4sQQHBBII16sB")
_HEADER: Final = Struct(">8sQQIIII16sII512s")
_LOCATOR: Final = Struct(">4sIIIQ")
_FOOTER_CHECKSUM_AT: Final = 64
_HEADER_CHECKSUM_AT: Final = 36
_LOCATORS: Final = 8


def unpack_footer(sector: bytes) -> Footer:
    """The footer in `sector`, of 512 bytes."""
    return Footer._make(_FOOTER.unpack_from(sector))


def unpack_header(data: bytes) -> DynamicHeader:
    """The dynamic header in `data`, of 1024 bytes."""
    return DynamicHeader._make(_HEADER.unpack_from(data))


def unpack_locators(data: bytes) -> tuple[ParentLocator, ...]:
    """The parent locators in `data`, a dynamic header of 1024 bytes; used or not."""
    end = _HEADER.size + _LOCATORS * _LOCATOR.size
    return tuple(map(ParentLocator._make, _LOCATOR.iter_unpack(data[_HEADER.size : end])))


def pack_footer(footer: Footer) -> bytes:
    """The sector that holds `footer`, but with the right checksum."""
    return _sealed(_FOOTER.pack(*footer).ljust(FOOTER_LENGTH, b"\0"), _FOOTER_CHECKSUM_AT)


def pack_header(header: DynamicHeader) -> bytes:
    """The 1024 bytes that hold `header`, but with the right checksum; without parent locators."""
    return _sealed(_HEADER.pack(*header).ljust(HEADER_LENGTH, b"\0"), _HEADER_CHECKSUM_AT)


def footer_checksum(sector: bytes) -> int:
    """What the checksum of the footer in `sector` should be."""
    return _checksum(sector, _FOOTER_CHECKSUM_AT)


def header_checksum(data: bytes) -> int:
    """What the checksum of the dynamic header in `data` should be."""
    return _checksum(data, _HEADER_CHECKSUM_AT)


def _checksum(data: bytes, field: int) -> int:
    """The ones' complement of the sum of all bytes but those of the checksum itself."""
    most = data.rstrip(b"\0")  # zeros add nothing, and are many
    return ~(sum(most) - sum(data[field : field + 4])) & 0xFFFF_FFFF


def _sealed(data: bytes, field: int) -> bytes:
    return data[:field] + _checksum(data, field).to_bytes(4, "big") + data[field + 4 :]
