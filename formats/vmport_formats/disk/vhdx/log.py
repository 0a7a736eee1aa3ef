"""The log of a VHDX that was not closed cleanly, and the file as it is once that is replayed.

Windows replays the log when it opens a disk, by writing to it.  Here nothing is written: the active
sequence of entries is found and checked ([MS-VHDX] section 2.3.2), and `replayed` gives the file
with its changes laid over it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.disk.vhdx.layout import (
    LOG_DESCRIPTOR,
    LOG_ENTRY_HEADER,
    LogDescriptor,
    LogEntryHeader,
    checksum_of,
)
from vmport_formats.errors import TruncatedInput
from vmport_formats.patched import Patch, PatchedSource
from vmport_formats.units import MAX_SIZE, MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.vhdx.layout import Header
    from vmport_formats.source import ByteSource

LOG_SECTOR: Final = 4096
MAX_LOG: Final = 16 * MIB
"""The longest log that is looked into; Windows makes 1 MiB."""
# What all checksums together may cover, for entries may overlap; and how many changes they may
# hold together, which is what fits a log of 1 MiB.
_MAX_CHECKED: Final = 16 * MIB
_MAX_PATCHES: Final = MIB // LOG_DESCRIPTOR.size
_DATA_START, _DATA_LENGTH = 8, 4084


class Entry(NamedTuple):
    """A sound log entry."""

    at: int  # within the log
    header: LogEntryHeader
    patches: tuple[Patch, ...]


@dataclass(frozen=True, slots=True)
class Log:
    """What was found in the log of a dirty file."""

    entries: tuple[Entry, ...]
    """The active sequence, oldest first; empty when there is none, which the format forbids."""
    complete: bool
    """Whether the whole log was looked at; not when it would have taken too long."""

    @property
    def patches(self) -> tuple[Patch, ...]:
        """All changes, in the order of their making."""
        return tuple(patch for entry in self.entries for patch in entry.patches)


def replayed(source: ByteSource, log: Log) -> PatchedSource:
    """The file as it is after the log's changes."""
    patches = log.patches
    ends = [entry.header.last_file_offset for entry in log.entries]
    ends += [patch.end for patch in patches]
    return PatchedSource(source, patches, min(max(source.size, *ends, 0), MAX_SIZE))


def read_log(source: ByteSource, header: Header) -> Log:
    """The active sequence of the log that `header` places, which lies within the file.

    Raises:
        TruncatedInput: the file is shorter than it was when the log was written.
    """
    if not 0 < header.log_length <= MAX_LOG:
        return Log((), complete=not header.log_length)
    reader = _LogReader(source, header)
    try:
        entries = reader.active_sequence()
    except _TooMuchWork:
        return Log((), complete=False)
    for entry in entries:
        if entry.header.flushed_file_offset > source.size:
            raise TruncatedInput(
                source.name,
                at=header.log_offset + entry.at,
                code="vhdx.flushed-file-offset",
                problem=f"the file was {entry.header.flushed_file_offset} bytes long when its log "
                f"was written, and is now {source.size}",
                hint="the file is cut short; copy it again",
            )
    return Log(entries, complete=True)


class _TooMuchWork(Exception):
    """There is so much in the log that checking it all would take too long."""


