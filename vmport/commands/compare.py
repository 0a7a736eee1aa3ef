"""``vmport compare``: whether two disk images hold the same disk."""

from __future__ import annotations

from typing import Annotated

import typer

from vmport.settings import Settings

_HELP = """Say whether two disk images hold the same content, whatever their formats.

Exit code 0: they do; 1: they differ, and the first byte that does is shown.

[bold]Examples[/bold]

  vmport compare disk.qcow2 disk.vmdk

  vmport compare --allow . overlay.qcow2 whole.raw   [dim]# and its backing file[/dim]

  vmport compare --snapshot-a before disk.qcow2 disk.qcow2   [dim]# changed since?[/dim]

  vmport compare --json a.vhdx b.vdi | jq '."first-difference".offset'

[bold]Sizes[/bold]

A disk that is longer, and has nothing but zeros where the other has ended, has the same content: \
some formats round sizes up. --strict calls that different.

[bold]What is read[/bold]

Where both maps say zeros, and where both images find their bytes at the same place of the same \
file, nothing is read. Neither image is written to, locked or repaired: stop the machine that uses \
it. Files that an image names are opened only in folders that --allow names, links followed. The \
parent of a VDI, known by a UUID alone, is looked for among the .vdi files in them.
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("compare", help=_HELP)(_compare)


def _compare(
    context: typer.Context,
    first: Annotated[str, typer.Argument(metavar="A", help="A disk image.", show_default=False)],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one.", show_default=False)],
    first_format: Annotated[
        str | None,
        typer.Option("--format-a", "-f", metavar="FORMAT", help="Read A as this; do not probe."),
    ] = None,
    second_format: Annotated[
        str | None,
        typer.Option("--format-b", "-F", metavar="FORMAT", help="Read B as this; do not probe."),
    ] = None,
    first_snapshot: Annotated[
        str | None,
        typer.Option(
            "--snapshot-a", metavar="ID", help="Compare this internal snapshot of A, by id or name."
        ),
    ] = None,
    second_snapshot: Annotated[
        str | None,
        typer.Option("--snapshot-b", metavar="ID", help="The same for B."),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow", metavar="DIR", help="Open files in DIR that A and B name; repeatable."
        ),
    ] = None,
    passphrase_file: Annotated[
        str | None,
        typer.Option(
            "--passphrase-file",
            metavar="FILE",
            help="The passphrase of what is encrypted, less one line end after it.",
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", "-s", help="Other sizes are a difference.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    from vmport.commands.choices import format_named, passphrase_in
    from vmport.render.comparison import comparison_fields, is_equal, print_comparison
    from vmport.render.errors import print_concern
    from vmport.render.json import print_json
    from vmport.render.progress import ProgressDisplay
    from vmport_converters.disk.compare import Wanted, compare

    sides = (
        Wanted(first, format_named("--format-a", first_format), first_snapshot),
        Wanted(second, format_named("--format-b", second_format), second_snapshot),
    )
    with ProgressDisplay(shown=not Settings.of(context).quiet) as display:
        compared = compare(
            *sides,
            allow=allow or (),
            passphrase=passphrase_in(passphrase_file),
            on_progress=lambda share, size: display.update("comparing", share, size),
        )
    for image in compared.images:
        for concern in image.concerns:
            print_concern(image.wanted.path, concern)
    if as_json:
        print_json(comparison_fields(compared, strict=strict))
    else:
        print_comparison(compared, strict=strict)
    raise typer.Exit(0 if is_equal(compared, strict=strict) else 1)
