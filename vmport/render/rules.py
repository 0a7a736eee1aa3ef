"""The catalogue of rules, as text for people, as fields for programs, as a page of the manual."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vmport_converters.machine.rules.model import Rule

_WIDTH: Final = 96

_PAGE: Final = """\
# Validation rules

What `vmport validate` looks for, generated from the rules themselves (`vmport validate --rules`).
An *error* is something that a product refuses, or that keeps the machine from starting as it was; \
a *warning* is something that is lost, ignored or at risk; a *note* is worth knowing first. \
A rule may report a case at another level where its text says so. Rule ids are stable.
"""


def rule_fields(rule: Rule[Any]) -> dict[str, object]:
    """The JSON object for one rule."""
    return {
        "rule": rule.id,
        "dialect": rule.dialect.value,
        "layer": rule.layer.value,
        "severity": rule.severity.value,
        "affects": rule.affects,
        "summary": plain(rule.summary),
        "why": plain(rule.why),
    }


def print_rules(rules: Iterable[Rule[Any]]) -> None:
    """Print every rule: its id and severity, what it finds, and why that matters."""
    for rule in rules:
        sys.stdout.write(f"{rule.id} ({rule.severity.value}; {rule.affects})\n")
        for text in (rule.summary, rule.why):
            lines = textwrap.wrap(plain(text), _WIDTH, break_on_hyphens=False)
            sys.stdout.write(textwrap.indent("\n".join(lines), "    ") + "\n")


def rules_page(rules: Iterable[Rule[Any]]) -> str:
    """The page of the manual, in Markdown."""
    parts = [_PAGE]
    dialect = None
    for rule in rules:
        if rule.dialect is not dialect:
            dialect = rule.dialect
            parts.append(f"\n## {dialect.label}\n")
        parts.append(f"\n### {rule.id}\n\n")
        layer = f"{rule.severity.value}, {rule.layer.value}; affects {rule.affects}"
        parts.append(f"*{layer}*\n\n{_markdown(rule.summary)} {_markdown(rule.why)}\n")
    return "".join(parts)


def plain(text: str) -> str:
    """A docstring's text without the marks of its markup."""
    return " ".join(text.replace("``", "").split())


def _markdown(text: str) -> str:
    return " ".join(text.replace("``", "`").split())
