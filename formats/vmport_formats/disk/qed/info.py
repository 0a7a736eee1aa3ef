"""QED metadata: the header, the backing file, and whether the file holds all that it should."""

from __future__ import annotations

from enum import IntFlag
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.disk.model import Concern, DiskFormat, ImageInfo
from vmport_formats.disk.numbers import decoded
from vmport_formats.disk.tables import largest
from vmport_formats.errors import CorruptInput, TruncatedInput, UnsupportedFeature
from vmport_formats.references import Reference, ReferenceKind
from vmport_formats.source import read_exactly
from vmport_formats.units import MAX_SIZE, MIB, SECTOR, Bytes

if TYPE_CHECKING:
    from vmport_formats.source import ByteSource

_MAGIC: Final = b"QED\0"
_HEADER = Struct("<4sIIIQQQQQII")
_MAX_BACKING_NAME: Final = 1023
_SCANNED: Final = 16 * MIB
"""How much of the tables is looked at: the whole of a 120 GiB disk of qemu's usual geometry."""


class Feature(IntFlag):
    """Features without which the image cannot be understood; any other bit stops us."""

    BACKING_FILE = 1 << 0
    NEED_CHECK = 1 << 1
    BACKING_FORMAT_NO_PROBE = 1 << 2


class Header(NamedTuple):
    """As stored, little-endian."""

    magic: bytes
    cluster_size: int
    table_size: int
    """Of an L1 or L2 table, in clusters."""
    header_size: int
    """In clusters."""
    features: int
    compat_features: int
    autoclear_features: int
    l1_table_offset: int
    image_size: int
    backing_filename_offset: int
    backing_filename_size: int


def matches(source: ByteSource) -> bool:
    """Whether the file begins with QED's magic number."""
    return source.read_at(0, 4) == _MAGIC


def read_info(source: ByteSource) -> ImageInfo:
    """The metadata of a QED image.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: codes ``qed.FIELD``.
    """
    header = read_header(source)
    _check_reach(source, header)
    return ImageInfo(
        DiskFormat.QED,
        variant="QED",
        virtual_size=Bytes(header.image_size),
        file_size=Bytes(source.size),
        cluster_size=Bytes(header.cluster_size),
        references=_references(source, header),
        dirty=bool(header.features & Feature.NEED_CHECK),
        concerns=(
            Concern(
                "qed.obsolete", "QED is abandoned, and few programs check it before they use it"
            ),
        ),
        details={"table-size": header.table_size},
    )


def read_header(source: ByteSource) -> Header:
    """The header, each field within its limits.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: codes ``qed.FIELD``.
    """
    if not matches(source):
        raise CorruptInput(
            source.name, at=0, code="qed.magic", problem="does not begin with QED's magic number"
        )
    header = Header(
        *_HEADER.unpack(
            read_exactly(source, 0, _HEADER.size, what="the QED header", code="qed.header-outside")
        )
    )
    _check(source, header)
    return header


def _check(source: ByteSource, header: Header) -> None:
    def wrong(at: int, field: str, problem: str) -> CorruptInput:
        return CorruptInput(source.name, at=at, code=f"qed.{field}", problem=problem)

    cluster, table = header.cluster_size, header.table_size
    if not 1 << 12 <= cluster <= 1 << 26 or cluster & (cluster - 1):
        raise wrong(
            4, "cluster-size", f"cluster_size is {cluster}; must be a power of 2, 2^12 to 2^26"
        )
    if not 1 <= table <= 16 or table & (table - 1):
        raise wrong(8, "table-size", f"table_size is {table}; must be 1, 2, 4, 8 or 16")
    if header.header_size == 0 or header.header_size * cluster >= 1 << 32:
        raise wrong(
            12,
            "header-size",
            f"header_size is {header.header_size} clusters; must be at least 1, and under 4 GiB",
        )
    if unknown := header.features & ~sum(Feature):
        bits = ", ".join(f"bit {bit}" for bit in range(64) if unknown >> bit & 1)
        raise UnsupportedFeature(
            source.name,
            at=16,
            code="qed.features",
            problem=f"needs features that are not known here: {bits}",
        )
    entries = table * cluster // 8
    limit = min(entries * entries * cluster, MAX_SIZE)
    if header.image_size > limit or header.image_size % SECTOR:
        raise wrong(
            48,
            "image-size",
            f"virtual size of {header.image_size} bytes; at most {limit}, and whole sectors",
        )
    offset = header.l1_table_offset
    if offset < header.header_size * cluster or offset % cluster:
        raise wrong(
            40,
            "l1-table",
            f"the L1 table is at {offset:#x}; must be a multiple of the cluster size of "
            f"{cluster}, behind the header",
        )
    if offset + table * cluster > source.size:
        raise TruncatedInput(
            source.name,
            at=40,
            code="qed.l1-table",
            problem=f"the L1 table ends at {offset + table * cluster:#x}, but the file at "
            f"{source.size:#x}",
            hint="the file is cut short; copy it again",
        )


def _check_reach(source: ByteSource, header: Header) -> None:
    """That the file holds what its tables point to, as far as `_SCANNED` bytes of them tell."""
    length = header.table_size * header.cluster_size

    def check(table: int, index: int, at: int, size: int, what: str) -> None:
        # 0 is not allocated, and 1 in an L2 table reads as zeros.
        if at > 1 and at + size > source.size:
            raise TruncatedInput(
                source.name,
                at=table + 8 * index,
                code="qed.file-size",
                problem=f"{what} ends at {at + size:#x}, but the file at {source.size:#x}",
                hint="the file is cut short; copy it again",
            )

    if length > _SCANNED:
        return
    stored = read_exactly(source, header.l1_table_offset, length, what="the L1 table")
    entries = decoded(stored, 8, "little")
    last = max(entries)
    check(header.l1_table_offset, entries.index(last), last, length, "an L2 table")
    tables = sorted({entry for entry in entries if entry}, reverse=True)
    for table in tables[: _SCANNED // length - 1]:
        index, last = largest(source, table, length // 8, 8, "little")
        check(table, index, last, header.cluster_size, "a cluster")


def _references(source: ByteSource, header: Header) -> tuple[Reference, ...]:
    if not header.features & Feature.BACKING_FILE:
        return ()
    start, length = header.backing_filename_offset, header.backing_filename_size
    if start + length > header.header_size * header.cluster_size or length > _MAX_BACKING_NAME:
        raise CorruptInput(
            source.name,
            at=56,
            code="qed.backing-filename",
            problem=f"the backing file's name is {length} bytes at {start:#x}; at most "
            f"{_MAX_BACKING_NAME}, inside the header's {header.header_size} clusters",
        )
    stored = read_exactly(
        source, start, length, what="the backing file's name", code="qed.backing-filename-outside"
    )
    name = stored.partition(b"\0")[0].decode("utf-8", "surrogateescape")
    raw = bool(header.features & Feature.BACKING_FORMAT_NO_PROBE)
    return (Reference(ReferenceKind.BACKING, name, "raw" if raw else None),) if name else ()
