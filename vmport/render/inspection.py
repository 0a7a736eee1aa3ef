"""What ``vmport inspect`` found, as fields for programs and as text for people."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING

from vmport.render.errors import printable
from vmport_formats.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.text import Text

    from vmport_formats.disk.model import ImageInfo, Snapshot
    from vmport_formats.disk.safety import Verdict
    from vmport_formats.errors import VmportError
    from vmport_formats.references import Reference


@dataclass(frozen=True, slots=True)
class Inspection:
    """One image that was looked at."""

    filename: str
    """As the user gave it."""
    allocated: int
    """Bytes that the file takes on its file system."""
    info: ImageInfo
    verdict: Verdict


def image_fields(inspection: Inspection) -> dict[str, object]:
    """The JSON object: ``qemu-img info``'s names where the idea is the same, then our own."""
    info = inspection.info
    fields: dict[str, object] = {
        "filename": inspection.filename,
        "format": info.format.value,
        "variant": info.variant,
        "virtual-size": info.virtual_size,
        "file-size": info.file_size,
        "actual-size": inspection.allocated,
    }
    if info.cluster_size is not None:
        fields["cluster-size"] = info.cluster_size
    if backing := info.backing:
        fields["backing-filename"] = backing.name
        if (full := _beside(inspection.filename, backing.name)) is not None:
            fields["full-backing-filename"] = full
        if backing.declared_format is not None:
            fields["backing-filename-format"] = backing.declared_format
    fields["dirty-flag"] = info.dirty
    fields["corrupt"] = info.corrupt
    fields["encrypted"] = info.encrypted
    fields["snapshots"] = [_snapshot_fields(item) for item in info.snapshots]
    fields["references"] = [_reference_fields(item) for item in info.references]
    fields["safety"] = {
        "verdict": str(inspection.verdict),
        "reasons": [{"code": item.code, "text": item.text} for item in inspection.verdict.reasons],
    }
    fields["format-specific"] = {"type": info.format.value, "data": dict(info.details)}
    return fields


def failure_fields(filename: str, error: VmportError) -> dict[str, object]:
    """The JSON object that stands for an image which could not be read."""
    fields: dict[str, object] = {"code": error.code, "text": error.problem}
    if error.at is not None:
        fields["at"] = error.at
    if error.hint is not None:
        fields["hint"] = error.hint
    return {"filename": filename, "error": fields}


def _reference_fields(reference: Reference) -> dict[str, object]:
    fields: dict[str, object] = {"kind": reference.kind.code, "filename": reference.name}
    if reference.declared_format is not None:
        fields["format"] = reference.declared_format
    return fields


def _snapshot_fields(snapshot: Snapshot) -> dict[str, object]:
    seconds, nanoseconds = divmod(snapshot.vm_clock, 10**9)
    return {
        "id": snapshot.id,
        "name": snapshot.name,
        "vm-state-size": snapshot.vm_state_size,
        "date-sec": snapshot.created,
        "date-nsec": snapshot.created_nanoseconds,
        "vm-clock-sec": seconds,
        "vm-clock-nsec": nanoseconds,
        **({} if snapshot.virtual_size is None else {"virtual-size": snapshot.virtual_size}),
    }


def _beside(filename: str, name: str) -> str | None:
    """`name` seen from the folder of `filename`, by text alone; None for what is no plain path."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", name):
        return None
    return str(PurePath(filename).parent / name)


def print_inspections(inspections: list[Inspection]) -> None:
    """Print the text, colours only on a terminal and never under NO_COLOR."""
    from rich.console import Console

    if sys.stdout.encoding.lower() != "utf-8" and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    console = Console(highlight=False, markup=False, emoji=False)
    for number, inspection in enumerate(inspections):
        if number:
            console.print()
        for line in _lines(inspection):
            console.print(line, soft_wrap=True)


_INDENT = 2
_COLUMN = 18
_SHOWN_ALREADY = {"corrupt", "data-file", "encrypt"}
"""Details that have a row of their own above."""


def _lines(inspection: Inspection) -> Iterator[Text]:
    from rich.text import Text

    yield Text(printable(inspection.filename), style="bold")
    for label, value in _rows(inspection):
        line = Text(" " * _INDENT)
        line.append(label.ljust(_COLUMN), style="dim")
        line.append(printable(value))
        yield line
    safe = inspection.verdict.safe
    line = Text(" " * _INDENT)
    line.append("safety".ljust(_COLUMN), style="dim")
    line.append(str(inspection.verdict), style="bold green" if safe else "bold red")
    yield line
    for reason in inspection.verdict.reasons:
        line = Text(" " * (_INDENT + _COLUMN))
        line.append(reason.code, style="red")
        line.append(f": {printable(reason.text)}")
        yield line


def _rows(inspection: Inspection) -> Iterator[tuple[str, str]]:
    """Label and value of each line between the name and the verdict."""
    info = inspection.info
    yield "format", _format_name(info)
    yield "virtual size", _size(info.virtual_size)
    yield "file size", f"{_size(info.file_size)}, {format_size(inspection.allocated)} on disk"
    if info.cluster_size is not None:
        yield "cluster size", format_size(info.cluster_size)
    for reference in info.references:
        declared = reference.declared_format
        yield reference.kind.value, reference.name + (f" ({declared})" if declared else "")
    if info.encrypted:
        yield "encrypted", _encryption(info)
    if info.dirty:
        yield "closed cleanly", "no: it is in use, or a program crashed while writing to it"
    if info.corrupt:
        yield "corrupt", "yes: its own header says so"
    for number, snapshot in enumerate(info.snapshots):
        yield "" if number else "snapshots", _snapshot_text(snapshot)
    for key, value in info.details.items():
        if key not in _SHOWN_ALREADY:
            yield from _detail_rows(key.replace("-", " "), value)


def _format_name(info: ImageInfo) -> str:
    label = info.format.label
    return label if info.variant.lower() == label.lower() else f"{label} {info.variant}"


def _encryption(info: ImageInfo) -> str:
    encrypt = info.details.get("encrypt")
    return f"yes: {encrypt['format']}" if isinstance(encrypt, dict) else "yes"


def _size(size: int) -> str:
    return format_size(size) if size < 1000 else f"{format_size(size)} ({size} bytes)"


def _snapshot_text(snapshot: Snapshot) -> str:
    created = datetime.fromtimestamp(snapshot.created, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    memory = format_size(snapshot.vm_state_size) if snapshot.vm_state_size else "none"
    return f"{snapshot.id}: {snapshot.name}, {created}, saved memory: {memory}"


def _detail_rows(label: str, value: object) -> Iterator[tuple[str, str]]:
    """One row for a plain value; one for each item of a list of objects."""
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for number, item in enumerate(value):
            yield "" if number else label, _detail_text(item)
    elif value not in ([], {}, None, False):
        yield label, _detail_text(value)


def _detail_text(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case dict():
            return ", ".join(
                f"{str(key).replace('-', ' ')} {_detail_text(item)}"
                for key, item in value.items()
                if item not in ([], {}, None)
            )
        case list():
            return ", ".join(map(_detail_text, value))
    return str(value)
