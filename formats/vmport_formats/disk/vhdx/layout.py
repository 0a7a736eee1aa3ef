"""The records of a VHDX file and the GUIDs in it, each as its specification lays it out.

Source: Microsoft, [MS-VHDX] "Virtual Hard Disk v2 (VHDX) File Format".  All numbers are
little-endian, GUIDs too.
"""

from __future__ import annotations

from enum import IntFlag
from struct import Struct
from typing import Final, NamedTuple

from vmport_formats.crc32c import crc32c
from vmport_formats.guids import little_endian

FILE_SIGNATURE: Final = b"vhdxfile"
CREATOR_LENGTH: Final = 512
HEADER_OFFSETS: Final = (64 * 1024, 128 * 1024)
HEADER_LENGTH: Final = 4096
REGION_TABLE_OFFSETS: Final = (192 * 1024, 256 * 1024)
TABLE_LENGTH: Final = 64 * 1024
"""Of a region table, and of the metadata table."""
MAX_TABLE_ENTRIES: Final = 2047
NIL: Final = bytes(16)

BAT_REGION: Final = little_endian("2dc27766-f623-4200-9d64-115e9bfd4a08")
METADATA_REGION: Final = little_endian("8b7ca206-4790-4b9a-b8fe-575f050f886e")

FILE_PARAMETERS: Final = little_endian("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
VIRTUAL_DISK_SIZE: Final = little_endian("2fa54224-cd1b-4876-b211-5dbed83bf4b8")
VIRTUAL_DISK_ID: Final = little_endian("beca12ab-b2e6-4523-93ef-c309e000c746")
LOGICAL_SECTOR_SIZE: Final = little_endian("8141bf1d-a96f-4709-ba47-f233a8faab5f")
PHYSICAL_SECTOR_SIZE: Final = little_endian("cda348c7-445d-4471-9cc9-e9885251c556")
PARENT_LOCATOR: Final = little_endian("a8d35f2d-b30b-454d-abf7-d3d84834ab0c")
VHDX_LOCATOR_TYPE: Final = little_endian("b04aefb7-d19e-4a81-b789-25b8e9445913")


class Header(NamedTuple):
    """Section 2.2.2, less its reserved bytes; there are two, and the newer sound one counts."""

    signature: bytes  # b"head"
    checksum: int  # CRC-32C of the 4096 bytes, with this field zero
    sequence_number: int
    file_write_guid: bytes
    data_write_guid: bytes
    log_guid: bytes  # zero: nothing to replay
    log_version: int
    version: int
    log_length: int  # bytes, a multiple of 1 MiB
    log_offset: int  # likewise


class TableHeader(NamedTuple):
    """The start of a region table, section 2.2.3.1."""

    signature: bytes  # b"regi"
    checksum: int  # CRC-32C of the 64 KiB, with this field zero
    entry_count: int
    reserved: int


class RegionEntry(NamedTuple):
    """Section 2.2.3.2."""

    guid: bytes
    file_offset: int  # bytes, a multiple of 1 MiB
    length: int  # likewise
    required: int  # bit 0


class MetadataTableHeader(NamedTuple):
    """Section 2.6.1.1, less its reserved bytes."""

    signature: bytes  # b"metadata"
    reserved: int
    entry_count: int


class MetadataEntry(NamedTuple):
    """Section 2.6.1.2."""

    item_id: bytes
    offset: int  # bytes from the start of the region; 0 for an empty item
    length: int  # bytes
    flags: int
    reserved: int


class ItemFlag(IntFlag):
    """Flags of a `MetadataEntry`."""

    IS_USER = 1
    IS_VIRTUAL_DISK = 2
    IS_REQUIRED = 4


class ParameterFlag(IntFlag):
    """Flags of the file parameters, section 2.6.2.1."""

    LEAVE_BLOCKS_ALLOCATED = 1
    HAS_PARENT = 2


class LogEntryHeader(NamedTuple):
    """Section 2.3.1.1."""

    signature: bytes  # b"loge"
    checksum: int  # CRC-32C of the whole entry, with this field zero
    entry_length: int  # bytes, a multiple of 4 KiB
    tail: int  # where in the log the oldest entry begins that is still needed
    sequence_number: int
    descriptor_count: int
    reserved: int
    log_guid: bytes
    flushed_file_offset: int  # the file was at least this long when the entry was written
    last_file_offset: int  # and is to be at least this long after a replay


class LogDescriptor(NamedTuple):
    """Sections 2.3.1.2 and 2.3.1.3: a run of zeros, or a sector of data."""

    signature: bytes  # b"zero" or b"desc"
    trailing: bytes  # the last 4 bytes of a data sector
    leading: bytes  # its first 8 bytes; of zeros, their length
    file_offset: int
    sequence_number: int


HEADER: Final = Struct("<4sIQ16s16s16sHHIQ")
TABLE_HEADER: Final = Struct("<4sIII")
REGION_ENTRY: Final = Struct("<16sQII")
METADATA_TABLE_HEADER: Final = Struct("<8sHH20x")
METADATA_ENTRY: Final = Struct("<16sIIII")
FILE_PARAMETERS_ITEM: Final = Struct("<II")
LOCATOR_HEADER: Final = Struct("<16sHH")
LOCATOR_ENTRY: Final = Struct("<IIHH")
LOG_ENTRY_HEADER: Final = Struct("<4sIIIQII16sQQ")
LOG_DESCRIPTOR: Final = Struct("<4s4s8sQQ")


def checksum_of(record: bytes) -> int:
    """What the checksum of a header, region table or log entry should be, which is in bytes 4 to 7.

    These count as zeros.
    """
    return crc32c(b"".join((record[:4], bytes(4), memoryview(record)[8:])))


def sealed(record: bytes) -> bytes:
    """A header or region table with the checksum that it should have."""
    return b"".join((record[:4], checksum_of(record).to_bytes(4, "little"), record[8:]))
