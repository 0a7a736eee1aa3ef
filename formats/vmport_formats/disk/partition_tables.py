"""A first look at the MBR and GPT of a raw disk: whether there is one, and can be true.

A raw disk has no header of its own, so its partition table is all that tells it from other bytes.
One that cannot be true means a cut image, or bytes made to look like a disk.  Specification: UEFI
2.10, chapter 5.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple
from zlib import crc32

from vmport_formats.disk.model import Concern
from vmport_formats.units import MIB, SECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.source import ByteSource

_SIGNATURE_AT: Final = 510
_ENTRIES_AT: Final = 446
_ENTRY = Struct("<B3sB3sII")
_PROTECTIVE: Final = 0xEE
_BOOT_SECTORS: Final = ((3, b"NTFS"), (3, b"EXFAT"), (54, b"FAT"), (82, b"FAT32"))
"""File systems whose first sector has the signature of an MBR, but no partition table."""

_GPT = Struct("<8sIIIIQQQQ16sQIII")
_GPT_MAGIC: Final = b"EFI PART"
_MAX_GPT_ENTRIES: Final = 1 * MIB
"""Bytes of the partition entries; real ones have 16 KiB."""


class PartitionTable(NamedTuple):
    """What `look` saw."""

    kind: str | None
    """``mbr``, ``gpt`` or None."""
    concerns: tuple[Concern, ...] = ()


class _MbrEntry(NamedTuple):
    """One of four, as stored."""

    status: int
    first_chs: bytes
    type: int
    last_chs: bytes
    start: int
    sectors: int


class _Gpt(NamedTuple):
    """The header as stored, little-endian; addresses are in the disk's own sectors."""

    magic: bytes
    revision: int
    length: int
    checksum: int
    reserved: int
    own_address: int
    other_address: int
    first_usable: int
    last_usable: int
    disk_id: bytes
    entries_address: int
    entries: int
    entry_length: int
    entries_checksum: int


def look(source: ByteSource) -> PartitionTable:
    """The kind of partition table at the start of `source`, and what cannot be true about it."""
    first = source.read_at(0, SECTOR).ljust(SECTOR, b"\0")
    marked = first[_SIGNATURE_AT:] == b"\x55\xaa" and not any(
        first[at : at + len(mark)] == mark for at, mark in _BOOT_SECTORS
    )
    entries = [_MbrEntry(*entry) for entry in _ENTRY.iter_unpack(first[_ENTRIES_AT:_SIGNATURE_AT])]
    entries = [entry for entry in entries if marked and any(entry[2:])]
    protected = any(entry.type == _PROTECTIVE for entry in entries)
    for sector in (512, 4096):
        if source.read_at(sector, len(_GPT_MAGIC)) == _GPT_MAGIC:
            concerns = list(_judge_gpt(source, sector))
            if not protected:
                concerns.append(Concern("raw.gpt-unprotected", "has a GPT, but no protective MBR"))
            return PartitionTable("gpt", tuple(concerns))
    concerns = list(_judge_mbr(source, entries))
    if protected:
        concerns.append(Concern("raw.gpt-missing", "has a protective MBR, but no GPT behind it"))
    return PartitionTable("mbr" if entries else None, tuple(concerns))


def _judge_mbr(source: ByteSource, entries: list[_MbrEntry]) -> Iterator[Concern]:
    if any(entry.status not in (0, 0x80) for entry in entries):
        yield Concern("raw.mbr-status", "an MBR partition's boot flag is neither 0 nor 0x80")
    end = max(
        (entry.start + entry.sectors for entry in entries if entry.type != _PROTECTIVE), default=0
    )
    if end * SECTOR > source.size:
        yield Concern(
            "raw.mbr-beyond-end",
            f"an MBR partition ends at byte {end * SECTOR}, but the disk at {source.size}: "
            "is it cut short?",
        )


def _judge_gpt(source: ByteSource, sector: int) -> Iterator[Concern]:
    data = source.read_at(sector, sector)
    if len(data) < _GPT.size:
        yield Concern("raw.gpt-header", "the GPT header is cut short")
        return
    gpt = _Gpt(*_GPT.unpack_from(data))
    if not _GPT.size <= gpt.length <= len(data):
        yield Concern("raw.gpt-header", f"the GPT header says that it has {gpt.length} bytes")
        return
    if crc32(data[:16] + b"\0\0\0\0" + data[20 : gpt.length]) != gpt.checksum:
        yield Concern("raw.gpt-header", "the GPT header's checksum is wrong")
    if gpt.own_address != 1 or not gpt.first_usable <= gpt.last_usable + 1:
        yield Concern("raw.gpt-header", "the GPT header's own place or usable range is wrong")
    if (max(gpt.other_address, gpt.last_usable) + 1) * sector > source.size:
        yield Concern(
            "raw.gpt-beyond-end",
            f"the GPT is for a disk of {(gpt.other_address + 1) * sector} bytes, but this one has "
            f"{source.size}: is it cut short?",
        )
    length = gpt.entries * gpt.entry_length
    if gpt.entry_length < 128 or length > _MAX_GPT_ENTRIES:
        yield Concern(
            "raw.gpt-entries", f"{gpt.entries} GPT entries of {gpt.entry_length} bytes each"
        )
    elif crc32(source.read_at(gpt.entries_address * sector, length)) != gpt.entries_checksum:
        yield Concern("raw.gpt-entries", "the checksum of the GPT entries is wrong")
