"""What ``vmport validate`` found, as text for people and as fields for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport.render.console import result_console
from vmport.render.errors import printable
from vmport_converters.machine.rules.model import Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from vmport_converters.machine.rules.model import Finding
    from vmport_converters.machine.validate import FileReport
    from vmport_formats.errors import VmportError

_STYLES: Final = {
    Severity.ERROR: "bold red",
    Severity.WARNING: "bold yellow",
    Severity.NOTE: "bold cyan",
}


# --- JSON ---------------------------------------------------------------------------------------


def report_fields(reports: Sequence[FileReport]) -> dict[str, object]:
    """The JSON object for all files; the help of ``vmport validate`` describes it."""
    return {
        "files": [
            {
                "filename": report.path,
                "dialect": None if report.dialect is None else report.dialect.value,
                "findings": [finding_fields(finding) for finding in report.findings],
                "capped": list(report.capped),
                "error": None if report.error is None else error_fields(report.error),
            }
            for report in reports
        ],
        "summary": {
            "errors": sum(report.count(Severity.ERROR) for report in reports),
            "warnings": sum(report.count(Severity.WARNING) for report in reports),
            "notes": sum(report.count(Severity.NOTE) for report in reports),
            "unreadable": sum(report.error is not None for report in reports),
        },
    }


def finding_fields(finding: Finding) -> dict[str, object]:
    """The JSON object for one finding."""
    return {
        "rule": finding.rule,
        "severity": finding.severity.value,
        "line": finding.position.line,
        "column": finding.position.column,
        "where": finding.where,
        "problem": finding.problem,
        "found": finding.found,
        "expected": finding.expected,
        "affects": finding.affects,
        "mend": finding.mend,
    }


def error_fields(error: VmportError) -> dict[str, object]:
    """The JSON object for a file that could not be read."""
    return {
        "code": error.code,
        "text": error.problem,
        "at": error.at,
        "hint": error.hint,
        "exit-code": error.exit_code,
    }


# --- Text ---------------------------------------------------------------------------------------


def print_findings(report: FileReport, *, quiet: bool = False) -> None:
    """Print the findings of one file in the order of their places, then how many there are.

    When `quiet`, only errors are shown.
    """
    if report.dialect is None:
        return
    console = result_console()
    for finding in report.findings:
        if quiet and finding.severity is not Severity.ERROR:
            continue
        console.print(finding_text(report.path, finding), end="")
    for rule in report.capped:
        console.print(f"{printable(report.path)}: {rule}: and more of these")
    if not quiet:
        name, counts = printable(report.path), _counts(report)
        console.print(f"{name}: {report.dialect.label}: {counts}")


def finding_text(path: str, finding: Finding) -> Text:
    """One finding: ``path:line:column`` and what is wrong, where, who cares, how to mend it."""
    from rich.text import Text

    text = Text()
    text.append(f"{printable(path)}:{finding.position}: ", "bold")
    text.append(finding.severity.value, _STYLES[finding.severity])
    text.append(f": {printable(finding.problem)} ")
    text.append(f"[{finding.rule}]\n", "dim")
    place = f"{printable(finding.where)}; " if finding.where else ""
    text.append(f"    {place}affects {printable(finding.affects)}\n")
    if finding.found is not None and finding.expected is not None:
        found = printable(finding.found) or "nothing"
        text.append(f"    found: {found}; expected: {printable(finding.expected)}\n")
    text.append(f"    mend: {printable(finding.mend)}\n")
    return text


def _counts(report: FileReport) -> str:
    words = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "note"}
    parts = [
        f"{count} {word}{'' if count == 1 else 's'}"
        for severity, word in words.items()
        if (count := report.count(severity))
    ]
    return ", ".join(parts) or "nothing found"
