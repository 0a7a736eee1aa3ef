"""A disk image as a disk: read at any offset in any amount, and a map of what lies where.

`open_image` follows the chain of backing files and parents as far as the caller's resolver grants.
The formats only say where bytes are (`layer`); everything else happens here, once.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final, Protocol, cast

from vmport_formats.disk.extents import Extent, ExtentKind, merge
from vmport_formats.disk.layer import Found
from vmport_formats.disk.model import DiskFormat
from vmport_formats.disk.probe import detect, reader
from vmport_formats.errors import CorruptInput, UnsafeInput, UnsupportedFeature
from vmport_formats.references import deny
from vmport_formats.source import open_source
from vmport_formats.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vmport_formats.disk.layer import Layer, Opener, Run, Unit
    from vmport_formats.disk.model import ImageInfo
    from vmport_formats.references import Reference, Resolver
    from vmport_formats.source import ByteSource

MAX_DEPTH: Final = 200
"""Images in a chain, the first one included."""

_CACHE: Final = 8 * MIB
"""Unpacked bytes that are kept for the next read."""


class ContentReader(Protocol):
    """What a format module offers besides `probe.FormatReader`, when content can be read."""

    def open_layer(self, source: ByteSource, opener: Opener) -> Layer:
        """The content of the image in `source`; its tables are read when they are needed.

        Raises:
            CorruptInput, TruncatedInput, UnsupportedFeature: as `probe.FormatReader.read_info`.
            UnsafeInput: it names an extent or data file that `opener` does not grant.
        """
        ...


class DiskImage:
    """The virtual disk that an image and its chain make up.

    Reading is safe from several threads at once.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = tuple(layers)
        self._units = _UnitCache(_CACHE)

    @property
    def info(self) -> ImageInfo:
        """The metadata of the image that was opened."""
        return self._layers[0].info

    @property
    def chain(self) -> tuple[ImageInfo, ...]:
        """The metadata of every image of the chain, the opened one first."""
        return tuple(layer.info for layer in self._layers)

    @property
    def virtual_size(self) -> int:
        """Length of the disk in bytes."""
        return self._layers[0].size

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        """The map of a range (by default of all), in order, without gaps, in as few as possible."""
        return merge(self._extents(offset, self._clip(offset, length)))

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer only at the end of the disk."""
        buffer = bytearray(self._clip(offset, length))
        self.readinto(offset, buffer)
        return bytes(buffer)

    def readinto(self, offset: int, buffer: bytearray | memoryview) -> int:
        """Fill `buffer` from `offset` and return how many bytes that were: fewer only at the end.

        Raises:
            CorruptInput, TruncatedInput: a table or a compressed unit is broken.
            UnreadableInput: the system cannot read a file.
        """
        with memoryview(buffer).cast("B") as view:
            wanted = self._clip(offset, len(view))
            done = 0
            for _, run in self._runs(0, offset, wanted):
                self._fill(view[done : done + run.length], offset + done, run)
                done += run.length
            return done

    def _clip(self, offset: int, length: int | None) -> int:
        inside = max(0, self.virtual_size - offset) if offset >= 0 else 0
        return inside if length is None else max(0, min(length, inside))

    def _runs(self, depth: int, offset: int, length: int) -> Iterator[tuple[int, Run]]:
        """The runs of a range, each with the depth of the image that holds it."""
        layer = self._layers[depth]
        inside = max(0, min(length, layer.size - offset))
        for run in layer.runs(offset, inside) if inside else ():
            if run.found is Found.ABSENT and depth + 1 < len(self._layers):
                yield from self._runs(depth + 1, offset, run.length)
            else:
                yield depth, run
            offset += run.length
        if inside < length:  # a parent that is shorter than its child
            yield depth, _absent(length - inside)

    def _extents(self, offset: int, length: int) -> Iterator[Extent]:
        if not length:
            return
        for depth, run in self._runs(0, offset, length):
            if run.found is Found.STORED:
                assert run.source is not None  # noqa: S101 - by the definition of a run
                place = None if run.cipher else run.at
                yield Extent(offset, run.length, ExtentKind.DATA, depth, run.source.name, place)
            elif run.found is Found.PACKED:
                assert run.unit is not None  # noqa: S101
                yield Extent(offset, run.length, ExtentKind.COMPRESSED, depth, run.unit.source.name)
            else:
                kind = ExtentKind.ZERO if run.found is Found.ZERO else ExtentKind.HOLE
                yield Extent(offset, run.length, kind, depth)
            offset += run.length

    def _fill(self, target: memoryview, offset: int, run: Run) -> None:
        """Put the bytes of `run`, which begins at guest `offset`, into `target`."""
        if run.found is Found.STORED:
            assert run.source is not None  # noqa: S101
            if run.cipher is None:
                done = run.source.read_into(run.at, target)
                if done < len(target):  # the last cluster of a file may be cut short
                    target[done:] = bytes(len(target) - done)
            else:
                target[:] = _decrypted(run, offset, len(target))
        elif run.found is Found.PACKED:
            assert run.unit is not None  # noqa: S101
            inside = offset - run.unit.start
            target[:] = self._units.get(run.unit)[inside : inside + len(target)]
        else:
            target[:] = bytes(len(target))


class _UnitCache:
    """The units that were unpacked last, up to a number of bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._units: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._lock = Lock()

    def get(self, unit: Unit) -> bytes:
        key = (id(unit.source), unit.at)
        with self._lock:
            if (known := self._units.get(key)) is not None and len(known) == unit.size:
                self._units.move_to_end(key)
                return known
        data = unpack(unit)
        with self._lock:
            if key not in self._units:
                self._units[key] = data
                self._used += len(data)
            while self._used > self._limit and len(self._units) > 1:
                self._used -= len(self._units.popitem(last=False)[1])
        return data


