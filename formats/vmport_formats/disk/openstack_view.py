"""What OpenStack makes of an image file, where that is not what the image is: a second opinion.

OpenStack's services ask oslo.utils' ``format_inspector`` whether to take an image.  That looks for
the marks of its formats at fixed places of the file, all at once, whatever the file is; and it
reads the descriptor of a VMDK more narrowly than VMware does.  An image that it refuses is of no
use there, and one that it sees in another light than we do is not safe there.

Source: the behaviour of oslo.utils 10.2, checked by experiment, and side by side in the tests.
"""

from __future__ import annotations

import re
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.disk.model import Concern, DiskFormat
from vmport_formats.units import KIB, MIB, SECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.model import ImageInfo
    from vmport_formats.source import ByteSource

_MARKS: Final = (
    (0, b"QFI\xfb", DiskFormat.QCOW2),
    (0, b"QED\0", DiskFormat.QED),
    (0, b"KDMV", DiskFormat.VMDK),
    (0, b"conectix", DiskFormat.VHD),
    (0, b"vhdxfile", DiskFormat.VHDX),
    (0, b"LUKS\xba\xbe", DiskFormat.LUKS),
    (64, b"\x7f\x10\xda\xbe", DiskFormat.VDI),
)
"""Where a format's mark is looked for.  ISO 9660 and the MBR, which it counts as formats too, have
rules of their own."""

_ISO_AT: Final = 32 * KIB
_ISO_LENGTH: Final = 2 * KIB
_ISO_MARKS: Final = (b"CD001", b"NSR02", b"NSR03")

_ENTRIES_AT: Final = 446
_SIGNATURE_AT: Final = 510
_ENTRY: Final = Struct("<B3sB3sII")
_PROTECTIVE: Final = 0xEE
_FIRST_CHS: Final = b"\0\2\0"

_SHORTEST_TEXT: Final = 64
_TEXT: Final = re.compile(rb"[\t-\r\x1c-\x7e]+")


def second_opinion(source: ByteSource, info: ImageInfo) -> Iterator[Concern]:
    """What OpenStack has against the file `source`, which is an image that `info` describes."""
    first = source.read_at(0, SECTOR)
    formats = [item for at, mark, item in _MARKS if first[at : at + len(mark)] == mark]
    for item in formats:
        if item is not info.format:
            yield Concern(
                "openstack.other-format",
                f"OpenStack takes it for {item.label}, and not for {info.format.label}",
            )
    found = [item.label for item in formats]
    iso = source.read_at(_ISO_AT, _ISO_LENGTH)
    if len(iso) == _ISO_LENGTH and iso[1:6] in _ISO_MARKS:
        found.append("ISO 9660")
    if _has_mbr(first):
        found.append("MBR")
        yield from _judge_mbr(first)
    if len(found) > 1:
        yield Concern(
            "openstack.several-formats",
            f"has the marks of {' and '.join(found)} where OpenStack looks for them, and it does "
            "not choose",
        )
    if info.format is DiskFormat.RAW and _is_text(first):
        yield Concern(
            "openstack.text", "begins like a text, so it may be taken for a VMDK descriptor"
        )
    if info.format is DiskFormat.QCOW2:
        yield from _judge_qcow2(first, info)
    if info.format is DiskFormat.VMDK:
        yield from _judge_vmdk(source)


def _is_text(first: bytes) -> bool:
    return len(first) >= _SHORTEST_TEXT and _TEXT.fullmatch(first) is not None


# --- Partition tables ---------------------------------------------------------------------------


class _Partition(NamedTuple):
    """An entry of the MBR."""

    status: int
    first_chs: bytes
    type: int
    last_chs: bytes
    start: int
    sectors: int


def _has_mbr(first: bytes) -> bool:
    """Whether there is a signature, and what is before it is not like a FAT file system."""
    return first[_SIGNATURE_AT:] == b"\x55\xaa" and not (first[16] == 2 and first[21] == 0xF8)


def _judge_mbr(first: bytes) -> Iterator[Concern]:
    entries = [_Partition(*entry) for entry in _ENTRY.iter_unpack(first[_ENTRIES_AT:_SIGNATURE_AT])]
    used = [entry for entry in entries if entry.type]
    protective = [entry for entry in entries if entry.type == _PROTECTIVE]
    problem = None
    if any(entry.status not in (0, 0x80) for entry in entries):
        problem = "a boot flag is neither 0 nor 0x80"
    elif not used:
        problem = "it has no partition"
    elif any(entry.first_chs != _FIRST_CHS or entry.start != 1 for entry in protective):
        problem = "the entry that protects a GPT does not begin at the second sector"
    elif protective and (len(used) > 1 or not entries[0].type):
        problem = "the entry that protects a GPT is not the only one"
    if problem is not None:
        yield Concern("openstack.mbr", f"is taken for an MBR that cannot be true: {problem}")


# --- qcow2 --------------------------------------------------------------------------------------

