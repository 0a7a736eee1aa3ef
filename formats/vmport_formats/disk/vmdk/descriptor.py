"""The text that describes a VMDK: its keys, its extents and its disk database.

    # Disk DescriptorFile
    version=1
    CID=8a2f6c1d
    parentCID=ffffffff
    createType="twoGbMaxExtentFlat"

    # Extent description
    RW 4192256 FLAT "disk-f001.vmdk" 0

    # The Disk Data Base
    ddb.adapterType = "lsilogic"

Source: VMware, "Virtual Disk Format 5.0", section "The Descriptor File"; the keys and extent types
of ESXi that it does not list are known from ESXi's own files.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final, NamedTuple

from vmport_formats.errors import CorruptInput, UnsupportedFeature
from vmport_formats.units import MAX_SIZE, MIB, SECTOR, Bytes, Sectors, sectors_to_bytes

MAX_DESCRIPTOR: Final = 2 * MIB
NO_PARENT: Final = 0xFFFF_FFFF
"""The parentCID of a disk without a parent."""
_MAX_LINES: Final = 40_000
_MAX_EXTENTS: Final = 1 << 14


class ExtentType(StrEnum):
    """Where the data of an extent is, and how it is laid out there."""

    FLAT = "FLAT"
    SPARSE = "SPARSE"
    ZERO = "ZERO"
    VMFS = "VMFS"
    VMFSSPARSE = "VMFSSPARSE"
    VMFSRDM = "VMFSRDM"
    VMFSRAW = "VMFSRAW"
    SESPARSE = "SESPARSE"
    VSANSPARSE = "VSANSPARSE"

    @property
    def file_format(self) -> str:
        """What the extent's file is, by qemu's name for the format."""
        sparse = {"SPARSE", "VMFSSPARSE", "SESPARSE", "VSANSPARSE"}
        return "vmdk" if self.value in sparse else "raw"


_EXTENT_TYPES: Final = {item.value: item for item in ExtentType}


class Extent(NamedTuple):
    """One line of the extent description: a piece of the disk, in order."""

    access: str
    """``RW``, ``RDONLY`` or ``NOACCESS``."""
    sectors: Sectors
    type: ExtentType
    name: str | None
    """The file, a character for each byte of it: see `decode`.  A ZERO extent needs none."""
    offset: Sectors | None
    """Where in the file it begins, when the line says so."""
    rest: str
    """What follows that, which is a partition's UUID and a device's name, if anything."""
    line: int


class Line(NamedTuple):
    """A line that does not mean what it should, or anything."""

    number: int
    text: str


class Descriptor(NamedTuple):
    """A descriptor, as written."""

    raw: bytes
    """The text, up to the first NUL."""
    values: dict[str, str]
    """Keys other than ``ddb.*`` and their values, in order, each spelt as the table below does."""
    disk_database: dict[str, str]
    """The ``ddb.*`` keys and their values, in order."""
    extents: tuple[Extent, ...]
    unknown: tuple[Line, ...]
    """The first lines, at most 16, that are no comment, extent or known key."""
    duplicates: tuple[Line, ...]
    """The first lines, at most 16, that set a key again; the first value counts."""

    @property
    def cid(self) -> int | None:
        """The content's id, which changes with the first write after opening."""
        return _number(self.values.get("CID"))

    @property
    def parent_cid(self) -> int | None:
        """The id that the parent had when this disk was made; `NO_PARENT` for none."""
        return _number(self.values.get("parentCID"))

    @property
    def create_type(self) -> str | None:
        """Which kind of disk it is."""
        return self.values.get("createType")

    @property
    def virtual_size(self) -> Bytes:
        """The sum of the extents."""
        return sectors_to_bytes(Sectors(sum(extent.sectors for extent in self.extents)))


# The keys before the disk database, as VMware spells them.
_KEYS: Final = {
    key.lower(): key
    for key in (
        "version",
        "encoding",
        "CID",
        "parentCID",
        "isNativeSnapshot",
        "createType",
        "parentFileNameHint",
        "nativeParentHint",
        "nativeParentCID",
        "changeTrackPath",
        "digestFilename",
        "digestType",
        "fileSystemType",
        "objectType",
    )
}
# What begins the keys that are kept as they are spelt: those of the disk database, and of a disk
# that Workstation encrypts.
_DATABASE: Final = "ddb."
_ENCRYPTION: Final = "encryption."

