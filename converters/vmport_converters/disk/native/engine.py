"""Writes a disk as an image that a composer lays out, and reads it back."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from vmport_converters.disk.native.content_digest import BLOCK, ContentDigest
from vmport_converters.disk.native.pipeline import prepared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
    digest = ContentDigest()
    work = prepared(disk, grain=composer.grain, pack=composer.pack, hashed=hashed)
    with closing(work):
        # XFS sets aside blocks behind the end of a file that grows, and leaves them in its holes.
        output.set_length(composer.length)
        output.write(composer.begin())
        for done in work:
            output.write(_writes(composer, done.pieces))
            digest.add(done.blocks)
            on_progress(min(1.0, done.end / disk.virtual_size))
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
