"""The metadata of a VHDX: its size, blocks, sectors, and the parent of a differencing disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.disk.vhdx.layout import (
    FILE_PARAMETERS,
    FILE_PARAMETERS_ITEM,
    LOCATOR_ENTRY,
    LOCATOR_HEADER,
    LOGICAL_SECTOR_SIZE,
    MAX_TABLE_ENTRIES,
    METADATA_ENTRY,
    METADATA_TABLE_HEADER,
    PARENT_LOCATOR,
    PHYSICAL_SECTOR_SIZE,
    TABLE_LENGTH,
    VHDX_LOCATOR_TYPE,
    VIRTUAL_DISK_ID,
    VIRTUAL_DISK_SIZE,
    ItemFlag,
    MetadataEntry,
    MetadataTableHeader,
    ParameterFlag,
)
from vmport_formats.errors import CorruptInput, UnsupportedFeature
from vmport_formats.guids import of_little_endian
from vmport_formats.references import Reference, ReferenceKind
from vmport_formats.source import read_exactly
from vmport_formats.units import MIB, format_size

if TYPE_CHECKING:
    from vmport_formats.disk.vhdx.regions import Region
    from vmport_formats.source import ByteSource

MIN_BLOCK: Final = MIB
MAX_BLOCK: Final = 256 * MIB
MAX_DISK: Final = 64 << 40
_MAX_ITEM: Final = MIB
_FIRST_LOOK: Final = 4096
"""As much of the table, and of what follows it, holds all that most files have."""
_SECTOR_SIZES: Final = (512, 4096)

# As numbers: every `&` with a flag makes a new one.
_USER, _REQUIRED = int(ItemFlag.IS_USER), int(ItemFlag.IS_REQUIRED)
_HAS_PARENT: Final = int(ParameterFlag.HAS_PARENT)
_LEAVE_ALLOCATED: Final = int(ParameterFlag.LEAVE_BLOCKS_ALLOCATED)

# The items of section 2.6.2 by name, and how long each is; a locator is as long as its paths.
_ITEMS: Final = {
    FILE_PARAMETERS: ("file-parameters", 8),
    VIRTUAL_DISK_SIZE: ("virtual-disk-size", 8),
    VIRTUAL_DISK_ID: ("virtual-disk-id", 16),
    LOGICAL_SECTOR_SIZE: ("logical-sector-size", 4),
    PHYSICAL_SECTOR_SIZE: ("physical-sector-size", 4),
    PARENT_LOCATOR: ("parent-locator", None),
}
# The paths of a parent, the best hint first: a relative one survives a move of the folder.
_PATH_KEYS: Final = ("relative_path", "volume_path", "absolute_win32_path")
_LINKAGE_KEYS: Final = ("parent_linkage", "parent_linkage2")


class Metadata(NamedTuple):
    """What the metadata region says."""

    block_size: int  # bytes
    leave_blocks_allocated: bool
    has_parent: bool
    virtual_disk_size: int  # bytes
    virtual_disk_id: str
    logical_sector_size: int  # bytes
    physical_sector_size: int
    parent_locator: dict[str, str]
    """Keys and values, in order; empty for a disk without a parent."""

    @property
    def references(self) -> tuple[Reference, ...]:
        """Every path to the parent, the most useful first, or ``uuid:...`` if there is none.

        They are alternatives: each leads to the same parent, if the disk is sound.
        """
        if not self.has_parent:
            return ()
        paths = [self.parent_locator.get(key) for key in _PATH_KEYS]
        names = dict.fromkeys(path for path in paths if path)
        if not names:
            uuid = f"uuid:{next(iter(self.linkage), 'unknown')}"
            return (Reference(ReferenceKind.PARENT, uuid, "vhdx", is_path=False),)
        return tuple(Reference(ReferenceKind.PARENT, name, "vhdx") for name in names)

    @property
    def linkage(self) -> tuple[str, ...]:
        """The GUIDs of which the parent's data write GUID must be one (section 2.6.2.6.3)."""
        values = [self.parent_locator.get(key) for key in _LINKAGE_KEYS]
        return tuple(value.strip("{}").lower() for value in values if value)


class _Item(NamedTuple):
    """A metadata item, in the file."""

    name: str
    at: int
    data: bytes

    def number(self) -> int:
        """Its bytes as one unsigned number."""
        return int.from_bytes(self.data, "little")


