"""A disk image as a disk: read at any offset in any amount, and a map of what lies where.

`open_image` follows the chain of backing files and parents as far as the caller's resolver grants.
The formats only say where bytes are (`layer`); everything else happens here, once.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final, Protocol, cast

from vmport_formats.disk.extents import Extent, ExtentKind, merge
from vmport_formats.disk.fetch import Fetcher
from vmport_formats.disk.layer import Child, Found, Run, sparse
from vmport_formats.disk.model import DiskFormat
from vmport_formats.disk.parents import Failure, foremost, whereabouts
from vmport_formats.disk.probe import detect, reader
from vmport_formats.errors import UnsafeInput, UnsupportedFeature, VmportError
from vmport_formats.patched import PatchedSource
from vmport_formats.references import deny
from vmport_formats.source import FileSource, open_source
from vmport_formats.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from vmport_formats.disk.layer import Layer, Opener
    from vmport_formats.disk.model import Concern, ImageInfo
    from vmport_formats.disk.streaming import Piece
    from vmport_formats.references import Reference, Resolver
    from vmport_formats.source import ByteSource

MAX_DEPTH: Final = 200
"""Images in a chain, the first one included."""


class DiskImage:
    """The virtual disk that an image and its chain make up.

    Reading is safe from several threads at once.
    """

    def __init__(self, layers: Sequence[Layer], concerns: Sequence[Concern] = ()) -> None:
        self.concerns = tuple(concerns)
        """What is odd about the images of the chain fitting together."""
        self._layers = tuple(layers)
        self._fetcher = Fetcher()

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
        """Length of the disk in bytes: of a snapshot's disk, when that was opened."""
        return self._layers[0].size

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        """The map of a range (by default of all), in order, without gaps, in as few as possible.

        Raises:
            CorruptInput, TruncatedInput: a table is broken.
            UnreadableInput: the system cannot read a file.
        """
        return merge(self._extents(offset, self._clip(offset, length)))

    def runs(self, offset: int = 0, length: int | None = None) -> Iterator[tuple[int, Run]]:
        """What the map is made of: each run of a range, with the depth of the image that holds it.

        For who works on stored bytes themselves; `sparse` tells the holes of a file apart.

        Raises:
            CorruptInput, TruncatedInput: a table is broken.
            UnreadableInput: the system cannot read a file.
        """
        inside = self._clip(offset, length)
        return self._runs(0, offset, inside) if inside else iter(())

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer only at the end of the disk.

        Raises:
            CorruptInput, TruncatedInput, UnreadableInput: as `readinto`.
        """
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
                self._fetcher.fill(view[done : done + run.length], offset + done, run)
                done += run.length
            return done

    def fill(self, target: memoryview, offset: int, run: Run, packed: bytes | None = None) -> None:
        """Put the bytes of `run`, of those that `runs` tells, into `target`, which is as long.

        `packed`: see `fetch.read_packed`.

        Raises:
            CorruptInput, TruncatedInput, UnreadableInput: as `readinto`.
        """
        self._fetcher.fill(target, offset, run, packed)

    def stream(
        self,
        offset: int = 0,
        length: int | None = None,
        *,
        chunk: int = MIB,
        workers: int | None = None,
    ) -> Iterator[Piece]:
        """The data of a range, in order: pairs of an offset and the bytes there.

        What the map or a hole of the file tells to be zeros is left out.  `workers` threads (by
        default one a processor) read and unpack ahead, up to about 2 * `workers` + 1 times `chunk`
        bytes; no piece is longer than `chunk`, but that a compressed unit is never divided.

        Raises:
            CorruptInput, TruncatedInput, UnreadableInput: as `readinto`, once all before it was
                yielded.
        """
        from vmport_formats.disk.streaming import stream

        runs = (run for _, run in self._runs(0, offset, self._clip(offset, length)))
        return stream(runs, offset, self._fetcher, chunk=chunk, workers=workers)

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
        if inside < length:  # a parent that is shorter than its child: so the child has zeros there
            yield depth - 1, Run(length - inside, Found.ABSENT)

    def _extents(self, offset: int, length: int) -> Iterator[Extent]:
        for depth, run in self._runs(0, offset, length) if length else ():
            for part in sparse(run):
                yield _extent(offset, depth, part)
                offset += part.length


def _extent(offset: int, depth: int, run: Run) -> Extent:
    if run.unit is not None:
        return Extent(offset, run.length, ExtentKind.COMPRESSED, depth, run.unit.source.name)
    source = run.source
    if source is None:
        return Extent(offset, run.length, _KINDS[run.found], depth)
    plain = run.cipher is None and not isinstance(source, PatchedSource)
    place = run.at if plain else None
    return Extent(offset, run.length, _KINDS[run.found], depth, source.name, place)


_KINDS: Final = {
    Found.ABSENT: ExtentKind.HOLE,
    Found.ZERO: ExtentKind.ZERO,
    Found.STORED: ExtentKind.DATA,
}


# --- Opening ------------------------------------------------------------------------------------


class ContentReader(Protocol):
    """What a format module offers besides `probe.FormatReader`, when content can be read."""

    def open_layer(self, source: ByteSource, opener: Opener, **choices: str | bytes) -> Layer:
        """The content of the image in `source`; its tables are read when they are needed.

        `choices` are those of `open_image` that the format has a use for, as `_CHOICES` tells.

        Raises:
            CorruptInput, TruncatedInput, UnsupportedFeature: as `probe.FormatReader.read_info`.
            LockedInput: it is encrypted, and the passphrase is missing or wrong.
            UnsafeInput: it names an extent or data file that `opener` does not grant.
        """
        ...


_CHOICES: Final = {
    DiskFormat.QCOW2: {"snapshot", "passphrase"},
    DiskFormat.LUKS: {"passphrase"},
    DiskFormat.QCOW: {"passphrase"},
}
"""What can be chosen when an image of a format is opened, besides the resolver."""


@contextmanager
def open_image(
    image: str | os.PathLike[str] | ByteSource,
    resolver: Resolver = deny,
    *,
    declared: DiskFormat | None = None,
    snapshot: str | None = None,
    passphrase: bytes | None = None,
) -> Iterator[DiskImage]:
    """Open `image`, a path or what is open already, and whatever it needs that `resolver` grants.

    A format is probed by content unless it is declared: by the caller for `image`, by an image for
    the file that it names.  `snapshot` is the id, or else the name, of an internal snapshot of
    `image`, to be read instead of its present.  `passphrase` opens every image of the chain that is
    encrypted; only LUKS can tell a wrong one, the AES of old qcow and qcow2 images reads as noise.

    Raises:
        UnsafeInput: a reference was not granted, a chain is deeper than 200 or bites its own tail.
        CorruptInput: also when a parent is not the one that its child was made from.
        UnsupportedFeature: the content of this format or variant cannot be read.
        LockedInput: an image is encrypted, and the passphrase is missing or wrong.
        InputError: something cannot be opened or is corrupt, or there is no such snapshot.
    """
    choices: dict[str, str | bytes] = {}
    if snapshot is not None:
        choices["snapshot"] = snapshot
    if passphrase is not None:
        choices["passphrase"] = passphrase
    with ExitStack() as stack:
        source = (
            stack.enter_context(open_source(image))
            if isinstance(image, str | os.PathLike)
            else image
        )
        chain = _Chain(resolver, stack, choices)
        chain.add(source, declared, stack)
        while chain.follow():
            pass
        yield DiskImage(chain.layers, chain.concerns)


class _Chain:
    """The images that were opened so far."""

    def __init__(
        self, resolver: Resolver, stack: ExitStack, choices: dict[str, str | bytes]
    ) -> None:
        self.layers: list[Layer] = []
        self.concerns: list[Concern] = []
        self._resolver = resolver
        self._stack = stack
        self._choices = choices
        self._name = ""
        self._seen: set[tuple[int, int]] = set()

    def follow(self) -> bool:
        """Add the parent of the last image; whether it has one."""
        layer, child = self.layers[-1], self._name
        names = layer.parents if isinstance(layer, Child) else _backing(layer.info)
        self._choices.pop("snapshot", None)
        failures: list[Failure] = []
        tried: set[Path] = set()
        for place in whereabouts(names):
            opened = False
            try:
                with ExitStack() as attempt:
                    target = self._resolver(place, named_by=child)
                    if target in tried:
                        continue
                    tried.add(target)
                    source = attempt.enter_context(open_source(target))
                    opened = True
                    self.add(source, _declared(place, child), attempt)
                    self._stack.enter_context(attempt.pop_all())
                    return True
            except VmportError as error:
                failures.append(Failure(place, error, opened))
        if failures:
            raise foremost(child, failures)
        return False

    def add(self, source: ByteSource, declared: DiskFormat | None, stack: ExitStack) -> None:
        """Open the image in `source`, and on `stack` what it needs besides a parent."""
        if len(self.layers) >= MAX_DEPTH:
            raise UnsafeInput(
                source.name,
                code="chain.depth",
                problem=f"the chain of images is longer than {MAX_DEPTH}",
            )
        identity = source.identity if isinstance(source, FileSource) else None
        if identity in self._seen:
            raise UnsafeInput(
                source.name,
                code="chain.loop",
                problem="the chain of images leads back to this one",
            )
        layer = _open_layer(source, declared, self._resolver, stack, self._choices)
        if self.layers and isinstance(self.layers[-1], Child):
            self.concerns += self.layers[-1].check_parent(layer.info, source)
        self.layers.append(layer)
        self._name = source.name
        if identity is not None:
            self._seen.add(identity)


def _backing(info: ImageInfo) -> tuple[Reference, ...]:
    return () if info.backing is None else (info.backing,)


def _open_layer(
    source: ByteSource,
    declared: DiskFormat | None,
    resolver: Resolver,
    stack: ExitStack,
    choices: Mapping[str, str | bytes],
) -> Layer:
    disk_format = detect(source) if declared is None else declared
    module = reader(disk_format)
    if not hasattr(module, "open_layer"):
        raise UnsupportedFeature(
            source.name,
            code=f"{disk_format.code}.content",
            problem=f"the content of {disk_format.label} images cannot be read yet",
            hint="convert it with qemu-img first",
        )
    useful = {name: choices[name] for name in choices.keys() & _CHOICES.get(disk_format, set())}
    if "snapshot" in choices and "snapshot" not in useful:
        raise UnsupportedFeature(
            source.name,
            code=f"{disk_format.code}.snapshot",
            problem=f"{disk_format.label} images have no internal snapshots",
        )

    def opener(reference: Reference) -> ByteSource:
        target = resolver(reference, named_by=source.name)
        return stack.enter_context(open_source(target))

    return cast("ContentReader", module).open_layer(source, opener, **useful)


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
