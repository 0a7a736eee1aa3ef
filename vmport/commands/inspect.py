"""``vmport inspect``: what a disk image is, from its own metadata, opening nothing but it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vmport.render.inspection import Inspection
    from vmport_formats.disk.model import DiskFormat

_HELP = """Show what a disk image is: format, sizes, the files that it names, and if it is safe.

The content decides, never the file's name. Nothing is opened but SOURCE itself: a backing file, \
data file, extent or parent is named, not read. SOURCE is only looked at, so an unsafe one is no \
error here.

[bold]Examples[/bold]

  vmport inspect disk.qcow2

  vmport inspect --format raw disk.img   [dim]# do not probe[/dim]

  vmport inspect --json *.vmdk | jq '.[] | select(.safety.verdict == "unsafe")'

[bold]Safety[/bold]

"safe" means that the disk's content lies in this one file, and that no program can take it for \
something else. Each reason against it has a stable code, such as qcow2.backing-file.

[bold]JSON[/bold]

The names are those of `qemu-img info --output=json` where the idea is the same. One SOURCE gives \
an object, several give an array in which "error" stands for what could not be read. The JSON has \
every field; the text has them all after `vmport -v inspect`.
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("inspect", help=_HELP)(_inspect)


def _inspect(
    context: typer.Context,
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE", help="Disk images.", show_default=False)
    ],
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            help="Read every SOURCE as this format instead of probing: raw, qcow2, vmdk, vhd (or "
            "vpc), vhdx, vdi, qcow, qed, parallels, dmg, cloop, bochs, luks.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    from vmport.render.errors import print_error
    from vmport.render.inspection import failure_fields, image_fields, print_inspections
    from vmport.render.json import print_json
    from vmport.settings import Settings
    from vmport_formats.errors import VmportError

    everything = Settings.of(context).verbose
    declared = None if format_name is None else _format_named(format_name)
    if len(sources) == 1:
        inspection = inspect_image(sources[0], declared)
        if as_json:
            print_json(image_fields(inspection))
        else:
            print_inspections([inspection], everything=everything)
        return
    inspections, documents, exit_code = [], [], 0
    for source in sources:
        try:
            inspection = inspect_image(source, declared)
        except VmportError as error:
            print_error(error)
            documents.append(failure_fields(source, error))
            exit_code = max(exit_code, error.exit_code)
        else:
            inspections.append(inspection)
            documents.append(image_fields(inspection))
    if as_json:
        print_json(documents)
    else:
        print_inspections(inspections, everything=everything)
    raise typer.Exit(exit_code)


def inspect_image(source: str, declared: DiskFormat | None = None) -> Inspection:
    """Look at one image.

    Raises:
        VmportError: as `vmport_formats.disk.probe.probe`.
    """
    from vmport.render.inspection import Inspection
    from vmport_formats.disk.probe import probe
    from vmport_formats.disk.safety import assess
    from vmport_formats.source import open_source

    with open_source(source) as opened:
        info = probe(opened, declared=declared)
        return Inspection(source, opened.allocated, info, assess(info))


def _format_named(name: str) -> DiskFormat:
    from vmport_formats.disk.model import DiskFormat
    from vmport_formats.errors import UsageError

    try:
        return DiskFormat.named(name)
    except ValueError:
        raise UsageError(
            None,
            code="usage.format",
            problem=f"--format {name}: there is no such format",
            hint=f"one of {', '.join(item.code for item in DiskFormat)}",
        ) from None
