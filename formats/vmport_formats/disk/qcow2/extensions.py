"""The qcow2 header extensions: what follows the header in the first cluster."""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.disk.qcow2.header import (
    KNOWN_INCOMPATIBLE,
    Autoclear,
    Encryption,
    Incompatible,
)
from vmport_formats.errors import CorruptInput, TruncatedInput, UnsupportedFeature

if TYPE_CHECKING:
    from vmport_formats.disk.qcow2.header import Header
    from vmport_formats.source import ByteSource


class ExtensionType(IntEnum):
    """The extensions that are understood; any other may be ignored."""

    END = 0
    BACKING_FORMAT = 0xE2792ACA
    FEATURE_NAMES = 0x6803F857
    BITMAPS = 0x23852875
    ENCRYPTION_HEADER = 0x0537BE77
    DATA_FILE = 0x44415441


PREFIX: Final = Struct(">II")
"""Type and length of an extension."""
FEATURE_NAME: Final = Struct("BB46s")
"""Kind (0 incompatible, 1 compatible, 2 autoclear), bit number and name of a feature."""
_BITMAPS = Struct(">IIQQ")
_ENCRYPTION_HEADER = Struct(">QQ")

_FIRST_LOOK: Final = 4096
"""All extensions are in it, as a rule; they can take up to 2 MiB."""
MAX_BACKING_FORMAT: Final = 15
"""Bytes of a format's name, as in qemu."""
MAX_BITMAPS: Final = 65535
MAX_BITMAP_DIRECTORY: Final = 1024 * MAX_BITMAPS


class BitmapsPointer(NamedTuple):
    """Where the bitmap directory is."""

    number: int
    directory_size: int
    directory_offset: int


class EncryptionHeader(NamedTuple):
    """Where the LUKS header is."""

    offset: int
    length: int


class Extensions:
    """What the extensions say; filled while they are walked."""

    __slots__ = (
        "backing_format",
        "bitmaps",
        "data_file",
        "encryption_header",
        "feature_names",
        "unknown",
    )

    def __init__(self) -> None:
        self.backing_format: str | None = None
        self.data_file: str | None = None
        self.feature_names = b""
        """As stored: entries of a byte for the kind (0 incompatible, 1 compatible, 2 autoclear),
        one for the number of the bit, and the name."""
        self.bitmaps: BitmapsPointer | None = None
        self.encryption_header: EncryptionHeader | None = None
        self.unknown: list[int] = []
        """Types that are not understood, in order."""