def read_metadata(source: ByteSource, region: Region) -> Metadata:
    """The items of the metadata `region`, which lies within the file (section 2.6).

    Raises:
        CorruptInput: an item is missing, misplaced or breaks a rule.
        UnsupportedFeature: an item that must be known is not (``vhdx.metadata-unknown``), or the
            parent is named in an unknown way (``vhdx.locator-type``).
    """
    items = _read_items(source, region)
    required = [kind for kind in _ITEMS if kind != PARENT_LOCATOR]
    if missing := [_ITEMS[kind][0] for kind in required if kind not in items]:
        raise CorruptInput(
            source.name,
            at=region.offset,
            code="vhdx.metadata-missing",
            problem=f"the metadata lacks {', '.join(missing)}",
        )
    parameters = items[FILE_PARAMETERS]
    block_size, flags = FILE_PARAMETERS_ITEM.unpack(parameters.data)
    _check_block_size(source, block_size, at=parameters.at)
    if unknown := flags & ~(_HAS_PARENT | _LEAVE_ALLOCATED):
        raise UnsupportedFeature(
            source.name,
            at=parameters.at + 4,
            code="vhdx.file-parameters",
            problem=f"file parameters have unknown bits {unknown:#x}",
        )
    has_parent = bool(flags & _HAS_PARENT)
    sector_size = _sector_size(source, items[LOGICAL_SECTOR_SIZE])
    locator = items.get(PARENT_LOCATOR)
    if has_parent and locator is None:
        raise CorruptInput(
            source.name,
            at=parameters.at + 4,
            code="vhdx.metadata-missing",
            problem="is a differencing disk, but does not name its parent",
        )
    return Metadata(
        block_size,
        bool(flags & _LEAVE_ALLOCATED),
        has_parent,
        _disk_size(source, items[VIRTUAL_DISK_SIZE], sector_size),
        of_little_endian(items[VIRTUAL_DISK_ID].data),
        sector_size,
        _sector_size(source, items[PHYSICAL_SECTOR_SIZE]),
        _read_locator(source, locator) if has_parent and locator is not None else {},
    )


def _read_items(source: ByteSource, region: Region) -> dict[bytes, _Item]:
    data = source.read_at(region.offset, _FIRST_LOOK)
    if len(data) < METADATA_TABLE_HEADER.size:
        data = _read_table(source, region.offset, METADATA_TABLE_HEADER.size)
    header = MetadataTableHeader._make(METADATA_TABLE_HEADER.unpack_from(data))
    if header.signature != b"metadata":
        raise CorruptInput(
            source.name,
            at=region.offset,
            code="vhdx.metadata-table",
            problem=f"the metadata table begins with {header.signature!r}, not b'metadata'",
        )
    if header.entry_count > MAX_TABLE_ENTRIES:
        raise CorruptInput(
            source.name,
            at=region.offset + 10,
            code="vhdx.metadata-count",
            problem=f"metadata table has {header.entry_count} entries; "
            f"at most {MAX_TABLE_ENTRIES} fit",
        )
    items: dict[bytes, _Item] = {}
    length = METADATA_TABLE_HEADER.size + header.entry_count * METADATA_ENTRY.size
    if len(data) < length:
        data = _read_table(source, region.offset, length)
    near = source.read_at(region.offset + TABLE_LENGTH, _FIRST_LOOK)
    for number in range(header.entry_count):
        entry_at = METADATA_TABLE_HEADER.size + number * METADATA_ENTRY.size
        entry = MetadataEntry._make(METADATA_ENTRY.unpack_from(data, entry_at))
        kind = entry.item_id
        if entry.flags & _USER or kind not in _ITEMS:
            if entry.flags & _REQUIRED:
                raise UnsupportedFeature(
                    source.name,
                    at=region.offset + entry_at,
                    code="vhdx.metadata-unknown",
                    problem=f"metadata item {of_little_endian(kind)} must be understood by "
                    "readers, and is not known",
                )
            continue
        if kind in items:
            raise CorruptInput(
                source.name,
                at=region.offset + entry_at,
                code="vhdx.metadata-duplicate",
                problem=f"metadata item {_ITEMS[kind][0]} is listed twice",
            )
        items[kind] = _read_item(source, region, near, entry, at=region.offset + entry_at)
    return items


def _read_table(source: ByteSource, at: int, length: int) -> bytes:
    what, code = "the metadata table", "vhdx.metadata-table"
    return read_exactly(source, at, length, what=what, code=code)


