"""What a format module tells about content: runs of bytes, and where each run is found.

A `Layer` is one image file without its chain.  It turns a range of the virtual disk into `Run`s;
the reader in `image` does the rest for all formats alike: reading, unpacking, decrypting, falling
through to the parent, filling with zeros.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from vmport_formats.errors import VmportError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from vmport_formats.disk.model import Concern, ImageInfo
    from vmport_formats.references import Reference
    from vmport_formats.source import ByteSource


class Found(IntEnum):
    """Where the bytes of a run are."""

    ABSENT = 0
    """Not in this image: ask its parent, or read zeros where there is none."""
    ZERO = 1
    """All zeros, says this image."""
    STORED = 2
    """In `Run.source` from `Run.at`."""
    PACKED = 3
    """Inside the compressed unit `Run.unit`."""


class Unit(NamedTuple):
    """A compressed cluster or grain: unpacked as a whole or not at all."""

    start: int
    """Guest offset of its first byte."""
    size: int
    """Bytes that it yields when unpacked."""
    source: ByteSource
    at: int
    """Host offset of its packed bytes."""
    packed: int
    """How many packed bytes there are at the most."""
    unpack: Callable[[bytes, int], bytes | bytearray]
    """From the packed bytes, and the size that they must yield, to that many bytes.

    Raises ValueError when they do not.
    """
    code: str
    """Of the error when they do not: ``qcow2.compressed-cluster``."""


class Cipher(Protocol):
    """Decrypts stored bytes in whole sectors of 512 bytes."""

    def decrypt(self, data: bytes, *, guest_offset: int, host_offset: int) -> bytes:
        """The plain text of `data`, whose first byte lies at these offsets."""
        ...


class Run(NamedTuple):
    """A stretch of one image whose bytes are all found the same way."""

    length: int
    found: Found
    source: ByteSource | None = None
    """Of what is stored, and of zeros that have a place nevertheless."""
    at: int = 0
    unit: Unit | None = None
    cipher: Cipher | None = None


class Layer(Protocol):
    """The content of one image file."""

    @property
    def info(self) -> ImageInfo:
        """Its metadata."""
        ...

    @property
    def size(self) -> int:
        """Length of the virtual disk in bytes."""
        ...

    def runs(self, offset: int, length: int) -> Iterator[Run]:
        """Runs that cover just this range, which lies inside the disk, in order.

        The time it takes follows the number of runs and of tables that exist, not the length.
        """
        ...


@runtime_checkable
class Child(Protocol):
    """A layer that knows more of its parent than the name in its metadata."""

    @property
    def parents(self) -> Sequence[Reference]:
        """The image that it rests on, by each of its names, in place of `ImageInfo.backing`."""
        ...

    def check_parent(self, parent: ImageInfo, source: ByteSource) -> Sequence[Concern]:
        """That `parent`, which was read from `source`, is the image that it was made from.

        What is returned speaks against it, but is no proof.

        Raises:
            CorruptInput: it is another one, or has been changed since.
        """
        ...


def joined(runs: Iterable[Run]) -> Iterator[Run]:
    """The same runs, with those that continue their neighbour made one with it."""
    last: Run | None = None
    try:
        for run in runs:
            if last is None:
                last = run
            elif _continues(last, run):
                last = last._replace(length=last.length + run.length)
            else:
                yield last
                last = run
    except VmportError:
        if last is not None:
            yield last
        raise
    if last is not None:
        yield last


def _continues(first: Run, second: Run) -> bool:
    if first.found is not second.found or first.found is Found.PACKED:
        return False
    return first.found is not Found.STORED or (
        second.at == first.at + first.length
        and second.source is first.source
        and second.cipher is first.cipher
    )


def sparse(run: Run) -> Iterator[Run]:
    """The same bytes, where those of a run that its file has no blocks for are told to be zeros."""
    if run.source is None or run.cipher is not None:
        yield run
        return
    offset, end = run.at, run.at + run.length
    for start, stop in run.source.data_ranges(run.at, run.length):
        if offset < start:
            yield run._replace(length=start - offset, found=Found.ZERO, at=offset)
        yield run._replace(length=stop - start, at=start)
        offset = stop
    if offset < end:
        yield run._replace(length=end - offset, found=Found.ZERO, at=offset)


def placed(runs: Iterable[Run], offset: int = 0) -> Iterator[tuple[int, Run]]:
    """The runs from `offset` of the disk on, `sparse`, each with its own offset."""
    for whole in runs:
        for run in sparse(whole) if whole.source is not None else (whole,):
            yield offset, run
            offset += run.length


def holds_data(run: Run) -> bool:
    """Whether it is not known to be zeros."""
    return run.found is Found.STORED or run.found is Found.PACKED


def divided(offset: int, run: Run, size: int) -> Iterator[tuple[int, Run]]:
    """A run at `offset` of the disk, cut at the multiples of `size` there."""
    done, length = 0, min(run.length, size - offset % size)
    while done < run.length:
        yield offset + done, run._replace(length=length, at=run.at + done)
        done += length
        length = min(size, run.length - done)


def cut(runs: Iterable[Run], start: int, offset: int, end: int) -> Iterator[Run]:
    """What lies from `offset` to `end` of runs, the first of which begins at `start`."""
    for run in runs:
        stop = start + run.length
        if start >= offset and stop <= end:
            yield run
        elif start < end and stop > offset:
            first = max(start, offset)
            yield run._replace(length=min(stop, end) - first, at=run.at + first - start)
        start = stop


class Opener(Protocol):
    """Opens what an image names besides its parent: extents, data files."""

    def __call__(self, reference: Reference) -> ByteSource:
        """A source that stays open as long as the image.

        Raises:
            UnsafeInput: the reference was not granted.
            UnreadableInput: it cannot be opened.
        """
        ...
