"""The images that are measured: made once by qemu-img, kept in `.cache/benchmarks`."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.debian_disk import CACHE, LEAST, Missing, debian_disk

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB: Final = 1 << 20

IMAGES: Final = {
    "raw": ("raw",),
    "qcow2": ("qcow2",),
    "qcow2, deflate": ("qcow2", "-c"),
    "qcow2, zstd": ("qcow2", "-c", "-o", "compression_type=zstd"),
    "VMDK": ("vmdk",),
    "VMDK, streamOptimized": ("vmdk", "-o", "subformat=streamOptimized"),
    "VHD": ("vpc", "-o", "force_size=on"),
    "VHDX": ("vhdx",),
    "VDI": ("vdi",),
}
"""What to ask `qemu-img convert` for: format, options."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A raw disk, and what it is."""

    path: Path
    what: str

    @property
    def data(self) -> int:
        """Bytes that are not holes."""
        return self.path.stat().st_blocks * 512


def disk(size: int | None) -> Disk:
    """The Debian disk; or one with `size` MiB of this machine's files, to try things out.

    The latter also where the former cannot be made, with the reason.
    """
    if size is not None:
        return Disk(_sparse(size * MIB), f"{size} MiB of this machine's files, to try things out")
    try:
        found = Disk(debian_disk(), "a Debian with a kernel, compilers and a few servers, on ext4")
    except Missing as why:
        text = f"the files of this machine, because a Debian could not be installed: {why}"
        return Disk(_sparse(800 * MIB), text)
    if found.data < LEAST:
        return Disk(found.path, f"{found.what}, with less data than wanted")
    return found


def made(name: str, raw: Path) -> Path:
    """The image called `name`, with the content of `raw`."""
    if name == "raw":
        return raw
    disk_format, *options = IMAGES[name]
    letters = "".join(sign for sign in name if sign.isalnum())
    path = raw.with_name(f"{raw.stem}-{letters}.{disk_format}")
    if not path.exists():
        partial = path.with_suffix(".partial")
        command = ["qemu-img", "convert", "-m", "16", "-f", "raw", "-O", disk_format, *options]
        subprocess.run([*command, raw, partial], check=True)
        partial.replace(path)
    return path


def content(limit: int) -> Iterator[bytes]:
    """Bytes as disks have them: the files of this machine, in order."""
    left = limit
    while left > 0:  # a small system has to be read twice
        for path in sorted(Path("/usr").rglob("*")):
            if left <= 0:
                return
            if path.is_file() and not path.is_symlink():
                data = path.read_bytes()[: min(left, 16 * MIB)]
                left -= len(data)
                yield data


def full(size: int) -> Path:
    """A raw disk of `size` bytes, all of them data."""
    path = CACHE / f"full-{size // MIB}.raw"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            file.writelines(content(size))
        partial.replace(path)
    return path


def scattered(path: Path, virtual_size: int, data: int) -> None:
    """A raw disk of which pieces of 1 MiB, `data` bytes in all, lie anywhere, far apart."""
    count = data // MIB
    pieces = _pieces(content(data))
    with path.open("wb", buffering=0) as file:
        file.truncate(virtual_size)
        for number in range(count):
            place = virtual_size // count * number // 4096 * 4096
            os.pwrite(file.fileno(), next(pieces), place)


def _pieces(parts: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes, 1 MiB at a time."""
    rest = bytearray()
    for part in parts:
        rest += part
        while len(rest) >= MIB:
            yield bytes(rest[:MIB])
            del rest[:MIB]
    if rest:
        yield bytes(rest)


def _sparse(size: int) -> Path:
    """A raw disk with `size` bytes of data, and three times as much of nothing around them."""
    path = CACHE / f"source-{size // MIB}.raw"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            file.truncate(4 * size)
            since = 0
            for data in content(size):
                file.write(data)
                file.seek(-file.tell() % 4096, os.SEEK_CUR)
                since += len(data)
                if since > 16 * MIB:
                    file.seek(48 * MIB, os.SEEK_CUR)
                    since = 0
        partial.replace(path)
    return path
