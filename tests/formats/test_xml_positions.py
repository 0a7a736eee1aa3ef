"""XML knows the place of every element, attribute and text, in any encoding, and has limits."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmport_formats.errors import CorruptInput, UnsafeInput, VmportError
from vmport_formats.xml import MAX_ATTRIBUTES, MAX_DEPTH, MAX_ELEMENTS, MAX_XML, parse_xml

# ▲ marks an element, ◆ an attribute, ● a text; each is taken out before the text is parsed.
MARKED = """<?xml version='1.0' encoding='{encoding}'?>
<!-- a comment
   --><▲root xmlns:o="urn:o"
  ◆one="1"
\t ◆o:two = '2>"'><▲é/>
  <▲o:three ◆a="x"
       ◆xml:lang="de">

    ●ä text<▲four
    /></o:three>
</root>
"""


def _place(text: str, index: int) -> str:
    before = text[:index]
    return f"{before.count(chr(10)) + 1}:{index - before.rfind(chr(10))}"


def _marks(text: str) -> tuple[str, dict[str, list[str]]]:
    """The text without its marks, and the places that they stood at."""
    places: dict[str, list[str]] = {"▲": [], "◆": [], "●": []}
    plain = ""
    for sign in text:
        if sign in places:
            places[sign].append(_place(plain, len(plain) - (1 if sign == "▲" else 0)))
        else:
            plain += sign
    return plain, places


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "windows-1252", "iso-8859-1"])
def test_places_in_any_encoding(encoding: str) -> None:
    text, places = _marks(MARKED.replace("{encoding}", encoding))
    document = parse_xml(text.encode(encoding), name="x.xml")
    elements = list(document.root.iter("*"))
    assert [str(document.position(item)) for item in elements] == places["▲"]
    found = [str(document.position(item, str(name))) for item in elements for name in item.attrib]
    assert found == places["◆"]
    assert [str(document.text_position(elements[2]))] == places["●"]
    assert document.position(elements[0], "absent") == document.position(elements[0])


def test_a_document_type_is_shown_where_it_begins() -> None:
    with pytest.raises(UnsafeInput) as caught:
        parse_xml(b"<!-- \n -->  <!DOCTYPE a [ <!ENTITY b 'c'>\n]><a/>", name="x.xml")
    assert caught.value.at == "2:7"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_takes_no_place(encoding: str) -> None:
    document = parse_xml("<a b='1'><c/></a>".encode(encoding), name="x.xml")
    assert str(document.position(document.root)) == "1:1"
    assert str(document.position(document.root, "b")) == "1:4"
    assert str(document.position(document.root[0])) == "1:10"


_NAMES = st.from_regex(r"[a-z]{1,6}", fullmatch=True)
_VALUES = st.text(st.characters(codec="utf-8", exclude_characters='<&"\r', min_codepoint=32))


@given(st.dictionaries(_NAMES, _VALUES, max_size=6), st.text(" \n\t", min_size=1, max_size=9))
def test_attribute_places_with_any_spacing(attributes: dict[str, str], space: str) -> None:
    body = "".join(f'{space}{name}{space}={space}"{value}"' for name, value in attributes.items())
    text = f"<r>\n  <e{body}{space}/>\n</r>"
    document = parse_xml(text.encode(), name="x.xml")
    lines = text.split("\n")
    for name in attributes:
        place = document.position(document.root[0], name)
        assert lines[place.line - 1][place.column - 1 :].startswith(name)
        assert document.attribute_positions(document.root[0])[name] == place


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"<!DOCTYPE a><a/>", "xml.doctype"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "xml.doctype"),
        (b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>', "xml.doctype"),
        (
            b"<!DOCTYPE a [" + b'<!ENTITY b "bb"><!ENTITY c "&b;&b;">' * 9 + b"]><a>&c;</a>",
            "xml.doctype",
        ),
        (b'<?xml version="1.0" encoding="UTF-16"?><a/>', "xml.not-well-formed"),
        (b'<?xml version="1.0" encoding="Shift_JIS"?><a/>', "xml.encoding"),
        (b'<?xml version="1.0" encoding="hex"?><a/>', "xml.encoding"),
        (b"<a>&b;</a>", "xml.not-well-formed"),
        (b"<a>\0</a>", "xml.not-well-formed"),
        (b"<a b='\xff'/>", "xml.not-well-formed"),
        (b"<a" + b" b" * 9 + b"/>", "xml.not-well-formed"),
        (b"", "xml.not-well-formed"),
        (b"<o:a/>", "xml.not-well-formed"),
        (b"<a>" * (MAX_DEPTH + 1), "xml.too-deep"),
        (b"<a>" + b"<b/>" * MAX_ELEMENTS + b"</a>", "xml.too-many-elements"),
        (
            b"<a" + b"".join(b" a%d=''" % n for n in range(MAX_ATTRIBUTES + 1)) + b"/>",
            "xml.too-many-attributes",
        ),
        (b" " * (MAX_XML + 1), "xml.too-large"),
    ],
)
def test_what_is_refused_is_refused_quickly(data: bytes, code: str) -> None:
    started = time.process_time()
    with pytest.raises(VmportError) as caught:
        parse_xml(data, name="x.xml")
    assert caught.value.code == code
    assert isinstance(caught.value, UnsafeInput if code == "xml.doctype" else CorruptInput)
    assert time.process_time() - started < 1


@given(st.binary(max_size=300))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    with suppress(VmportError):
        parse_xml(data, name="x.xml")
