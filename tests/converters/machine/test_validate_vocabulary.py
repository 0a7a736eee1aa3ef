"""libvirt's vocabulary agrees with the schema of the libvirt that is installed."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

import pytest
from lxml import etree

from vmport_converters.machine.rules.libvirt.vocabulary import Vocabulary, vocabulary_of
from vmport_converters.machine.validate import validate_bytes

SCHEMAS: Final = Path("/usr/share/libvirt/schemas")
GOOD: Final = Path(__file__).parents[3] / "fixtures" / "validate" / "good.xml"
RNG: Final = "{http://relaxng.org/ns/structure/1.0}"
MAX_DEPTH: Final = 12

pytestmark = pytest.mark.needs("virt-xml-validate")  # it comes with the schemas


class Grammar:
    """Just enough of RELAX NG to list what every element of a domain may hold."""

    def __init__(self) -> None:
        self.defines: dict[str, list[etree._Element]] = {}
        self._included: set[str] = set()
        self._include("domain.rng")

    def _include(self, name: str) -> None:
        if name in self._included:
            return
        self._included.add(name)
        for item in etree.parse(str(SCHEMAS / name)).getroot():
            if item.tag == f"{RNG}include":
                self._include(item.get("href", ""))
                for own in item.findall(f"{RNG}define"):
                    self.defines.setdefault(own.get("name", ""), []).append(own)
            elif item.tag == f"{RNG}define":
                self.defines.setdefault(item.get("name", ""), []).append(item)

    def names(self, pattern: etree._Element) -> list[str]:
        """The names of an element or attribute pattern; none for a wildcard."""
        if name := pattern.get("name"):
            return [name]
        first = next(pattern.iterchildren("*"))
        if first.tag == f"{RNG}name":
            return [(first.text or "").strip()]
        if first.tag == f"{RNG}choice":
            return [(item.text or "").strip() for item in first.iterchildren("*")]
        return []

    def values(self, pattern: etree._Element) -> set[str] | None:
        """The values of an attribute; None when they cannot be listed."""
        children = list(pattern.iterchildren("*"))
        if not children:
            return None
        found: set[str] = set()
        for child in children:
            kind = str(child.tag).removeprefix(RNG)
            if kind == "value":
                found.add((child.text or "").strip())
            elif kind == "name":
                continue
            elif kind == "ref":
                for define in self.defines[child.get("name", "")]:
                    inner = self.values(define)
                    if inner is None:
                        return None
                    found |= inner
            elif kind in ("choice", "group", "optional"):
                inner = self.values(child)
                if inner is None:
                    return None
                found |= inner
            else:
                return None
        return found

    def compare(self, define: str) -> list[str]:
        """What the vocabulary lacks, one line for each."""
        lacks: set[str] = set()
        for pattern in self.defines[define]:
            self._walk(pattern, (), frozenset(), lacks)
        return sorted(lacks)

    def _walk(
        self,
        pattern: etree._Element,
        path: tuple[str, ...],
        open_refs: frozenset[str],
        lacks: set[str],
    ) -> None:
        held = vocabulary_of(path) if path else Vocabulary(frozenset({"domain"}))
        for child in pattern.iterchildren("*"):
            kind = str(child.tag).removeprefix(RNG)
            if kind == "element":
                if child.get("ns"):
                    continue  # of another namespace, which is left alone
                for name in self.names(child):
                    if name not in held.children:
                        lacks.add(f"<{'/'.join(path)}/{name}>")
                    elif len(path) < MAX_DEPTH:
                        self._walk(child, (*path, name), open_refs, lacks)
            elif kind == "attribute":
                for name in self.names(child):
                    self._compare_attribute(child, name, held, path, lacks)
            elif kind == "ref":
                name = child.get("name", "")
                if name not in open_refs:
                    for define in self.defines[name]:
                        self._walk(define, path, open_refs | {name}, lacks)
            else:
                self._walk(child, path, open_refs, lacks)

    def _compare_attribute(
        self,
        pattern: etree._Element,
        name: str,
        held: Vocabulary,
        path: tuple[str, ...],
        lacks: set[str],
    ) -> None:
        where = f"{'/'.join(path)}/@{name}"
        if held.open:
            return
        if name not in held.attributes:
            lacks.add(where)
            return
        ours, theirs = held.attributes[name], self.values(pattern)
        if ours is not None and theirs is None:
            lacks.add(f"{where} takes anything")
        elif ours is not None and theirs is not None and not theirs <= ours:
            lacks.add(f"{where}: {theirs - ours}")


def test_the_vocabulary_has_all_that_the_schema_has() -> None:
    grammar = Grammar()
    assert len(grammar.defines) > 300, "this is not libvirt's schema"
    assert grammar.compare("domain") == []


def _libvirt_takes(text: str, folder: Path) -> bool:
    path = folder / "domain.xml"
    path.write_text(text, encoding="utf-8")
    done = subprocess.run(["virt-xml-validate", str(path), "domain"], capture_output=True)
    return done.returncode == 0


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("<watchdog ", "<watchdgo ", "libvirt.misspelled-element"),
        ("<watchdog model='i6300esb' action='reset'/>", "<toaster/>", "libvirt.unknown-element"),
        ("discard='unmap'", "dicsard='unmap'", "libvirt.misspelled-attribute"),
        ("discard='unmap'", "colour='red'", "libvirt.unknown-attribute"),
        ("discard='unmap'", "discard='unmpa'", "libvirt.unknown-value"),
        ("<on_reboot>restart", "<on_reboot>again", "libvirt.unknown-value"),
        ("<name>web</name>", "", "libvirt.name"),
        ("<vcpu ", "<vcpus ", "libvirt.unknown-attribute"),
    ],
)
def test_what_the_schema_refuses_is_found(old: str, new: str, rule: str, tmp_path: Path) -> None:
    text = GOOD.read_text(encoding="utf-8")
    assert _libvirt_takes(text, tmp_path)
    bad = text.replace(old, new).replace("</vcpu>", "</vcpus>" if old == "<vcpu " else "</vcpu>")
    assert not _libvirt_takes(bad, tmp_path)
    found = {finding.rule for finding in validate_bytes(bad.encode(), name="x.xml").findings}
    assert rule in found
