"""What a rule is, and what it finds."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vmport_converters.machine.rules.targets import Target
    from vmport_formats.machine.dialect import Dialect
    from vmport_formats.position import Position

Subject = TypeVar("Subject")


class Severity(StrEnum):
    """How bad a finding is; the values are those of SARIF."""

    ERROR = "error"
    """A product refuses the file, or the machine does not start or starts with the wrong thing."""
    WARNING = "warning"
    """It starts, but something is lost, ignored or at risk."""
    NOTE = "note"
    """Worth knowing before a move."""


class Layer(StrEnum):
    """How deep a rule looks; each layer makes sense once those before it hold."""

    SYNTAX = "syntax"
    STRUCTURE = "structure"
    SEMANTICS = "semantics"
    TARGET = "target"


@dataclass(frozen=True, slots=True)
class Found:
    """One place that breaks a rule, as the rule reports it."""

    position: Position
    where: str
    """The key of a VMX line, or the XPath of an element or attribute."""
    problem: str
    """What is wrong, with the limit that is broken."""
    mend: str
    found: str | None = None
    """The value at fault, as written."""
    expected: str | None = None
    """What may stand there instead."""
    affects: str | None = None
    """Which products and versions care, when that is narrower than the rule says."""
    severity: Severity | None = None
    """When it is other than the rule's."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One place that breaks a rule, ready to be shown."""

    rule: str
    severity: Severity
    position: Position
    where: str
    problem: str
    found: str | None
    expected: str | None
    affects: str
    mend: str


@dataclass(frozen=True, slots=True)
class Rule(Generic[Subject]):
    """One rule; its texts are its function's docstring."""

    id: str
    """Stable: ``vmx.scsi-reserved-unit``."""
    dialect: Dialect
    layer: Layer
    severity: Severity
    affects: str
    """Which products and versions care."""
    summary: str
    """One sentence."""
    why: str
    """What happens otherwise."""
    check: Callable[[Subject, Target | None], Iterable[Found]]


class Catalogue(Generic[Subject]):
    """The rules of one dialect, in the order in which they were written."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.rules: dict[str, Rule[Subject]] = {}

    def rule(
        self,
        name: str,
        severity: Severity,
        *,
        affects: str,
        layer: Layer = Layer.SEMANTICS,
    ) -> Callable[[Callable[[Subject], Iterable[Found]]], Callable[[Subject], Iterable[Found]]]:
        """Register a function of the descriptor as the rule `name`."""

        def register(
            check: Callable[[Subject], Iterable[Found]],
        ) -> Callable[[Subject], Iterable[Found]]:
            self._add(
                name, layer, severity, affects, check, lambda subject, _target: check(subject)
            )
            return check

        return register

    def target_rule(
        self, name: str, severity: Severity, *, affects: str
    ) -> Callable[
        [Callable[[Subject, Target], Iterable[Found]]], Callable[[Subject, Target], Iterable[Found]]
    ]:
        """Register a function of the descriptor and a target, run only when one is named."""

        def register(
            check: Callable[[Subject, Target], Iterable[Found]],
        ) -> Callable[[Subject, Target], Iterable[Found]]:
            def only_with_target(subject: Subject, target: Target | None) -> Iterable[Found]:
                return () if target is None else check(subject, target)

            self._add(name, Layer.TARGET, severity, affects, check, only_with_target)
            return check

        return register

    def _add(
        self,
        name: str,
        layer: Layer,
        severity: Severity,
        affects: str,
        documented: Callable[..., Iterable[Found]],
        check: Callable[[Subject, Target | None], Iterable[Found]],
    ) -> None:
        identifier = f"{self.dialect.value}.{name}"
        summary, _, why = inspect.cleandoc(documented.__doc__ or "").partition("\n\n")
        if identifier in self.rules or not summary or not why:
            raise ValueError(f"{identifier}: registered twice, or without summary and reason")
        why = " ".join(why.split())
        self.rules[identifier] = Rule(
            identifier, self.dialect, layer, severity, affects, summary, why, check
        )