def read_extensions(source: ByteSource, header: Header) -> Extensions:
    """Walk the extensions from the header's end to the backing file's name or the cluster's end.

    Raises:
        CorruptInput, TruncatedInput: codes ``qcow2.extension``, ``qcow2.bitmaps``,
            ``qcow2.encryption-header``.
        UnsupportedFeature: an incompatible feature bit is set that is not known here; named from
            the image's own table where that has it (``qcow2.incompatible-features``).
    """
    found = Extensions()
    seen: set[int] = set()
    end = header.extensions_end
    area = source.read_at(0, min(end, _FIRST_LOOK))
    offset = header.header_length
    while offset < end:
        if offset + PREFIX.size > end:
            raise _too_long(source, offset, header)
        area = _reaching(source, header, area, offset, offset + PREFIX.size)
        kind, length = PREFIX.unpack_from(area, offset)
        start = offset + PREFIX.size
        if start + length > end:
            raise _too_long(source, offset, header)
        if kind == ExtensionType.END:
            break
        area = _reaching(source, header, area, offset, start + length)
        if kind in seen:
            raise CorruptInput(
                source.name,
                at=offset,
                code="qcow2.extension",
                problem=f"header extension {kind:#010x} appears twice",
            )
        seen.add(kind)
        _take(source, header, found, kind, start, area[start : start + length])
        offset = start + -(-length // 8) * 8
    _check_features(source, header, found)
    if header.encryption is Encryption.LUKS and found.encryption_header is None:
        raise CorruptInput(
            source.name,
            at=32,
            code="qcow2.encryption-header",
            problem="says that it is encrypted with LUKS, but points to no LUKS header",
        )
    return found


def _reaching(source: ByteSource, header: Header, area: bytes, offset: int, end: int) -> bytes:
    """`area`, or all of the extensions where that ends before the `end` of the one at `offset`."""
    if end > len(area):
        area = source.read_at(0, header.extensions_end)
    if end > len(area):
        raise _cut(source, offset)
    return area


def _take(
    source: ByteSource, header: Header, found: Extensions, kind: int, at: int, data: bytes
) -> None:
    match kind:
        case ExtensionType.BACKING_FORMAT:
            if len(data) > MAX_BACKING_FORMAT:
                raise CorruptInput(
                    source.name,
                    at=at,
                    code="qcow2.backing-format",
                    problem=f"the backing file's format has a name of {len(data)} bytes; at most "
                    f"{MAX_BACKING_FORMAT}",
                )
            found.backing_format = text(data)
        case ExtensionType.DATA_FILE:
            found.data_file = text(data)
        case ExtensionType.FEATURE_NAMES:
            found.feature_names = data[: len(data) // FEATURE_NAME.size * FEATURE_NAME.size]
        case ExtensionType.BITMAPS:
            # Without the bit a program that knows no bitmaps has written: they are void.
            if header.has(Autoclear.BITMAPS):
                found.bitmaps = _bitmaps(source, header, at, data)
        case ExtensionType.ENCRYPTION_HEADER:
            found.encryption_header = _encryption_header(source, header, at, data)
        case _:
            found.unknown.append(kind)


def _bitmaps(source: ByteSource, header: Header, at: int, data: bytes) -> BitmapsPointer:
    def wrong(problem: str) -> CorruptInput:
        return CorruptInput(source.name, at=at, code="qcow2.bitmaps", problem=problem)

    if len(data) != _BITMAPS.size:
        raise wrong(f"the bitmaps extension has {len(data)} bytes; must be {_BITMAPS.size}")
    count, reserved, size, offset = _BITMAPS.unpack(data)
    if reserved:
        raise wrong("a reserved field of the bitmaps extension is not zero")
    if not 1 <= count <= MAX_BITMAPS:
        raise wrong(f"{count} bitmaps; must be 1 to {MAX_BITMAPS}")
    if not 1 <= size <= MAX_BITMAP_DIRECTORY:
        raise wrong(f"the bitmap directory has {size} bytes; must be 1 to {MAX_BITMAP_DIRECTORY}")
    if offset == 0 or offset % header.cluster_size:
        raise wrong(
            f"the bitmap directory is at {offset:#x}; must be a multiple of the cluster size of "
            f"{header.cluster_size}, behind the header"
        )
    if offset + size > source.size:
        raise TruncatedInput(
            source.name,
            at=at,
            code="qcow2.bitmaps",
            problem=f"the bitmap directory ends at {offset + size:#x}, but the file at "
            f"{source.size:#x}",
            hint="the file is cut short; copy it again",
        )
    return BitmapsPointer(count, size, offset)


def _encryption_header(
    source: ByteSource, header: Header, at: int, data: bytes
) -> EncryptionHeader:
    def wrong(problem: str) -> CorruptInput:
        return CorruptInput(source.name, at=at, code="qcow2.encryption-header", problem=problem)

    if header.encryption is not Encryption.LUKS:
        raise wrong("points to a LUKS header, but does not say that it is encrypted with LUKS")
    if len(data) != _ENCRYPTION_HEADER.size:
        raise wrong(f"the pointer to the LUKS header has {len(data)} bytes; must be 16")
    pointer = EncryptionHeader(*_ENCRYPTION_HEADER.unpack(data))
    if pointer.offset == 0 or pointer.offset % header.cluster_size:
        raise wrong(
            f"the LUKS header is at {pointer.offset:#x}; must be a multiple of the cluster size "
            f"of {header.cluster_size}, behind the header"
        )
    if pointer.offset + pointer.length > source.size:
        raise TruncatedInput(
            source.name,
            at=at,
            code="qcow2.encryption-header",
            problem=f"the LUKS header ends at {pointer.offset + pointer.length:#x}, but the file "
            f"at {source.size:#x}",
            hint="the file is cut short; copy it again",
        )
    return pointer


def _check_features(source: ByteSource, header: Header, found: Extensions) -> None:
    if unknown := header.incompatible & ~KNOWN_INCOMPATIBLE:
        named = {
            bit: text(name)
            for kind, bit, name in FEATURE_NAME.iter_unpack(found.feature_names)
            if kind == 0
        }
        names = ", ".join(named.get(bit, f"bit {bit}") for bit in range(64) if unknown >> bit & 1)
        raise UnsupportedFeature(
            source.name,
            at=72,
            code="qcow2.incompatible-features",
            problem=f"needs features that are not known here: {names}",
        )
    if header.has(Autoclear.BITMAPS) and found.bitmaps is None:
        raise CorruptInput(
            source.name,
            at=88,
            code="qcow2.bitmaps",
            problem="says that it has bitmaps, but has no bitmaps extension",
        )
    if header.has(Autoclear.RAW_DATA_FILE) and not header.has(Incompatible.DATA_FILE):
        raise CorruptInput(
            source.name,
            at=88,
            code="qcow2.data-file-raw",
            problem="says that its data file is raw, but has no data file",
        )


def text(data: bytes) -> str:
    """A string as the image stores it: up to the first NUL, bytes that are no UTF-8 kept."""
    return data.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _too_long(source: ByteSource, at: int, header: Header) -> CorruptInput:
    return CorruptInput(
        source.name,
        at=at,
        code="qcow2.extension",
        problem=f"a header extension reaches beyond the end of their area, "
        f"{header.extensions_end:#x}",
    )


def _cut(source: ByteSource, at: int) -> TruncatedInput:
    return TruncatedInput(
        source.name,
        at=at,
        code="qcow2.extension",
        problem=f"the file ends at {source.size:#x}, inside the header extensions",
        hint="the file is cut short; copy it again",
    )
