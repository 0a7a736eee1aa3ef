"""What a conversion will do, worked out before anything is written: a comparable value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmport_converters.disk.options import TARGETS
from vmport_converters.disk.supported import worth_saying
from vmport_formats.disk.model import DiskFormat
from vmport_formats.errors import UsageError
from vmport_formats.units import GIB, Bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vmport_converters.disk.chain import Chain


@dataclass(frozen=True, slots=True)
class Conversion:
    """One disk into one format."""

    source: Chain
    target: DiskFormat
    options: tuple[tuple[str, str], ...]
    """By qemu-img's names, our defaults among them, in the order of their names."""
    virtual_size: Bytes
    """Of the source, and so of the destination."""
    may_grow: bool
    """The options ask for a size that the format rounds up to."""
    length: Bytes | None
    """What a raw destination is cut to, where qemu-img would pad it to whole sectors."""
    ordered: bool
    """The order of the writes shows in the file, so they must not overtake each other."""
    reserved: Bytes
    """Space that is taken for certain, whatever the data."""
    notes: tuple[str, ...]
    """What the destination will not have, or that looks odd."""


def plan_conversion(chain: Chain, target: DiskFormat, options: Mapping[str, str]) -> Conversion:
    """How `chain` becomes a file of format `target` with `options` (as `read_options` gives them).

    Raises:
        UsageError: the disk is larger than the format can hold.
    """
    size = chain.top.info.virtual_size
    largest = TARGETS[target].largest
    if largest is not None and size > largest:
        raise UsageError(
            chain.name,
            code="usage.too-large",
            problem=f"a disk of {size} bytes does not fit into a {target.label}, which holds at "
            f"most {largest} ({largest // GIB} GiB)",
            hint="convert it to vhdx" if target is DiskFormat.VHD else "convert it to qcow2",
        )
    reserves = options.get("preallocation") in {"falloc", "full"}
    return Conversion(
        source=chain,
        target=target,
        options=tuple(sorted(options.items())),
        virtual_size=size,
        may_grow=target is DiskFormat.VHD and options.get("force_size") == "off",
        length=_exact_length(chain, target),
        ordered=not _is_laid_out_in_advance(target, options),
        reserved=size if reserves else Bytes(0),
        notes=tuple(_notes(chain, target)),
    )


def _is_laid_out_in_advance(target: DiskFormat, options: Mapping[str, str]) -> bool:
    """Whether each byte of the disk has its place in the file from the start."""
    subformat = options.get("subformat", "")
    return (
        target is DiskFormat.RAW
        or subformat == "fixed"
        or subformat.endswith("Flat")
        or options.get("static") == "on"
    )


def _exact_length(chain: Chain, target: DiskFormat) -> Bytes | None:
    info = chain.top.info
    if target is not DiskFormat.RAW or info.format is not DiskFormat.RAW:
        return None
    return info.file_size if info.file_size != info.virtual_size else None


def _notes(chain: Chain, target: DiskFormat) -> Iterator[str]:
    top = chain.top.info
    for link in chain.links:
        yield from worth_saying(link.info)
    if len(chain.links) > 1:
        yield f"{len(chain.links)} images, each resting on the next, became one"
    if top.format is DiskFormat.RAW and target is not DiskFormat.RAW:
        padding = top.virtual_size - top.file_size
        if padding:
            yield f"{padding} zero bytes were added at the end, to fill the last sector of 512"
    if top.snapshots:
        names = ", ".join(snapshot.name or snapshot.id for snapshot in top.snapshots)
        yield f"internal snapshots were not copied: {names}"
    bitmaps = top.details.get("bitmaps")
    if isinstance(bitmaps, list) and bitmaps:
        names = ", ".join(str(item["name"]) for item in bitmaps)
        yield f"dirty bitmaps were not copied: {names}"
    if top.dirty:
        yield "the source was not closed cleanly; it was copied as it is"
