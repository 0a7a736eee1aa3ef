"""``vmport export``: a root filesystem as a container image without a kernel."""

from __future__ import annotations

import os
from pathlib import Path  # noqa: TC003 - Typer reads it
from typing import TYPE_CHECKING, Annotated

import typer

from vmport.settings import Settings

if TYPE_CHECKING:
    from vmport_converters.container.export import ImageForm

_HELP = """Make a container image of the root filesystem in a folder or a tar, without a kernel.

SOURCE is a folder (a mounted disk, say) or a tar archive, plain or compressed by gzip, zstd, xz \
or bzip2; "-" reads one from standard input. Its content decides, never its name. Links in it are \
never followed out of it.

DST becomes a Docker archive if its name ends in .tar, else an OCI layout in a folder; --as says \
it outright. It appears only when it is complete and was checked.

[bold]Examples[/bold]

  vmport export /mnt/web web.tar --tag web:1.0 && docker load -i web.tar

  vmport export root.tar.zst web --tag web --cmd 'nginx -g "daemon off;"' --port 80

  docker export old | vmport export - old.tar --drop /usr/share/doc --drop '*.pyc'

  vmport export /mnt/web web.tar --keep /etc/ssh --json | jq '.dropped[] | .path'

[bold]What is left out[/bold]

The kernel and what belongs to it (/boot, /lib/modules, firmware, boot loaders), and the state of \
the one machine (SSH host keys, DHCP leases, logs, temporary files, package caches). The package \
database stays as it is. Every path left out is listed, with its rule and size: by rule in the \
text, one by one with --json or --dropped.

A GLOB begins at the root (/usr/share/doc, '/var/**/*.log'); without a slash it is a name anywhere \
('*.pyc'). It covers all below what it fits. --keep wins over the rules and over --drop.

[bold]Always the same[/bold]

The same source makes the same image, byte for byte. SOURCE_DATE_EPOCH, in seconds, makes every \
later time that one.
"""

_CONFIG = "How to run it"
_CONTENT = "What goes in"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("export", help=_HELP)(_export)


