"""XML from strangers: no DTD, no entities, no network, bounded; and every element knows its place.

lxml knows an element's line only (and that only to 65535); expat, run over the same bytes first,
refuses document types and adds exact lines and columns.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple
from xml.parsers import expat

from lxml import etree

from vmport_formats.errors import CorruptInput, UnsafeInput
from vmport_formats.position import Position

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "MAX_ATTRIBUTES",
    "MAX_DEPTH",
    "MAX_ELEMENTS",
    "MAX_XML",
    "Position",
    "XmlDocument",
    "parse_xml",
]

MAX_XML: Final = 16 << 20
"""Largest document that is parsed, in bytes; real descriptors are a thousandth of it."""

MAX_DEPTH: Final = 200
"""Deepest nesting of elements."""


MAX_ELEMENTS: Final = 20_000
"""Most elements of one document; a real descriptor has a few hundred, the largest 5,000."""

MAX_ATTRIBUTES: Final = 100_000
"""Most attributes of all elements together."""

# A start tag is well-formed by the time these look at it.
_ATTRIBUTE: Final = re.compile(r"""\s+([^\s=/>]+)\s*=\s*("[^"]*"|'[^']*')""")
_TAG_NAME: Final = re.compile(r"<[^\s/>]+")
_TAG_END: Final = re.compile(r"\s*/?>")
_LINE_AND_COLUMN: Final = re.compile(r", line \d+, column \d+.*$")


class _Place(NamedTuple):
    """Where a start tag is."""

    position: Position
    offset: int
    """In bytes from the start of the document."""


@dataclass(frozen=True, slots=True)
class XmlDocument:
    """A parsed document and the position of each of its elements' start tags."""

    name: str
    root: etree._Element
    positions: Mapping[etree._Element, Position]
    _offsets: Mapping[etree._Element, int]
    _data: bytes
    _encoding: str

    def position(self, element: etree._Element, attribute: str | None = None) -> Position:
        """Where the start tag of `element` begins, or the name of its `attribute`.

        `attribute` is written as lxml does: ``name`` or ``{namespace}name``.  One that is not
        there stands for its element.
        """
        start = self.positions[element]
        if attribute is None or attribute not in element.attrib:
            return start
        text, end = self._start_tag(element)
        for found in _ATTRIBUTE.finditer(text, 0, end):
            if _qualified(found[1], element) == attribute:
                return start.after(text[: found.start(1)])
        return start

    def attribute_positions(self, element: etree._Element) -> dict[str, Position]:
        """Where the name of each attribute of `element` begins, by its name as lxml writes it."""
        text, end = self._start_tag(element)
        place, done = self.positions[element], 0
        places = {}
        for found in _ATTRIBUTE.finditer(text, 0, end):
            place, done = place.after(text[done : found.start(1)]), found.start(1)
            places[_qualified(found[1], element)] = place
        return places

    def text_position(self, element: etree._Element) -> Position:
        """Where the text of `element` begins, white space skipped; its start tag if it has none."""
        if not (element.text or "").strip():
            return self.positions[element]
        text, end = self._start_tag(element, beyond=1 << 10)
        rest = text[end:]
        space = len(rest) - len(rest.lstrip())
        return self.positions[element].after(text[: end + space])

    def _start_tag(self, element: etree._Element, beyond: int = 0) -> tuple[str, int]:
        """The source text from the start tag of `element` on, and where in it the tag ends."""
        offset = self._offsets[element]
        length = 1 << 10
        while True:
            text = self._data[offset : offset + length + beyond].decode(self._encoding, "replace")
            end = _end_of_tag(text)
            if end is not None or offset + length >= len(self._data):
                return text, len(text) if end is None else end
            length *= 4


def _end_of_tag(text: str) -> int | None:
    """Just behind the ``>`` of the start tag that `text` begins with; None if it is cut off."""
    name = _TAG_NAME.match(text)
    at = name.end() if name else 0
    while attribute := _ATTRIBUTE.match(text, at):
        at = attribute.end()
    end = _TAG_END.match(text, at)
    return end.end() if end else None


def _qualified(name: str, element: etree._Element) -> str:
    """The attribute name `name`, as written in the file, in lxml's notation."""
    prefix, colon, local = name.partition(":")
    if not colon:
        return name
    if prefix == "xml":
        return f"{{http://www.w3.org/XML/1998/namespace}}{local}"
    return f"{{{element.nsmap.get(prefix, '')}}}{local}"


