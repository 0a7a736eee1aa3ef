"""How a differencing VHD names its parent: by UUID, by name, and by up to eight locators."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.disk.model import Concern
from vmport_formats.disk.vhd.layout import EPOCH, PARENT_UNIQUE_ID_AT
from vmport_formats.errors import CorruptInput, TruncatedInput
from vmport_formats.guids import of_network_order
from vmport_formats.references import Reference, ReferenceKind
from vmport_formats.source import FileSource

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vmport_formats.disk.model import ImageInfo
    from vmport_formats.disk.vhd.info import Dynamic
    from vmport_formats.disk.vhd.layout import DynamicHeader, ParentLocator
    from vmport_formats.source import ByteSource

# Windows' own limit on a path is 32,767 UTF-16 units.
_MAX_LOCATOR: Final = 64 * 1024
_FILE_TIME_PRECISION: Final = 2
"""Seconds; that of FAT."""

# How each platform code encodes its path, the best hint first: a relative path still holds when
# the folder was moved to another machine.  The Macintosh alias ("Mac ") is a blob without a path.
_ENCODINGS: Final = {
    b"W2ru": "utf-16-le",  # relative
    b"MacX": "utf-8",  # a file URL
    b"W2ku": "utf-16-le",  # absolute
    b"Wi2r": "latin-1",  # both deprecated, from before Unicode paths
    b"Wi2k": "latin-1",
}


class Locator(NamedTuple):
    """A parent locator with the path that it leads to, where it is one."""

    platform_code: str
    data_offset: int
    path: str | None

    def as_details(self) -> dict[str, object]:
        """Its fields, JSON-ready."""
        return {
            "platform-code": self.platform_code,
            "platform-data-offset": self.data_offset,
            "path": self.path,
        }


def read_locators(
    source: ByteSource, locators: Iterable[ParentLocator], *, at: int
) -> tuple[Locator, ...]:
    """The locators in use, read from where they point; `at` is where the header is.

    Raises:
        CorruptInput: one is longer than any path (``vhd.parent-locator``).
        TruncatedInput: one lies outside the file.
    """
    return tuple(
        _read_locator(source, item, at=at)
        for item in locators
        if any(item.platform_code) and item.data_length
    )


def _read_locator(source: ByteSource, item: ParentLocator, *, at: int) -> Locator:
    code = _text(item.platform_code, "latin-1")
    if item.data_length > _MAX_LOCATOR:
        raise CorruptInput(
            source.name,
            at=at,
            code="vhd.parent-locator",
            problem=f"parent locator {code!r} is {item.data_length} bytes long; "
            f"at most {_MAX_LOCATOR} are a path",
        )
    if item.data_offset + item.data_length > source.size:
        raise TruncatedInput(
            source.name,
            at=at,
            code="vhd.parent-locator",
            problem=f"parent locator {code!r} lies at {item.data_offset:#x}, "
            f"but the file ends at {source.size:#x}",
        )
    encoding = _ENCODINGS.get(item.platform_code)
    path = None
    if encoding is not None:
        path = _text(source.read_at(item.data_offset, item.data_length), encoding)
    return Locator(code, item.data_offset, path or None)


def parent_name(header: DynamicHeader) -> str:
    """The parent's name as the header itself holds it; empty if it holds none."""
    return _text(header.parent_unicode_name, "utf-16-be")


def parent_references(
    header: DynamicHeader, locators: tuple[Locator, ...]
) -> tuple[Reference, ...]:
    """Every way in which the parent is named, the most useful first; at least one.

    They are alternatives: each leads to the same parent, if the disk is sound.  Without any path
    the parent's UUID stands in, as ``uuid:...``.
    """
    by_code = {item.platform_code: item.path for item in reversed(locators)}
    paths = [by_code.get(_text(code, "latin-1")) for code in _ENCODINGS]
    paths.append(parent_name(header))
    names = dict.fromkeys(path for path in paths if path)
    if not names:
        uuid = f"uuid:{of_network_order(header.parent_unique_id)}"
        return (Reference(ReferenceKind.PARENT, uuid, "vpc", is_path=False),)
    return tuple(Reference(ReferenceKind.PARENT, name, "vpc") for name in names)


def check_parent(
    child: str, dynamic: Dynamic, parent: ImageInfo, source: ByteSource
) -> tuple[Concern, ...]:
    """That `parent`, read from `source`, is what the differencing disk in `child` was made from.

    The unique id stays when a disk is written to; whether it was, the time of the file's last
    change tells, which the child remembers.  That is lost when a file is copied, so another time is
    no proof, and only a concern.

    Raises:
        CorruptInput: it has another unique id.
    """
    wanted, found = of_network_order(dynamic.header.parent_unique_id), parent.details["unique-id"]
    if found != wanted:
        raise CorruptInput(
            child,
            at=dynamic.at + PARENT_UNIQUE_ID_AT,
            code="vhd.parent-unique-id",
            problem=f"was made from the disk with unique id {wanted}, but that of {source.name} is "
            f"{found}",
            hint="the file is another disk; put the right one in its place",
        )
    modified = source.modified if isinstance(source, FileSource) else None
    if modified is None or not dynamic.header.parent_time_stamp:
        return ()
    remembered = datetime.fromtimestamp(EPOCH + dynamic.header.parent_time_stamp, UTC)
    now = datetime.fromtimestamp(modified, UTC)
    if abs((now - remembered).total_seconds()) <= _FILE_TIME_PRECISION:
        return ()
    return (
        Concern(
            "vhd.parent-time-stamp",
            f"when it was made, its parent had been changed last at {remembered:%F %T} UTC, but "
            f"{source.name} was at {now:%F %T}: the parent was copied, or written to since; "
            "if it was written to, the two do not make up a disk any more",
        ),
    )


def _text(data: bytes, encoding: str) -> str:
    """`data` up to its first NUL; what cannot be decoded becomes U+FFFD."""
    return data.decode(encoding, "replace").partition("\0")[0]
