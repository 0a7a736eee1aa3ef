"""What ``vmport inspect`` found, as fields for programs and as text for people."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from vmport.render.console import print_lines
from vmport.render.errors import printable
from vmport_formats.disk.model import DiskFormat
from vmport_formats.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from vmport.render.console import Line
    from vmport_formats.disk.model import Concern, ImageInfo, Snapshot
    from vmport_formats.disk.policy import Ruling
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
    ruling: Ruling | None = None
    """What a policy says to it, if one was asked."""


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
        "reasons": _reason_fields(inspection.verdict.reasons),
    }
    if (ruling := inspection.ruling) is not None:
        fields["policy"] = {
            "name": ruling.policy.value,
            "verdict": str(ruling),
            "reasons": _reason_fields(ruling.reasons),
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


def _reason_fields(reasons: Sequence[Concern]) -> list[dict[str, str]]:
    return [{"code": item.code, "text": item.text} for item in reasons]


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


def print_inspections(inspections: Iterable[Inspection], *, everything: bool = False) -> None:
    """Print the text, coloured only on a terminal and never under NO_COLOR.

    `everything` shows all details of the format, as JSON does; without it those that people ask
    for.
    """
    print_lines(_text(inspections, everything=everything))


def _text(inspections: Iterable[Inspection], *, everything: bool) -> Iterator[Line]:
    for number, inspection in enumerate(inspections):
        if number:
            yield ()
        yield from _lines(inspection, everything=everything)


_INDENT: Final = "  "
_NARROWEST: Final = 14
"""Characters for the labels; the longest one may widen it."""
_SHOWN: Final = 4
"""How many of a long list are shown: a VMDK can have hundreds of extents."""

_DETAILS: Final[dict[DiskFormat, dict[str, str]]] = {
    DiskFormat.RAW: {"partition-table": "partitions", "content": "content"},
    DiskFormat.QCOW2: {
        "compat": "compat",
        "compression-type": "compression",
        "refcount-bits": "refcount bits",
        "lazy-refcounts": "lazy refcounts",
        "extended-l2": "extended L2",
        "data-file-raw": "data file is raw",
        "bitmaps": "bitmaps",
        "unknown-extensions": "unknown parts",
    },
    DiskFormat.VMDK: {
        "ddb/ddb.adapterType": "adapter",
        "ddb/ddb.virtualHWVersion": "hardware version",
    },
    DiskFormat.VHD: {"creator-application": "made by", "time-stamp": "made at"},
    DiskFormat.VHDX: {"creator": "made by", "logical-sector-size": "sector size"},
    DiskFormat.VDI: {"comment": "comment", "blocks-allocated": "blocks in use"},
    DiskFormat.PARALLELS: {"format-extension": "extension"},
    DiskFormat.DMG: {"image-variant": "holds a"},
    DiskFormat.LUKS: {
        "cipher-alg": "cipher",
        "cipher-mode": "mode",
        "hash-alg": "hash",
        "active-slots": "keys in use",
        "uuid": "UUID",
    },
}
"""The details that the text shows, by their place among a format's details, and their labels."""


def _lines(inspection: Inspection, *, everything: bool) -> Iterator[Line]:
    rows = list(_rows(inspection))
    rows += _all_details(inspection.info) if everything else _usual_details(inspection.info)
    width = max(_NARROWEST, *(len(label) + 2 for label, _ in rows))
    yield ((printable(inspection.filename), "bold"),)
    for label, value in rows:
        yield (_INDENT, ""), (label.ljust(width), "dim"), (printable(value), "")
    verdict, ruling = inspection.verdict, inspection.ruling
    yield _answer("safety".ljust(width), str(verdict), good=verdict.safe)
    yield from _reason_lines(verdict.reasons, width)
    if ruling is not None:
        yield _answer("policy".ljust(width), f"{ruling.policy}: {ruling}", good=ruling.accepted)
        known = set(verdict.reasons)
        yield from _reason_lines([item for item in ruling.reasons if item not in known], width)