def _export(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help='A folder, a tar, or "-".', show_default=False)
    ],
    destination: Annotated[
        Path, typer.Argument(metavar="DST", help="What to write.", show_default=False)
    ],
    form: Annotated[
        str | None,
        typer.Option("--as", metavar="FORM", help="oci, oci-archive or docker-archive."),
    ] = None,
    tag: Annotated[
        str | None,
        typer.Option("--tag", "-t", metavar="NAME[:TAG]", help="The name that engines give it."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace DST.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    dropped: Annotated[
        Path | None,
        typer.Option(
            "--dropped", metavar="FILE", help="Write all that was left out to FILE, as JSON."
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", metavar="GLOB", help="Keep it anyway.", rich_help_panel=_CONTENT),
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option("--drop", metavar="GLOB", help="Leave it out.", rich_help_panel=_CONTENT),
    ] = None,
    owner: Annotated[
        str | None,
        typer.Option(
            "--owner",
            metavar="UID:GID",
            help="Let everything belong to this user and group. Without it, numbers stay.",
            rich_help_panel=_CONTENT,
        ),
    ] = None,
    skip_unreadable: Annotated[
        bool,
        typer.Option(
            "--skip-unreadable",
            help="Leave out what this user may not read, instead of giving up.",
            rich_help_panel=_CONTENT,
        ),
    ] = False,
    max_size: Annotated[
        str,
        typer.Option(
            "--max-size",
            metavar="SIZE",
            help="Give up if it unpacks to more, such as 500G.",
            rich_help_panel=_CONTENT,
        ),
    ] = "64G",
    cmd: Annotated[
        str | None,
        typer.Option(
            "--cmd",
            metavar="COMMAND",
            help='What to run: words as in a shell, or ["a", "JSON list"]. Without it, /bin/sh.',
            rich_help_panel=_CONFIG,
        ),
    ] = None,
    entrypoint: Annotated[
        str | None,
        typer.Option(
            "--entrypoint",
            metavar="COMMAND",
            help="What always runs, with --cmd as its arguments.",
            rich_help_panel=_CONFIG,
        ),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            "--env",
            "-e",
            metavar="NAME=VALUE",
            help="Set a variable.",
            rich_help_panel=_CONFIG,
        ),
    ] = None,
    port: Annotated[
        list[str] | None,
        typer.Option(
            "--port", "-p", metavar="PORT[/udp]", help="It listens here.", rich_help_panel=_CONFIG
        ),
    ] = None,
    workdir: Annotated[
        str | None,
        typer.Option("--workdir", "-w", metavar="PATH", help="Run there.", rich_help_panel=_CONFIG),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(
            "--user", "-u", metavar="USER[:GROUP]", help="Run as.", rich_help_panel=_CONFIG
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label", "-l", metavar="NAME=VALUE", help="Add a label.", rich_help_panel=_CONFIG
        ),
    ] = None,
    stop_signal: Annotated[
        str | None,
        typer.Option(
            "--stop-signal",
            metavar="SIGNAL",
            help="What asks it to stop.",
            rich_help_panel=_CONFIG,
        ),
    ] = None,
) -> None:
    from vmport.render.export import export_fields, print_export, write_removals
    from vmport.render.json import print_json
    from vmport.render.progress import ProgressDisplay
    from vmport_converters.container.config import parse_run_config
    from vmport_converters.container.export import Request, export_image
    from vmport_converters.container.reference import parse_image_name
    from vmport_converters.container.rootfs import Limits
    from vmport_converters.container.selection import Wishes

    run = parse_run_config(
        entrypoint=entrypoint,
        cmd=cmd,
        env=env or [],
        ports=port or [],
        workdir=workdir,
        user=user,
        labels=label or [],
        stop_signal=stop_signal,
    )
    request = Request(
        source=source,
        destination=destination,
        form=_form_named(form, destination),
        name=None if tag is None else parse_image_name(tag),
        wishes=Wishes(
            keep=tuple(keep or ()),
            drop=tuple(drop or ()),
            owner=None if owner is None else _parse_owner(owner),
            skip_unreadable=skip_unreadable,
        ),
        run=run,
        force=force,
        epoch=_source_date_epoch(),
        limits=Limits(content=_parse_size(max_size)),
    )
    settings = Settings.of(context)
    with (
        write_removals(dropped, force=force) as write,
        ProgressDisplay(shown=not settings.quiet) as display,
    ):
        export = export_image(request, display.update)
        write(export)
    if as_json:
        print_json(export_fields(export))
    else:
        print_export(export)


def _form_named(name: str | None, destination: Path) -> ImageForm:
    from vmport_converters.container.export import ImageForm
    from vmport_formats.errors import UsageError

    if name is None:
        return ImageForm.DOCKER_ARCHIVE if destination.suffix == ".tar" else ImageForm.OCI
    try:
        return ImageForm(name)
    except ValueError:
        raise UsageError(
            None,
            code="usage.form",
            problem=f"--as {name}: there is no such form",
            hint=f"one of {', '.join(ImageForm)}",
        ) from None


def _parse_owner(text: str) -> tuple[int, int]:
    from vmport_formats.errors import UsageError

    uid, _, gid = text.partition(":")
    if not (uid.isdecimal() and gid.isdecimal()) or max(int(uid), int(gid)) >= 0xFFFFFFFF:
        raise UsageError(
            None, code="usage.owner", problem=f"--owner {text!r} is not UID:GID, both numbers"
        )
    return int(uid), int(gid)


def _parse_size(text: str) -> int:
    import re

    from vmport_formats.errors import UsageError

    found = re.fullmatch(r"([0-9]{1,15})([KMGTP]?)(?:iB|B)?", text, re.IGNORECASE)
    if found is None:
        raise UsageError(
            None, code="usage.size", problem=f"--max-size {text!r} is no size such as 500G"
        )
    return int(found[1]) << 10 * " KMGTP".index(found[2].upper() or " ")


def _source_date_epoch() -> int | None:
    from vmport_formats.errors import UsageError

    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    if not text.isdecimal() or len(text) > 12:
        raise UsageError(
            None,
            code="usage.epoch",
            problem=f"SOURCE_DATE_EPOCH is {text!r}, not a number of seconds since 1970",
        )
    return int(text)
