"""An XML tree that remembers what was taken from it, and so can tell what was not.

A reader walks `Node`s.  It takes a value with the model path that the value goes to; everything it
does not take is in the `Reading` all the same, as lost.  `Node.into` sets the path that the paths
given below it are relative to.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

from vmport_formats.errors import CorruptInput
from vmport_formats.machine.ledger import Leaf, Loss, ModelPath, Reading, stated

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from lxml import etree

    from vmport_formats.position import Position
    from vmport_formats.xml import XmlDocument

Model = TypeVar("Model")

MAX_LEAVES: Final = 5_000
"""Most values of one document; the largest machines have a fifth of it."""

HIDDEN: Final = "(not shown)"
"""What the ledger shows in place of a password."""


@dataclass(slots=True)
class Recorder:
    """The leaves of one document and what became of each so far."""

    document: XmlDocument
    leaves: dict[str, Leaf]
    taken: dict[str, list[ModelPath]] = field(default_factory=dict)
    lost: dict[str, Loss] = field(default_factory=dict)
    paths: dict[etree._Element, str] = field(default_factory=dict)

    @classmethod
    def of(cls, document: XmlDocument, *, secrets: Collection[str] = ()) -> Recorder:
        """A recorder of all leaves of `document`; those that `secrets` names are not shown.

        `secrets` are keys as in a loss table, each for one element or attribute alone.

        Raises:
            CorruptInput: there are more than `MAX_LEAVES`.
        """
        recorder = cls(document, {})
        for element, path in _element_paths(document.root):
            recorder.paths[element] = path
            position = document.position(element)
            if len(recorder.leaves) + len(element.attrib) >= MAX_LEAVES:
                raise CorruptInput(
                    document.name,
                    at=str(position),
                    code="machine.too-many-values",
                    problem=f"more than {MAX_LEAVES} values; no machine has so many",
                )
            places = document.attribute_positions(element) if element.attrib else {}
            for leaf_path, attribute, value in _leaves(element, path):
                secret = any(key in secrets for key in islice(xpath_keys(leaf_path), 3))
                shown = HIDDEN if secret else value
                place = places.get(attribute, position)
                recorder.leaves[leaf_path] = Leaf(leaf_path, shown, place, secret)
        return recorder

    @property
    def root(self) -> Node:
        """The root element."""
        return Node(self, self.document.root)

    def finish(self, model: Model, *, dialect: str, losses: Mapping[str, Loss]) -> Reading[Model]:
        """The finished `Reading`.

        `losses` explains what the model has no place for.  Its keys are paths without indices; a
        key stands for all that lies below it, unless it ends in a slash, and ``//name`` for an
        element or ``@attribute`` anywhere, of whatever prefix.
        """
        values = stated(model)
        taken: dict[str, tuple[ModelPath, ...]] = {}
        for path, destinations in self.taken.items():
            # What a reader looked at without keeping it was not taken.
            if arrived := tuple(to for to in dict.fromkeys(destinations) if to in values):
                taken[path] = arrived
        lost = dict(self.lost)
        for path in self.leaves:
            if path not in taken and path not in lost:
                known = (losses[key] for key in xpath_keys(path) if key in losses)
                if (loss := next(known, None)) is not None:
                    lost[path] = loss
        return Reading(
            model,
            self.document.name,
            dialect,
            tuple(self.leaves.values()),
            taken,
            lost,
        )


@dataclass(frozen=True, slots=True)
class Node:
    """An element of the source; reading a value from it records where the value goes."""

    recorder: Recorder
    element: etree._Element
    model: str = ""
    """The model path that destinations are relative to."""

    @property
    def tag(self) -> str:
        """The element's name, without its namespace."""
        return _local(str(self.element.tag))

    @property
    def path(self) -> str:
        """Its XPath."""
        return self.recorder.paths[self.element]

    @property
    def position(self) -> Position:
        """Where its start tag begins."""
        return self.recorder.document.position(self.element)

    def into(self, model: str) -> Node:
        """Itself, with destinations relative to the model path `model` (relative to its own)."""
        return Node(self.recorder, self.element, _join(self.model, model))

    def children(self, *tags: str) -> tuple[Node, ...]:
        """The child elements with one of these names (all, when none is given), in order.

        A name without a namespace finds only elements without one; ``{uri}name`` as lxml has it.
        """
        return tuple(
            Node(self.recorder, child, self.model)
            for child in self.element.iterchildren("*")
            if not tags or child.tag in tags
        )

    def child(self, tag: str) -> Node | None:
        """The only child element of this name, if there is one.

        Raises:
            CorruptInput: there are several, so that it is not clear which one counts.
        """
        found = self.children(tag)
        if len(found) > 1:
            raise found[1].error(
                "repeated", f"a second <{tag}> in <{self.tag}>; at most one has a meaning"
            )
        return found[0] if found else None

    def find(self, *tags: str) -> Node | None:
        """The element at the end of a chain of only children."""
        node: Node | None = self
        for tag in tags:
            node = None if node is None else node.child(tag)
        return node

    def peek(self, attribute: str) -> str | None:
        """An attribute's value, without taking it."""
        value = self.element.get(attribute)
        return None if value is None else value.strip()

    def peek_text(self) -> str:
        """The element's own text without surrounding space, without taking it."""
        return own_text(self.element).strip()

    def attribute(self, attribute: str, *to: str) -> str | None:
        """An attribute's value, taken to the model paths `to`; None when it is not there."""
        value = self.element.get(attribute)
        if value is None:
            return None
        self._take(f"{self.path}/@{_shown(self.element, attribute)}", to)
        return value.strip()

    def text(self, *to: str) -> str | None:
        """The element's own text without surrounding space, taken to `to`; None when blank."""
        text = own_text(self.element).strip()
        if not text:
            return None
        self._take(self.path, to)
        return text

    def present(self, *to: str) -> bool:
        """That the element is there says it all: take it, if it is an empty one; always true."""
        if self.path in self.recorder.leaves:
            self._take(self.path, to)
        return True

    def lose(self, loss: Loss) -> None:
        """All below this element that is not taken (now or later) is lost for this reason."""
        for inside in self.element.iter("*"):
            for path, _attribute, _value in _leaves(inside, self.recorder.paths[inside]):
                self.recorder.lost[path] = loss

    def lose_attribute(self, attribute: str, loss: Loss) -> None:
        """An attribute is lost for this reason."""
        if self.element.get(attribute) is not None:
            self.recorder.lost[f"{self.path}/@{_shown(self.element, attribute)}"] = loss

    def error(
        self, code: str, problem: str, *, attribute: str | None = None, hint: str | None = None
    ) -> CorruptInput:
        """An error about this element, or about its `attribute`, to be raised."""
        document = self.recorder.document
        where = self.path if attribute is None else f"{self.path}/@{attribute}"
        return CorruptInput(
            document.name,
            at=str(document.position(self.element, attribute)),
            code=f"machine.{code}",
            problem=f"{problem} ({where})",
            hint=hint,
        )

    def _take(self, leaf: str, to: tuple[str, ...]) -> None:
        known = self.recorder.taken.setdefault(leaf, [])
        known.extend(ModelPath(_join(self.model, path)) for path in to)


