"""A small root filesystem with every oddity that one can have, around a static busybox."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LONG_NAME = "n" * 255
DEEP = "/".join(["deep" * 20] * 12)
"""A path of more than 900 bytes: neither ustar's fields nor one PAX block of names hold it."""
ODD_NAMES = (
    b"unicode-\xc3\xa4\xe6\x97\xa5\xf0\x9f\x90\xa7",
    b"latin1-\xe4\xf6",
    b"new\nline",
    b"back\\slash",
    b" blank ",
    b"-dash",
    b"percent%2e",
    b"equals=sign",
    os.fsencode(LONG_NAME),
)
KERNEL_VERSION = "6.1.0-99-amd64"
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
"""cap_net_raw=ep, as setcap writes it."""

LEFT_OUT = (
    "boot/vmlinuz-" + KERNEL_VERSION,
    "boot/initrd.img-" + KERNEL_VERSION,
    "boot/grub/grub.cfg",
    "vmlinuz",
    "initrd.img",
    "usr/lib/modules/" + KERNEL_VERSION,
    "usr/lib/firmware",
    "etc/ssh/ssh_host_ed25519_key",
    "etc/shadow-",
    "tmp/left-over",
    "var/cache/apt/archives/thing.deb",
    "var/log/syslog.1.gz",
    "srv/socket",
)
"""Paths that the rules must take."""


def make_odd_rootfs(root: Path, *, privileged: bool) -> None:
    """Fill `root`; owners, device nodes and capabilities only when `privileged`."""
    busybox = shutil.which("busybox")
    assert busybox is not None, "install busybox-static"
    for folder in (
        "usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc/ssh", "dev", "proc", "sys", "run",
        "srv/below", "home/user", "root", "var/lib/dpkg", "var/cache/apt/archives", "var/log",
        "opt", DEEP, f"usr/lib/modules/{KERNEL_VERSION}/kernel", "usr/lib/firmware", "boot/grub",
    ):  # fmt: skip
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    for name, mode in (("tmp", 0o1777), ("root", 0o700), ("home/user", 0o2750)):
        (root / name).mkdir(exist_ok=True)
        (root / name).chmod(mode)
    shutil.copy(busybox, root / "usr/bin/busybox")
    tools = (
        "sh",
        "ls",
        "cat",
        "find",
        "stat",
        "id",
        "sleep",
        "httpd",
        "wget",
        "md5sum",
        "readlink",
    )
    for tool in tools:
        (root / "usr/bin" / tool).symlink_to("busybox")
    _write(
        root / "etc/passwd", b"root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"
    )
    _write(
        root / "etc/fstab", b"# disks\nUUID=1234 / ext4 defaults 0 1\n/data.swap none swap sw 0 0\n"
    )
    _write(root / "etc/machine-id", b"0123456789abcdef0123456789abcdef\n")
    _write(root / "var/lib/dpkg/status", b"Package: thing\nStatus: install ok installed\n")
    _write(root / "data.swap", b"swap" * 1000)
    _write(root / "var/log/syslog", b"secrets\n" * 100)
    for path in LEFT_OUT:
        if path in {"vmlinuz", "initrd.img", "usr/lib/firmware", "srv/socket"}:
            continue
        if path.startswith("usr/lib/modules"):
            _write(root / path / "kernel/x.ko", b"module")
        else:
            _write(root / path, path.encode())
    _write(root / "usr/lib/firmware/blob.bin", b"firmware")
    (root / "vmlinuz").symlink_to(f"boot/vmlinuz-{KERNEL_VERSION}")
    (root / "initrd.img").symlink_to(f"boot/initrd.img-{KERNEL_VERSION}")
    (root / "etc/outside").symlink_to("/../../../../etc/hostname")
    (root / "etc/dangling").symlink_to("nowhere")
    (root / "etc/loop").symlink_to("loop")
    # A file whose first name is left out, and one with names in three places.
    os.link(root / f"boot/vmlinuz-{KERNEL_VERSION}", root / "srv/netboot-kernel")
    _write(root / "opt/b-first", b"shared\n")
    os.link(root / "opt/b-first", root / "opt/a-second")
    os.link(root / "opt/b-first", root / "home/user/third")
    os.link(root / "etc/dangling", root / "etc/dangling-too", follow_symlinks=False)
    for odd in ODD_NAMES:
        (root / "opt" / os.fsdecode(odd)).write_bytes(odd)
    _write(root / DEEP / "bottom", b"deep\n")
    with (root / "opt/sparse").open("wb") as file:
        file.seek(3 << 20)
        file.write(b"middle")
        file.truncate(5 << 20)
    _write(root / "opt/empty", b"")
    _write(root / "opt/suid", b"#!/bin/sh\n", 0o6755)
    _write(root / "opt/unreadable-by-others", b"secret\n", 0o400)
    os.mkfifo(root / "opt/fifo", 0o640)
    with socket.socket(socket.AF_UNIX) as server:
        here = os.open(root / "srv", os.O_RDONLY)
        try:
            server.bind(f"/proc/self/fd/{here}/socket")
        finally:
            os.close(here)
    os.setxattr(root / "opt/empty", "user.note", b"kept\0\xff")
    _write(root / "opt/acl", b"acl\n")
    subprocess.run(["setfacl", "-m", "u:1234:r,g:77:rw", root / "opt/acl"], check=True)
    subprocess.run(["setfacl", "-d", "-m", "u:1234:rx", root / "srv"], check=True)
    if privileged:
        _add_privileged(root)
    os.utime(root / "opt/empty", ns=(0, -1_500_000_000))
    os.utime(root / "opt/suid", ns=(0, 1_600_000_000_123_456_789))
    root.chmod(0o755)


def _add_privileged(root: Path) -> None:
    os.mknod(root / "dev/null", 0o020666, os.makedev(1, 3))
    os.mknod(root / "opt/block", 0o060660, os.makedev(7, 300))
    for path, uid, gid in (
        ("home/user", 1000, 1000),
        ("home/user/third", 1000, 1001),
        ("opt/acl", 3_000_000, 4_294_967_000),
        ("etc/dangling", 33, 33),
    ):
        os.chown(root / path, uid, gid, follow_symlinks=False)
    (root / "home/user").chmod(0o2750)
    _write(root / "usr/bin/ping", b"#!/bin/sh\n", 0o755)
    os.setxattr(root / "usr/bin/ping", "security.capability", CAPABILITY)
    os.setxattr(root / "usr/bin/ping", "trusted.overlay.origin", b"y")
    _write(root / "opt/labelled", b"\n")
    os.setxattr(root / "opt/labelled", "security.selinux", b"system_u:object_r:etc_t:s0\0")


def _write(path: Path, data: bytes, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)
