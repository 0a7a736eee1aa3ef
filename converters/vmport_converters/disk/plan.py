"""What a conversion will do, worked out before anything is written: a comparable value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from vmport_converters.disk.options import TARGETS, check_options, encrypts
from vmport_converters.disk.qemu.supported import check_supported
from vmport_converters.disk.supported import worth_saying
from vmport_formats.disk.model import DiskFormat
from vmport_formats.errors import UnsupportedFeature, UsageError
from vmport_formats.units import GIB, MIB, SECTOR, Bytes, format_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vmport_converters.disk.base import BaseFacts
    from vmport_converters.disk.source import Facts


class Engine(StrEnum):
    """Who writes the destination."""

    NATIVE = "native"
    QEMU_IMG = "qemu-img"


class Compression(StrEnum):
    """How hard to try."""

    NONE = "none"
    FAST = "fast"
    """Deflate at several hundred MB/s a processor."""
    SMALL = "small"
    """Deflate, a tenth smaller, at a third of that speed."""
    ZSTD = "zstd"


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asks of the destination."""

    target: DiskFormat
    options: Mapping[str, str]
    """As `read_options` gives them."""
    compression: Compression | None = None
    """None: what the format does by itself."""
    engine: Engine | None = None
    """None: the better one."""
    size_multiple: int = 1
    """Bytes; the disk is made longer, to a multiple of that."""
    advice: str | None = None
    """What there is to say to the user of such a disk."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """One disk into one format."""

    source: Facts
    target: DiskFormat
    options: tuple[tuple[str, str], ...]
    """By qemu-img's names, our defaults among them, in the order of their names."""
    compression: Compression
    engine: Engine
    reasons: tuple[str, ...]
    """Why that engine."""
    copied_first: str | None
    """Why qemu-img gets a raw copy of the disk instead of the source itself, if that is so."""
    virtual_size: Bytes
    """Of the destination."""
    may_grow: bool
    """The options ask for a size that the format rounds up to."""
    length: Bytes | None
    """What a raw destination is cut to, where whole sectors would be more."""
    ordered: bool
    """The order of the writes shows in the file, so they must not overtake each other."""
    reserved: Bytes
    """Space that is taken for certain, whatever the data."""
    at_most: Bytes
    """Space that it takes if no data turns out to be zeros, or to be compressible; and a copy."""
    notes: tuple[str, ...]
    """What the destination will not have, or that looks odd."""


