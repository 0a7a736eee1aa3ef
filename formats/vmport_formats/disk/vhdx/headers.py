"""The file identifier and the two headers of a VHDX: which header counts, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vmport_formats.disk.model import Concern
from vmport_formats.disk.vhdx.layout import (
    CREATOR_LENGTH,
    FILE_SIGNATURE,
    HEADER,
    HEADER_LENGTH,
    HEADER_OFFSETS,
    NIL,
    Header,
    checksum_of,
)
from vmport_formats.errors import CorruptInput, TruncatedInput, UnsupportedFeature
from vmport_formats.guids import of_little_endian
from vmport_formats.units import MIB

if TYPE_CHECKING:
    from vmport_formats.source import ByteSource


class Candidate(NamedTuple):
    """One of the two headers, sound or not."""

    at: int
    header: Header
    """Its fields; only to be trusted when it is sound."""
    problem: str | None
    """Why it does not count; None when it is sound."""

    def as_details(self) -> dict[str, object]:
        """What it says, JSON-ready."""
        if self.problem is not None:
            return {"offset": self.at, "valid": False, "problem": self.problem}
        header = self.header
        return {
            "offset": self.at,
            "valid": True,
            "sequence-number": header.sequence_number,
            "log-guid": of_little_endian(header.log_guid),
        }


class Headers(NamedTuple):
    """Both headers, and the one that counts."""

    candidates: tuple[Candidate, Candidate]
    current: Candidate

    @property
    def dirty(self) -> bool:
        """Whether there is a log to replay before anything else in the file can be trusted."""
        return self.current.header.log_guid != NIL


def read_creator(source: ByteSource) -> str:
    """The program that made the file, as it names itself.

    Raises:
        CorruptInput: the file does not begin as a VHDX does (``vhdx.magic``).
    """
    data = source.read_at(0, len(FILE_SIGNATURE) + CREATOR_LENGTH)
    if not data.startswith(FILE_SIGNATURE):
        raise CorruptInput(
            source.name,
            at=0,
            code="vhdx.magic",
            problem=f"does not begin with {FILE_SIGNATURE.decode()!r}",
        )
    return data[len(FILE_SIGNATURE) :].decode("utf-16-le", "replace").partition("\0")[0]


def read_headers(source: ByteSource) -> tuple[Headers, list[Concern]]:
    """The two headers; the sound one with the higher sequence number counts (section 2.2.2).

    Raises:
        TruncatedInput: the file ends before the second header.
        CorruptInput: none is sound, or both are, of one age, and differ (``vhdx.header``).
        UnsupportedFeature: of a version that is not known (``vhdx.version``).
    """
    end = HEADER_OFFSETS[-1] + HEADER_LENGTH
    if source.size < end:
        raise TruncatedInput(
            source.name,
            at=source.size,
            code="vhdx.header",
            problem=f"the file ends at {source.size:#x}, before its headers do, at {end:#x}",
            hint="the file is cut short; copy it again",
        )
    first, second = (_read_header(source, at) for at in HEADER_OFFSETS)
    current = _newer(source, first, second)
    _check_current(source, current)
    concerns = [
        Concern(
            "vhdx.header-damaged",
            f"the header at {item.at:#x} is damaged ({item.problem}); the other one was used",
        )
        for item in (first, second)
        if item.problem is not None
    ]
    return Headers((first, second), current), concerns


def _read_header(source: ByteSource, at: int) -> Candidate:
    raw = source.read_at(at, HEADER_LENGTH)
    header = Header._make(HEADER.unpack_from(raw))
    if header.signature != b"head":
        return Candidate(at, header, f"it begins with {header.signature!r}, not b'head'")
    if (found := checksum_of(raw)) != header.checksum:
        problem = f"its checksum is {header.checksum:#010x}, its bytes give {found:#010x}"
        return Candidate(at, header, problem)
    return Candidate(at, header, None)


def _newer(source: ByteSource, first: Candidate, second: Candidate) -> Candidate:
    sound = [item for item in (first, second) if item.problem is None]
    if not sound:
        raise CorruptInput(
            source.name,
            at=first.at,
            code="vhdx.header",
            problem=f"neither header is sound: of the first, {first.problem}; "
            f"of the second, {second.problem}",
        )
    if len(sound) == 1:
        return sound[0]
    one, two = first.header, second.header
    # Disk2vhd writes two headers of the same age, equal to the byte; those are no contradiction.
    if one.sequence_number == two.sequence_number and one != two:
        raise CorruptInput(
            source.name,
            at=first.at + 8,
            code="vhdx.header",
            problem=f"both headers have sequence number {one.sequence_number}, but differ",
        )
    return second if two.sequence_number > one.sequence_number else first


def _check_current(source: ByteSource, candidate: Candidate) -> None:
    header = candidate.header
    if header.version != 1:
        raise UnsupportedFeature(
            source.name,
            at=candidate.at + 66,
            code="vhdx.version",
            problem=f"format version is {header.version}; only 1 is known",
        )
    if header.log_version != 0:
        raise UnsupportedFeature(
            source.name,
            at=candidate.at + 64,
            code="vhdx.log-version",
            problem=f"log version is {header.log_version}; only 0 is known",
        )
    if header.log_offset % MIB or header.log_offset < MIB or header.log_length % MIB:
        raise CorruptInput(
            source.name,
            at=candidate.at + 68,
            code="vhdx.log-offset",
            problem=f"the log is {header.log_length:#x} bytes at {header.log_offset:#x}; "
            "both must be multiples of 1 MiB, the offset at least one",
        )
    if header.log_offset + header.log_length > source.size:
        raise TruncatedInput(
            source.name,
            at=header.log_offset,
            code="vhdx.log-offset",
            problem=f"the log needs {header.log_length} bytes here, "
            f"but the file ends at {source.size:#x}",
            hint="the file is cut short; copy it again",
        )
