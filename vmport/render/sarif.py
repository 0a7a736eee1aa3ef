"""Findings as SARIF 2.1.0, the OASIS standard that code-scanning services and editors read."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from vmport import __version__
from vmport.render.rules import plain
from vmport_converters.machine.validate import all_rules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmport_converters.machine.rules.model import Finding, Rule
    from vmport_converters.machine.validate import FileReport
    from vmport_formats.errors import VmportError

_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"


def sarif_log(reports: Sequence[FileReport]) -> dict[str, object]:
    """A SARIF log with one run: all rules, all findings, and the files that could not be read."""
    rules = list(all_rules())
    index = {rule.id: number for number, rule in enumerate(rules)}
    errors = [(report.path, report.error) for report in reports if report.error is not None]
    run = {
        "tool": {
            "driver": {
                "name": "vmport",
                "version": __version__,
                "semanticVersion": __version__,
                "rules": [_rule(rule) for rule in rules],
            }
        },
        "columnKind": "unicodeCodePoints",
        "invocations": [
            {
                "executionSuccessful": not errors,
                "toolExecutionNotifications": [_notification(*error) for error in errors],
            }
        ],
        "artifacts": [{"location": {"uri": _uri(report.path)}} for report in reports],
        "results": [
            result
            for number, report in enumerate(reports)
            for result in _results(report, number, index)
        ],
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(rule: Rule[Any]) -> dict[str, object]:
    return {
        "id": rule.id,
        "shortDescription": {"text": plain(rule.summary)},
        "fullDescription": {"text": f"{plain(rule.summary)} {plain(rule.why)}"},
        "help": {"text": f"{plain(rule.why)} Affects {rule.affects}."},
        "defaultConfiguration": {"level": rule.severity.value},
        "properties": {"tags": [rule.dialect.value, rule.layer.value], "affects": rule.affects},
    }


def _results(report: FileReport, number: int, index: dict[str, int]) -> list[dict[str, object]]:
    seen: Counter[str] = Counter()
    results = []
    for finding in report.findings:
        key = f"{finding.rule} {finding.where} {finding.problem}"
        seen[key] += 1
        fingerprint = hashlib.sha256(f"{key} {seen[key]}".encode("utf-8", "surrogatepass"))
        results.append(_result(report.path, number, finding, index, fingerprint.hexdigest()))
    return results


def _result(
    path: str, number: int, finding: Finding, index: dict[str, int], fingerprint: str
) -> dict[str, object]:
    result: dict[str, object] = {
        "ruleId": finding.rule,
        "level": finding.severity.value,
        "message": {"text": f"{finding.problem}. Mend: {finding.mend}."},
        "locations": [_location(path, number, finding)],
        "partialFingerprints": {"findingPlace/v1": fingerprint},
        "properties": {
            "found": finding.found,
            "expected": finding.expected,
            "affects": finding.affects,
            "mend": finding.mend,
        },
    }
    if finding.rule in index:
        result["ruleIndex"] = index[finding.rule]
    return result


def _location(path: str, number: int, finding: Finding) -> dict[str, object]:
    place = finding.position
    location: dict[str, object] = {
        "physicalLocation": {
            "artifactLocation": {"uri": _uri(path), "index": number},
            "region": {"startLine": place.line, "startColumn": place.column},
        }
    }
    if finding.where:
        location["logicalLocations"] = [{"fullyQualifiedName": finding.where}]
    return location


def _notification(path: str, error: VmportError) -> dict[str, object]:
    hint = f" {error.hint}." if error.hint else ""
    return {
        "level": "error",
        "descriptor": {"id": error.code},
        "message": {"text": f"{error.problem}.{hint}"},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": _uri(path)}}}],
    }


def _uri(path: str) -> str:
    """`path` as a URI reference: relative as it was given, or of scheme ``file``."""
    quoted = quote(path.encode("utf-8", "surrogateescape"), safe="/-._~")
    if PurePosixPath(path).is_absolute():
        return f"file://{quoted}"
    return f"./{quoted}" if ":" in path.partition("/")[0] else quoted