def _read_item(
    source: ByteSource, region: Region, near: bytes, entry: MetadataEntry, *, at: int
) -> _Item:
    """What an entry at offset `at` lists; `near` is what follows the table."""
    name, length = _ITEMS[entry.item_id]
    if length is not None and entry.length != length:
        raise CorruptInput(
            source.name,
            at=at + 20,
            code="vhdx.metadata-length",
            problem=f"metadata item {name} is {entry.length} bytes long; must be {length}",
        )
    if entry.length > _MAX_ITEM:
        raise CorruptInput(
            source.name,
            at=at + 20,
            code="vhdx.metadata-length",
            problem=f"metadata item {name} is {entry.length} bytes long; at most {_MAX_ITEM}",
        )
    if entry.offset < TABLE_LENGTH or entry.offset + entry.length > region.length:
        raise CorruptInput(
            source.name,
            at=at + 16,
            code="vhdx.metadata-offset",
            problem=f"metadata item {name} lies at {entry.offset:#x}; must lie between the table, "
            f"{TABLE_LENGTH:#x} bytes long, and the end of the region at {region.length:#x}",
        )
    place = region.offset + entry.offset
    begin = entry.offset - TABLE_LENGTH
    data = near[begin : begin + entry.length]
    if len(data) < entry.length:
        what = f"metadata item {name}"
        data = read_exactly(source, place, entry.length, what=what, code="vhdx.metadata-offset")
    return _Item(name, place, data)


def _check_block_size(source: ByteSource, block_size: int, *, at: int) -> None:
    if not MIN_BLOCK <= block_size <= MAX_BLOCK or block_size & (block_size - 1):
        raise CorruptInput(
            source.name,
            at=at,
            code="vhdx.block-size",
            problem=f"block size is {block_size}; must be a power of two, 1 MiB to 256 MiB",
        )


def _sector_size(source: ByteSource, item: _Item) -> int:
    if item.number() not in _SECTOR_SIZES:
        raise CorruptInput(
            source.name,
            at=item.at,
            code=f"vhdx.{item.name}",
            problem=f"{item.name.replace('-', ' ')} is {item.number()}; must be 512 or 4096",
        )
    return item.number()


def _disk_size(source: ByteSource, item: _Item, sector_size: int) -> int:
    size = item.number()
    if size > MAX_DISK or size % sector_size:
        raise CorruptInput(
            source.name,
            at=item.at,
            code="vhdx.virtual-disk-size",
            problem=f"disk size is {size}; must be a multiple of the sector size {sector_size}, "
            f"at most {format_size(MAX_DISK)}",
        )
    return size


def _read_locator(source: ByteSource, item: _Item) -> dict[str, str]:
    """The keys and values of a parent locator, section 2.6.2.6."""
    if len(item.data) < LOCATOR_HEADER.size:
        raise _bad_locator(source, item, f"is {len(item.data)} bytes long")
    kind, _, count = LOCATOR_HEADER.unpack_from(item.data)
    if kind != VHDX_LOCATOR_TYPE:
        raise UnsupportedFeature(
            source.name,
            at=item.at,
            code="vhdx.locator-type",
            problem=f"the parent is named in a way that is not known, {of_little_endian(kind)}",
        )
    if LOCATOR_HEADER.size + count * LOCATOR_ENTRY.size > len(item.data):
        raise _bad_locator(source, item, f"has {count} entries in {len(item.data)} bytes")
    pairs: dict[str, str] = {}
    for number in range(count):
        at = LOCATOR_HEADER.size + number * LOCATOR_ENTRY.size
        key_at, value_at, key_length, value_length = LOCATOR_ENTRY.unpack_from(item.data, at)
        if max(key_at + key_length, value_at + value_length) > len(item.data):
            raise _bad_locator(source, item, f"has entry {number} reaching beyond its end")
        key = item.data[key_at : key_at + key_length].decode("utf-16-le", "replace")
        value = item.data[value_at : value_at + value_length].decode("utf-16-le", "replace")
        if key in pairs:
            raise _bad_locator(source, item, f"has key {key!r} twice")
        pairs[key] = value
    return pairs


def _bad_locator(source: ByteSource, item: _Item, what: str) -> CorruptInput:
    return CorruptInput(
        source.name,
        at=item.at,
        code="vhdx.parent-locator",
        problem=f"the parent locator {what}",
    )
