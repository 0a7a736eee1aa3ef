"""What ``vmport convert`` has done, as fields for programs and as a line for people."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from vmport.render.errors import printable
from vmport_formats.units import format_size

if TYPE_CHECKING:
    from vmport_converters.disk.convert import Converted, Request
    from vmport_converters.disk.plan import Conversion
    from vmport_formats.disk.model import ImageInfo
    from vmport_formats.errors import VmportError


def conversion_fields(converted: Converted) -> dict[str, object]:
    """The JSON object, with the names that ``vmport inspect --json`` uses."""
    plan = converted.conversion
    return {
        "source": {
            **_image_fields(plan.source.name, plan.source.top),
            "file-size": plan.source.top.file_size,
            "files": list(converted.source_files),
        },
        "destination": {
            **_image_fields(converted.destination, converted.info),
            "options": dict(plan.options),
            "file-size": sum(file.size for file in converted.files),
            "actual-size": sum(file.allocated for file in converted.files),
            "files": [file.path for file in converted.files],
        },
        **_decision_fields(plan),
        "sandboxed": converted.sandboxed,
        "verified": converted.compared,
        "digest": converted.digest,
        "seconds": round(converted.seconds, 3),
        "notes": list(converted.notes),
    }


def plan_fields(plan: Conversion, destination: str) -> dict[str, object]:
    """The JSON object of what a conversion would do."""
    return {
        "source": {
            **_image_fields(plan.source.name, plan.source.top),
            "file-size": plan.source.top.file_size,
            "data-size": plan.source.data,
        },
        "destination": {
            "filename": destination,
            "format": plan.target.value,
            "virtual-size": plan.virtual_size,
            "options": dict(plan.options),
            "reserved-size": plan.reserved,
            "largest-size": plan.at_most,
        },
        **_decision_fields(plan),
        "notes": list(plan.notes),
    }


def _decision_fields(plan: Conversion) -> dict[str, object]:
    return {
        "compression": plan.compression.value,
        "engine": plan.engine.value,
        "reasons": list(plan.reasons),
        "copied-first": plan.copied_first,
    }


def failed_fields(request: Request, error: VmportError) -> dict[str, object]:
    """The JSON object that stands for a disk, of several, that was not converted."""
    from vmport.render.inspection import failure_fields

    return {
        "source": {"filename": request.source},
        "destination": {"filename": request.destination},
        "error": failure_fields(request.source, error)["error"],
    }


def print_summary(folder: str, count: int, failed: int, seconds: float) -> None:
    """Print how many of several disks are in `folder` now."""
    state = f", {failed} failed" if failed else ""
    disks = "disk" if count == 1 else "disks"
    sys.stdout.write(
        f"{count - failed} of {count} {disks} converted into {printable(folder)}{state}, "
        f"{seconds:.1f} s\n"
    )


def _image_fields(name: str, info: ImageInfo) -> dict[str, object]:
    return {
        "filename": name,
        "format": info.format.value,
        "variant": info.variant,
        "virtual-size": info.virtual_size,
    }


def print_conversion(converted: Converted) -> None:
    """Print one line: what became what, how large, and whether it was compared."""
    plan = converted.conversion
    source = f"{plan.source.name} ({_format_name(plan.source.top)})"
    more = len(converted.files) - 1
    files = f" and {more} more file{'s' if more > 1 else ''}" if more else ""
    size = sum(file.size for file in converted.files)
    allocated = sum(file.allocated for file in converted.files)
    destination = f"{converted.destination}{files} ({_format_name(converted.info)})"
    state = "content compared" if converted.compared else "content not compared"
    sys.stdout.write(
        f"{printable(source)} -> {printable(destination)}: disk of "
        f"{format_size(converted.info.virtual_size)}, file of {format_size(size)} "
        f"({format_size(allocated)} on disk), {state}, {converted.seconds:.1f} s\n"
    )


def print_plan(plan: Conversion, destination: str) -> None:
    """Print what a conversion would do, and why so."""
    size = format_size(plan.source.virtual_size)
    lines = [
        f"{printable(plan.source.name)} ({_format_name(plan.source.top)}): disk of {size} with "
        f"{format_size(plan.source.data or 0)} of data",
        f"-> {printable(destination)} ({plan.target.label}): disk of "
        f"{format_size(plan.virtual_size)}, at most {format_size(plan.at_most)} on disk",
        *(f"   -o {key}={value}" for key, value in plan.options),
        f"   compression: {plan.compression}",
        f"engine: {plan.engine}, because {' and '.join(plan.reasons)}",
        *([f"   first a raw copy, because {plan.copied_first}"] if plan.copied_first else []),
        *(f"note: {printable(note)}" for note in plan.notes),
    ]
    sys.stdout.write("\n".join(lines) + "\n")


def _format_name(info: ImageInfo) -> str:
    label = info.format.label
    return label if info.variant.lower() == label.lower() else f"{label} {info.variant}"
