"""A real Debian with a real kernel, made once by mmdebstrap; needs root, but not pytest."""

from __future__ import annotations

import fcntl
import subprocess
from pathlib import Path

_CACHE = Path(__file__).resolve().parents[2] / ".cache/rootfs"


def debian_rootfs() -> Path:
    """A tar of Debian's essential packages and a kernel, of the suite that this machine runs."""
    suite = _os_release().get("VERSION_CODENAME", "bookworm")
    architecture = subprocess.run(
        ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
    ).stdout.strip()
    _CACHE.mkdir(parents=True, exist_ok=True)
    path = _CACHE / f"{suite}-{architecture}.tar"
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes may ask at once
        if not path.exists():
            unfinished = path.with_suffix(".unfinished")
            _bootstrap(suite, architecture, unfinished)
            unfinished.rename(path)
    return path


def _bootstrap(suite: str, architecture: str, path: Path) -> None:
    few_modules = (
        'mkdir -p "$1/etc/initramfs-tools/conf.d" && '
        'echo MODULES=list > "$1/etc/initramfs-tools/conf.d/few"'
    )
    command = [
        "mmdebstrap", "--quiet", "--mode=root", "--format=tar", "--variant=essential",
        f"--include=linux-image-cloud-{architecture}", "--dpkgopt=force-unsafe-io",
        f"--essential-hook={few_modules}", suite, str(path),
    ]  # fmt: skip
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def _os_release() -> dict[str, str]:
    lines = Path("/etc/os-release").read_text().splitlines()
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {name: value.strip('"') for name, _, value in pairs}
