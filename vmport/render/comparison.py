"""What ``vmport compare`` found, as fields for programs and as a few lines for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmport.render.console import result_stream
from vmport.render.errors import printable
from vmport_formats.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_converters.disk.compare import Compared, Difference, Image, Side


def is_equal(compared: Compared, *, strict: bool) -> bool:
    """Whether they pass for equal: in content and, if it is `strict`, in size."""
    return compared.difference is None and (compared.same_size or not strict)


def comparison_fields(compared: Compared, *, strict: bool) -> dict[str, object]:
    """The JSON object, with the names that ``vmport inspect --json`` and its map use."""
    first, second = compared.images
    return {
        "identical": is_equal(compared, strict=strict),
        "same-content": compared.difference is None,
        "same-size": compared.same_size,
        "first-difference": _difference_fields(compared.difference),
        "a": _image_fields(first),
        "b": _image_fields(second),
    }


def _image_fields(image: Image) -> dict[str, object]:
    fields: dict[str, object] = {
        "filename": image.wanted.path,
        "format": image.info.format.value,
        "variant": image.info.variant,
        "virtual-size": image.size,
    }
    if image.wanted.snapshot is not None:
        fields["snapshot"] = image.wanted.snapshot
    if image.concerns:
        fields["concerns"] = [
            {"code": concern.code, "text": concern.text} for concern in image.concerns
        ]
    return fields


def _difference_fields(difference: Difference | None) -> dict[str, object] | None:
    if difference is None:
        return None
    first, second = difference.sides
    return {"offset": difference.offset, "a": _side_fields(first), "b": _side_fields(second)}


def _side_fields(side: Side) -> dict[str, object] | None:
    """Null where the disk has ended."""
    if side.extent is None:
        return None
    fields: dict[str, object] = {
        "value": side.value,
        "kind": side.extent.kind.value,
        "depth": side.extent.depth,
    }
    if side.extent.host_file is not None:
        fields["filename"] = side.extent.host_file
    if side.extent.host_offset is not None:
        fields["offset"] = side.extent.host_offset
    return fields


def print_comparison(compared: Compared, *, strict: bool) -> None:
    """Print the outcome; text out of a file is escaped, so that it drives no terminal."""
    stream = result_stream()
    for line in _lines(compared, strict=strict):
        stream.write(f"{printable(line)}\n")


def _lines(compared: Compared, *, strict: bool) -> Iterator[str]:
    first, second = compared.images
    names = f"{_named(first)} and {_named(second)}"
    difference = compared.difference
    if difference is None and compared.same_size:
        yield f"identical: {names}, disks of {format_size(first.size)}"
        return
    if difference is None:
        verdict = "different sizes" if strict else "identical content, different sizes"
        longer = max(compared.images, key=lambda image: image.size)
        yield f"{verdict}: {names}"
        yield from _sizes(compared)
        yield f"  what {longer.wanted.path} has more is zeros"
        return
    yield f"different: {names}"
    yield f"  first at byte {difference.offset} ({difference.offset:#x}) of the disk"
    width = max(len(image.wanted.path) for image in compared.images)
    for image, side in zip(compared.images, difference.sides, strict=True):
        yield f"    {image.wanted.path.ljust(width)}  {_found(side)}"
    if not compared.same_size:
        yield from _sizes(compared)


def _named(image: Image) -> str:
    snapshot = "" if image.wanted.snapshot is None else f", snapshot {image.wanted.snapshot}"
    label, variant = image.info.format.label, image.info.variant
    kind = label if variant.lower() == label.lower() else f"{label} {variant}"
    return f"{image.wanted.path} ({kind}{snapshot})"


def _sizes(compared: Compared) -> Iterator[str]:
    yield "  sizes"
    width = max(len(image.wanted.path) for image in compared.images)
    for image in compared.images:
        size = f"{image.size} bytes"
        yield f"    {image.wanted.path.ljust(width)}  {size} ({format_size(image.size)})"


def _found(side: Side) -> str:
    if side.extent is None:
        return "the disk has ended"
    text = f"{side.value:#04x}: {side.extent.kind.value}"
    if side.extent.host_file is not None:
        text += f", {side.extent.host_file}"
    if side.extent.host_offset is not None:
        text += f" at {side.extent.host_offset:#x}"
    return text
