"""Makes the disk that is measured: a real Debian of 4 GiB with some 800 MB of packages.

``python -m benchmarks.debian_disk`` makes it ahead of the measurements; it takes some minutes, and
is made once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

CACHE: Final = Path(__file__).resolve().parent.parent / ".cache" / "benchmarks"
SIZE_MIB: Final = 4096
LEAST: Final = 700_000_000
"""Bytes of data, of a disk that counts."""
PARTITION: Final = 1 << 20
"""Byte at which the file system begins."""
PACKAGES: Final = (
    "linux-image-cloud-{kernel}", "python3", "git", "gcc", "perl", "vim", "locales",
    "openssh-server", "curl", "man-db", "rsync", "ca-certificates", "bash-completion",
    "less", "file", "iproute2",
)  # fmt: skip
"""What a server has that somebody works on.  Debian 13 packs the kernel's modules, 12 does not."""


class Missing(Exception):
    """The disk cannot be made here; the text says why."""


def debian_disk() -> Path:
    """A raw disk: a GPT, and an ext4 file system with a Debian of this machine's suite.

    Raises:
        Missing: mmdebstrap or mke2fs is not here, or failed, as it does without a mirror.
    """
    suite = _os_release().get("VERSION_CODENAME", "bookworm")
    path = CACHE / f"debian-{suite}.raw"
    if path.exists():
        return path
    CACHE.mkdir(parents=True, exist_ok=True)
    tree, archive, partial = (path.with_suffix(end) for end in (".tree", ".tar", ".partial"))
    try:
        _bootstrap(suite, archive)
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir()
        # Device nodes need root, and systems of today make them anew at each start.
        _run("tar", "-x", "-f", str(archive), "-C", str(tree), "--exclude=./dev/*")
        _make_disk(tree, partial)
        partial.rename(path)
    finally:
        shutil.rmtree(tree, ignore_errors=True)
        archive.unlink(missing_ok=True)
        partial.unlink(missing_ok=True)
    return path


def _bootstrap(suite: str, archive: Path) -> None:
    architecture = _run("dpkg", "--print-architecture").strip()
    packages = ",".join(PACKAGES).format(kernel=architecture)
    _run(
        "mmdebstrap", "--quiet", "--format=tar", "--variant=minbase", f"--include={packages}",
        "--dpkgopt=force-unsafe-io", suite, str(archive),
    )  # fmt: skip


def _make_disk(tree: Path, path: Path) -> None:
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate(SIZE_MIB << 20)
    _run("sfdisk", "--quiet", str(path), text=f"label: gpt\nstart={PARTITION // 512}, type=L\n")
    _run(
        "mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", "-d", str(tree),
        "-E", f"offset={PARTITION},root_owner=0:0", str(path), f"{(SIZE_MIB - 2) << 10}k",
    )  # fmt: skip


def _run(*argv: str, text: str = "") -> str:
    search = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    program = shutil.which(argv[0], path=search)
    if program is None:
        raise Missing(f"{argv[0]} is not installed; `make setup` as root does that")
    done = subprocess.run(
        [program, *argv[1:]], input=text, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Missing(f"{argv[0]} failed ({done.stderr.strip()[-300:]}); root can make it")
    return done.stdout


def _os_release() -> dict[str, str]:
    lines = Path("/etc/os-release").read_text().splitlines()
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {name: value.strip('"') for name, _, value in pairs}


if __name__ == "__main__":
    made = debian_disk()
    print(f"{made}: {made.stat().st_blocks * 512 / 1e6:.0f} MB of data")
