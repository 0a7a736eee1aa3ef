"""Whatever the source holds and whatever reader and writer do, every value is entered once."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmport_formats.machine.ledger import (
    Books,
    Impact,
    Loss,
    Reading,
    Verdict,
    compose,
    stated,
)
from vmport_formats.machine.reading import HIDDEN, Node, Recorder
from vmport_formats.xml import parse_xml

NAMES = ("a", "b", "c", "p:a", "q:a")
TEXTS = st.sampled_from(["", " ", "x", "y z", "é", "<&>", "\n\t"])


@dataclass(frozen=True, slots=True)
class Thing:
    """A model of anything: the values that were taken, in order."""

    values: tuple[str, ...] = ()


def elements() -> st.SearchStrategy[str]:
    """XML elements of any shape: mixed content, comments, CDATA, prefixes, repeated names."""

    def element(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        attributes = st.dictionaries(st.sampled_from(NAMES), TEXTS, max_size=3)
        content = st.lists(
            TEXTS.map(escape) | st.just("<!-- note -->") | st.just("<![CDATA[ <z/> ]]>") | children,
            max_size=4,
        )
        return st.builds(_element, st.sampled_from(NAMES), attributes, content)

    return st.recursive(element(st.nothing()), element, max_leaves=12)


def _element(name: str, attributes: dict[str, str], content: list[str]) -> str:
    written = "".join(f" {key}={quoteattr(value)}" for key, value in attributes.items())
    return f"<{name}{written}>{''.join(content)}</{name}>"


def documents() -> st.SearchStrategy[bytes]:
    spaces = "xmlns:p='urn:p' xmlns:q='urn:q'"
    return st.lists(elements(), max_size=4).map(
        lambda parts: f"<root {spaces}>{''.join(parts)}</root>".encode()
    )


def count_leaves(data: bytes) -> Counter[str]:
    """The values of a document as the standard library's parser sees them."""
    values: Counter[str] = Counter()
    for element in ET.fromstring(data).iter():
        values.update(element.attrib.values())
        text = "".join([element.text or "", *(child.tail or "" for child in element)]).strip()
        if text:
            values[text] += 1
        elif not element.attrib and len(element) == 0:
            values[""] += 1
    return values


def take_some(node: Node, choices: st.DataObject, values: list[str]) -> None:
    """Walk the tree as a reader would, taking what chance decides."""
    for name in node.element.attrib:
        if choices.draw(st.booleans()):
            value = node.attribute(str(name), f"values[{len(values)}]")
            assert value is not None
            values.append(value)
    if choices.draw(st.booleans()):
        text = node.text(f"values[{len(values)}]")
        if text is not None:
            values.append(text)
    for child in node.children():
        if choices.draw(st.booleans()):
            take_some(child, choices, values)


@given(documents(), st.data())
def test_every_leaf_is_entered_once(data: bytes, choices: st.DataObject) -> None:
    recorder = Recorder.of(parse_xml(data, name="x"))
    taken: list[str] = []
    take_some(recorder.root, choices, taken)
    reading = recorder.finish(Thing(tuple(taken)), dialect="any", losses={"//b": Loss("known")})
    books = Books(reading.model, dialect="other")
    for path in stated(reading.model):
        fate = choices.draw(st.sampled_from(["kept", "adapted", "dropped", "both", "forgotten"]))
        if fate in {"kept", "both"}:
            books.kept(path, place="here")
        if fate in {"adapted", "both"}:
            books.adapted(path, place="there", after="z", why="so")
        if fate == "dropped":
            books.dropped(path, loss=Loss("no"))
    books.defaulted(place="extra", after="1", why="needed")
    ledger = compose(reading, books.close("", losses={}))

    sources = [entry.source for entry in ledger.entries if entry.source is not None]
    assert Counter(leaf.value.strip() for leaf in sources) == count_stripped(count_leaves(data))
    assert len({leaf.path for leaf in sources}) == len(sources)
    survivors = [e for e in ledger.entries if e.verdict in {Verdict.KEPT, Verdict.ADAPTED}]
    assert len(survivors) <= len(taken)
    assert all(entry.model for entry in survivors)
    assert all(e.why for e in ledger.entries if e.verdict is not Verdict.KEPT)
    (extra,) = [entry for entry in ledger.entries if entry.source is None]
    assert extra.verdict is Verdict.DEFAULTED


