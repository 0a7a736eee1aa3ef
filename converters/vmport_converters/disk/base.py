"""The image that an overlay will rest on: found where the overlay will look for it, and opened."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vmport_converters.disk.qemu.supported import check_supported
from vmport_converters.disk.source import data_size, open_disk
from vmport_formats.disk.granted import granted
from vmport_formats.disk.model import DiskFormat
from vmport_formats.errors import (
    CorruptInput,
    LockedInput,
    UnreadableInput,
    UnsupportedFeature,
    UsageError,
)
from vmport_formats.references import ReferenceKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vmport_converters.disk.source import Facts, Source
    from vmport_formats.disk.image import DiskImage
    from vmport_formats.references import Reference, Resolver

FORMATS: Final = (
    DiskFormat.RAW,
    DiskFormat.QCOW2,
    DiskFormat.VMDK,
    DiskFormat.VHDX,
    DiskFormat.VDI,
    DiskFormat.QED,
    DiskFormat.QCOW,
    DiskFormat.PARALLELS,
)
"""What qemu reads below an overlay as we do; of a VHD, even the size depends on its version."""


@dataclass(frozen=True, slots=True)
class BaseFacts:
    """What is known of a base before its content is read."""

    name: str
    """As the overlay will state it: an absolute path, or one from the overlay's folder on."""
    format: DiskFormat
    virtual_size: int
    """Bytes; what lies behind reads as zeros."""
    differing: int | None = None
    """Bytes of the disk that may have to be written, as far as the maps tell; None: not walked."""


@dataclass(frozen=True, slots=True)
class Base:
    """An open base."""

    facts: BaseFacts
    disk: DiskImage
    shared: bool
    """The disk that becomes an overlay rests on one of its files, too."""
    path: Path
    """Where it is."""
    allow: Sequence[str]

    def below(self, overlay: Path) -> Resolver:
        """The files that `overlay`, which is written elsewhere than it will be, may open."""
        further = granted(self.allow)

        def resolve(reference: Reference, *, named_by: str) -> Path:
            if Path(named_by) != overlay:
                return further(reference, named_by=named_by)
            if reference.kind is not ReferenceKind.BACKING or reference.name != self.facts.name:
                raise CorruptInput(
                    named_by,
                    code="qcow2.backing-file",
                    problem=f"names another base than {self.facts.name!r}",
                )
            return self.path

        return resolve


@contextmanager
def over_base(
    source: Source,
    options: Mapping[str, str],
    destination: Path,
    *,
    allow: Sequence[str] = (),
    measured: bool = False,
) -> Iterator[Source]:
    """The same source, with the base that ``backing_file`` of `options` names, if it does.

    The base's files are among its stamps.  `measured`: find out how much may have to be written.

    Raises:
        UsageError: the name means no file for qemu, or the format cannot be told, or be a base.
        InputError, UnsafeInput: as `open_disk`, of the base.
    """
    name = options.get("backing_file")
    if name is None:
        yield source
        return
    if ":" in name.partition("/")[0]:
        raise UsageError(
            None,
            code="usage.backing-file",
            problem=f"-o backing_file={name}: is not the path of a file for qemu",
            hint=f"write ./{name}",
        )
    declared = options.get("backing_fmt")
    path = destination.parent / name
    if not path.exists():
        raise UnreadableInput(
            path,
            code="source.open",
            problem=f"cannot open: -o backing_file={name} is looked for here",
            hint="as qemu-img does it, the name counts from the folder of the destination",
        )
    with ExitStack() as stack:
        opened = open_disk(
            str(path),
            declared=None if declared is None else DiskFormat.named(declared),
            allow=allow,
        )
        try:
            base = stack.enter_context(opened)
        except LockedInput as error:
            raise UnsupportedFeature(
                path,
                code=error.code,
                problem="cannot be a base: it is encrypted, and what is written over it would "
                "not be",
            ) from error
        _check_format(base.facts, declared)
        shared = any(source.stamps.holds(file) for file in base.stamps)
        source.stamps.include(base.stamps)
        differing = _differing(source.disk, base.disk) if measured else None
        facts = BaseFacts(name, base.facts.top.format, base.disk.virtual_size, differing)
        yield replace(source, base=Base(facts, base.disk, shared, path, allow))


def data_to_write(source: Source) -> int:
    """Bytes that may have to be written of the disk, as far as the maps tell.

    Raises:
        InputError: a map cannot be read.
    """
    base = source.base
    return data_size(source.disk) if base is None else _differing(source.disk, base.disk)


def _differing(disk: DiskImage, base: DiskImage) -> int:
    from vmport_converters.disk.native.overlay import differing_data

    return differing_data(disk, base)


def _check_format(facts: Facts, declared: str | None) -> None:
    """That a machine will find the same below the overlay as we do."""
    for info in facts.infos:
        if info.format not in FORMATS:
            raise UsageError(
                facts.name,
                code="usage.backing-format",
                problem=f"is {info.format.label}, or rests on that, and cannot be a base: one of "
                + ", ".join(item.code for item in FORMATS),
            )
        try:
            check_supported(facts.name, info)
        except UnsupportedFeature as error:
            raise UnsupportedFeature(
                facts.name,
                code=error.code,
                problem=f"cannot be a base, because qemu would not read it as it is: it "
                f"{error.problem}",
                hint=error.hint,
            ) from error
    if declared is None and facts.top.format is DiskFormat.RAW:
        raise UsageError(
            facts.name,
            code="usage.backing-format",
            problem="has the marks of no format; what its guest writes could make it look like one",
            hint="pass -o backing_fmt=raw as well, if it is raw",
        )