def parse_xml(data: bytes, *, name: str) -> XmlDocument:
    """Parse `data`, the content of the file called `name`.

    Raises:
        UnsafeInput: it declares a document type, and so could define entities.
        CorruptInput: not well-formed, over 16 MiB, nested deeper than 200, or with more than
            20,000 elements or 100,000 attributes.
    """
    if len(data) > MAX_XML:
        raise CorruptInput(
            name,
            code="xml.too-large",
            problem=f"{len(data)} bytes of XML; at most {MAX_XML} are read",
        )
    places, encoding = _start_tags(data, name)
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=False,
        remove_pis=False,
    )
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        line, column = error.position
        raise CorruptInput(
            name,
            at=f"{line}:{max(column, 1)}",
            code="xml.not-well-formed",
            problem=f"not well-formed XML: {_LINE_AND_COLUMN.sub('', str(error.msg))}",
        ) from error
    elements = [item for item in root.iter() if isinstance(item.tag, str)]
    if len(elements) != len(places):
        raise CorruptInput(
            name, code="xml.ambiguous", problem="two XML parsers see different elements in it"
        )
    return XmlDocument(
        name,
        root,
        {element: place.position for element, place in zip(elements, places, strict=True)},
        {element: place.offset for element, place in zip(elements, places, strict=True)},
        data,
        encoding,
    )


def _start_tags(data: bytes, name: str) -> tuple[list[_Place], str]:
    """The places of all start tags in document order, and the name of the encoding."""
    places: list[_Place] = []
    depth = 0
    attribute_count = 0
    marked = data.startswith((BOM_UTF8, BOM_UTF16_LE, BOM_UTF16_BE))
    encoding = "utf-16" if data[:2] in (BOM_UTF16_LE, BOM_UTF16_BE) else "utf-8"

    def here() -> Position:
        line, column = parser.CurrentLineNumber, parser.CurrentColumnNumber + 1
        return Position(line, column - (marked and line == 1))  # expat counts the mark

    def refuse(what: str, code: str) -> None:
        raise CorruptInput(name, at=str(here()), code=code, problem=what)

    def declared(_version: str, declared_encoding: str | None, _standalone: int) -> None:
        nonlocal encoding
        if encoding != "utf-16" and declared_encoding:
            encoding = declared_encoding

    def started(_tag: str, attributes: list[str]) -> None:
        nonlocal depth, attribute_count
        depth += 1
        attribute_count += len(attributes) // 2
        if depth > MAX_DEPTH:
            refuse(f"elements nested deeper than {MAX_DEPTH}", "xml.too-deep")
        if len(places) == MAX_ELEMENTS:
            refuse(f"more than {MAX_ELEMENTS} elements", "xml.too-many-elements")
        if attribute_count > MAX_ATTRIBUTES:
            refuse(f"more than {MAX_ATTRIBUTES} attributes", "xml.too-many-attributes")
        places.append(_Place(here(), parser.CurrentByteIndex))

    def ended(_tag: str) -> None:
        nonlocal depth
        depth -= 1

    def doctype(*_: object) -> None:
        start = data.rfind(b"<!DOCTYPE", 0, parser.CurrentByteIndex + 1)
        before = data[: max(start, 0)].removeprefix(BOM_UTF8).decode("utf-8", "replace")
        raise UnsafeInput(
            name,
            at=str(Position(1, 1).after(before) if start >= 0 else here()),
            code="xml.doctype",
            problem="declares a document type (<!DOCTYPE>), which could pull in other files",
            hint="remove the declaration; no descriptor format needs one",
        )

    parser = expat.ParserCreate()
    parser.ordered_attributes = True
    parser.XmlDeclHandler = declared
    parser.StartElementHandler = started
    parser.EndElementHandler = ended
    parser.StartDoctypeDeclHandler = doctype
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise CorruptInput(
            name,
            at=f"{error.lineno}:{error.offset + 1}",
            code="xml.not-well-formed",
            problem=f"not well-formed XML: {expat.ErrorString(error.code)}",
        ) from error
    except (LookupError, ValueError) as error:  # of the encoding that the XML declaration names
        raise CorruptInput(
            name,
            at="1:1",
            code="xml.encoding",
            problem=f"declares an encoding that is not read: {error}",
            hint="save it as UTF-8",
        ) from error
    if encoding == "utf-16":  # pieces of the text are decoded alone, without their byte order mark
        encoding = "utf-16-be" if data[:2] == BOM_UTF16_BE else "utf-16-le"
    return places, encoding
