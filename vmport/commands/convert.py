"""``vmport convert``: one disk image into another format, complete and compared, or not at all."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from vmport.settings import Settings

_HELP = """Convert a disk image.

DST appears only when it is complete, on the medium, and its content was compared with that of \
SRC. Whatever happens before that, nothing is left behind, and what was there before is as it was.

[bold]Examples[/bold]

  vmport convert disk.qcow2 disk.vmdk

  vmport convert -o subformat=streamOptimized disk.qcow2 disk.vmdk

  vmport convert -o subformat=fixed disk.raw disk.vhd

  vmport convert --for azure disk.qcow2 disk.vhd   [dim]# fixed, whole MiB[/dim]

  vmport convert --to raw disk.vhdx /dev/shm/disk   [dim]# no ending says it[/dim]

  vmport convert --allow . overlay.qcow2 whole.qcow2   [dim]# and its backing file[/dim]

[bold]Formats[/bold]

Written: raw, qcow2, vmdk, vhd (or vpc), vhdx, vdi. Read: these, and qcow, qed, parallels, dmg, \
cloop, bochs. The content of SRC decides what it is, never its name.

[bold]Options of the formats[/bold]

The names are those of qemu-img, and so is -o a=1,b=2. A wrong name or value gets a list of the \
right ones.

  qcow2   compat cluster_size compression_type extended_l2 lazy_refcounts preallocation \
refcount_bits

  vmdk    subformat adapter_type hwversion toolsversion compat6 zeroed_grain

  vhd     subformat force_size   [dim]# off rounds the size up[/dim]

  vhdx    subformat block_size log_size block_state_zero

  vdi     static

  raw     preallocation

[bold]Files that SRC names[/bold]

A backing file, a data file, extents or a parent are opened only in folders that --allow names, \
links followed. Nothing else is ever opened.
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("convert", help=_HELP)(_convert)


def _convert(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="Disk image to read.", show_default=False)
    ],
    destination: Annotated[
        str,
        typer.Argument(
            metavar="DST",
            help="File to write; its ending says the format: .qcow2 .vmdk .vhd .vhdx .vdi .raw "
            ".img.",
            show_default=False,
        ),
    ],
    source_format: Annotated[
        str | None,
        typer.Option("--from", "-f", metavar="FORMAT", help="Read SRC as this; do not probe."),
    ] = None,
    target_format: Annotated[
        str | None,
        typer.Option("--to", "-O", metavar="FORMAT", help="Write this, whatever DST is called."),
    ] = None,
    platform: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="PLATFORM",
            help="As this wants it: esxi, azure, gcp, aws, openstack, proxmox.",
        ),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option(
            "--option", "-o", metavar="KEY=VALUE", help="An option of the format; repeatable."
        ),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow", metavar="DIR", help="Open files in DIR that SRC names; repeatable."
        ),
    ] = None,
    compress: Annotated[
        str | None,
        typer.Option(
            "--compress", metavar="none|fast|small|zstd", help="Of qcow2, and of VMDK as a stream."
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            "--engine", metavar="auto|native|qemu-img", help="Who writes DST.", show_default=True
        ),
    ] = "auto",
    snapshot: Annotated[
        str | None,
        typer.Option("--snapshot", metavar="ID", help="Read this internal snapshot of SRC."),
    ] = None,
    passphrase_file: Annotated[
        str | None,
        typer.Option(
            "--passphrase-file",
            metavar="FILE",
            help="The passphrase of what is encrypted, less one line end after it.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only say what would be done, and why.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace DST if it exists.")] = False,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not compare the content of DST with SRC's.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    from vmport.commands.choices import format_named, named, passphrase_in
    from vmport.render.conversion import (
        conversion_fields,
        plan_fields,
        print_conversion,
        print_plan,
    )
    from vmport.render.json import print_json
    from vmport.render.progress import ProgressDisplay
    from vmport_converters.disk.convert import Ears, Request, convert, plan
    from vmport_converters.disk.plan import Compression, Engine
    from vmport_converters.disk.presets import Platform

    settings = Settings.of(context)
    request = Request(
        source,
        destination,
        source_format=format_named("--from", source_format),
        target_name=target_format,
        platform=named("--for", platform, Platform),
        options=options or (),
        compression=named("--compress", compress, Compression),
        engine=named("--engine", engine, Engine, "auto"),
        allow=allow or (),
        snapshot=snapshot,
        passphrase=passphrase_in(passphrase_file),
        force=force,
        verify=not no_verify,
    )
    if dry_run:
        planned = plan(request)
        if as_json:
            print_json(plan_fields(planned, destination))
        else:
            print_plan(planned, destination)
        return
    with ProgressDisplay(shown=not settings.quiet) as display:
        ears = Ears(
            on_progress=lambda item: display.update(item.phase, item.share, item.size),
            on_warning=partial(display.say, "warning", wanted=not settings.quiet),
            on_step=partial(display.say, "run", wanted=settings.verbose),
        )
        converted = convert(request, ears)
        for note in converted.notes:
            display.say("note", f"{destination}: {note}", wanted=not settings.quiet)
    if as_json:
        print_json(conversion_fields(converted))
    elif not settings.quiet:
        print_conversion(converted)
