"""What ``vmport check`` found, as fields for programs and as a few lines for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmport.render.console import result_stream
from vmport.render.errors import printable
from vmport_formats.disk.check import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.check import CheckReport, Fault


def report_fields(report: CheckReport) -> dict[str, object]:
    """The JSON object, with qemu-img's names where it has them."""
    counts, statistics = report.counts, report.statistics
    fields: dict[str, object] = {
        "filename": report.name,
        "format": report.format.value,
        "sound": report.sound,
        "complete": report.complete,
        "corruptions": counts[Severity.ERROR],
        "leaks": counts[Severity.LEAK],
        "warnings": counts[Severity.WARNING],
    }
    known = {
        "total-clusters": statistics.total,
        "allocated-clusters": statistics.allocated,
        "compressed-clusters": statistics.compressed,
        "fragmented-clusters": statistics.fragmented,
        "image-end-offset": statistics.image_end,
    }
    fields |= {name: value for name, value in known.items() if value is not None}
    fields["faults"] = [_fault_fields(fault) for fault in report.faults]
    return fields


def _fault_fields(fault: Fault) -> dict[str, object]:
    return {
        "code": fault.code,
        "severity": fault.severity.value,
        "filename": fault.file,
        "at": fault.at,
        "clusters": fault.count,
        "text": fault.text,
    }


def print_report(report: CheckReport) -> None:
    """Print the outcome; text out of a file is escaped, so that it drives no terminal."""
    stream = result_stream()
    for line in _lines(report):
        stream.write(f"{printable(line)}\n")


def _lines(report: CheckReport) -> Iterator[str]:
    variant = "" if report.info is None else report.info.variant
    label = report.format.label
    kind = label if variant.lower() in {"", label.lower()} else f"{label} {variant}"
    verdict = "sound" if report.sound else ", ".join(_totals(report, warnings=False))
    yield f"{report.name} ({kind}): {verdict}"
    for fault in report.faults:
        yield f"  {fault.severity.value}: {_place(fault, report)}{fault.text} [{fault.code}]"
    told = sum(fault.count for fault in report.faults)
    if (more := report.counts.total() - told) > 0:
        yield f"  and {more} more"
    if not report.complete:
        yield "  not all could be looked at; a fault hid the rest"
    if line := _usage(report):
        yield f"  {line}"


def _place(fault: Fault, report: CheckReport) -> str:
    parts = [] if fault.file == report.name else [fault.file]
    if fault.at is not None:
        parts.append(f"offset {fault.at:#x}" if isinstance(fault.at, int) else fault.at)
    return "".join(f"{part}: " for part in parts)


def _totals(report: CheckReport, *, warnings: bool) -> Iterator[str]:
    for severity in Severity:
        number = report.counts[severity]
        if number and (warnings or severity is not Severity.WARNING):
            yield f"{number} {severity.value}{'s' * (number != 1)}"


def _usage(report: CheckReport) -> str:
    statistics = report.statistics
    if not statistics.total or statistics.allocated is None:
        return ""
    share = 100 * statistics.allocated / statistics.total
    parts = [f"{statistics.allocated} of {statistics.total} clusters in use ({share:.1f} %)"]
    if statistics.compressed:
        parts.append(f"{statistics.compressed} compressed")
    if statistics.fragmented is not None:
        parts.append(f"{statistics.fragmented} fragmented")
    return ", ".join(parts)