def _answer(label: str, answer: str, *, good: bool) -> Line:
    return (_INDENT, ""), (label, "dim"), (answer, "bold green" if good else "bold red")


def _reason_lines(reasons: Sequence[Concern], width: int) -> Iterator[Line]:
    for code, text in _first_reasons(reasons):
        yield (_INDENT + " " * width, ""), (code, "red"), (f": {printable(text)}", "")


def _first_reasons(reasons: Sequence[Concern]) -> Iterator[tuple[str, str]]:
    """Code and text of each reason, the first few of each code."""
    counts = Counter(reason.code for reason in reasons)
    seen: Counter[str] = Counter()
    for reason in reasons:
        seen[reason.code] += 1
        if seen[reason.code] <= _SHOWN:
            yield reason.code, reason.text
        elif seen[reason.code] == counts[reason.code]:
            yield reason.code, f"and {counts[reason.code] - _SHOWN} more like these"


def _rows(inspection: Inspection) -> Iterator[tuple[str, str]]:
    """Label and value of each line between the name and the details."""
    info = inspection.info
    yield "format", _format_name(info)
    yield "virtual size", _size(info.virtual_size)
    yield "file size", f"{_size(info.file_size)}, {format_size(inspection.allocated)} on disk"
    if info.cluster_size is not None:
        yield "cluster size", format_size(info.cluster_size)
    kinds = dict.fromkeys(reference.kind for reference in info.references)
    for kind in kinds:
        names = [_named(reference) for reference in info.references if reference.kind is kind]
        yield from _listed(kind.value, names)
    if info.encrypted:
        yield "encrypted", _encryption(info)
    if info.dirty:
        yield "closed", "not cleanly: it is in use, or a program crashed while writing to it"
    if info.corrupt:
        yield "corrupt", "yes: its own header says so"
    yield from _listed("snapshots", [_snapshot_text(item) for item in info.snapshots])


def _listed(label: str, values: list[str]) -> Iterator[tuple[str, str]]:
    """A row for each of the first values, under one label."""
    # One more than fits is shown itself rather than counted.
    shown = values if len(values) <= _SHOWN + 1 else values[:_SHOWN]
    for number, value in enumerate(shown):
        yield "" if number else label, value
    if len(shown) < len(values):
        yield "", f"and {len(values) - len(shown)} more; --json lists all"


def _named(reference: Reference) -> str:
    declared = reference.declared_format
    return reference.name + (f" ({declared})" if declared else "")


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
    text = f"{snapshot.id}: {snapshot.name}, {created}"
    if snapshot.vm_state_size:
        text += f", with {format_size(snapshot.vm_state_size)} of memory"
    return text


def _usual_details(info: ImageInfo) -> Iterator[tuple[str, str]]:
    for place, label in _DETAILS.get(info.format, {}).items():
        value: object = info.details
        for key in place.split("/"):
            value = value.get(key) if isinstance(value, Mapping) else None
        yield from _detail_rows(label, value)


def _all_details(info: ImageInfo) -> Iterator[tuple[str, str]]:
    for key, value in info.details.items():
        yield from _detail_rows(key.replace("-", " "), value)


def _detail_rows(label: str, value: object) -> Iterator[tuple[str, str]]:
    """One row for a plain value; one for each item of a list of objects; none for nothing."""
    if isinstance(value, (list, tuple)) and all(isinstance(item, Mapping) for item in value):
        yield from _listed(label, [_detail_text(item) for item in value])
    elif value not in _NOTHING:
        yield label, _detail_text(value)


_NOTHING: Final[tuple[object, ...]] = ([], (), {}, None, False, "")


def _detail_text(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case Mapping():
            return ", ".join(
                f"{str(key).replace('-', ' ')} {_detail_text(item)}"
                for key, item in value.items()
                if item not in _NOTHING
            )
        case list() | tuple():
            return ", ".join(map(_detail_text, value))
    return str(value).strip()