class _LogReader:
    """Looks into the ring of log sectors; remembers the entries that it has checked."""

    def __init__(self, source: ByteSource, header: Header) -> None:
        self._source = source
        self._offset = header.log_offset
        self._length = header.log_length
        self._guid = header.log_guid
        self._checked = self._patches = 0
        self._entries: dict[int, Entry | None] = {}

    def active_sequence(self) -> tuple[Entry, ...]:
        """The newest valid sequence of entries."""
        best: list[Entry] = []
        covered: set[int] = set()
        for start in self._starts():
            if start in covered:
                continue
            sequence = self._sequence(start)
            covered.update(entry.at for entry in sequence)
            if not sequence:
                continue
            head = sequence[-1].header
            # Only a sequence that still holds the entry its head calls the tail can be replayed.
            tails = [number for number, entry in enumerate(sequence) if entry.at == head.tail]
            if tails and (not best or head.sequence_number > best[-1].header.sequence_number):
                best = sequence[tails[0] :]
        return tuple(best)

    def _starts(self) -> Iterator[int]:
        """Where an entry may begin, going by the first bytes of each sector."""
        for chunk_at in range(0, self._length, MIB):
            chunk = self._source.read_at(self._offset + chunk_at, MIB)
            for at in range(0, len(chunk), LOG_SECTOR):
                if chunk.startswith(b"loge", at):
                    yield chunk_at + at

    def _sequence(self, start: int) -> list[Entry]:
        """The entries that follow one another from `start`, round the ring at most once."""
        sequence: list[Entry] = []
        at, used = start, 0
        while (entry := self._entry(at)) is not None:
            header = entry.header
            if sequence and header.sequence_number != sequence[-1].header.sequence_number + 1:
                break
            used += header.entry_length
            if used > self._length:
                break
            sequence.append(entry)
            at = (at + header.entry_length) % self._length
        return sequence

    def _entry(self, at: int) -> Entry | None:
        if at not in self._entries:
            self._entries[at] = self._read_entry(at)
        return self._entries[at]

    def _read(self, at: int, length: int) -> bytes:
        """`length` bytes of the ring from `at`."""
        first = min(length, self._length - at)
        data = self._source.read_at(self._offset + at, first)
        if first < length:
            data += self._source.read_at(self._offset, length - first)
        return data

    def _read_entry(self, at: int) -> Entry | None:
        """The entry at `at`, when every rule of section 2.3.1 holds for it."""
        header = LogEntryHeader._make(
            LOG_ENTRY_HEADER.unpack(self._read(at, LOG_ENTRY_HEADER.size))
        )
        length, count = header.entry_length, header.descriptor_count
        if (
            header.signature != b"loge"
            or header.log_guid != self._guid
            or not LOG_SECTOR <= length <= self._length
            or length % LOG_SECTOR
            or header.tail % LOG_SECTOR
            or header.tail >= self._length
            or not header.sequence_number
            or LOG_ENTRY_HEADER.size + count * LOG_DESCRIPTOR.size > length
        ):
            return None
        self._checked += length
        self._patches += count
        if self._checked > _MAX_CHECKED or self._patches > _MAX_PATCHES:
            raise _TooMuchWork
        data = self._read(at, length)
        if checksum_of(data) != header.checksum:
            return None
        patches = _patches(header, data)
        return None if patches is None else Entry(at, header, patches)


def _patches(header: LogEntryHeader, data: bytes) -> tuple[Patch, ...] | None:
    """The changes of an entry; None when a descriptor or a data sector does not fit it."""
    patches = []
    end = LOG_ENTRY_HEADER.size + header.descriptor_count * LOG_DESCRIPTOR.size
    sector = -(-end // LOG_SECTOR) * LOG_SECTOR
    for fields in LOG_DESCRIPTOR.iter_unpack(data[LOG_ENTRY_HEADER.size : end]):
        item = LogDescriptor._make(fields)
        if item.sequence_number != header.sequence_number or item.file_offset % LOG_SECTOR:
            return None
        if item.signature == b"zero":
            length = int.from_bytes(item.leading, "little")
            if length % LOG_SECTOR:
                return None
            patches.append(Patch(item.file_offset, length, None))
            continue
        block = data[sector : sector + LOG_SECTOR]
        sector += LOG_SECTOR
        if item.signature != b"desc" or not _is_data_sector(block, header.sequence_number):
            return None
        content = item.leading + block[_DATA_START : _DATA_START + _DATA_LENGTH] + item.trailing
        patches.append(Patch(item.file_offset, LOG_SECTOR, content))
    return tuple(patches)


def _is_data_sector(block: bytes, sequence_number: int) -> bool:
    """A data sector carries the sequence number, its upper half first and its lower half last."""
    high = (sequence_number >> 32).to_bytes(4, "little")
    low = (sequence_number & 0xFFFF_FFFF).to_bytes(4, "little")
    return len(block) == LOG_SECTOR and block.startswith(b"data" + high) and block.endswith(low)
