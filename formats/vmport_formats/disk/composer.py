"""What a format module offers who writes an image: from the data of a disk to the writes of a file.

A `Composer` knows a format's layout and nothing of files, threads or processes.  It is told the
data of the disk in order, and answers with writes; whoever asks does them, in any order, and then
sets the length of the file.  Tables come out as soon as they are complete, so that memory follows
neither the size of the disk nor, but for a few bytes a table, its data.

The same data and options give the same file, byte for byte: nothing in it depends on the clock or
on chance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from vmport_formats.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Data = bytes | bytearray | memoryview

_ZEROS: Final = memoryview(bytes(MIB))


class Write(NamedTuple):
    """Bytes that belong at a place of the file."""

    offset: int
    """In bytes, from the start of the file."""
    data: Data
    """May be a view of what `Composer.add` was given, and then lives no longer than that."""


class Composer(Protocol):
    """Composes one image file, in ascending order of the disk's offsets.

    `begin` is called once, then `add` any number of times, then `finish` once.  What is never
    added reads as zeros.
    """

    @property
    def virtual_size(self) -> int:
        """Bytes of the disk as the file states it: a format may round it up."""
        ...

    @property
    def grain(self) -> int:
        """Bytes of what data is given in, a power of two, at multiples of it.

        The last one of the disk is filled up with zeros.
        """
        ...

    @property
    def pack(self) -> Callable[[Data], bytes | None] | None:
        """Compresses one grain; None as its result means: store it as it is.

        Pure, and safe in several threads at once.  None instead of a function: this image is not
        compressed.
        """
        ...

    @property
    def length(self) -> int:
        """Bytes that the file has in the end; until `finish` was exhausted, what it has at least.

        Of a disk that is stored as it is, that is all of it from the beginning.
        """
        ...

    def begin(self) -> Iterator[Write]:
        """What is known before any data."""
        ...

    def add(self, offset: int, data: Data) -> Iterator[Write]:
        """Grains from `offset` of the disk on, stored as they are; behind all that came before.

        Callers leave out grains of zeros.  What it raises may come with the first write.

        Raises:
            ValueError: `offset` or the length is no multiple of the grain, or out of order.
        """
        ...

    def add_packed(self, offset: int, packed: bytes) -> Iterator[Write]:
        """One grain, as `pack` made it.

        Raises:
            ValueError: as `add`.
        """
        ...

    def finish(self) -> Iterator[Write]:
        """The rest of the tables, and what could not be known before."""
        ...


def zeros_to_write(offset: int, end: int) -> Iterator[Write]:
    """Zeros that are to be stored from `offset` of the file to `end`."""
    while offset < end:
        length = min(len(_ZEROS), end - offset)
        yield Write(offset, _ZEROS[:length])
        offset += length


class OverlayComposer(Composer, Protocol):
    """Composes an image that lies over another one.

    What is never added reads as what lies below, rather than as zeros.
    """

    def add_zeros(self, offset: int, length: int) -> Iterator[Write]:
        """Zeros that hide what lies below: whole grains, or up to the end of the disk.

        Raises:
            ValueError: as `Composer.add`.
        """
        ...
