"""``vmport inspect``: what a disk image is, whether it may be taken, and what lies where in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vmport.render.inspection import Inspection
    from vmport_formats.disk.model import DiskFormat
    from vmport_formats.disk.policy import Policy
    from vmport_formats.errors import UsageError, VmportError

_HELP = """Show what a disk image is: format, sizes, the files that it names, and if it is safe.

The content decides, never the file's name. Nothing is opened but SOURCE itself, unless a map is \
asked for: a backing file, data file, extent or parent is named, not read. SOURCE is only looked \
at, so an unsafe one is no error here; --policy makes it one.

[bold]Examples[/bold]

  vmport inspect disk.qcow2

  vmport inspect --format raw disk.img   [dim]# do not probe[/dim]

  vmport inspect --json *.vmdk | jq '.[] | select(.safety.verdict == "unsafe")'

  vmport inspect --policy openstack upload.img   [dim]# exit code 4 if refused[/dim]

  vmport inspect --map --allow . overlay.qcow2   [dim]# and its backing file[/dim]

[bold]Safety[/bold]

"safe" means that the disk's content lies in this one file, and that no program can take it for \
something else. Each reason against it has a stable code, such as qcow2.backing-file.

[bold]Policies[/bold]

  none       only report; nothing is refused

  openstack  refuse what is unsafe, and whatever OpenStack (oslo.utils) would refuse or take for \
something else: other formats than raw, qcow2, VMDK of one file, VHD, VHDX, VDI and LUKS; fixed \
VHDs; extended L2 entries; several marks in one file; a partition table that cannot be true

  strict     refuse that, and all but raw, qcow2 and VMDK of one file; what is encrypted, has \
internal snapshots or was not closed cleanly

[bold]Map[/bold]

Which bytes of the disk lie where: "data" and "compressed" are stored, "zero" is stated to be \
zeros by an image or by a hole of its file, "hole" is in no image of the chain. The depth counts \
images: 0 is SOURCE, 1 its backing file. With --json the map has the schema of `qemu-img map \
--output=json`, and "filename" besides. The parent of a VDI, known by a UUID alone, is looked for \
among the .vdi files in the folders of --allow. What is odd about a parent, such as that it was \
written to since, is a warning on stderr.

[bold]JSON[/bold]