_BACKING_OFFSET: Final = slice(8, 16)
_FEATURES_AT: Final = 72
_DATA_FILE: Final = 1 << 2


def _judge_qcow2(first: bytes, info: ImageInfo) -> Iterator[Concern]:
    if any(first[_BACKING_OFFSET]) and info.backing is None:
        yield Concern(
            "openstack.backing-file", "has a place for the name of a backing file, but no name"
        )
    # Looked for in version 2 as well, where other things are at this place.
    if first[_FEATURES_AT + 7 : _FEATURES_AT + 8] and first[_FEATURES_AT + 7] & _DATA_FILE:
        yield Concern("openstack.data-file", "is taken for one whose data is in another file")


# --- VMDK ---------------------------------------------------------------------------------------


class _SparseHeader(NamedTuple):
    """The first fields of a sparse extent's header."""

    magic: bytes
    version: int
    flags: int
    capacity: int
    grain_size: int
    descriptor_offset: int
    descriptor_size: int
    entries: int
    second_directory: int
    directory: int


_SPARSE: Final = Struct("<4sIIQQQQIQQ")
_IN_FOOTER: Final = 0xFFFF_FFFF_FFFF_FFFF
_FOOTER_MARKER: Final = 3
_MARKER: Final = Struct("<QII496s")
_LONGEST_DESCRIPTOR: Final = MIB - 1
_CREATE_TYPE: Final = re.compile(rb'createtype="([^"]{0,63})"')
_KNOWN_TYPES: Final = frozenset({b"monolithicsparse", b"streamoptimized"})
_KNOWN_LINE: Final = re.compile(rb"#.*|ddb.*|[^ =]*=.*|(?:rw|rdonly|noaccess)(?: .*)?", re.DOTALL)
_EXTENT: Final = (b"rw", b"rdonly", b"noaccess")
_BLANKS: Final = b"\t\n\v\f\r\x1c\x1d\x1e\x1f "


def _judge_vmdk(source: ByteSource) -> Iterator[Concern]:
    head = source.read_at(0, _SPARSE.size)
    if len(head) < _SPARSE.size or not head.startswith(b"KDMV"):
        return  # a descriptor alone, or an extent of ESX: refused by what it is
    header = _SparseHeader(*_SPARSE.unpack(head))
    problem = _descriptor_problem(source, header)
    if problem is not None:
        yield Concern("openstack.vmdk-descriptor", f"its descriptor is not accepted: {problem}")
    if header.directory == _IN_FOOTER and (problem := _footer_problem(source, header)) is not None:
        yield Concern("openstack.vmdk-footer", f"its footer is not accepted: {problem}")


def _descriptor_problem(source: ByteSource, header: _SparseHeader) -> str | None:
    if header.descriptor_offset != 1:
        return "it is not in the second sector"
    length = min(header.descriptor_size * SECTOR, _LONGEST_DESCRIPTOR)
    stored = source.read_at(SECTOR, length)
    if len(stored) < length:
        return "the file ends inside it"
    text = stored.partition(b"\0")[0]
    if not text.isascii():
        return "it is not in ASCII"
    text = text.lower()
    # The first mention counts, in a comment or wherever.
    kind = _CREATE_TYPE.match(text, max(0, text.find(b'createtype="')))
    if kind is None or kind[1] not in _KNOWN_TYPES:
        return "the type that it states first is neither monolithicSparse nor streamOptimized"
    lines = [line for line in (line.strip(_BLANKS) for line in text.split(b"\n")) if line]
    if unknown := next((line for line in lines if not _KNOWN_LINE.fullmatch(line)), None):
        return f"it has the line {unknown[:80].decode('ascii')!r}"
    extents = [line for line in lines if line.split(b" ")[0] in _EXTENT]
    if not extents:
        return "it lists no extent"
    if any(b"/" in line for line in extents):
        return "an extent has a slash in its name"
    return None


def _footer_problem(source: ByteSource, header: _SparseHeader) -> str | None:
    """What is wrong with the last three sectors: a marker, the footer, the marker of the end."""
    stored = source.read_at(max(0, source.size - 3 * SECTOR), 3 * SECTOR)
    if len(stored) < 3 * SECTOR:
        return "the file is too short for one"
    footer = _SparseHeader(*_SPARSE.unpack_from(stored, SECTOR))
    if (footer.magic, footer.version) != (header.magic, header.version):
        return "its magic or version is not that of the header"
    if footer.descriptor_offset != header.descriptor_offset or (
        footer.descriptor_size != header.descriptor_size
    ):
        return "it has the descriptor in another place than the header"
    if footer.directory == _IN_FOOTER:
        return "it points to yet another footer"
    _, size, kind, rest = _MARKER.unpack_from(stored)
    if size or kind != _FOOTER_MARKER or any(rest):
        return "no marker is before it"
    if any(stored[2 * SECTOR :]):
        return "no marker of the end is behind it"
    return None
