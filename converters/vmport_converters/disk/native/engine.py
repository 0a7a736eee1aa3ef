"""Writes a disk as an image that a composer lays out, and reads it back."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from vmport_converters.disk.native.content_digest import BLOCK, ContentDigest
from vmport_converters.disk.native.pipeline import prepared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from vmport_converters.disk.native.output import OutputFile
    from vmport_converters.disk.native.pipeline import Piece
    from vmport_formats.disk.composer import Composer, Write
    from vmport_formats.disk.image import DiskImage

    OnProgress = Callable[[float], object]


def write_image(
    disk: DiskImage,
    composer: Composer,
    output: OutputFile,
    *,
    hashed: bool,
    on_progress: OnProgress,
) -> str:
    """Write `disk` to `output`, which is new; returns the digest of what was read, if `hashed`.

    `on_progress` hears the share that is done, 0 to 1.

    Raises:
        InputError: the disk cannot be read.
        OSError: the file cannot be written.
    """
    work = prepared(disk, grain=composer.grain, pack=composer.pack, hashed=hashed)
    with closing(work):
        batches = (Batch(done.end, _writes(composer, done.pieces), done.blocks) for done in work)
        return write_batches(
            batches, composer, output, size=disk.virtual_size, on_progress=on_progress
        )


class Batch(NamedTuple):
    """What is written at a time."""

    end: int
    """On the disk: all before it is written then."""
    writes: Iterable[Write]
    blocks: list[tuple[int, bytes]]
    """For `ContentDigest.add`."""


def write_batches(
    batches: Iterable[Batch],
    composer: Composer,
    output: OutputFile,
    *,
    size: int,
    on_progress: OnProgress,
) -> str:
    """Write a disk of `size` bytes, and what `composer` has before and behind it.

    Returns the digest of all blocks.

    Raises:
        InputError: as `batches` do.
        OSError: the file cannot be written.
    """
    digest = ContentDigest()
    # XFS sets aside blocks behind the end of a file that grows, and leaves them in its holes.
    output.set_length(composer.length)
    output.write(composer.begin())
    for batch in batches:
        output.write(batch.writes)
        digest.add(batch.blocks)
        on_progress(min(1.0, batch.end / size))
    output.write(composer.finish())
    output.set_length(composer.length)
    on_progress(1.0)
    return str(digest)


def _writes(composer: Composer, pieces: list[Piece]) -> Iterator[Write]:
    for offset, data, packed in pieces:
        if packed:
            yield from composer.add_packed(offset, bytes(data))
        else:
            yield from composer.add(offset, data)


def digest_of(disk: DiskImage, *, on_progress: OnProgress) -> str:
    """The digest of what `disk` yields now.

    Raises:
        InputError: it cannot be read.
    """
    digest = ContentDigest()
    with closing(prepared(disk, grain=BLOCK)) as work:
        for done in work:
            digest.add(done.blocks)
            on_progress(min(1.0, done.end / disk.virtual_size))
    on_progress(1.0)
    return str(digest)