The names are those of `qemu-img info --output=json` where the idea is the same. One SOURCE gives \
an object, several give an array in which "error" stands for what could not be read. The JSON has \
every field; the text has them all after `vmport -v inspect`.
"""

_MAP = "Map"


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
    policy_name: Annotated[
        str | None,
        typer.Option(
            "--policy",
            metavar="POLICY",
            help="Exit with 4 if this refuses a SOURCE: none, openstack or strict.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_map: Annotated[
        bool,
        typer.Option("--map", help="Show which bytes of the disk lie where.", rich_help_panel=_MAP),
    ] = False,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow",
            metavar="DIR",
            help="Open files in DIR that SOURCE names; repeatable.",
            rich_help_panel=_MAP,
        ),
    ] = None,
    snapshot: Annotated[
        str | None,
        typer.Option(
            "--snapshot",
            "-l",
            metavar="ID",
            help="Of this internal snapshot, by id or name.",
            rich_help_panel=_MAP,
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--start-offset",
            "-s",
            metavar="OFFSET",
            help="From here on: bytes, or 64K, 1M, 0x1000.",
            rich_help_panel=_MAP,
        ),
    ] = None,
    length: Annotated[
        str | None,
        typer.Option(
            "--max-length", metavar="LENGTH", help="No further than so far.", rich_help_panel=_MAP
        ),
    ] = None,
    passphrase_file: Annotated[
        str | None,
        typer.Option(
            "--passphrase-file",
            metavar="FILE",
            help="The passphrase of what is encrypted, less one line end after it.",
            rich_help_panel=_MAP,
        ),
    ] = None,
) -> None:
    from vmport.commands.choices import format_named

    declared = format_named("--format", format_name)
    if as_map:
        _check_map(sources, policy_name)
        _map(
            sources[0],
            declared,
            as_json=as_json,
            allow=allow or (),
            snapshot=snapshot,
            start=start,
            length=length,
            passphrase_file=passphrase_file,
        )
        return
    map_only = {
        "--allow": allow,
        "--snapshot": snapshot,
        "--start-offset": start,
        "--max-length": length,
        "--passphrase-file": passphrase_file,
    }
    for option, value in map_only.items():
        if value is not None:
            raise _only_with_map(option)
    _report(context, sources, declared, policy_name, as_json=as_json)


def _report(
    context: typer.Context,
    sources: list[str],
    declared: DiskFormat | None,
    policy_name: str | None,
    *,
    as_json: bool,
) -> None:
    from vmport.render.errors import print_error
    from vmport.render.inspection import failure_fields, image_fields, print_inspections
    from vmport.render.json import print_json, print_json_lines
    from vmport.settings import Settings
    from vmport_formats.errors import VmportError

    errors: list[VmportError] = []
    outcomes = _outcomes(sources, declared, _policy_named(policy_name), errors)
    if as_json:
        documents = (
            failure_fields(source, found) if isinstance(found, VmportError) else image_fields(found)
            for source, found in outcomes
        )
        if len(sources) == 1:
            print_json(next(documents))
        else:
            print_json_lines(documents)
    else:
        print_inspections(
            (found for _, found in outcomes if not isinstance(found, VmportError)),
            everything=Settings.of(context).verbose,
        )
    for problem in errors:
        print_error(problem)
    raise typer.Exit(max((problem.exit_code for problem in errors), default=0))


def _outcomes(
    sources: list[str],
    declared: DiskFormat | None,
    policy: Policy | None,
    errors: list[VmportError],
) -> Iterator[tuple[str, Inspection | VmportError]]:
    """What each image is, or why it could not be read; `errors` gets that, and what is refused.

    Only one at a time is held: there can be thousands.

    Raises:
        VmportError: as `inspect_image`, for an image that is the only one.
    """
    from vmport_formats.errors import VmportError

    for source in sources:
        try:
            inspection = inspect_image(source, declared, policy)
        except VmportError as error:
            if len(sources) == 1:
                raise
            errors.append(error)
            yield source, error
        else:
            errors += _refusal(inspection)
            yield source, inspection


def inspect_image(
    source: str, declared: DiskFormat | None = None, policy: Policy | None = None
) -> Inspection:
    """Look at one image, and hear what `policy` says to it.

    Raises:
        VmportError: as `vmport_formats.disk.probe.probe`.
    """
    from vmport.render.inspection import Inspection
    from vmport_formats.disk.probe import probe
    from vmport_formats.disk.safety import assess
    from vmport_formats.source import open_source

    with open_source(source) as opened:
        info = probe(opened, declared=declared)
        ruling = None
        if policy is not None:
            from vmport_formats.disk.policy import judge

            ruling = judge(policy, opened, info)
        return Inspection(source, opened.allocated, info, assess(info), ruling)


def _refusal(inspection: Inspection) -> Iterator[VmportError]:
    """The error that an image is which the policy refuses."""
    from vmport_formats.errors import UnsafeInput

    ruling = inspection.ruling
    if ruling is not None and not ruling.accepted:
        codes = ", ".join(dict.fromkeys(reason.code for reason in ruling.reasons))
        yield UnsafeInput(
            inspection.filename,
            code=f"policy.{ruling.policy}",
            problem=f"refused by the policy {ruling.policy}: {codes}",
        )


def _map(
    source: str,
    declared: DiskFormat | None,
    *,
    as_json: bool,
    allow: Sequence[str],
    snapshot: str | None,
    start: str | None,
    length: str | None,
    passphrase_file: str | None,
) -> None:
    from vmport.commands.choices import passphrase_in, size_of
    from vmport.render.errors import print_concern
    from vmport.render.map import print_map, print_map_json
    from vmport_formats.disk.granted import granted
    from vmport_formats.disk.image import open_image

    offset = size_of("--start-offset", start) or 0
    most = size_of("--max-length", length)
    with open_image(
        source,
        granted(allow),
        declared=declared,
        snapshot=snapshot,
        passphrase=passphrase_in(passphrase_file),
    ) as image:
        for concern in image.concerns:
            print_concern(source, concern)
        extents = image.extents(offset, most)
        if as_json:
            print_map_json(extents)
        else:
            print_map(extents, image.virtual_size)


def _check_map(sources: list[str], policy_name: str | None) -> None:
    from vmport_formats.errors import UsageError

    if len(sources) > 1:
        raise UsageError(
            None,
            code="usage.map",
            problem=f"--map shows one SOURCE, and {len(sources)} were given",
            hint="call it once for each",
        )
    if policy_name is not None:
        raise UsageError(
            None,
            code="usage.map",
            problem="--map and --policy exclude each other",
            hint="ask the policy first; a map opens the files that SOURCE names and --allow grants",
        )


def _only_with_map(option: str) -> UsageError:
    from vmport_formats.errors import UsageError

    return UsageError(
        None,
        code="usage.map",
        problem=f"{option} is for --map only",
        hint="without it nothing is read but what SOURCE itself says",
    )


def _policy_named(name: str | None) -> Policy | None:
    if name is None:
        return None
    from vmport_formats.disk.policy import Policy
    from vmport_formats.errors import UsageError

    try:
        return Policy(name.lower())
    except ValueError:
        raise UsageError(
            None,
            code="usage.policy",
            problem=f"--policy {name}: there is no such policy",
            hint=f"one of {', '.join(Policy)}",
        ) from None
