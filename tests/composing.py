"""Runs a composer as the conversion engine does, but one grain after the other, into a file."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

from vmport_formats.disk.check import check_image
from vmport_formats.references import Confined
from vmport_formats.source import open_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from vmport_formats.disk.check import Statistics
    from vmport_formats.disk.composer import Composer, Write
    from vmport_formats.references import Reference
    from vmport_formats.source import ByteSource

KIB, MIB = 1 << 10, 1 << 20


def compose(
    composer: Composer, content: bytes | Mapping[int, bytes], path: Path, *, batch: int = MIB
) -> None:
    """Compose the image of `content` at `path`, a file that is not there yet.

    `content` is the whole disk, or what is at some offsets of it, for disks that are huge; each
    piece then begins at a multiple of the grain.  Grains that follow each other come in one `add`
    of up to `batch` bytes.
    """
    with path.open("xb") as file:
        descriptor = file.fileno()
        _write(descriptor, composer.begin())
        for offset, data in _batches(composer.grain, content, batch):
            if composer.pack is None:
                _write(descriptor, composer.add(offset, memoryview(data)))
                continue
            for place in range(0, len(data), composer.grain):
                grain = memoryview(data)[place : place + composer.grain]
                packed = composer.pack(grain)
                if packed is None:
                    _write(descriptor, composer.add(offset + place, grain))
                else:
                    _write(descriptor, composer.add_packed(offset + place, packed))
        _write(descriptor, composer.finish())
        os.ftruncate(descriptor, composer.length)


def compose_soundly(
    composer: Composer, content: bytes | Mapping[int, bytes], path: Path
) -> Statistics:
    """As `compose`; sees that our own check finds nothing wrong; what that counted."""
    compose(composer, content, path)
    with open_source(path) as source:
        report = check_image(source, _no_opener, Confined([]), deep=True)
    assert report.faults == ()
    assert report.complete
    assert report.info is not None
    assert report.info.concerns == ()
    assert report.info.virtual_size == composer.virtual_size
    return report.statistics


def _no_opener(reference: Reference) -> ByteSource:
    raise AssertionError(reference)


def patchwork(size: int, grain: int, *, seed: int) -> bytes:
    """A disk of `size` bytes: grains of zeros, that compress well, and that do not, in any order.

    Runs of grains of one kind are likely.
    """
    chance = random.Random(seed)
    parts: list[bytes] = []
    have = 0
    while have < size:
        length = grain * chance.choice((1, 1, 1, 2, 3, 9))
        kind = chance.randrange(4)
        if kind == 0:
            part = bytes(length)
        elif kind == 1:
            part = chance.randbytes(length)
        elif kind == 2:  # zeros but for a byte
            part = bytes(length - 1) + b"\x01"
        else:
            word = chance.randbytes(chance.randrange(1, 50))
            part = (word * (length // len(word) + 1))[:length]
        parts.append(part)
        have += length
    return b"".join(parts)[:size]


def _batches(
    grain: int, content: bytes | Mapping[int, bytes], batch: int
) -> Iterator[tuple[int, bytes]]:
    """Offset and data of each run of grains that are not of zeros, filled up to whole grains."""
    pieces = {0: content} if isinstance(content, bytes) else content
    zeros = bytes(grain)
    most = max(1, batch // grain)
    for start, piece in sorted(pieces.items()):
        assert start % grain == 0
        run: list[bytes] = []
        first = start
        for place in range(0, len(piece), grain):
            part = piece[place : place + grain].ljust(grain, b"\0")
            if run and (part == zeros or len(run) == most):
                yield first, b"".join(run)
                run = []
            if part != zeros:
                if not run:
                    first = start + place
                run.append(part)
        if run:
            yield first, b"".join(run)


def _write(descriptor: int, writes: Iterable[Write]) -> None:
    for offset, data in writes:
        view = memoryview(data)
        while view:
            done = os.pwrite(descriptor, view, offset)
            view, offset = view[done:], offset + done
