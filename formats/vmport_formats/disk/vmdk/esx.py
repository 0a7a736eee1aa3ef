"""The headers of ESX's own sparse extents: ``COWD`` of vmfsSparse, and seSparse.

Sources: VMware, "Virtual Disk Format 5.0", section "ESX Server Sparse Extents", for COWD.  For
seSparse, which VMware has not described, what qemu knows of it: the fields are 64 bits wide.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.errors import CorruptInput, TruncatedInput, UnsupportedFeature
from vmport_formats.source import read_exactly
from vmport_formats.units import MAX_SIZE, SECTOR, Bytes, Sectors, sectors_to_bytes

if TYPE_CHECKING:
    from vmport_formats.source import ByteSource

_VOLATILE_MAGIC: Final = (0xCAFE_CAFE).to_bytes(8, "little")


@dataclass(frozen=True, slots=True)
class EsxExtent:
    """What the header of one of these extents says."""

    variant: str
    virtual_size: Bytes
    cluster_size: Bytes
    dirty: bool
    parent: str | None
    """The parent that a COWD of old names in its header."""
    layout: Layout
    details: dict[str, object]


class Layout(NamedTuple):
    """Where the directory, the tables and the grains are; in bytes."""

    directory: int
    directory_size: int
    tables: int
    """Where seSparse has all of its tables; 0 for COWD, whose directory has offsets in the file."""
    tables_end: int
    grains: int
    """Where seSparse has all of its grains; 0 for COWD."""


class _Cowd(NamedTuple):
    """``COWDisk_Header``, its first part."""

    magic: bytes
    version: int  # 1
    flags: int  # bit 0: it has no parent of its own
    num_sectors: int
    grain_size: int  # sectors
    gd_offset: int  # sectors
    num_gd_entries: int
    free_sector: int


_COWD: Final = Struct("<4sIIIIIII")
COWD_HEADER: Final = 2048
"""Bytes of the header."""
_COWD_ROOT: Final = 0x1
_COWD_PARENT: Final = slice(32, 32 + 1024)
_COWD_UNCLEAN: Final = Struct("<I")
_COWD_UNCLEAN_AT: Final = 1648
COWD_TABLE: Final = 4096
"""Entries in a grain table."""
_MAX_COWD_GRAIN: Final = 1 << 21


def read_cowd(source: ByteSource) -> EsxExtent:
    """The COWD extent in `source`.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: with codes ``vmdk.cowd-*``.
    """
    data = read_exactly(source, 0, COWD_HEADER, what="the COWD header", code="vmdk.header-outside")
    header = _Cowd._make(_COWD.unpack_from(data))
    if header.version != 1:
        raise UnsupportedFeature(
            source.name,
            at=4,
            code="vmdk.cowd-version",
            problem=f"COWD version is {header.version}; only 1 is known",
        )
    if not 1 <= header.grain_size <= _MAX_COWD_GRAIN:
        raise CorruptInput(
            source.name,
            at=16,
            code="vmdk.cowd-grain-size",
            problem=f"grain size is {header.grain_size} sectors; must be 1 to {_MAX_COWD_GRAIN}",
        )
    needed = -(-header.num_sectors // (COWD_TABLE * header.grain_size))
    if header.num_gd_entries < needed:
        raise CorruptInput(
            source.name,
            at=24,
            code="vmdk.cowd-directory",
            problem=f"grain directory has {header.num_gd_entries} entries; "
            f"a disk of {header.num_sectors} sectors needs {needed}",
        )
    _check_inside(
        source,
        "vmdk.cowd-directory",
        "grain directory",
        header.gd_offset * SECTOR,
        4 * header.num_gd_entries,
        at=20,
    )
    parent = None
    if not header.flags & _COWD_ROOT:
        parent = data[_COWD_PARENT].partition(b"\0")[0].decode("utf-8", "backslashreplace")
    return EsxExtent(
        "COWD",
        sectors_to_bytes(Sectors(header.num_sectors)),
        sectors_to_bytes(Sectors(header.grain_size)),
        dirty=bool(_COWD_UNCLEAN.unpack_from(data, _COWD_UNCLEAN_AT)[0]),
        parent=parent or None,
        layout=Layout(header.gd_offset * SECTOR, 4 * header.num_gd_entries, 0, 0, 0),
        details={"flags": header.flags, "gd-entries": header.num_gd_entries},
    )


class _SeSparse(NamedTuple):
    """The constant header, its fields that are known; all but the first in sectors."""

    magic: bytes
    version: int
    capacity: int
    grain_size: int
    grain_table_size: int
    flags: int
    reserved_1: int
    reserved_2: int
    reserved_3: int
    reserved_4: int
    volatile_header_offset: int
    volatile_header_size: int
    journal_header_offset: int
    journal_header_size: int
    journal_offset: int
    journal_size: int
    grain_directory_offset: int
    grain_directory_size: int
    grain_tables_offset: int
    grain_tables_size: int
    free_bitmap_offset: int
    free_bitmap_size: int
    backmap_offset: int
    backmap_size: int
    grains_offset: int
    grains_size: int


_SESPARSE: Final = Struct("<8s25Q")
_SESPARSE_VERSION: Final = 0x2_0000_0001
_SESPARSE_GRAIN: Final = 8
_SESPARSE_TABLE: Final = 64
SESPARSE_TABLE: Final = _SESPARSE_TABLE * SECTOR // 8
"""Entries in a grain table."""
_VOLATILE: Final = Struct("<8sQQQ")


def read_sesparse(source: ByteSource) -> EsxExtent:
    """The seSparse extent in `source`.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: with codes ``vmdk.sesparse-*``.
    """
    data = read_exactly(source, 0, SECTOR, what="the seSparse header", code="vmdk.header-outside")
    header = _SeSparse._make(_SESPARSE.unpack_from(data))
    reserved = (header.reserved_1, header.reserved_2, header.reserved_3, header.reserved_4)
    for at, name, found, known in (
        (8, "version", header.version, _SESPARSE_VERSION),
        (24, "grain size", header.grain_size, _SESPARSE_GRAIN),
        (32, "grain table size", header.grain_table_size, _SESPARSE_TABLE),
        (40, "flags", header.flags, 0),
        (48, "reserved bits", max(reserved), 0),
    ):
        if found != known:
            raise UnsupportedFeature(
                source.name,
                at=at,
                code=f"vmdk.sesparse-{name.replace(' ', '-')}",
                problem=f"seSparse {name} is {found:#x}; only {known:#x} is known",
            )
    if header.capacity * SECTOR > MAX_SIZE:
        raise CorruptInput(
            source.name,
            at=16,
            code="vmdk.sesparse-capacity",
            problem=f"capacity is {header.capacity} sectors; at most 2^63-1 bytes are possible",
        )
    entries = -(-header.capacity // (_SESPARSE_GRAIN * SESPARSE_TABLE))
    if entries * 8 > header.grain_directory_size * SECTOR:
        raise CorruptInput(
            source.name,
            at=136,
            code="vmdk.sesparse-directory",
            problem=f"grain directory is {header.grain_directory_size} sectors long; "
            f"a disk of {header.capacity} sectors needs {entries} entries of 8 bytes",
        )
    _check_inside(
        source,
        "vmdk.sesparse-directory",
        "grain directory",
        header.grain_directory_offset * SECTOR,
        header.grain_directory_size * SECTOR,
        at=128,
    )
    replay = _read_volatile(source, header.volatile_header_offset * SECTOR)
    return EsxExtent(
        "seSparse",
        sectors_to_bytes(Sectors(header.capacity)),
        sectors_to_bytes(Sectors(header.grain_size)),
        dirty=replay,
        parent=None,
        layout=Layout(
            header.grain_directory_offset * SECTOR,
            header.grain_directory_size * SECTOR,
            header.grain_tables_offset * SECTOR,
            (header.grain_tables_offset + header.grain_tables_size) * SECTOR,
            header.grains_offset * SECTOR,
        ),
        details={"replay-journal": replay},
    )


def _read_volatile(source: ByteSource, at: int) -> bool:
    """Whether the volatile header says that the journal must be replayed."""
    data = read_exactly(
        source,
        at,
        SECTOR,
        what="the volatile seSparse header",
        code="vmdk.sesparse-volatile-header",
    )
    magic, _, _, replay = _VOLATILE.unpack_from(data)
    if magic != _VOLATILE_MAGIC:
        raise CorruptInput(
            source.name,
            at=at,
            code="vmdk.sesparse-volatile-header",
            problem=f"the volatile header begins with {magic.hex()}, not {_VOLATILE_MAGIC.hex()}",
        )
    return bool(replay)


def _check_inside(
    source: ByteSource, code: str, what: str, offset: int, length: int, *, at: int
) -> None:
    if offset + length > source.size:
        raise TruncatedInput(
            source.name,
            at=at,
            code=code,
            problem=f"{what} lies at {offset:#x}, {length} bytes long, "
            f"but the file ends at {source.size:#x}",
            hint="the file is cut short; copy it again",
        )
