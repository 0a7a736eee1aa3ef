"""VDI metadata: the header, and where it says that the block map and the blocks are.

Source: VirtualBox's own description of the header, ``VDICore.h``.  All numbers are little-endian,
UUIDs too.  Version 1.1 is what every VirtualBox since 2007 writes; the versions before 1.0 (0.2)
lack the offsets, which follow from the number of blocks.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from vmport_formats.disk.model import Concern, DiskFormat, ImageInfo
from vmport_formats.errors import CorruptInput, TruncatedInput, UnsupportedFeature
from vmport_formats.guids import of_little_endian
from vmport_formats.references import Reference, ReferenceKind
from vmport_formats.source import read_exactly
from vmport_formats.units import MAX_SIZE, SECTOR, Bytes

if TYPE_CHECKING:
    from vmport_formats.source import ByteSource

_SIGNATURE_AT: Final = 64
_SIGNATURE: Final = bytes.fromhex("7f10dabe")
_NIL: Final = bytes(16)
UUID_PREFIX: Final = "uuid:"
"""What the name of a parent begins with, for a VDI does not say where that is."""
# VirtualBox calls it "the old version"; there was no other before 1.0.
_OLD_VERSION: Final = 0x0000_0002
_NEW_VERSION: Final = 0x0001_0001
_VERSIONS: Final = frozenset({_OLD_VERSION, 0x0001_0000, _NEW_VERSION})
# New blocks are filled with zeros before use; the only flag that the file can carry.
_KNOWN_FLAGS: Final = 0x1
_MAX_BLOCK: Final = 1 << 30
# Of 32-bit block numbers the last two are marks: free, and zero.
_MAX_BLOCKS: Final = 0xFFFF_FFFE


class ImageType(IntEnum):
    """What kind of disk it is, and whether it rests on another."""

    DYNAMIC = 1
    FIXED = 2
    UNDO = 3
    DIFFERENCING = 4

    @property
    def has_parent(self) -> bool:
        """Whether blocks that are free here fall through to a parent."""
        return self in {ImageType.UNDO, ImageType.DIFFERENCING}


class Header(NamedTuple):
    """``VDIHEADER1``; of an old image, with the fields that ``VDIHEADER0`` lacks filled in."""

    header_size: int  # of this record; 400 when the logical geometry follows it
    image_type: int
    flags: int
    comment: bytes
    blocks_offset: int  # bytes, of the block map
    data_offset: int  # bytes, of the first block
    cylinders: int  # the geometry of old, mostly zero
    heads: int
    sectors: int
    sector_size: int  # bytes
    unused: int
    disk_size: int  # bytes
    block_size: int  # bytes
    block_extra: int  # bytes before the data of each block
    blocks: int
    blocks_allocated: int
    uuid_create: bytes
    uuid_modify: bytes
    uuid_linkage: bytes  # the parent's uuid_create
    uuid_parent_modify: bytes  # and its uuid_modify, at the time when this image was made


_PREHEADER: Final = Struct("<64sII")  # text for people, signature, version
_HEADER: Final = Struct("<III256sII4IIQIIII16s16s16s16s")
_OLD_HEADER: Final = Struct("<II256s4IQIII16s16s16s")
# Where the fields are that a message can be about: in version 1, and in the old version.
_PLACES: Final = {
    "header_size": (72, 72),
    "image_type": (76, 72),
    "flags": (80, 76),
    "blocks_offset": (340, 72),
    "data_offset": (344, 72),
    "sector_size": (360, 348),
    "disk_size": (368, 352),
    "block_size": (376, 360),
    "block_extra": (380, 360),
    "blocks": (384, 364),
    "blocks_allocated": (388, 368),
    "uuid_linkage": (424, 404),
}


def pack_header(text: bytes, header: Header) -> bytes:
    """The first 512 bytes of an image of version 1.1, as VirtualBox writes them since version 4.

    `text` is for people.  The logical geometry, which follows the header, is left unset.
    """
    geometry = bytes(12) + int(SECTOR).to_bytes(4, "little")
    preheader = _PREHEADER.pack(text, int.from_bytes(_SIGNATURE, "little"), _NEW_VERSION)
    return (preheader + _HEADER.pack(*header) + geometry).ljust(SECTOR, b"\0")


class Layout(NamedTuple):
    """A header, and the version that says where its fields are."""

    version: int
    header: Header

    @property
    def image_type(self) -> ImageType:
        """Its type, which has been checked."""
        return ImageType(self.header.image_type)

    @property
    def stride(self) -> int:
        """From one block to the next, in bytes."""
        return self.header.block_size + self.header.block_extra

    def at(self, field: str) -> int:
        """The offset of a field in the file."""
        return _PLACES[field][self.version == _OLD_VERSION]


def matches(source: ByteSource) -> bool:
    """Whether it carries the signature of a VDI."""
    return source.read_at(_SIGNATURE_AT, len(_SIGNATURE)) == _SIGNATURE


def read_info(source: ByteSource) -> ImageInfo:
    """The metadata of the VDI in `source`.

    A size that is no whole number of sectors is rounded up, as qemu does; VirtualBox makes such
    disks from raw files.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: with codes ``vdi.*``.
    """
    layout = read_layout(source)
    header, image_type = layout.header, layout.image_type
    parent = None if header.uuid_linkage == _NIL else of_little_endian(header.uuid_linkage)
    if image_type.has_parent and parent is None:
        raise CorruptInput(
            source.name,
            at=layout.at("uuid_linkage"),
            code="vdi.parent-uuid",
            problem=f"is a disk of type {image_type.name.lower()}, but names no parent",
        )
    references: tuple[Reference, ...] = ()
    if parent is not None:
        name = f"{UUID_PREFIX}{parent}"
        references = (Reference(ReferenceKind.PARENT, name, "vdi", is_path=False),)
    return ImageInfo(
        DiskFormat.VDI,
        variant=image_type.name.lower(),
        virtual_size=Bytes(-(-header.disk_size // SECTOR) * SECTOR),
        file_size=Bytes(source.size),
        cluster_size=Bytes(header.block_size),
        references=references,
        concerns=tuple(_concerns(layout, parent)),
        details=_details(layout, parent),
    )


def read_layout(source: ByteSource, *, whole: bool = True) -> Layout:
    """The header, each field within its limits, and the map and the blocks inside the file.

    Not `whole`: the blocks need not be, for who looks at each of them.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: as `read_info`.
    """
    layout = _read_header(source)
    _check_size(source, layout)
    _check_table(source, layout)
    if whole:
        _check_data(source, layout)
    return layout


def _read_header(source: ByteSource) -> Layout:
    if not matches(source):
        raise CorruptInput(
            source.name,
            at=_SIGNATURE_AT,
            code="vdi.magic",
            problem=f"has no VDI signature {_SIGNATURE.hex(' ')}",
        )
    preheader = read_exactly(
        source, 0, _PREHEADER.size, what="the VDI header", code="vdi.header-outside"
    )
    _, _, version = _PREHEADER.unpack(preheader)
    if version not in _VERSIONS:
        raise UnsupportedFeature(
            source.name,
            at=_SIGNATURE_AT + 4,
            code="vdi.version",
            problem=f"format version is {version >> 16}.{version & 0xFFFF}; "
            "known are 0.2, 1.0 and 1.1",
        )
    old = version == _OLD_VERSION
    struct = _OLD_HEADER if old else _HEADER
    fields = struct.unpack(
        read_exactly(
            source, _PREHEADER.size, struct.size, what="the VDI header", code="vdi.header-outside"
        )
    )
    layout = Layout(version, _from_old(fields) if old else Header._make(fields))
    _check_fields(source, layout)
    return layout


def _from_old(fields: tuple[Any, ...]) -> Header:
    """In the old version, the map follows the header, and the data follows the map."""
    image_type, flags, comment, *geometry, disk_size, block_size, blocks, allocated = fields[:-3]
    blocks_offset = _PREHEADER.size + _OLD_HEADER.size
    return Header._make(
        [
            *(_OLD_HEADER.size, image_type, flags, comment),
            *(blocks_offset, blocks_offset + 4 * blocks),
            *(*geometry, 0),
            *(disk_size, block_size, 0, blocks, allocated),
            *(*fields[-3:], _NIL),
        ]
    )


def _check_fields(source: ByteSource, layout: Layout) -> None:
    header = layout.header
    if header.image_type not in set(ImageType):
        raise UnsupportedFeature(
            source.name,
            at=layout.at("image_type"),
            code="vdi.image-type",
            problem=f"image type is {header.image_type}; known are 1 (dynamic), 2 (fixed), "
            "3 (undo) and 4 (differencing)",
        )
    if header.flags & ~_KNOWN_FLAGS:
        raise UnsupportedFeature(
            source.name,
            at=layout.at("flags"),
            code="vdi.image-flags",
            problem=f"image flags {header.flags & ~_KNOWN_FLAGS:#x} are not known",
        )
    if layout.version != _OLD_VERSION and header.header_size < _HEADER.size:
        raise CorruptInput(
            source.name,
            at=layout.at("header_size"),
            code="vdi.header-size",
            problem=f"header is {header.header_size} bytes long; must be at least {_HEADER.size}",
        )
    if header.sector_size != SECTOR:
        raise UnsupportedFeature(
            source.name,
            at=layout.at("sector_size"),
            code="vdi.sector-size",
            problem=f"sectors are {header.sector_size} bytes long; only {SECTOR} is known",
        )
    size = header.block_size
    if not SECTOR <= size <= _MAX_BLOCK or size & (size - 1):
        raise CorruptInput(
            source.name,
            at=layout.at("block_size"),
            code="vdi.block-size",
            problem=f"block size is {size}; must be a power of two, {SECTOR} to {_MAX_BLOCK}",
        )
    extra = header.block_extra
    if extra > _MAX_BLOCK or extra & (extra - 1):
        raise CorruptInput(
            source.name,
            at=layout.at("block_extra"),
            code="vdi.block-extra",
            problem=f"each block has {extra} bytes before its data; "
            f"must be 0 or a power of two, at most {_MAX_BLOCK}",
        )


def _check_size(source: ByteSource, layout: Layout) -> None:
    header = layout.header
    room = header.blocks * header.block_size
    if header.disk_size > min(room, MAX_SIZE):
        raise CorruptInput(
            source.name,
            at=layout.at("disk_size"),
            code="vdi.disk-size",
            problem=f"disk size is {header.disk_size}, "
            f"more than its {header.blocks} blocks of {header.block_size} bytes hold",
        )
    if header.blocks > _MAX_BLOCKS or header.blocks_allocated > header.blocks:
        raise CorruptInput(
            source.name,
            at=layout.at("blocks_allocated"),
            code="vdi.blocks",
            problem=f"{header.blocks_allocated} of {header.blocks} blocks are allocated; "
            f"at most all can be, and at most {_MAX_BLOCKS}",
        )


def _check_table(source: ByteSource, layout: Layout) -> None:
    """The map and the data lie in the file, in this order and apart."""
    header = layout.header
    end_of_header = _PREHEADER.size + header.header_size
    if header.blocks_offset < end_of_header:
        raise CorruptInput(
            source.name,
            at=layout.at("blocks_offset"),
            code="vdi.blocks-offset",
            problem=f"block map lies at {header.blocks_offset:#x}, "
            f"within the header that ends at {end_of_header:#x}",
        )
    end_of_map = header.blocks_offset + 4 * header.blocks
    if end_of_map > source.size:
        raise TruncatedInput(
            source.name,
            at=header.blocks_offset,
            code="vdi.block-map",
            problem=f"block map needs {4 * header.blocks} bytes here, "
            f"but the file ends at {source.size:#x}",
            hint="the file is cut short; copy it again",
        )
    if header.data_offset < end_of_map:
        raise CorruptInput(
            source.name,
            at=layout.at("data_offset"),
            code="vdi.data-offset",
            problem=f"data lies at {header.data_offset:#x}, "
            f"within the block map that ends at {end_of_map:#x}",
        )


def _check_data(source: ByteSource, layout: Layout) -> None:
    header = layout.header
    end_of_data = header.data_offset + header.blocks_allocated * layout.stride
    if header.blocks_allocated and end_of_data > source.size:
        raise TruncatedInput(
            source.name,
            at=header.data_offset,
            code="vdi.data",
            problem=f"{header.blocks_allocated} blocks of {layout.stride} bytes begin here, "
            f"but the file ends at {source.size:#x}",
            hint="the file is cut short; copy it again",
        )


def _concerns(layout: Layout, parent: str | None) -> list[Concern]:
    concerns = []
    if parent is not None:
        concerns.append(
            Concern(
                "vdi.parent-without-path",
                "rests on a parent that it names by UUID only; its file must be found by other "
                "means, such as the machine's .vbox file",
            )
        )
        if not layout.image_type.has_parent:
            concerns.append(
                Concern(
                    "vdi.image-type",
                    f"is of type {layout.image_type.name.lower()}, and yet names a parent",
                )
            )
    if layout.header.block_extra:
        concerns.append(
            Concern(
                "vdi.block-extra",
                f"has {layout.header.block_extra} bytes before the data of each block; "
                "qemu takes them for data",
            )
        )
    return concerns


def _details(layout: Layout, parent: str | None) -> dict[str, object]:
    header = layout.header
    details: dict[str, object] = {
        "version": f"{layout.version >> 16}.{layout.version & 0xFFFF}",
        "disk-size": header.disk_size,
        "blocks": header.blocks,
        "blocks-allocated": header.blocks_allocated,
        "block-extra": header.block_extra,
        "blocks-offset": header.blocks_offset,
        "data-offset": header.data_offset,
        "comment": header.comment.partition(b"\0")[0].decode("utf-8", "replace"),
        "uuid-create": of_little_endian(header.uuid_create),
        "uuid-modify": of_little_endian(header.uuid_modify),
    }
    if parent is not None:
        details["uuid-linkage"] = parent
        details["uuid-parent-modify"] = of_little_endian(header.uuid_parent_modify)
    return details
