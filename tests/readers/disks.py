"""The disk that is read: a real one, and the VMDKs that convert writes of it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vmport_formats.units import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

STREAM_FAST: Final = "streamOptimized, fast"
STREAM_SMALL: Final = "streamOptimized, small"
SPARSE: Final = "monolithicSparse"
VARIANTS: Final = {
    STREAM_FAST: ("-o", "subformat=streamOptimized", "--compress", "fast"),
    STREAM_SMALL: ("-o", "subformat=streamOptimized", "--compress", "small"),
    SPARSE: ("-o", "subformat=monolithicSparse"),
}
"""What convert is asked for, by the name of what it makes."""
GRAIN: Final = 64 * KIB
_SHIFT: Final = 81 * 512
"""By so much an opaque disk is moved: whole sectors, but no whole grains or blocks."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk as VMDKs."""

    digest: str
    """SHA-256 of the whole content, in hexadecimal."""
    images: dict[str, Path]
    """By names of `VARIANTS`."""


def plain(source: Path, folder: Path) -> Disk:
    """The disk of `source`, filled up to a whole grain; what it holds is what qemu-img says."""
    raw = folder / "disk.raw"
    made_raw(source, raw)
    disk = as_vmdks(raw, folder)
    raw.unlink()
    return disk


def opaque(source: Path, folder: Path) -> Disk:
    """The same content behind some zeros, so that nobody finds a partition in it.

    What finds a file system mounts it, trims it, and so changes it.
    """
    raw, moved = folder / "disk.raw", folder / "moved.raw"
    made_raw(source, raw)
    with raw.open("rb") as old, moved.open("xb") as new:
        new.truncate(raw.stat().st_size + GRAIN)
        while part := old.read(MIB):
            if any(part):
                new.seek(old.tell() - len(part) + _SHIFT)
                new.write(part)
    raw.unlink()
    disk = as_vmdks(moved, folder)
    moved.unlink()
    return disk


def made_raw(source: Path, raw: Path) -> None:
    """The disk of `source` by qemu-img, filled up to a whole grain."""
    run("qemu-img", "convert", "-O", "raw", source, raw)
    os.truncate(raw, -(-raw.stat().st_size // GRAIN) * GRAIN)


def as_vmdks(raw: Path, folder: Path) -> Disk:
    """What convert makes of it."""
    images = {}
    for number, (name, options) in enumerate(VARIANTS.items()):
        images[name] = folder / f"{number}.vmdk"
        run(sys.executable, "-m", "vmport", "-q", "convert", *options, raw, images[name])
    with raw.open("rb") as file:
        return Disk(hashlib.file_digest(file, "sha256").hexdigest(), images)


def run(*argv: str | Path, env: dict[str, str] | None = None) -> str:
    """What a program says; CalledProcessError if it fails."""
    done = subprocess.run(
        list(map(str, argv)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=1800,
        env=None if env is None else {**os.environ, **env},
    )
    return done.stdout


def digest_of(parts: Iterable[bytes]) -> str:
    """SHA-256 of these, one after the other."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
