"""``vmport check``: whether disk images are consistent in themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vmport.settings import Settings

if TYPE_CHECKING:
    from vmport.render.progress import ProgressDisplay
    from vmport_formats.disk.check import CheckReport
    from vmport_formats.disk.model import DiskFormat
    from vmport_formats.references import Reference
    from vmport_formats.source import ByteSource

_HELP = """Look for damage in the structure of disk images: each fault with its place in the file.

Tables that point outside the file, two parts of the disk in one place, wrong checksums, reference \
counts that are too low or too high, a parent that is not the one the disk was made from. The \
content of the disk, such as its filesystems, is not judged.

[bold]Examples[/bold]

  vmport check disk.qcow2

  vmport check --deep *.vmdk   [dim]# unpack what is compressed, too[/dim]

  vmport check --allow . disk.vmdk   [dim]# and its extents; is its parent the right one?[/dim]

  vmport check --json disk.vhdx | jq '.faults[] | select(.severity == "error")'

[bold]Severity[/bold]

"error": data is lost, or will be when the image is written to. "leak": room in the file is lost, \
and nothing else. "warning": odd, and sound nevertheless.

[bold]What is read[/bold]

Tables, and of a DMG all that its checksums are over. --deep reads and unpacks what is compressed. \
The parent is only asked whether it is the right one, and only in folders that --allow names; that \
of a VDI, known by a UUID alone, is looked for among the .vdi files in them.

[bold]Exit code[/bold]

0: there is neither an error nor a leak; 1: there is; 3: an image cannot be read at all, or uses \
what is not known here.

[bold]JSON[/bold]

The names are those of `qemu-img check --output=json` where the idea is the same; for qcow2, \
"corruptions" and "leaks" count as it does. One IMAGE gives an object, several give an array in \
which "error" stands for what could not be read. Nothing is repaired or written to: stop the \
machine that uses the image.
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("check", help=_HELP)(_check)


def _check(
    context: typer.Context,
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE", help="Disk images.", show_default=False)
    ],
    format_name: Annotated[
        str | None,
        typer.Option("--format", "-f", metavar="FORMAT", help="Read every IMAGE as this."),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow", metavar="DIR", help="Open files in DIR that an IMAGE names; repeatable."
        ),
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Unpack all that is compressed; takes longer.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    from vmport.commands.choices import format_named
    from vmport.render.check import print_report, report_fields
    from vmport.render.errors import print_error
    from vmport.render.inspection import failure_fields
    from vmport.render.json import print_json
    from vmport.render.progress import ProgressDisplay
    from vmport_formats.errors import VmportError

    declared = format_named("--format", format_name)
    quiet = Settings.of(context).quiet
    documents: list[dict[str, object]] = []
    exit_code = 0
    for image in images:
        try:
            with ProgressDisplay(shown=not quiet) as display:
                report = _report(image, declared, allow or [], display, deep=deep)
        except VmportError as error:
            if len(images) == 1:
                raise
            print_error(error)
            documents.append(failure_fields(image, error))
            exit_code = max(exit_code, error.exit_code)
            continue
        exit_code = max(exit_code, 0 if report.sound else 1)
        if as_json:
            documents.append(report_fields(report))
        else:
            print_report(report)
    if as_json:
        print_json(documents[0] if len(images) == 1 else documents)
    raise typer.Exit(exit_code)


def _report(
    image: str,
    declared: DiskFormat | None,
    allow: list[str],
    display: ProgressDisplay,
    *,
    deep: bool,
) -> CheckReport:
    from contextlib import ExitStack

    from vmport_formats.disk.check import check_image
    from vmport_formats.disk.granted import granted
    from vmport_formats.source import open_source

    resolver = granted(allow)
    with ExitStack() as stack:
        source = stack.enter_context(open_source(image))

        def opener(reference: Reference) -> ByteSource:
            return stack.enter_context(open_source(resolver(reference, named_by=image)))

        return check_image(
            source,
            opener,
            resolver,
            declared=declared,
            deep=deep,
            on_progress=lambda share: display.update("checking", share, source.size),
        )
