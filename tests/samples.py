"""Gets qemu's sample images out of Debian's qemu source package: ``python3 tests/samples.py``.

They are GPL, so they are fetched into a git-ignored cache and never committed.  The system's apt
configuration is only read, for its mirror: all lists and files of this run live in the cache.  The
package is Debian 12's on every release, for Debian 13's has been stripped of these images.  Only
the standard library is used, so it runs before anything is installed.
"""

from __future__ import annotations

import bz2
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "qemu-samples"
SUITE = "bookworm"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
FALLBACK_MIRRORS = ("http://deb.debian.org/debian", "http://archive.debian.org/debian")

NAMES = (
    "afl5.img",
    "afl9.vmdk",
    "d2v-zerofilled.vhd",
    "empty.bochs",
    "grub_mbr.raw",
    "hyperv2012r2-dynamic.vhd",
    "iotest-dirtylog-10G-4M.vhdx",
    "iotest-dynamic-1G.vhdx",
    "iotest-version3.vmdk",
    "parallels-v1",
    "parallels-v2",
    "parallels-with-bitmap",
    "simple-dmg.dmg",
    "simple-pattern.cloop",
    "test-disk2vhd.vhdx",
    "virtualpc-dynamic.vhd",
)


def sample(name: str) -> Path:
    """Where the sample called `name` is, once it is fetched."""
    assert name in NAMES, name
    return CACHE / name


def missing() -> list[str]:
    """The samples that are not there."""
    return [name for name in NAMES if not sample(name).exists()]


def fetch() -> None:
    """Make every sample present; quick when they are, resuming when a run was cut off."""
    if not missing():
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    tarball = _downloaded() or _download()
    _extract(tarball)
    if left := missing():
        raise SystemExit(f"{tarball.name} holds no {', '.join(left)}")
    shutil.rmtree(CACHE / "apt", ignore_errors=True)
    tarball.unlink()


def mirrors(apt: Path = Path("/etc/apt")) -> list[str]:
    """The Debian mirrors that this machine uses, then the public ones."""
    found = []
    for file in [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]:
        if file.suffix not in {".list", ".sources"} or not file.is_file():
            continue
        text = file.read_text(encoding="utf-8", errors="replace")
        # Both styles: "deb [options] URI SUITE main" and, in deb822, "URIs: URI URI".
        found += re.findall(r"^\s*deb(?:-src)?\s+(?:\[[^]]*\]\s+)?(\S+)\s", text, re.MULTILINE)
        for line in re.findall(r"^URIs:(.*(?:\n[ \t].*)*)", text, re.MULTILINE | re.IGNORECASE):
            found += line.split()
    ours = [uri.rstrip("/") for uri in found if re.search(r"/debian/?$", uri)]
    return list(dict.fromkeys([*ours, *FALLBACK_MIRRORS]))


def _downloaded() -> Path | None:
    return next(iter(CACHE.glob("qemu_*.orig.tar.xz")), None)


def _download() -> Path:
    """The upstream tarball of Debian's qemu source, its hash checked by apt down from the key."""
    if shutil.which("apt-get") is None:
        raise SystemExit("qemu's samples come through apt-get, and this machine has none")
    complaints = []
    for mirror in mirrors():
        try:
            _apt(mirror, "update")
            # An interrupted download stays in partial/ and is taken up again.
            _apt(mirror, "source", "--download-only", "--tar-only", "qemu")
        except subprocess.CalledProcessError as error:
            complaints.append(f"{mirror}: {(error.stderr or error.stdout).strip()}")
            continue
        if tarball := _downloaded():
            return tarball
        complaints.append(f"{mirror}: no orig.tar.xz came")
    raise SystemExit("\n".join(["qemu's samples cannot be fetched:", *complaints]))


def _apt(mirror: str, *command: str) -> None:
    state = CACHE / "apt"
    for folder in ("lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    (state / "sources.list").write_text(f"deb-src {signed}{mirror} {SUITE} main\n")
    options = {
        "Dir::Etc::sourcelist": state / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": state / "lists",
        "Dir::Cache": state / "cache",
        "APT::Sandbox::User": "root",  # the cache may lie where the user _apt cannot go
        "APT::Update::Error-Mode": "any",
        "Acquire::Retries": "3",
        "Acquire::Languages": "none",
        # Of an archived release the Release file has long expired; it is still signed.
        "Acquire::Check-Valid-Until": "false",
    }
    subprocess.run(
        ["apt-get", "-q", *(f"-o{key}={value}" for key, value in options.items()), *command],
        cwd=CACHE,
        check=True,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "LC_ALL": "C"},
    )


def _extract(tarball: Path) -> None:
    wanted = {f"tests/qemu-iotests/sample_images/{name}.bz2": name for name in missing()}
    with tarfile.open(tarball, "r|xz") as archive:
        for member in archive:
            name = wanted.pop(member.name.partition("/")[2], None)
            stream = archive.extractfile(member) if name is not None else None
            if name is not None and stream is not None:
                _unpack(bz2.BZ2File(stream), sample(name))
            if not wanted:
                break


def _unpack(compressed: bz2.BZ2File, destination: Path) -> None:
    """Write the content with holes for its zeros: some samples are gigabytes of nothing."""
    partial = destination.with_name(f".{destination.name}.partial")
    with contextlib.closing(compressed), partial.open("wb") as output:
        while chunk := compressed.read(1 << 16):
            if chunk.count(0) == len(chunk):
                output.seek(len(chunk), os.SEEK_CUR)
            else:
                output.write(chunk)
        output.truncate()
    partial.replace(destination)


if __name__ == "__main__":
    fetch()
    sys.stdout.write(f"{len(NAMES)} sample images of qemu are in {CACHE}\n")
