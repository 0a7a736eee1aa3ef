"""XML from strangers: no DTD, no entities, no network, bounded; and every element knows its place.

lxml knows an element's line only (and that only to 65535); expat, run over the same bytes first,
refuses document types and adds exact lines and columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from xml.parsers import expat

from lxml import etree

from vmport_formats.errors import CorruptInput, UnsafeInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_XML: Final = 16 << 20
"""Largest document that is parsed, in bytes; real descriptors are a thousandth of it."""

MAX_DEPTH: Final = 200
"""Deepest nesting of elements."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a text; both count from 1, as editors do."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class XmlDocument:
    """A parsed document and the position of each of its elements' start tags."""

    name: str
    root: etree._Element
    positions: Mapping[etree._Element, Position]

    def position(self, element: etree._Element) -> Position:
        """Where the start tag of `element` begins."""
        return self.positions[element]


def parse_xml(data: bytes, *, name: str) -> XmlDocument:
    """Parse `data`, the content of the file called `name`.

    Raises:
        UnsafeInput: it declares a document type, and so could define entities.
        CorruptInput: not well-formed, over 16 MiB, or nested deeper than 200.
    """
    if len(data) > MAX_XML:
        raise CorruptInput(
            name,
            code="xml.too-large",
            problem=f"{len(data)} bytes of XML; at most {MAX_XML} are read",
        )
    places = list(_start_tags(data, name))
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
            problem=f"not well-formed XML: {error.msg}",
        ) from error
    elements = [item for item in root.iter() if isinstance(item.tag, str)]
    return XmlDocument(name, root, dict(zip(elements, places, strict=True)))


def _start_tags(data: bytes, name: str) -> Iterator[Position]:
    """The positions of all start tags in document order."""
    places: list[Position] = []
    depth = 0

    def started(_tag: str, _attributes: object) -> None:
        nonlocal depth
        depth += 1
        position = Position(parser.CurrentLineNumber, parser.CurrentColumnNumber + 1)
        if depth > MAX_DEPTH:
            raise CorruptInput(
                name,
                at=str(position),
                code="xml.too-deep",
                problem=f"elements nested deeper than {MAX_DEPTH}",
            )
        places.append(position)

    def ended(_tag: str) -> None:
        nonlocal depth
        depth -= 1

    def doctype(*_: object) -> None:
        raise UnsafeInput(
            name,
            at=str(Position(parser.CurrentLineNumber, parser.CurrentColumnNumber + 1)),
            code="xml.doctype",
            problem="declares a document type (<!DOCTYPE>), which could pull in other files",
            hint="remove the declaration; no descriptor format needs one",
        )

    parser = expat.ParserCreate()
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
    return iter(places)
