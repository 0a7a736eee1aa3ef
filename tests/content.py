"""What every test of a disk's content looks at, whatever the format."""

from __future__ import annotations

import json
import random
import subprocess
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from vmport_formats.disk.extents import ExtentKind
from vmport_formats.disk.image import open_image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vmport_formats.disk.extents import Extent
    from vmport_formats.disk.image import DiskImage

FLAW = "Unable to get accurate CPU usage"
"""What qemu-img says, when it makes a LUKS header, if its measurement fell between two ticks."""
_TRIES = 10

_LIBVMDK = """
import sys, pyvmdk
disk = pyvmdk.handle()
disk.open(sys.argv[1])
disk.open_extent_data_files()
left = disk.get_media_size()
while left:
    part = disk.read(min(left, 1 << 20))
    left -= len(part)
    sys.stdout.buffer.write(part)
"""

_CHUNKS = (17, 512, 4096, 65536, 1 << 20)
_READS = 64


def check_content(image: DiskImage, truth: bytes, *, seed: int = 0) -> list[Extent]:
    """The disk reads as `truth` in every way there is, and its map, which is returned, fits."""
    assert image.virtual_size == len(truth)
    assert image.read(0, len(truth) + 1) == truth
    assert image.read(len(truth), 1) == b""
    assert image.read(-1, 1) == b""
    chance = random.Random(seed)
    for chunk in _CHUNKS:
        begin = offset = chance.randrange(len(truth) + 1)
        parts = []
        for _ in range(_READS):
            parts.append(image.read(offset, chunk))
            offset += len(parts[-1])
        assert b"".join(parts) == truth[begin:offset], f"chunks of {chunk} from {begin}"
    for _ in range(_READS):
        start, end = sorted(chance.randrange(len(truth) + 1) for _ in range(2))
        buffer = bytearray(b"\xaa" * (end - start))
        assert image.readinto(start, buffer) == end - start
        assert buffer == truth[start:end], f"from {start} to {end}"
    check_stream(image, truth, chunk=chance.choice(_CHUNKS[1:]), workers=chance.choice((1, 2)))
    return check_map(image, truth)


def check_stream(image: DiskImage, truth: bytes, *, chunk: int, workers: int) -> None:
    """What is streamed, on a ground of zeros, is the disk; in order, and in pieces as promised."""
    disk = bytearray(len(truth))
    last = 0
    for offset, piece in image.stream(chunk=chunk, workers=workers):
        assert last <= offset
        last = offset + len(piece)
        disk[offset:last] = piece
    assert disk == truth
    assert len(disk) == len(truth)


def check_like_qemu(image: DiskImage, path: Path, disk_format: str, folder: Path) -> int:
    """A large disk with little data is what qemu makes of the file at `path`; bytes of data."""
    raw = folder / "converted.raw"
    qemu_img("convert", "-f", disk_format, "-O", "raw", path, raw)
    with open_image(raw) as theirs:
        assert image.virtual_size == theirs.virtual_size
        for one, other in ((image, theirs), (theirs, image)):
            for offset, piece in one.stream(workers=1):
                assert other.read(offset, len(piece)) == bytes(piece)
        found = sum(len(piece) for _, piece in theirs.stream(workers=1))
    raw.unlink()
    return found


def check_map(image: DiskImage, truth: bytes) -> list[Extent]:
    """The map covers the disk without a gap, is as short as it can be, and zeros are zeros."""
    extents = list(image.extents())
    offset = 0
    for extent in extents:
        assert extent.offset == offset
        assert extent.length > 0
        if extent.kind.reads_zero:
            assert not any(truth[offset : extent.end])
        offset = extent.end
    assert offset == len(truth)
    for first, second in pairwise(extents):
        same = (first.kind, first.depth, first.host_file) == (
            second.kind,
            second.depth,
            second.host_file,
        )
        assert not (same and first.host_offset is None and second.host_offset is None)
    # A part of the map is the map of the part.
    if truth:
        middle = len(truth) // 3
        part = list(image.extents(middle, len(truth) // 2))
        assert part[0].offset == middle
        assert part[-1].end == middle + len(truth) // 2 or len(truth) < 2
        wanted = [e for e in extents if e.end > middle and e.offset < part[-1].end]
        assert [e.kind for e in part] == [e.kind for e in wanted]
    return extents


def converted(path: Path, disk_format: str, *options: str) -> bytes:
    """What `qemu-img convert` to raw makes of an image."""
    target = path.with_name(f"{path.name}.converted")
    qemu_img("convert", *options, "-f", disk_format, "-O", "raw", path, target)
    content = target.read_bytes()
    target.unlink()
    return content


def check_against_qemu_map(extents: Sequence[Extent], path: Path, disk_format: str) -> None:
    """Zeros, data, depth and places are those of `qemu-img map`."""
    text = qemu_img("map", "--output=json", "-f", disk_format, path)
    theirs: list[dict[str, Any]] = json.loads(text)
    assert sum(item["length"] for item in theirs) == sum(extent.length for extent in extents)
    for item in theirs:
        start, end = item["start"], item["start"] + item["length"]
        for extent in extents:
            if extent.end <= start or extent.offset >= end:
                continue
            if extent.kind.reads_zero:
                # Of a hole in the file qemu knows only at times.
                assert item["zero"] or extent.host_offset is not None, (item, extent)
                continue
            assert not item["zero"], (item, extent)
            assert item["data"]
            assert extent.depth == item["depth"]
            # Where the blocks of a VHDX are, qemu does not tell.
            if (
                extent.kind is ExtentKind.DATA
                and extent.host_offset is not None
                and "offset" in item
            ):
                shift = max(start, extent.offset)
                assert item["offset"] + shift - start == extent.host_offset + shift - extent.offset


def qemu_img(*arguments: str | Path) -> str:
    """Run it, and fail with what it says where it fails."""
    return _run("qemu-img", *arguments)


def qemu_io(image: Path | str, *commands: str, options: Sequence[str] = ()) -> None:
    """Give commands to qemu-io, such as ``write -P 7 64k 4k``."""
    words = [word for command in commands for word in ("-c", command)]
    out = _run("qemu-io", *options, *words, image)
    assert "failed" not in out.lower(), out


def seven_zip(image: Path) -> bytes:
    """The disk that 7-Zip finds in an image and, if it names one beside it, in its parent."""
    command = ["7z", "x", "-so", str(image)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def libvmdk(image: Path) -> tuple[str, ...]:
    """A command that writes the disk that libvmdk finds in an image to its standard output."""
    return ("/usr/bin/python3", "-c", _LIBVMDK, str(image))


def _run(*command: str | Path) -> str:
    for _ in range(_TRIES):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        if FLAW not in done.stderr:
            break
    assert done.returncode == 0, done.stderr or done.stdout
    return done.stdout