def own_text(element: etree._Element) -> str:
    """The text of an element that is not in a child element, comments left out."""
    return (element.text or "") + "".join(child.tail or "" for child in element)


def xpath_keys(path: str) -> Iterator[str]:
    """The keys under which a loss table may explain the leaf at `path`, the closest first.

    The first, with a slash at its end, is of the element itself and nothing in it.
    """
    steps = [step.split("[", 1)[0] for step in path.split("/")]
    yield "/".join(steps) + "/"
    while len(steps) > 1:
        yield "/".join(steps)
        yield f"//{steps[-1]}"
        if ":" in steps[-1]:
            yield f"//{steps[-1].partition(':')[2]}"
        steps.pop()


def _leaves(element: etree._Element, path: str) -> Iterator[tuple[str, str, str]]:
    """The leaves that an element itself has: path, name of the attribute (or none), value."""
    for name, value in element.attrib.items():
        yield f"{path}/@{_shown(element, str(name))}", str(name), str(value)
    text = own_text(element).strip()
    if text:
        yield path, "", text
    elif not element.attrib and next(element.iterchildren("*"), None) is None:
        yield path, "", ""


def _element_paths(root: etree._Element) -> Iterator[tuple[etree._Element, str]]:
    """Every element and its path; an index only where several siblings share a name."""
    open_levels = [iter([(root, f"/{_shown(root, str(root.tag))}")])]
    while open_levels:
        found = next(open_levels[-1], None)
        if found is None:
            open_levels.pop()
        else:
            yield found
            open_levels.append(_child_paths(*found))


def _child_paths(parent: etree._Element, path: str) -> Iterator[tuple[etree._Element, str]]:
    children = [(child, _shown(child, str(child.tag))) for child in parent.iterchildren("*")]
    total = Counter(name for _, name in children)
    seen: Counter[str] = Counter()
    for child, name in children:
        seen[name] += 1
        index = f"[{seen[name]}]" if total[name] > 1 else ""
        yield child, f"{path}/{name}{index}"


def _shown(element: etree._Element, name: str) -> str:
    """A name as a person would write it: with its prefix, not with its namespace."""
    if not name.startswith("{"):
        return name
    space, _, local = name[1:].partition("}")
    if element.prefix and element.nsmap.get(element.prefix) == space:
        return f"{element.prefix}:{local}"
    known = [prefix for prefix, uri in element.nsmap.items() if uri == space and prefix]
    return f"{min(known)}:{local}" if known else local


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _join(base: str, relative: str) -> str:
    return f"{base}.{relative}" if base and relative else base or relative