# The encodings that a descriptor may declare, as VMware and as Python name them.  A table, for
# Python's own list has codecs that are no encodings at all.
_ENCODINGS: Final = {
    "utf-8": "utf-8",
    "us-ascii": "ascii",
    "iso-8859-1": "latin-1",
    "iso-8859-2": "iso8859-2",
    "iso-8859-5": "iso8859-5",
    "iso-8859-15": "iso8859-15",
    "shift_jis": "cp932",
    "windows-31j": "cp932",
    "windows-932": "cp932",
    "euc-jp": "euc_jp",
    "gbk": "gbk",
    "windows-936": "gbk",
    "gb18030": "gb18030",
    "big5": "big5",
    "windows-950": "cp950",
    "euc-kr": "euc_kr",
    "windows-949": "cp949",
    "koi8-r": "koi8-r",
    **{f"windows-{page}": f"cp{page}" for page in range(1250, 1259)},
}

# A line that is neither blank nor a comment: an extent's, or a key and its value, or neither.
_LINE: Final = re.compile(
    r"""^[ \t\r]*+(?:
        ((?:RW|RDONLY|NOACCESS)\b(?![ \t]*=)[^\n]*)
        | ([A-Za-z][\w.:-]*+) [ \t]*+ = [ \t]*+ (?: "([^"\n]*+)"[ \t\r]*+ | ([^"\n]*+) ) $
        | [^ \t\r\n\#][^\n]*
    )""",
    re.MULTILINE | re.VERBOSE,
)
_EXTENT_LINE: Final = re.compile(
    r"(RW|RDONLY|NOACCESS)[ \t]+(\d{1,20})[ \t]+(\w+)"
    r'(?:[ \t]+"([^"]*)"(?:[ \t]+(\d{1,20})(?:[ \t]+(.*))?)?)?'
)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_HEX: Final = re.compile(r"[0-9A-Fa-f]{1,8}")
_MAX_NOTED: Final = 16
_BLANKS: Final = " \t\r"


def looks_like_descriptor(head: bytes) -> bool:
    """Whether a file that begins with `head` is a descriptor.

    It is when its first line but blank ones is VMware's comment, or when qemu would take it for
    one, because the first line that is neither blank nor a comment states a version.
    """
    for line in head.split(b"\n"):
        text = line.strip(b" \t\r")
        if re.fullmatch(rb"(?i)#[ ]*disk[ ]*descriptor[ ]?file", text):
            return True
        if text and not text.startswith(b"#"):
            return re.fullmatch(rb'(?i)version[ \t]*=[ \t]*"?\d+"?', text) is not None
    return False


def parse_descriptor(data: bytes, *, path: str, where: str = "") -> Descriptor:
    """The descriptor in `data`; it ends at the first NUL.

    `path` is the file for messages, and `where` is put before the line's number in them.

    Raises:
        CorruptInput: an extent line or an id cannot be read, or there are too many of them.
        UnsupportedFeature: an extent is of a type that is not known.
    """
    raw = data.partition(b"\0")[0]
    parser = _Parser(raw, path, where)
    parser.read()
    return parser.descriptor()


