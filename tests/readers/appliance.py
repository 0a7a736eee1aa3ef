"""Libguestfs and virt-v2v: what they make of VMDKs inside their small virtual machine.

It runs on an emulated processor, for KVM is not there on every machine, and on some it hangs;
LIBGUESTFS_BACKEND_SETTINGS overrules that.  The kernel is this machine's, or else that of the guest
of `fixtures/guest.py`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fixtures.guest import make_guest
from tests.readers.disks import STREAM_FAST, VARIANTS, digest_of, run
from vmport_formats.units import MIB

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping

CACHE: Final = Path(__file__).resolve().parents[2] / ".cache"
GUESTFISH: Final = ("guestfish", "qemu-system-x86_64")
VIRT_V2V: Final = ("virt-v2v", "nbdkit", "nbdcopy", "qemu-nbd", "debugfs", "qemu-system-x86_64")

_FILES: Final = {
    "/etc/fstab": (0o644, "/dev/sda1 / ext4 defaults 0 1\n"),
    "/etc/modprobe.d/none.conf": (0o644, "# none\n"),
    "/etc/initramfs-tools/modules": (0o644, "# none\n"),
    "/boot/grub/grub.cfg": (0o644, "# none\n"),
    "/usr/sbin/grub-mkconfig": (0o755, "#!/bin/sh\n"),
    "/usr/sbin/update-initramfs": (0o755, "#!/bin/sh\n"),
    "/usr/bin/dpkg": (
        0o755,
        "#!/bin/sh\nls -d /boot/vmlinuz-* /boot/initrd.img-* /boot/config-* /lib/modules/*\n",
    ),
}
"""What virt-v2v wants of a Debian that it is to convert, and our guest has not."""
_PARTITION: Final = MIB
"""Byte at which that of the guest begins."""

_DISK: Final = (
    "<disk type='file' device='disk'><driver name='qemu' type='vmdk'/>"
    "<source file='{path}'/><target dev='sd{letter}' bus='scsi'/></disk>"
)
_DOMAIN: Final = (
    "<domain type='kvm'><name>guest</name><memory unit='MiB'>512</memory><vcpu>1</vcpu>"
    "<os><type arch='x86_64'>hvm</type></os><features><acpi/></features>"
    "<devices>{disks}</devices></domain>"
)


def by_guestfish(images: Mapping[str, Path], _folder: Path) -> dict[str, str]:
    """What the appliance's kernel reads on its disks."""
    argv: list[str | Path] = ["guestfish", "--ro", "--format=vmdk"]
    for path in images.values():
        argv += ["-a", path]
    argv.append("run")
    for letter, _ in zip("abc", images, strict=True):
        argv += [":", "checksum-device", "sha256", f"/dev/sd{letter}"]
    return dict(zip(images, run(*argv, env=_environment()).split(), strict=True))


def by_virt_v2v(images: Mapping[str, Path], folder: Path) -> dict[str, str]:
    """What it copies, as further disks of a guest that it converts, and that is a VMDK too."""
    guest = _convertible(folder)
    letters = dict(zip(images, "bcd", strict=True))
    disks = [_DISK.format(path=guest, letter="a")]
    disks += [_DISK.format(path=images[name], letter=letters[name]) for name in images]
    domain, out = folder / "guest.xml", folder / "out"
    domain.write_text(_DOMAIN.format(disks="".join(disks)))
    out.mkdir()
    argv = ("virt-v2v", "-i", "libvirtxml", domain, "-o", "local", "-os", out, "-of", "raw")
    run(*argv, env=_environment())
    return {name: _digest(out / f"guest-sd{letter}") for name, letter in letters.items()}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return digest_of(iter(lambda: file.read(MIB), b""))


def _convertible(folder: Path) -> Path:
    """The demo's guest as a stream, with the files that virt-v2v looks for."""
    raw, image = folder / "guest.raw", folder / "guest.vmdk"
    run("qemu-img", "convert", "-O", "raw", make_guest(CACHE / "guest").disk, raw)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        commands = [line for item in _FILES.items() for line in _written(*item, Path(name))]
        script = Path(name, "script")
        script.write_text("\n".join(commands))
        run("debugfs", "-w", "-f", script, f"{raw}?offset={_PARTITION}")
    options = VARIANTS[STREAM_FAST]
    run(sys.executable, "-m", "vmport", "-q", "convert", *options, raw, image)
    raw.unlink()
    return image


def _written(place: str, content: tuple[int, str], folder: Path) -> list[str]:
    """Commands of debugfs(8): make its folders, and the file anew."""
    mode, text = content
    local = folder / place.replace("/", "-")
    local.write_text(text)
    local.chmod(mode)
    parents = [str(parent) for parent in reversed(Path(place).parents)][1:]
    made = [f"mkdir {parent}" for parent in parents]  # of those that exist it says so, and goes on
    return [*made, f"rm {place}", f"write {local} {place}"]


def _environment() -> dict[str, str]:
    settings = {
        "LIBGUESTFS_BACKEND": "direct",
        "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg",
        "LIBGUESTFS_CACHEDIR": str(CACHE),
    }
    if not any(Path("/boot").glob("vmlinuz-*")):
        rootfs = make_guest(CACHE / "guest").rootfs
        (kernel,) = (rootfs / "boot").glob("vmlinuz-*")
        release = kernel.name.removeprefix("vmlinuz-")
        settings |= {
            "SUPERMIN_KERNEL": str(kernel),
            "SUPERMIN_KERNEL_VERSION": release,
            "SUPERMIN_MODULES": str(rootfs / "lib/modules" / release),
        }
        # Supermin takes the owner and the mode of that folder, and fails where there is none.
        Path("/lib/modules").mkdir(exist_ok=True)
    return {name: os.environ.get(name, value) for name, value in settings.items()}


def told(failure: subprocess.CalledProcessError) -> str:
    """The last that a program said."""
    said = [line for line in (failure.stderr or "").splitlines() if "error" in line.lower()]
    return said[0] if said else f"ended with status {failure.returncode}"
