"""The text of a VMX file: ``key = "value"`` lines, each with its place; no key has a meaning here.

The format is VMware's dictionary file (open-vm-tools, ``lib/dict/dictll.c``)::

    #!/usr/bin/vmware
    .encoding = "UTF-8"
    displayName = "a |22quoted|22 name"    # a comment
    numvcpus = 2

A key has no white space, ``=`` or ``#`` in it and means the same in any case.  A value in quotes
may hold anything but a quote; ``|`` and two hexadecimal digits stand for a byte.  Parsing is
lenient: what is wrong becomes a fault, so that a checker can show all of them;
`VmxDocument.require_sound` is for readers that want none.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vmport_formats.errors import CorruptInput
from vmport_formats.position import Position

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_VMX: Final = 2 << 20
"""Largest file that is parsed, in bytes; real ones are a thousandth of it."""

MAX_LINES: Final = 20_000
"""Most lines; a real file has a few hundred."""

MAX_FAULTS: Final = 100
"""Faults that are recorded; after that many the file is something else."""

_LINE: Final = re.compile(
    r"""
    [ \t]* (?P<key>[^ \t=\#]+)
    [ \t]* = [ \t]*
    (?: " (?P<quoted>[^"]*) " | (?P<bare> (?!") [^ \t\#]* ) )
    [ \t]* (?: \#.* )?
    """,
    re.VERBOSE,
)
_BLANK: Final = re.compile(r"[ \t]*(?:#.*)?")
_ESCAPE: Final = re.compile(rb"\|([0-9A-Fa-f]{2})")
_ENCODING: Final = re.compile(
    rb'^[ \t]*\.encoding[ \t]*=[ \t]*"?([^"\s#]*)', re.MULTILINE | re.IGNORECASE
)
_CURLY: Final = "“”„«»‘’"

# Names of encodings that VMware products write, to Python's.
_CODECS: Final = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "gbk": "gb18030",
    "gb18030": "gb18030",
    "gb2312": "gb18030",
    "shift_jis": "cp932",
    "windows-31j": "cp932",
    "euc-jp": "euc_jp",
    "euc-kr": "cp949",
    "ks_c_5601-1987": "cp949",
    "big5": "cp950",
    "us-ascii": "ascii",
    "ascii": "ascii",
    "tis-620": "tis_620",
    **{f"windows-{page}": f"cp{page}" for page in (874, 932, 936, 949, 950, *range(1250, 1259))},
    **{f"iso-8859-{part}": f"iso8859_{part}" for part in (*range(1, 12), 13, 14, 15, 16)},
}


@dataclass(frozen=True, slots=True)
class VmxEntry:
    """One ``key = value`` line."""

    key: str
    """As written."""
    value: str
    """Without quotes and escapes."""
    position: Position
    """Of the key."""
    value_position: Position
    """Of the value's first character, behind the quote."""

    @property
    def folded(self) -> str:
        """The key in lower case, which is how keys are compared."""
        return self.key.lower()


@dataclass(frozen=True, slots=True)
class VmxFault:
    """A line that breaks the syntax."""

    code: str
    """``vmx.syntax``, ``vmx.duplicate-key`` or ``vmx.encoding``."""
    problem: str
    hint: str
    position: Position
    key: str | None = None
    first: VmxEntry | None = None
    """For a duplicate: the line that counts."""
    entry: VmxEntry | None = None
    """For a duplicate: the line that does not."""


class VmxDocument:
    """The lines of one file in order, found by key in any case."""

    __slots__ = ("_by_key", "encoding", "entries", "faults", "name")

    def __init__(
        self,
        name: str,
        encoding: str,
        entries: tuple[VmxEntry, ...],
        faults: tuple[VmxFault, ...],
    ) -> None:
        self.name = name
        self.encoding = encoding
        """Python's name of the encoding that the text was read in."""
        self.entries = entries
        """One for each key: of lines that set the same key, the first."""
        self.faults = faults
        self._by_key = {entry.folded: entry for entry in entries}

    def __contains__(self, key: str) -> bool:
        return key.lower() in self._by_key

    def __iter__(self) -> Iterator[VmxEntry]:
        return iter(self.entries)

    def get(self, key: str) -> VmxEntry | None:
        """The line of `key`; None if there is none."""
        return self._by_key.get(key.lower())

    def value(self, key: str) -> str | None:
        """The value of `key`; None if no line sets it."""
        entry = self._by_key.get(key.lower())
        return None if entry is None else entry.value

    def require_sound(self) -> None:
        """Nothing, if the text has no fault.

        Raises:
            CorruptInput: the first fault.
        """
        if self.faults:
            fault = self.faults[0]
            raise CorruptInput(
                self.name,
                at=str(fault.position),
                code=fault.code,
                problem=fault.problem,
                hint=fault.hint,
            )


def parse_vmx(data: bytes, *, name: str) -> VmxDocument:
    """Parse `data`, the content of the file called `name`.

    Raises:
        CorruptInput: over 2 MiB, over 20,000 lines, or with a NUL byte in it.
    """
    if len(data) > MAX_VMX:
        raise CorruptInput(
            name,
            code="vmx.too-large",
            problem=f"{len(data)} bytes of VMX; at most {MAX_VMX} are read",
        )
    nul = data.find(b"\0")
    if nul >= 0:
        raise CorruptInput(
            name, at=nul, code="vmx.binary", problem="has a NUL byte in it: not a text file"
        )
    faults: list[VmxFault] = []
    body = data.removeprefix(codecs.BOM_UTF8)
    codec = _codec(body, faults)
    text, sound = _decode(body, codec)
    lines = text.split("\n")
    if len(lines) > MAX_LINES:
        raise CorruptInput(
            name,
            at=f"{MAX_LINES}:1",
            code="vmx.too-many-lines",
            problem=f"{len(lines)} lines; at most {MAX_LINES} are read",
        )
    by_key: dict[str, VmxEntry] = {}
    for number, line in enumerate(lines, start=1):
        line = line.rstrip("\r")
        if not sound and "\ufffd" in line:
            _record(faults, _undecodable(Position(number, line.index("\ufffd") + 1), codec))
        if _BLANK.fullmatch(line):
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            _record(faults, _malformed(line, number))
            continue
        entry = _entry(found, number, codec)
        first = by_key.setdefault(entry.folded, entry)
        if first is not entry:
            _record(faults, _duplicate(first, entry))
    return VmxDocument(name, codec, tuple(by_key.values()), tuple(faults))


def looks_like_vmx(data: bytes) -> bool:
    """Whether `data` is VMX text, to tell it from other text: it sets a key that only VMX has."""
    return _SIGNATURE.search(data.removeprefix(codecs.BOM_UTF8)) is not None


_SIGNATURE: Final = re.compile(
    rb"^[ \t]*(?:config\.version|virtualHW\.version|guestOS|memsize|numvcpus|\.encoding"
    rb"|encryption\.keySafe|(?:scsi|ide|sata|nvme|ethernet)\d+(?::\d+)?\.\w+)[ \t]*=",
    re.MULTILINE | re.IGNORECASE,
)


def _record(faults: list[VmxFault], fault: VmxFault) -> None:
    if len(faults) < MAX_FAULTS:
        faults.append(fault)


def _codec(body: bytes, faults: list[VmxFault]) -> str:
    """Python's name for the encoding that the text declares; UTF-8 when it declares none."""
    found = _ENCODING.search(body)
    if found is None:
        try:
            body.decode("utf-8")
        except UnicodeDecodeError:
            return "cp1252"  # files from before .encoding are in the writer's code page
        return "utf-8"
    declared = found[1].decode("ascii", "replace")
    codec = _CODECS.get(declared.lower())
    if codec is None:
        line = body.count(b"\n", 0, found.start(1)) + 1
        column = found.start(1) - (body.rfind(b"\n", 0, found.start(1)) + 1) + 1
        faults.append(
            VmxFault(
                "vmx.encoding",
                f"the encoding {declared!r} is not known",
                'save the file as UTF-8 and write .encoding = "UTF-8"',
                Position(line, column),
                ".encoding",
            )
        )
        return "utf-8"
    return codec


def _decode(body: bytes, codec: str) -> tuple[str, bool]:
    """The text, and whether all of it could be decoded; U+FFFD stands where it could not."""
    try:
        return body.decode(codec), True
    except UnicodeDecodeError:
        return body.decode(codec, "replace"), False


def _entry(found: re.Match[str], number: int, codec: str) -> VmxEntry:
    group = "bare" if found["quoted"] is None else "quoted"
    return VmxEntry(
        found["key"],
        _unescape(found[group], codec),
        Position(number, found.start("key") + 1),
        Position(number, found.start(group) + 1),
    )


def _unescape(raw: str, codec: str) -> str:
    """`raw` with each ``|`` and two hexadecimal digits as the byte that they stand for."""
    if "|" not in raw:
        return raw
    data = raw.encode(codec, "replace")
    return _ESCAPE.sub(lambda hit: bytes.fromhex(hit[1].decode("ascii")), data).decode(
        codec, "replace"
    )


def _undecodable(position: Position, codec: str) -> VmxFault:
    return VmxFault(
        "vmx.encoding",
        f"these bytes are no text in {codec}, the encoding that the file declares",
        "save the file in the encoding that its line .encoding names",
        position,
    )


def _duplicate(first: VmxEntry, entry: VmxEntry) -> VmxFault:
    return VmxFault(
        "vmx.duplicate-key",
        f"{entry.key} is set a second time; the first is in line {first.position.line}",
        "keep one of the two lines",
        entry.position,
        entry.key,
        first,
        entry,
    )


def _malformed(line: str, number: int) -> VmxFault:
    """What is wrong with a line that is neither an entry nor blank."""
    start = len(line) - len(line.lstrip(" \t"))
    key, equals, rest = line[start:].partition("=")
    at = start
    hint = 'a line is key = "value"'
    if not equals:
        problem = "this line has no = in it"
        if "“" in line or "”" in line:
            hint = "write straight quotes"
    elif not key.strip():
        problem = "this line has no key before its ="
    elif re.search(r"[ \t#\"]", key.strip()):
        problem = f"the key {_short(key.strip())} has a blank, quote or # in it"
    else:
        value = rest.lstrip(" \t")
        at = len(line) - len(value)
        if value.startswith('"') and value.count('"') == 1:
            problem = "the quote that opens here is never closed"
            hint = 'end the value with "'
        elif value.startswith('"'):
            at += value.index('"', 1) + 1
            at += len(line[at:]) - len(line[at:].lstrip(" \t"))
            problem = "something follows the closing quote"
            hint = 'write a quote inside a value as |22, and one key = "value" a line'
        elif value[:1] in _CURLY:
            problem = f"the value is in typographic quotes ({value[0]})"
            hint = 'write straight quotes: "'
        else:
            problem = "a value with blanks in it is not in quotes"
            hint = 'put the value in quotes: key = "value"'
    return VmxFault("vmx.syntax", problem, hint, Position(number, at + 1), key.strip() or None)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")