def count_stripped(values: Counter[str]) -> Counter[str]:
    total: Counter[str] = Counter()
    for value, count in values.items():
        total[value.strip()] += count
    return total


def read_thing(data: bytes, *takes: str) -> Reading[Thing]:
    """Take texts of children by name."""
    recorder = Recorder.of(parse_xml(data, name="x"), secrets={"//@key"})
    values: list[str] = []
    for tag in takes:
        node = recorder.root.child(tag)
        assert node is not None
        value = node.text(f"values[{len(values)}]")
        assert value is not None
        values.append(value)
    return recorder.finish(Thing(tuple(values)), dialect="any", losses={"//c": Loss("known")})


def test_a_value_that_serves_several_ends_is_judged_by_the_worst() -> None:
    recorder = Recorder.of(parse_xml(b"<r><a>1</a></r>", name="x"))
    node = recorder.root.child("a")
    assert node is not None
    node.text("values[0]", "values[1]")
    reading = recorder.finish(Thing(("1", "1")), dialect="any", losses={})
    books = Books(reading.model, dialect="other")
    books.kept("values[0]", place="one")
    books.dropped("values[1]", loss=Loss("no", impact=Impact.MAJOR))
    (entry,) = compose(reading, books.close("", losses={})).entries
    assert (entry.verdict, entry.impact, entry.places) == (
        Verdict.DROPPED,
        Impact.MAJOR,
        ("one",),
    )


def test_what_nobody_explains_is_dropped_with_unknown_impact() -> None:
    reading = read_thing(b"<r><a>1</a><b/><c/></r>", "a")
    entries = compose(reading, Books(reading.model, dialect="other").close("", losses={})).entries
    assert [(entry.verdict, entry.impact) for entry in entries] == [
        (Verdict.DROPPED, Impact.UNKNOWN),  # taken, but forgotten by the writer
        (Verdict.DROPPED, Impact.UNKNOWN),  # not taken
        (Verdict.DROPPED, Impact.MINOR),  # not taken, but the table knows it
    ]


def test_a_value_without_a_source_is_shown_as_chosen() -> None:
    reading = read_thing(b"<r/>")
    guess = Reading(Thing(("guess",)), "x", "any", reading.leaves, {}, {})
    books = Books(guess.model, dialect="other")
    books.kept("values[0]", place="here")
    chosen = compose(guess, books.close("", losses={})).entries[-1]
    assert (chosen.verdict, chosen.source) == (Verdict.DEFAULTED, None)


def test_the_value_of_a_secret_is_not_repeated() -> None:
    reading = read_thing(b"<r><a key='hunter2'/></r>")
    (leaf,) = reading.leaves
    assert (leaf.value, leaf.secret, str(leaf.position)) == (HIDDEN, True, "1:7")


def test_positions_are_those_of_the_attribute_or_element() -> None:
    reading = read_thing(b"<r>\n  <a\n     x='1' y='2'>t</a>\n</r>")
    assert [(leaf.path, str(leaf.position)) for leaf in reading.leaves] == [
        ("/r/a/@x", "3:6"),
        ("/r/a/@y", "3:12"),
        ("/r/a", "2:3"),
    ]


def test_mentioning_an_unknown_path_changes_nothing() -> None:
    books = Books(Thing(("1",)), dialect="other")
    books.kept("values[7]", "nothing", place="here")
    writing = books.close("", losses={"values[*]": Loss("table")})
    assert [(outcome.path, outcome.why) for outcome in writing.outcomes] == [("values[0]", "table")]


@pytest.mark.parametrize("data", [b"<r/>", b"<r> </r>", b"<r><!-- c --></r>"])
def test_an_empty_document_has_one_leaf(data: bytes) -> None:
    assert [leaf.path for leaf in read_thing(data).leaves] == ["/r"]