def unpack(unit: Unit) -> bytes:
    """The bytes of a compressed unit.

    Raises:
        CorruptInput: it is not what it should be, or does not yield what it should.
    """
    packed = unit.source.read_at(unit.at, unit.packed)
    try:
        return unit.unpack(packed, unit.size)
    except ValueError as error:
        raise CorruptInput(
            unit.source.name,
            at=unit.at,
            code=unit.code,
            problem=f"the compressed data for offset {unit.start:#x} of the disk is broken: "
            f"{error}",
        ) from error


_SECTOR: Final = 512


def _decrypted(run: Run, offset: int, length: int) -> bytes:
    """Plain text of a range; whole sectors are decrypted, as ciphers work on these."""
    assert run.source is not None  # noqa: S101
    assert run.cipher is not None  # noqa: S101
    before = offset % _SECTOR
    wanted = -(-(before + length) // _SECTOR) * _SECTOR
    data = run.source.read_at(run.at - before, wanted)
    plain = run.cipher.decrypt(data.ljust(wanted, b"\0"), offset - before, run.at - before)
    return plain[before : before + length]


def _absent(length: int) -> Run:
    from vmport_formats.disk.layer import Run

    return Run(length, Found.ABSENT)


# --- Opening ------------------------------------------------------------------------------------


@contextmanager
def open_image(
    path: str | os.PathLike[str],
    resolver: Resolver = deny,
    *,
    declared: DiskFormat | None = None,
) -> Iterator[DiskImage]:
    """Open the image at `path` and whatever it needs that `resolver` grants.

    A format is probed by content unless it is declared: by the caller for `path`, by an image for
    the file that it names.

    Raises:
        UnsafeInput: a reference was not granted, a chain is deeper than 200 or bites its own tail.
        UnsupportedFeature: the content of this format or variant cannot be read.
        InputError: something cannot be opened or is corrupt.
    """
    with ExitStack() as stack:
        layers: list[Layer] = []
        seen: set[tuple[int, int]] = set()
        name, wanted = os.fspath(path), declared
        while True:
            _check_chain(name, len(layers), seen)
            layers.append(_open_layer(name, wanted, resolver, stack))
            parent = layers[-1].info.backing
            if parent is None:
                break
            target = resolver(parent, named_by=name)
            wanted = _declared(parent, name)
            name = str(target)
        yield DiskImage(layers)


def _check_chain(name: str, depth: int, seen: set[tuple[int, int]]) -> None:
    if depth >= MAX_DEPTH:
        raise UnsafeInput(
            name, code="chain.depth", problem=f"the chain of images is longer than {MAX_DEPTH}"
        )
    try:
        status = Path(name).stat()
    except OSError:  # opening it says it better
        return
    if (status.st_dev, status.st_ino) in seen:
        raise UnsafeInput(
            name, code="chain.loop", problem="the chain of images leads back to this one"
        )
    seen.add((status.st_dev, status.st_ino))


def _open_layer(
    name: str, declared: DiskFormat | None, resolver: Resolver, stack: ExitStack
) -> Layer:
    source = stack.enter_context(open_source(name))
    disk_format = detect(source) if declared is None else declared
    module = reader(disk_format)
    if not hasattr(module, "open_layer"):
        raise UnsupportedFeature(
            name,
            code=f"{disk_format.code}.content",
            problem=f"the content of {disk_format.label} images cannot be read yet",
            hint="convert it with qemu-img first",
        )

    def opener(reference: Reference) -> ByteSource:
        target = resolver(reference, named_by=name)
        return stack.enter_context(open_source(target))

    return cast("ContentReader", module).open_layer(source, opener)


def _declared(reference: Reference, named_by: str) -> DiskFormat | None:
    if reference.declared_format is None:
        return None
    try:
        return DiskFormat.named(reference.declared_format)
    except ValueError:
        raise UnsupportedFeature(
            named_by,
            code="chain.format",
            problem=f"says that its {reference.kind} is in the format "
            f"{reference.declared_format!r}, which is not known",
        ) from None
