"""``vmport convert``: one disk image into another format, complete and compared, or not at all."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vmport.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vmport_converters.disk.convert import Request

_HELP = """Convert disk images.

DST appears only when it is complete, on the medium, and its content was compared with that of \
SRC. Whatever happens before that, nothing is left behind, and what was there before is as it was.

[bold]Examples[/bold]

  vmport convert disk.qcow2 disk.vmdk

  vmport convert -o subformat=streamOptimized disk.qcow2 disk.vmdk

  vmport convert -o subformat=fixed disk.raw disk.vhd

  vmport convert --for azure disk.qcow2 disk.vhd   [dim]# fixed, whole MiB[/dim]

  vmport convert --to raw disk.vhdx /dev/shm/disk   [dim]# no ending says it[/dim]

  vmport convert --allow . overlay.qcow2 whole.qcow2   [dim]# and its backing file[/dim]

  vmport convert -o backing_file=base.qcow2 disk.vmdk new.qcow2   [dim]# what differs[/dim]

  vmport convert --new-passphrase-file F disk.qcow2 disk.luks   [dim]# encrypted[/dim]

  vmport convert --for esxi *.qcow2 uploads/   [dim]# each by itself, into a folder[/dim]

[bold]Formats[/bold]

Written: raw, qcow2, vmdk, vhd (or vpc), vhdx, vdi, luks. Read: these, and qcow, qed, parallels, \
dmg, cloop, bochs. The content of SRC decides what it is, never its name. qemu-img is needed \
only for vmdk that is flat or split, and for encryption.

[bold]Options of the formats[/bold]

The names are those of qemu-img, and so is -o a=1,b=2. A wrong name or value gets a list of the \
right ones.

  qcow2   backing_file backing_fmt compat cluster_size compression_type encrypt.format \
encrypt.cipher-alg encrypt.cipher-mode encrypt.ivgen-alg encrypt.hash-alg encrypt.iter-time \
extended_l2 lazy_refcounts preallocation refcount_bits

  vmdk    subformat adapter_type hwversion toolsversion compat6 zeroed_grain

  vhd     subformat force_size   [dim]# off rounds the size up[/dim]

  vhdx    subformat block_size log_size block_state_zero

  vdi     static

  raw     preallocation

  luks    cipher-alg cipher-mode ivgen-alg hash-alg iter-time

[bold]Files that SRC names[/bold]

A backing file, a data file, extents or a parent are opened only in folders that --allow names, \
links followed. Nothing else is ever opened, but for a backing_file that -o names.
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("convert", help=_HELP)(_convert)


def _convert(
    context: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SRC...", help="Disk images to read.", show_default=False),
    ],
    destination: Annotated[
        str,
        typer.Argument(
            metavar="DST",
            help="File to write; its ending says the format: .qcow2 .vmdk .vhd .vhdx .vdi .raw "
            ".img .luks. Or a folder, with --to or --for, in which each SRC becomes a file.",
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
            help="The passphrase of SRC, less one line end after it.",
        ),
    ] = None,
    new_passphrase_file: Annotated[
        str | None,
        typer.Option(
            "--new-passphrase-file",
            metavar="FILE",
            help="The passphrase of DST, where that is to be encrypted.",
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
    from vmport_converters.disk.batch import requests_into
    from vmport_converters.disk.convert import Request
    from vmport_converters.disk.plan import Compression, Engine
    from vmport_converters.disk.presets import Platform

    request = Request(
        sources[0],
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
        new_passphrase=passphrase_in(new_passphrase_file),
        force=force,
        verify=not no_verify,
    )
    do: Callable[[Request, str | None], dict[str, object]]
    if dry_run:
        do = partial(_plan, as_json=as_json)
    else:
        do = partial(_convert_one, settings=Settings.of(context), as_json=as_json)
    told = target_format is not None or platform is not None
    if len(sources) == 1 and not (told and Path(destination).is_dir()):
        fields = do(request, None)
        if as_json:
            from vmport.render.json import print_json

            print_json(fields)
        return
    requests = requests_into(destination, sources, request)
    says = not dry_run and not as_json and not Settings.of(context).quiet
    _convert_each(requests, do, destination if says else None, as_json=as_json)


def _convert_each(
    requests: Sequence[Request],
    do: Callable[[Request, str | None], dict[str, object]],
    folder: str | None,
    *,
    as_json: bool,
) -> None:
    """Each by itself; what fails stops no other, and the first failure's exit code is ours.

    `folder`: print a summary, of what is there now.
    """
    from vmport.render.conversion import failed_fields, print_summary
    from vmport.render.errors import print_error
    from vmport.render.json import print_json
    from vmport_formats.errors import VmportError

    begin = time.monotonic()
    documents: list[dict[str, object]] = []
    failed: list[VmportError] = []
    for number, request in enumerate(requests, 1):
        try:
            documents.append(do(request, f"{request.source} ({number} of {len(requests)})"))
        except VmportError as error:
            print_error(error)
            failed.append(error)
            documents.append(failed_fields(request, error))
    if as_json:
        print_json(documents)
    if folder is not None:
        print_summary(folder, len(requests), len(failed), time.monotonic() - begin)
    raise typer.Exit(failed[0].exit_code if failed else 0)


def _plan(request: Request, _which: str | None, *, as_json: bool) -> dict[str, object]:
    from vmport.render.conversion import plan_fields, print_plan
    from vmport_converters.disk.convert import plan

    planned = plan(request)
    if not as_json:
        print_plan(planned, request.destination)
    return plan_fields(planned, request.destination)


def _convert_one(
    request: Request, which: str | None, *, settings: Settings, as_json: bool
) -> dict[str, object]:
    """`which`: of several."""
    from vmport.render.conversion import conversion_fields, print_conversion
    from vmport.render.progress import ProgressDisplay
    from vmport_converters.disk.convert import Ears, convert

    with ProgressDisplay(shown=not settings.quiet, of=which) as display:
        ears = Ears(
            on_progress=lambda item: display.update(item.phase, item.share, item.size),
            on_warning=partial(display.say, "warning", wanted=not settings.quiet),
            on_step=partial(display.say, "run", wanted=settings.verbose),
        )
        converted = convert(request, ears)
        for note in converted.notes:
            display.say("note", f"{request.destination}: {note}", wanted=not settings.quiet)
    if not as_json and not settings.quiet:
        print_conversion(converted)
    return conversion_fields(converted)
