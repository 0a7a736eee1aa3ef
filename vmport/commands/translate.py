"""``vmport translate``: one hypervisor's descriptor into another's, and what that costs."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 -- Typer reads it at run time
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vmport_converters.machine.translate import Translation
    from vmport_formats.machine.dialect import Dialect

FALLS_SHORT = 1

_HELP = """Translate a machine's descriptor from one hypervisor's language to another's.

Every value of SRC is accounted for, each exactly once: kept, adapted (from, to, why) or dropped \
(why, what it means for the guest, what to do); and so is every value that the target needs and \
SRC does not state. Disks are not touched: the new descriptor names them as they will be called \
once converted, and the commands for that are printed.

[bold]Examples[/bold]

  vmport translate web.xml web.vmx

  vmport translate web.xml web.ovf --allow /var/lib/libvirt/images

  vmport translate --strict --ledger losses.json web.xml web.vmx

[bold]Strict[/bold]

With --strict, DST is not written when something was dropped that may matter to the guest; the \
exit code is then 1. The ledger is written all the same. What only concerned the old host, such as \
the path of its emulator, is dropped without counting.

[bold]Sizes of disks[/bold]

An OVF states the size of each disk; libvirt's XML does not. --allow DIR lets vmport open disks in \
that folder to read their headers; --disk-size NAME=SIZE states a size instead.
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("translate", help=_HELP)(_translate)


def _translate(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="A descriptor: libvirt XML.", show_default=False)
    ],
    destination: Annotated[
        Path, typer.Argument(metavar="DST", help="The new descriptor.", show_default=False)
    ],
    source_name: Annotated[
        str | None,
        typer.Option("--from", metavar="DIALECT", help="Read SRC as this instead of looking."),
    ] = None,
    target_name: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="DIALECT",
            help="What to write: vmx, ovf. DST's suffix tells by default.",
        ),
    ] = None,
    ledger_file: Annotated[
        Path | None,
        typer.Option(
            "--ledger", metavar="FILE", help="Write the whole ledger there: .json, or .txt."
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Write no DST when something of consequence is lost.")
    ] = False,
    allow: Annotated[
        list[Path] | None,
        typer.Option("--allow", metavar="DIR", help="Disks in this folder may be looked at."),
    ] = None,
    disk_size: Annotated[
        list[str] | None,
        typer.Option("--disk-size", metavar="NAME=SIZE", help="The size of a disk: vda=20G."),
    ] = None,
    hardware: Annotated[
        int | None,
        typer.Option(
            "--hardware-version",
            metavar="N",
            help="VMware's virtual hardware version; by default 19, or what the machine needs.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace DST, and the ledger's file.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the ledger as JSON.")] = False,
) -> None:
    from vmport.render.json import print_json
    from vmport.render.ledger import ledger_fields, print_ledger
    from vmport.settings import Settings
    from vmport_converters.machine.disk_facts import look_at_disks, parse_disk_sizes
    from vmport_converters.machine.targets import Request, find_target
    from vmport_converters.machine.translate import read_machine, write_machine

    target = find_target(str(destination), named=target_name)
    if ledger_file is not None:
        _check_ledger_file(ledger_file, destination)
    sizes = parse_disk_sizes(disk_size or ())
    dialect = _dialect(source_name)
    reading = read_machine(_read(source), source, dialect=dialect)
    facts = look_at_disks(reading.model, named_by=source, folders=allow or (), sizes=sizes)
    request = Request(destination.stem, hardware=hardware, disks=facts)
    translation = write_machine(reading, target, request)
    refused = strict and bool(translation.ledger.losses)
    ledger = None
    if ledger_file is not None:
        ledger = (ledger_file, _ledger_text(translation, ledger_file, destination))
    _write(translation, None if refused else destination, ledger, force)
    settings = Settings.of(context)
    if as_json:
        print_json(ledger_fields(translation.ledger, translation.conversions))
    elif not settings.quiet:
        print_ledger(
            translation.ledger,
            translation.conversions,
            destination=str(destination),
            verbose=settings.verbose,
        )
    if refused:
        from vmport.render.ledger import print_refusal

        print_refusal(translation.ledger, destination=str(destination))
        raise typer.Exit(FALLS_SHORT)


def _dialect(name: str | None) -> Dialect | None:
    from vmport_converters.machine.translate import READERS
    from vmport_formats.errors import UsageError

    if name is None:
        return None
    for dialect in READERS:
        if name.lower() == dialect:
            return dialect
    raise UsageError(
        None,
        code="translate.source",
        problem=f"--from {name}: vmport does not translate from that",
        hint=f"it reads {', '.join(READERS)}",
    )


def _read(source: str) -> bytes:
    """The descriptor; of a file too large to be one, the start, if that tells what it is."""
    from vmport_converters.machine.translate import MAX_DESCRIPTOR
    from vmport_formats.machine.dialect import SNIFFED, Dialect, detect_dialect
    from vmport_formats.source import open_source, read_text

    with open_source(source) as opened:
        start = opened.read_at(0, SNIFFED)
    if detect_dialect(start, source) is Dialect.OVA:
        return start
    return read_text(source, limit=MAX_DESCRIPTOR, what="a machine descriptor")


def _ledger_text(translation: Translation, ledger_file: Path, destination: Path) -> str:
    import json

    from vmport.render.ledger import ledger_fields, ledger_text

    if ledger_file.suffix.lower() == ".json":
        fields = ledger_fields(translation.ledger, translation.conversions)
        return json.dumps(fields, indent=2, ensure_ascii=False) + "\n"
    return ledger_text(translation.ledger, translation.conversions, destination=str(destination))


def _check_ledger_file(ledger_file: Path, destination: Path) -> None:
    from vmport_formats.errors import UsageError

    if ledger_file.suffix.lower() not in {".json", ".txt"}:
        raise UsageError(
            ledger_file,
            code="translate.ledger",
            problem="the ledger is written as .json or .txt",
            hint="give it one of these suffixes",
        )
    if ledger_file == destination:
        raise UsageError(ledger_file, code="translate.ledger", problem="is the name of DST as well")


def _publish(path: Path, text: str, *, force: bool) -> None:
    from vmport_converters.publish import publishing

    with publishing(path, force=force) as staging:
        staging.path.write_bytes(text.encode("utf-8", "surrogatepass"))


def _write(
    translation: Translation, destination: Path | None, ledger: tuple[Path, str] | None, force: bool
) -> None:
    """Write both files; the descriptor appears last, and only if the ledger could be written."""
    from vmport_converters.publish import publishing

    if destination is None:
        if ledger is not None:
            _publish(*ledger, force=force)
        return
    with publishing(destination, force=force) as staging:
        staging.path.write_bytes(translation.text.encode())
        if ledger is not None:
            _publish(*ledger, force=force)
