"""``vmport validate``: what will fail in a machine's descriptor, where, and how to mend it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vmport.settings import Settings
    from vmport_converters.machine.rules.targets import Target

FOUND_ERRORS = 1

_HELP = """Check descriptors of virtual machines: libvirt domain XML, VMX and OVF.

Each finding says where (file:line:column and the XPath or key), what is wrong and the limit, \
which products care, and how to mend it. The content tells what a FILE is, never its name. Nothing \
but FILE is opened.

An error is something that a product refuses, or that keeps the machine from starting as it was; a \
warning is something that is lost, ignored or at risk; a note is worth knowing before a move. The \
exit code is 1 when there is an error, and 3 or 4 when a FILE cannot be read or is unsafe.

[bold]Examples[/bold]

  vmport validate web.xml

  vmport validate --target esxi-7.0 --target virtualbox-7 appliance.ovf

  vmport validate --format sarif machines/*.vmx > findings.sarif

  vmport validate --rules   [dim]# every rule: what it finds, and why that matters[/dim]

[bold]Targets[/bold]

esxi-6.5, esxi-6.7, esxi-6.7u2, esxi-7.0, esxi-7.0u1, esxi-7.0u2, esxi-8.0, esxi-8.0u2, esxi-9.0, \
workstation-16, workstation-17, workstation-25h2, fusion-13, virtualbox-7, libvirt, virt-v2v, \
proxmox-8. A target adds what only that product minds, such as a hardware version that it does not \
run.

[bold]JSON[/bold]

An object: "files", an array with "filename", "dialect", "findings", "capped" (rules that had more \
to say than is shown) and "error" (null, or why the file could not be read), and "summary", the \
number of "errors", "warnings", "notes" and "unreadable" files. A finding has "rule", "severity", \
"line", "column", "where", "problem", "found", "expected", "affects" and "mend".
"""


class OutputFormat(StrEnum):
    """How the findings are printed."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("validate", help=_HELP)(_validate)


def _validate(
    context: typer.Context,
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", help="Descriptors.", show_default=False),
    ] = None,
    target_names: Annotated[
        list[str] | None,
        typer.Option("--target", metavar="NAME", help="Check for this product too; repeatable."),
    ] = None,
    output: Annotated[
        OutputFormat, typer.Option("--format", help="How to print the findings.")
    ] = OutputFormat.TEXT,
    as_json: Annotated[bool, typer.Option("--json", help="Short for --format json.")] = False,
    list_rules: Annotated[
        bool, typer.Option("--rules", help="Print every rule instead, and check nothing.")
    ] = False,
) -> None:
    from vmport.settings import Settings
    from vmport_formats.errors import UsageError

    form = OutputFormat.JSON if as_json else output
    if list_rules:
        _print_rules(form)
        return
    if not files:
        raise UsageError(
            None,
            code="usage.file",
            problem="no FILE to check",
            hint="vmport validate FILE..., or vmport validate --rules",
        )
    raise typer.Exit(_check(files, _targets(target_names or []), form, Settings.of(context)))


def _check(
    files: list[str], targets: tuple[Target, ...], form: OutputFormat, settings: Settings
) -> int:
    """Check `files`, print what was found, and return the exit code."""
    from vmport.render.errors import print_error
    from vmport.render.findings import print_findings, report_fields
    from vmport.render.json import print_json
    from vmport.render.sarif import sarif_log
    from vmport_converters.machine.rules.model import Severity
    from vmport_converters.machine.validate import validate_file

    reports = []
    for path in dict.fromkeys(files):
        report = validate_file(path, targets)
        reports.append(report)
        if form is OutputFormat.TEXT:
            print_findings(report, quiet=settings.quiet)
        if report.error is not None:
            print_error(report.error)
    if form is OutputFormat.JSON:
        print_json(report_fields(reports))
    elif form is OutputFormat.SARIF:
        print_json(sarif_log(reports))
    unreadable = [report.error.exit_code for report in reports if report.error is not None]
    if unreadable:
        return max(unreadable)
    return FOUND_ERRORS if any(report.count(Severity.ERROR) for report in reports) else 0


def _targets(names: list[str]) -> tuple[Target, ...]:
    if not names:
        return ()
    from vmport_converters.machine.rules.targets import find_target

    return tuple(dict.fromkeys(find_target(name) for name in names))


def _print_rules(form: OutputFormat) -> None:
    from vmport.render.json import print_json
    from vmport.render.rules import print_rules, rule_fields
    from vmport.render.sarif import sarif_log
    from vmport_converters.machine.validate import all_rules

    if form is OutputFormat.JSON:
        print_json([rule_fields(rule) for rule in all_rules()])
    elif form is OutputFormat.SARIF:
        print_json(sarif_log([]))
    else:
        print_rules(all_rules())
