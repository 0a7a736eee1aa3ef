"""The programs that read VMDKs: what each needs, and how it is brought to tell a disk's content."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.content import libvmdk
from tests.readers import appliance
from tests.readers.disks import SPARSE, digest_of, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    Digests = Callable[[Mapping[str, Path], Path], dict[str, str]]


@dataclass(frozen=True, slots=True)
class Reader:
    """A program, or several that work together."""

    name: str
    needs: tuple[str, ...]
    """Programs on the PATH."""
    version: tuple[str, ...]
    """What to run, to be told it."""
    digests: Digests
    """SHA-256 of the content of each image, by its name; works in the folder that it is given."""
    opaque: bool = False
    """Would change a disk with a file system, and so is given one without."""
    packaged: bool = True
    """By Debian: where CI is set, it must be here."""


def one_by_one(digest: Callable[[Path, Path], str]) -> Digests:
    """Of a program that reads one image at a time."""
    return lambda images, folder: {name: digest(path, folder) for name, path in images.items()}


def _of_output(*argv: str | Path) -> str:
    with subprocess.Popen(
        list(map(str, argv)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as process:
        output = process.stdout
        assert output
        digest = digest_of(iter(lambda: output.read(1 << 20), b""))
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, argv)
    return digest


def _of_file(path: Path) -> str:
    """And removes it."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    path.unlink()
    return digest


def _qemu_img(image: Path, folder: Path) -> str:
    run("qemu-img", "convert", "-f", "vmdk", "-O", "raw", image, folder / "read.raw")
    return _of_file(folder / "read.raw")


def _seven_zip(image: Path, _folder: Path) -> str:
    # With no type it would go on to look inside the disk, and find partitions.
    return _of_output("7z", "x", "-so", "-tVMDK", image)


def _libvmdk(image: Path, _folder: Path) -> str:
    return _of_output(*libvmdk(image))


def _vmdk_convert(images: Mapping[str, Path], folder: Path) -> dict[str, str]:
    """Reads them, and has nothing against the header of the streams."""
    found = {}
    for name, image in images.items():
        if name != SPARSE:
            header = json.loads(run("vmdk-convert", "-i", "--detailed", image))["sparseHeader"]
            said = {key: header[key] for key in ("version", "grainsOrdered", "hasFooter")}
            if said != {"version": 3, "grainsOrdered": True, "hasFooter": True}:
                raise ValueError(f"vmdk-convert -i: {said}")
        run("vmdk-convert", image, folder / "read.raw")
        found[name] = _of_file(folder / "read.raw")
    return found


LIBVMDK_VERSION: Final = ("/usr/bin/python3", "-c", "import pyvmdk; print(pyvmdk.get_version())")

READERS: Final = (
    Reader("qemu-img", ("qemu-img",), ("qemu-img", "--version"), one_by_one(_qemu_img)),
    Reader("7-Zip", ("7z",), ("7z",), one_by_one(_seven_zip)),
    Reader("libvmdk", ("vmdkinfo",), LIBVMDK_VERSION, one_by_one(_libvmdk)),
    Reader(
        "VMware's vmdk-convert", ("vmdk-convert",), (), _vmdk_convert, packaged=False
    ),
    Reader("libguestfs", appliance.GUESTFISH, ("guestfish", "--version"), appliance.by_guestfish),
    Reader(
        "virt-v2v", appliance.VIRT_V2V, ("virt-v2v", "--version"), appliance.by_virt_v2v,
        opaque=True,
    ),
)  # fmt: skip


def lines(text: str) -> Iterator[str]:
    """Those that say something."""
    return (line.strip() for line in text.splitlines() if line.strip())
