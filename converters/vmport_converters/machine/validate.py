"""Checks descriptors of virtual machines against the rules: what will fail, where, how to mend it.

The layers follow each other: text and XML that cannot be read is an error of the file; then come
the rules of `rules`, for syntax, structure, semantics and, when the user names one, a target.
Everything works on bytes; only `validate_file` opens a file, and only the one it is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from vmport_converters.machine.descriptor import (
    LibvirtText,
    OvfText,
    VmxText,
    dialect_of,
    parse_descriptor,
    refuse_other_files,
)
from vmport_converters.machine.rules import libvirt, ovf, vmx
from vmport_converters.machine.rules.model import Finding, Found, Layer, Rule, Severity
from vmport_formats.errors import CorruptInput, VmportError
from vmport_formats.machine.ovf.envelope import read_envelope
from vmport_formats.source import open_source
from vmport_formats.xml import MAX_XML

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from os import PathLike

    from vmport_converters.machine.descriptor import Descriptor
    from vmport_converters.machine.rules.targets import Target
    from vmport_formats.machine.dialect import Dialect

__all__ = [
    "MAX_DESCRIPTOR",
    "MAX_PER_RULE",
    "FileReport",
    "all_rules",
    "validate_bytes",
    "validate_file",
]

MAX_DESCRIPTOR: Final = MAX_XML
"""Largest descriptor that is read, in bytes."""

MAX_PER_RULE: Final = 25
"""Most findings of one rule in one file; a report of thousands helps nobody."""

_LONGEST_TEXT: Final = 400


@dataclass(frozen=True, slots=True)
class FileReport:
    """What was found in one file."""

    path: str
    dialect: Dialect | None
    """None when the file could not be read."""
    findings: tuple[Finding, ...]
    """In the order of their places."""
    capped: tuple[str, ...] = ()
    """Rules that had more to say than is shown."""
    error: VmportError | None = None
    """Why the file could not be read."""

    def count(self, severity: Severity) -> int:
        """How many findings are of this severity."""
        return sum(finding.severity is severity for finding in self.findings)


def validate_file(path: str | PathLike[str], targets: Sequence[Target] = ()) -> FileReport:
    """Check the file at `path`, for `targets` too; what keeps it from being read is reported."""
    try:
        with open_source(path) as source:
            refuse_other_files(source)
            if source.size > MAX_DESCRIPTOR:
                raise CorruptInput(
                    source.name,
                    code="validate.too-large",
                    problem=f"{source.size} bytes; descriptors of at most {MAX_DESCRIPTOR} are "
                    "read",
                    hint="is this really a descriptor?",
                )
            data = source.read_at(0, source.size)
        return validate_bytes(data, name=source.name, targets=targets)
    except VmportError as error:
        return FileReport(str(path), None, (), error=error)


def validate_bytes(data: bytes, *, name: str, targets: Sequence[Target] = ()) -> FileReport:
    """Check `data`, the content of the file called `name`, for `targets` too.

    Raises:
        VmportError: it cannot be read; see `parse_descriptor`.
    """
    descriptor = parse_descriptor(data, name=name)
    dialect = dialect_of(descriptor)
    rules, subject = _subject(descriptor)
    findings: list[Finding] = []
    capped: list[str] = []
    for rule in rules.values():
        for target in targets if rule.layer is Layer.TARGET else (None,):
            found = list(islice(rule.check(subject, target), MAX_PER_RULE + 1))
            if len(found) > MAX_PER_RULE:
                capped.append(rule.id)
            findings.extend(_finding(rule, one) for one in found[:MAX_PER_RULE])
    unique = dict.fromkeys(findings)
    ordered = sorted(unique, key=lambda finding: (finding.position, finding.rule))
    return FileReport(name, dialect, tuple(ordered), tuple(dict.fromkeys(capped)))


def all_rules() -> Iterator[Rule[Any]]:
    """Every rule there is, by dialect and id."""
    catalogues: tuple[dict[str, Rule[Any]], ...] = (
        libvirt.RULES.rules,
        vmx.RULES.rules,
        ovf.RULES.rules,
    )
    for rules in catalogues:
        yield from (rules[name] for name in sorted(rules))


def _subject(descriptor: Descriptor) -> tuple[dict[str, Rule[Any]], object]:
    """The rules for a descriptor, and what they look at."""
    match descriptor:
        case VmxText(document):
            return vmx.RULES.rules, vmx.VmxView(document)
        case OvfText(document):
            return ovf.RULES.rules, read_envelope(document)
        case LibvirtText(document):
            return libvirt.RULES.rules, libvirt.DomainView(document)


def _finding(rule: Rule[Any], found: Found) -> Finding:
    return Finding(
        rule.id,
        found.severity or rule.severity,
        found.position,
        _clip(found.where),
        _clip(found.problem),
        None if found.found is None else _clip(found.found),
        None if found.expected is None else _clip(found.expected),
        found.affects or rule.affects,
        _clip(found.mend),
    )


def _clip(text: str) -> str:
    """`text`, cut when a hostile file made it long."""
    return text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…"
