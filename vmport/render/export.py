"""What ``vmport export`` made and what it left out, as fields for programs, as text for people."""

from __future__ import annotations

import json
import shlex
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from vmport.render.console import result_console
from vmport.render.errors import printable
from vmport_converters.container.export import Export, ImageForm
from vmport_converters.container.kernel import Action, Group, Rule
from vmport_formats.filesystem.model import printed
from vmport_formats.units import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rich.console import Console

    from vmport_converters.container.selection import Removal

_FORMS = {
    ImageForm.OCI: "OCI layout",
    ImageForm.OCI_ARCHIVE: "OCI archive",
    ImageForm.DOCKER_ARCHIVE: "Docker archive",
}


def export_fields(export: Export) -> dict[str, object]:
    """The JSON object: the image, all that was left out or changed, and what to know of it."""
    image = export.image
    name = export.request.name
    return {
        "source": export.request.source,
        "destination": str(export.request.destination),
        "form": export.request.form.value,
        "image": {
            "name": None if name is None else str(name),
            "manifest": image.manifest,
            "id": image.config,
            "created": image.created,
            "architecture": str(export.defaults.architecture),
            "os": "linux",
            "config": image.document["config"],
            "layers": [
                {
                    "digest": image.layer.digest,
                    "size": image.layer.size,
                    "diff-id": image.layer.diff_id,
                    "unpacked-size": image.layer.unpacked,
                    "entries": export.entries,
                }
            ],
        },
        **removal_fields(export),
        "notes": [{"code": note.code, "text": note.text} for note in export.notes],
    }


def removal_fields(export: Export) -> dict[str, object]:
    """All that is not as it was in the source: path by path, and summed by rule."""
    return {
        "dropped-by-rule": [
            {
                "rule": total.rule.name,
                "what": total.rule.what,
                "group": total.rule.group.value,
                "action": total.rule.action.value,
                "paths": total.paths,
                "size": total.size,
            }
            for total in _totals(export.removals)
        ],
        "dropped": [
            {
                "path": printed(removal.path),
                "kind": removal.kind.value,
                "rule": removal.rule.name,
                "action": removal.action.value,
                "size": removal.size,
            }
            for removal in export.removals
        ],
    }


@contextmanager
def write_removals(path: Path | None, *, force: bool) -> Iterator[Callable[[Export], None]]:
    """A function that writes the list of what was left out to `path`; it appears with the block.

    Raises:
        OutputError: it cannot be written; found out before the block begins, if possible.
    """
    if path is None:
        yield lambda _export: None
        return
    from vmport_converters.publish import publishing

    with publishing(path, force=force) as staging:

        def write(export: Export) -> None:
            text = json.dumps(removal_fields(export), indent=4, ensure_ascii=True)
            staging.path.write_text(text + "\n", encoding="ascii")

        yield write


class _Total(NamedTuple):
    """What one rule did."""

    rule: Rule
    paths: int
    size: int


def _totals(removals: tuple[Removal, ...]) -> list[_Total]:
    """One for each rule, the heaviest first within its group."""
    totals: dict[str, _Total] = {}
    for removal in removals:
        _, paths, size = totals.get(removal.rule.name, _Total(removal.rule, 0, 0))
        totals[removal.rule.name] = _Total(removal.rule, paths + 1, size + removal.size)
    groups = list(Group)
    return sorted(
        totals.values(),
        key=lambda total: (groups.index(total.rule.group), -total.size, total.rule.name),
    )


def print_export(export: Export) -> None:
    """Print the text, colours only on a terminal and never under NO_COLOR."""
    console = result_console()
    _print_image(console, export)
    _print_totals(console, export)
    for note in export.notes:
        console.print("note: ", style="yellow", end="")
        console.print(f"{printable(note.text)} [{note.code}]")
    console.print()
    console.print(_next_step(export), style="dim")


def _print_image(console: Console, export: Export) -> None:
    image, request = export.image, export.request
    console.print(printable(str(request.destination)), style="bold", end="")
    console.print(f": {_FORMS[request.form]}")
    config = image.document["config"]
    assert isinstance(config, dict)  # noqa: S101 - as `describe` makes it
    command = [*config.get("Entrypoint", []), *config.get("Cmd", [])]
    size = f"{format_size(image.layer.size)}, {format_size(image.layer.unpacked)} unpacked"
    for label, value in (
        ("image", f"{request.name or 'no name'}, linux/{export.defaults.architecture}"),
        ("id", image.config),
        ("manifest", image.manifest),
        ("content", f"{export.entries} {_plural(export.entries, 'entry', 'entries')}, {size}"),
        ("runs", shlex.join(command) if command else "nothing, unless told"),
    ):
        console.print(f"  {label:<10}", style="dim", end="")
        console.print(printable(value))


def _print_totals(console: Console, export: Export) -> None:
    totals = _totals(export.removals)
    if not totals:
        console.print("Nothing was left out.")
        return
    left_out = [total for total in totals if total.rule.action is Action.DROP]
    changed = [total for total in totals if total.rule.action is not Action.DROP]
    for title, part in (("Left out", left_out), ("Changed", changed)):
        if not part:
            continue
        paths = sum(total.paths for total in part)
        size = sum(total.size for total in part)
        console.print(f"{title}: ", style="bold", end="")
        console.print(f"{paths} {_plural(paths, 'path', 'paths')}, {format_size(size)}")
        for total in part:
            line = f"  {total.paths:>7}  {format_size(total.size):>10}  "
            console.print(line, end="")
            console.print(total.rule.what, end="")
            console.print(f"  {total.rule.name}", style="dim")


def _next_step(export: Export) -> str:
    """What people do with such a file."""
    place = shlex.quote(str(export.request.destination))
    name = export.request.name
    match export.request.form:
        case ImageForm.DOCKER_ARCHIVE:
            return f"docker load -i {place}"
        case ImageForm.OCI_ARCHIVE:
            return f"podman load -i {place}"
    return f"skopeo copy oci:{place}:{name.tag if name else 'latest'} docker://REGISTRY/NAME"


def _plural(count: int, one: str, more: str) -> str:
    return one if count == 1 else more