def plan_conversion(facts: Facts, wish: Wish, base: BaseFacts | None = None) -> Conversion:
    """How the disk becomes a file as wished for; `base` is what ``backing_file`` names.

    Raises:
        UsageError: the disk is larger, or has more data, than the format can hold, or what is
            wished for does not go together.
    """
    target = wish.target
    options, compression, engine, reasons = _settled(wish)
    size = Bytes(-(-facts.virtual_size // wish.size_multiple) * wish.size_multiple)
    _check_size(facts, wish, size)
    fills = target is DiskFormat.LUKS  # where nothing is written, nothing decrypts to zeros
    reserves = fills or options.get("preallocation") in {"falloc", "full"}
    encrypted = encrypts(target, options)
    copied_first = None
    if engine is Engine.QEMU_IMG:
        copied_first = _unfit_for_qemu(facts, size, encrypted=encrypted)
    data = facts.virtual_size if facts.data is None else facts.data
    if fills:
        data = size
    if base is not None:
        options["backing_fmt"] = base.format.value
        data = data if base.differing is None else base.differing
    _check_data(facts, target, options)
    return Conversion(
        source=facts,
        target=target,
        options=tuple(sorted(options.items())),
        compression=compression,
        engine=engine,
        reasons=reasons,
        copied_first=copied_first,
        virtual_size=size,
        may_grow=target is DiskFormat.VHD and options.get("force_size") == "off",
        length=_exact_length(facts, target, wish.size_multiple),
        ordered=not _is_laid_out_in_advance(target, options),
        reserved=size if reserves else Bytes(0),
        at_most=worst_case(data, copied_first=copied_first is not None),
        notes=(
            *_notes(facts, target, size, base),
            *_of_encryption(facts, copied_first, encrypted=encrypted),
            *([wish.advice] if wish.advice else []),
        ),
    )


def check_wish(wish: Wish) -> None:
    """That it goes together, whatever the disk.

    Raises:
        UsageError: it does not.
    """
    _settled(wish)


def _settled(
    wish: Wish,
) -> tuple[dict[str, str], Compression, Engine, tuple[str, ...]]:
    """The options with what they imply, the compression, the engine, and why that engine."""
    target, options = wish.target, dict(wish.options)
    compression = _compression(target, options, wish.compression)
    check_options(target, options)
    return options, compression, *_engine(target, options, compression, wish)


def _compression(
    target: DiskFormat, options: dict[str, str], wished: Compression | None
) -> Compression:
    """What is wished for, with what it implies added to `options`.

    Raises:
        UsageError: the format cannot do that.
    """
    streams = options.get("subformat") == "streamOptimized"
    if wished is None:
        return Compression.FAST if streams else Compression.NONE
    refusal = None
    if target is DiskFormat.QCOW2:
        kind = "zstd" if wished is Compression.ZSTD else "zlib"
        if wished is not Compression.NONE and options.setdefault("compression_type", kind) != kind:
            refusal = f"-o compression_type={options['compression_type']} is another compression"
        elif wished is not Compression.NONE and encrypts(target, options):
            refusal = "what is encrypted is not compressed"
        elif wished is not Compression.NONE and options.get("preallocation", "off") != "off":
            refusal = "what is compressed has no preallocation"
    elif target is DiskFormat.VMDK:
        if wished is Compression.ZSTD:
            refusal = "a VMDK is compressed by deflate: fast or small"
        elif wished is Compression.NONE and streams:
            refusal = "-o subformat=streamOptimized is always compressed"
        elif wished is not Compression.NONE and not streams:
            refusal = "of the VMDKs only -o subformat=streamOptimized is compressed"
    elif wished is not Compression.NONE:
        refusal = f"{target.label} images are not compressed; qcow2 and VMDK can be"
    if refusal:
        raise UsageError(
            None, code="usage.compress", problem=f"--compress {wished.value}: {refusal}"
        )
    return wished


def _check_size(facts: Facts, wish: Wish, size: int) -> None:
    target = wish.target
    largest = TARGETS[target].largest
    if largest is not None and size > largest:
        larger = "convert it to vhdx" if target is DiskFormat.VHD else "convert it to qcow2"
        raise UsageError(
            facts.name,
            code="usage.too-large",
            problem=f"a disk of {size} bytes does not fit into a {target.label}, which holds at "
            f"most {largest} ({largest // GIB} GiB)",
            hint=larger if wish.advice is None else None,
        )


_LARGEST_SPARSE_VMDK: Final = (1 << 32) * SECTOR
"""Of its file: a sector's number has 32 bits."""


def data_limit(target: DiskFormat, options: Mapping[str, str]) -> int | None:
    """Bytes of data that the file can hold, where that is less than a disk may well have.

    Of a disk that is larger, the map is to be walked before it is planned.
    """
    one_file = target is DiskFormat.VMDK and options.get("subformat") in _NATIVE_VMDKS
    return _LARGEST_SPARSE_VMDK if one_file else None


def doubt_of_room(plan: Conversion) -> str | None:
    """What there is to say if nobody knows yet whether the file can hold the data."""
    limit, data = data_limit(plan.target, dict(plan.options)), plan.source.data
    if limit is None or data is None or data < limit:
        return None
    return (
        f"this VMDK can hold {format_size(limit)}; the conversion ends with an error if the "
        f"{format_size(data)} of data do not pack into that"
    )


def _check_data(facts: Facts, target: DiskFormat, options: Mapping[str, str]) -> None:
    limit = data_limit(target, options)
    if limit is None or facts.data is None or facts.data < limit:
        return
    if options.get("subformat") == "streamOptimized":
        return  # see `doubt_of_room`
    raise UsageError(
        facts.name,
        code="usage.too-much-data",
        problem=f"{format_size(facts.data)} of data do not fit into this kind of VMDK, whose file "
        f"ends at {format_size(limit)}",
        hint="-o subformat=twoGbMaxExtentSparse makes several files, and qcow2 and VHDX have room; "
        "if much of it is zeros that are stored, convert to qcow2 first, which leaves them out",
    )


def _engine(
    target: DiskFormat, options: Mapping[str, str], compression: Compression, wish: Wish
) -> tuple[Engine, tuple[str, ...]]:
    left = _left_to_qemu(target, options)
    if wish.engine is Engine.NATIVE and left:
        raise UsageError(
            None,
            code="usage.engine",
            problem=f"--engine native: {left}",
            hint="leave --engine out",
        )
    overlay = "backing_file" in options
    if wish.engine is Engine.QEMU_IMG and overlay:
        raise UsageError(
            None,
            code="usage.engine",
            problem="--engine qemu-img: it does not compare a disk with a backing_file, but takes "
            "for granted that the source rests on it",
            hint="leave --engine out",
        )
    if wish.engine is not None:
        return wish.engine, ("it was asked for",)
    if left:
        return Engine.QEMU_IMG, (left,)
    reasons = [f"it writes {target.label} itself"]
    if compression is not Compression.NONE:
        reasons.append("it packs in all processors")
    if overlay:
        reasons.append("it compares the disk with the backing_file")
    return Engine.NATIVE, tuple(reasons)


def _unfit_for_qemu(facts: Facts, size: int, *, encrypted: bool) -> str | None:
    """Why qemu-img must not read the source itself, if that is so."""
    if size != facts.virtual_size:
        return "the disk has to become longer"
    if facts.snapshot is not None:
        return f"the snapshot {facts.snapshot!r} is read"
    for info in facts.infos:
        try:
            # It is given the source's passphrase only to keep a plain copy from the medium.
            check_supported(facts.name, info, opened=encrypted)
        except UnsupportedFeature as error:
            return f"the source {error.problem}"
    return None


_NATIVE_VMDKS: Final = frozenset({"monolithicSparse", "streamOptimized"})


def _left_to_qemu(target: DiskFormat, options: Mapping[str, str]) -> str | None:
    """Why only qemu-img can do it, if that is so."""
    if encrypts(target, options):
        return "what is encrypted is written by qemu-img"
    subformat = options.get("subformat", "")
    if target is DiskFormat.VMDK and subformat not in _NATIVE_VMDKS:
        return f"subformat={subformat} is written by qemu-img"
    return None


def _is_laid_out_in_advance(target: DiskFormat, options: Mapping[str, str]) -> bool:
    """Whether each byte of the disk has its place in the file from the start."""
    subformat = options.get("subformat", "")
    return (
        target in {DiskFormat.RAW, DiskFormat.LUKS}
        or subformat == "fixed"
        or subformat.endswith("Flat")
        or options.get("static") == "on"
    )


def _exact_length(facts: Facts, target: DiskFormat, multiple: int) -> Bytes | None:
    info = facts.top
    if target is not DiskFormat.RAW or info.format is not DiskFormat.RAW or multiple > 1:
        return None
    return info.file_size if info.file_size != info.virtual_size else None


def worst_case(data: int, *, copied_first: bool) -> Bytes:
    """Bytes that are taken at the most, of `data` bytes that are not zeros."""
    # Tables take a 1024th, but for tiny clusters; a compressed grain has a header.
    return Bytes((2 * data if copied_first else data) + data // 256 + 4 * MIB)


def _of_encryption(facts: Facts, copied_first: str | None, *, encrypted: bool) -> Iterator[str]:
    secret = any(info.encrypted for info in facts.infos)
    if secret and not encrypted:
        yield "the source is encrypted; the destination is not"
    elif secret and copied_first is not None:
        yield (
            "a copy that is not encrypted lies in the destination's folder during the work; it is "
            "removed, but the medium may keep its traces"
        )


def _notes(facts: Facts, target: DiskFormat, size: int, base: BaseFacts | None) -> Iterator[str]:
    top = facts.top
    for info in facts.infos:
        yield from worth_saying(info)
    if base is not None:
        yield f"rests on {base.name}; keep that where it is, and as it is"
        if base.virtual_size > size:
            yield f"the base is longer, {base.virtual_size} bytes; the rest of it is not seen"
    elif len(facts.infos) > 1:
        yield f"{len(facts.infos)} images, each resting on the next, became one"
    if top.format is DiskFormat.RAW and target is not DiskFormat.RAW:
        padding = top.virtual_size - top.file_size
        if padding:
            yield f"{padding} zero bytes were added at the end, to fill the last sector of 512"
    if size != facts.virtual_size:
        yield f"the disk was made longer, from {facts.virtual_size} to {size} bytes"
        if facts.has_gpt:
            yield (
                "the second table of its GPT is not at the end any more; most guests do not mind, "
                "and `sfdisk --relocate gpt-bak-std` moves it there"
            )
    if top.snapshots and facts.snapshot is None:
        names = ", ".join(snapshot.name or snapshot.id for snapshot in top.snapshots)
        yield f"internal snapshots were not copied: {names}"
    bitmaps = top.details.get("bitmaps")
    if isinstance(bitmaps, list) and bitmaps:
        names = ", ".join(str(item["name"]) for item in bitmaps)
        yield f"dirty bitmaps were not copied: {names}"
    if top.dirty:
        yield "the source was not closed cleanly; it was copied as it is"
