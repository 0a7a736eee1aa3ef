"""Rules for the elements, attributes and values that libvirt knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vmport_converters.machine.rules.libvirt.view import ALL, RULES, SCHEMA, text_of
from vmport_converters.machine.rules.libvirt.vocabulary import parents_of
from vmport_converters.machine.rules.model import Found, Layer, Severity
from vmport_converters.machine.rules.spelling import Speller

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lxml import etree

    from vmport_converters.machine.rules.libvirt.view import DomainView

_MANY_PARENTS = 3


class _Unknown(NamedTuple):
    """Something that the vocabulary does not have."""

    element: etree._Element
    name: str
    meant: str | None


def _unknown_elements(domain: DomainView) -> Iterator[_Unknown]:
    speller = Speller()
    for element, held in domain.known:
        for child in element.iterchildren("*"):
            name = str(child.tag)
            if name not in held.children and not name.startswith("{"):
                yield _Unknown(child, name, speller.nearest(name, held.children))


def _unknown_attributes(domain: DomainView) -> Iterator[_Unknown]:
    speller = Speller()
    for element, held in domain.known:
        names = frozenset(held.attributes)
        for name in map(str, element.attrib):
            if name not in names and not name.startswith("{"):
                yield _Unknown(element, name, speller.nearest(name, names))


@RULES.rule("misspelled-element", Severity.ERROR, affects=ALL, layer=Layer.STRUCTURE)
def misspelled_element(domain: DomainView) -> Iterator[Found]:
    """An element is unknown, and nearly a known one.

    libvirt ignores it without a word, and the domain lacks what was meant; with schema validation
    it refuses the domain, and names another element than the guilty one.
    """
    for element, name, meant in _unknown_elements(domain):
        if meant is not None:
            yield domain.at(
                element,
                f"<{_parent(element)}> has no element <{name}>; did you mean <{meant}>?",
                f"write <{meant}>",
                expected=meant,
            )


@RULES.rule("unknown-element", Severity.WARNING, affects=SCHEMA, layer=Layer.STRUCTURE)
def unknown_element(domain: DomainView) -> Iterator[Found]:
    """An element is unknown in this place.

    libvirt ignores it without a word; with schema validation it refuses the domain.  A libvirt
    newer than vmport may know it.
    """
    for element, name, meant in _unknown_elements(domain):
        if meant is None:
            parents = parents_of(name)
            places = " or ".join(f"<{parent}>" for parent in parents[:_MANY_PARENTS])
            elsewhere = f"; it belongs into {places}" if parents else ""
            yield domain.at(
                element,
                f"<{_parent(element)}> has no element <{name}>{elsewhere}",
                f"move it into {places}" if parents else "remove it",
            )


@RULES.rule("misspelled-attribute", Severity.ERROR, affects=ALL, layer=Layer.STRUCTURE)
def misspelled_attribute(domain: DomainView) -> Iterator[Found]:
    """An attribute is unknown, and nearly a known one.

    libvirt ignores it without a word, and takes the default; with schema validation it refuses
    the domain.
    """
    for element, name, meant in _unknown_attributes(domain):
        if meant is not None and meant not in element.attrib:
            yield domain.at(
                element,
                f"<{element.tag}> has no attribute {name}; did you mean {meant}?",
                f"write {meant}",
                attribute=name,
            )


@RULES.rule("unknown-attribute", Severity.WARNING, affects=SCHEMA, layer=Layer.STRUCTURE)
def unknown_attribute(domain: DomainView) -> Iterator[Found]:
    """An attribute is unknown in this place.

    libvirt ignores it without a word; with schema validation it refuses the domain.  A libvirt
    newer than vmport may know it.
    """
    for element, name, meant in _unknown_attributes(domain):
        if meant is None or meant in element.attrib:
            yield domain.at(
                element,
                f"<{element.tag}> has no attribute {name}",
                "remove it",
                attribute=name,
            )


@RULES.rule("unknown-value", Severity.WARNING, affects=ALL, layer=Layer.STRUCTURE)
def unknown_value(domain: DomainView) -> Iterator[Found]:
    """A value is none of those that libvirt knows for the attribute or element.

    libvirt refuses the domain: "invalid value for attribute".  It is an error when the value is
    nearly a known one; else a libvirt newer than vmport may know it.
    """
    speller = Speller()
    for element, held in domain.known:
        for name, values in held.attributes.items():
            value = element.get(name)
            if value is None or values is None or value in values:
                continue
            meant = speller.nearest(value, values)
            yield domain.at(
                element,
                f"libvirt knows no {name}='{value}' for <{element.tag}>" + _did_you_mean(meant),
                f"write {name}='{meant}'" if meant else "write one of the known values",
                attribute=name,
                expected=_list(values),
                severity=Severity.ERROR if meant else None,
            )
        text = text_of(element)
        if held.values is not None and text not in held.values:
            meant = speller.nearest(text, held.values)
            yield domain.at_text(
                element,
                f"libvirt knows no <{element.tag}> {text!r}" + _did_you_mean(meant),
                f"write {meant}" if meant else "write one of the known values",
                expected=_list(held.values),
                severity=Severity.ERROR if meant else None,
            )


def _parent(element: etree._Element) -> str:
    parent = element.getparent()
    return "" if parent is None else str(parent.tag)


def _did_you_mean(meant: str | None) -> str:
    return f"; did you mean {meant}?" if meant else ""


def _list(values: frozenset[str]) -> str:
    words = sorted(values)
    return ", ".join(words[:12]) + (", ..." if len(words) > 12 else "")