class _Parser:
    """Sorts lines into keys, extents and the rest."""

    def __init__(self, raw: bytes, path: str, where: str) -> None:
        self._raw = raw
        self._text = raw.decode("latin-1")  # names are decoded once the encoding is known
        self._path = path
        self._where = where
        self._counted, self._number = 0, 1
        self._values: dict[str, str] = {}
        self._database: dict[str, str] = {}
        self._extents: list[Extent] = []
        self._unknown: list[Line] = []
        self._duplicates: list[Line] = []

    def read(self) -> None:
        """Take every line that is neither blank nor a comment."""
        clean = _CONTROL.search(self._text) is None
        for count, match in enumerate(_LINE.finditer(self._text), 1):
            if count > _MAX_LINES:
                raise self._corrupt(
                    self._number_of(match),
                    "descriptor-lines",
                    f"has more than {_MAX_LINES} lines; none needs as many",
                )
            extent, key, quoted, bare = match.groups()
            if extent is not None:
                self._extents.append(self._extent(self._number_of(match), extent.rstrip(_BLANKS)))
                continue
            table, known = self._table(key) if key is not None else (self._values, None)
            if known is None or not (clean or _CONTROL.search(match[0].strip(_BLANKS)) is None):
                self._note(self._unknown, match)
            elif known in table:
                self._note(self._duplicates, match)
            else:
                table[known] = bare.rstrip() if quoted is None else quoted

    def _table(self, key: str) -> tuple[dict[str, str], str | None]:
        """Where a key belongs, and as it is to be spelt; None for one that is not known."""
        lower = key.lower()
        if lower.startswith(_DATABASE):
            return self._database, key
        return self._values, key if lower.startswith(_ENCRYPTION) else _KEYS.get(lower)

    def _note(self, lines: list[Line], match: re.Match[str]) -> None:
        if len(lines) < _MAX_NOTED:
            lines.append(Line(self._number_of(match), match[0].strip(_BLANKS)[:200]))

    def _number_of(self, match: re.Match[str]) -> int:
        """The number of the line, which comes after the one that was asked for before."""
        self._number += self._text.count("\n", self._counted, match.start())
        self._counted = match.start()
        return self._number

    def _extent(self, number: int, line: str) -> Extent:
        match = _EXTENT_LINE.fullmatch(line)
        if match is None:
            raise self._corrupt(number, "extent-line", f"extent line {line[:200]!r} is malformed")
        access, sectors, kind, name, offset, rest = match.groups()
        extent_type = _EXTENT_TYPES.get(kind)
        if extent_type is None:
            raise UnsupportedFeature(
                self._path,
                at=f"{self._where}line {number}",
                code="vmdk.extent-type",
                problem=f"extent type {kind[:80]!r} is not known; "
                f"known are {', '.join(ExtentType)}",
            )
        extent = Extent(
            access,
            Sectors(int(sectors)),
            extent_type,
            name,
            None if offset is None else Sectors(int(offset)),
            rest or "",
            number,
        )
        if name is None and extent_type is not ExtentType.ZERO:
            raise self._corrupt(number, "extent-line", f"extent of type {kind} names no file")
        if max(extent.sectors, extent.offset or 0) * SECTOR > MAX_SIZE:
            raise self._corrupt(
                number,
                "extent-size",
                f"extent of {sectors} sectors at {offset or 0}; at most 2^63-1 bytes are possible",
            )
        if len(self._extents) == _MAX_EXTENTS:
            raise self._corrupt(
                number, "extent-count", f"has more than {_MAX_EXTENTS} extents; none needs as many"
            )
        return extent

    def descriptor(self) -> Descriptor:
        """All that was taken."""
        for key in ("CID", "parentCID"):
            value = self._values.get(key)
            if value is not None and not _HEX.fullmatch(value):
                raise CorruptInput(
                    self._path,
                    at=self._where.rstrip(", ") or None,
                    code=f"vmdk.{key.lower()}",
                    problem=f"{key} is {value[:80]!r}; must be 1 to 8 hexadecimal digits",
                )
        found = Descriptor(
            self._raw,
            self._values,
            self._database,
            tuple(self._extents),
            tuple(self._unknown),
            tuple(self._duplicates),
        )
        if found.virtual_size > MAX_SIZE:
            raise CorruptInput(
                self._path,
                at=self._where.rstrip(", ") or None,
                code="vmdk.virtual-size",
                problem="extents add up to more than 2^63-1 bytes",
            )
        return found

    def _corrupt(self, number: int, code: str, problem: str) -> CorruptInput:
        at = f"{self._where}line {number}"
        return CorruptInput(self._path, at=at, code=f"vmdk.{code}", problem=problem)


def codec(descriptor: Descriptor) -> str | None:
    """Python's name for the encoding that the descriptor declares; None for an unknown one."""
    return _ENCODINGS.get(descriptor.values.get("encoding", "utf-8").lower())


def decode(text: str, encoding: str | None) -> tuple[str, bool]:
    """`text`, which was read byte by byte, in its encoding, and whether it could be decoded.

    What cannot be is shown as an escape of its bytes, so that it is still printable.
    """
    if text.isascii():  # which is the same in all of them
        return text, True
    data = text.encode("latin-1")
    try:
        return data.decode(encoding or "ascii"), True
    except UnicodeDecodeError:
        return data.decode(encoding or "ascii", "backslashreplace"), False


def _number(value: str | None) -> int | None:
    return None if value is None else int(value, 16)
