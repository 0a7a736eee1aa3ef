"""What ``vmport convert`` has done, as fields for programs and as a line for people."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from vmport.render.errors import printable
from vmport_formats.units import format_size

if TYPE_CHECKING:
    from vmport_converters.disk.convert import Converted
    from vmport_formats.disk.model import ImageInfo


def conversion_fields(converted: Converted) -> dict[str, object]:
    """The JSON object, with the names that ``vmport inspect --json`` uses."""
    plan = converted.conversion
    return {
        "source": {
            **_image_fields(plan.source.name, plan.source.top.info),
            "file-size": plan.source.top.info.file_size,
            "files": [path for path, _ in plan.source.stamps],
        },
        "destination": {
            **_image_fields(converted.destination, converted.info),
            "options": dict(plan.options),
            "file-size": sum(file.size for file in converted.files),
            "actual-size": sum(file.allocated for file in converted.files),
            "files": [file.path for file in converted.files],
        },
        "engine": converted.engine,
        "sandboxed": converted.sandboxed,
        "verified": converted.verified,
        "seconds": round(converted.seconds, 3),
        "notes": list(converted.notes),
    }


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
    source = f"{plan.source.name} ({_format_name(plan.source.top.info)})"
    more = len(converted.files) - 1
    files = f" and {more} more file{'s' if more > 1 else ''}" if more else ""
    size = sum(file.size for file in converted.files)
    allocated = sum(file.allocated for file in converted.files)
    destination = f"{converted.destination}{files} ({_format_name(converted.info)})"
    state = "content compared" if converted.verified else "content not compared"
    sys.stdout.write(
        f"{printable(source)} -> {printable(destination)}: disk of "
        f"{format_size(converted.info.virtual_size)}, file of {format_size(size)} "
        f"({format_size(allocated)} on disk), {state}, {converted.seconds:.1f} s\n"
    )


def _format_name(info: ImageInfo) -> str:
    label = info.format.label
    return label if info.variant.lower() == label.lower() else f"{label} {info.variant}"
