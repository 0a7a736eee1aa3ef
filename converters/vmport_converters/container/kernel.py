"""What of a machine's root filesystem a container has no use for: facts, as a table.

Paths are written as the Filesystem Hierarchy Standard has them (``/lib/modules``); `selection`
finds where they really lie in a guest (``/usr/lib/modules``).  The first rule that fits decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable


class Group(StrEnum):
    """Why a rule exists."""

    KERNEL = "kernel"
    """The kernel, what loads it and what it loads: the container's host has its own."""
    STATE = "state"
    """What only that one machine should have, or what it would make again."""
    FORMAT = "format"
    """What an image cannot hold."""
    REQUEST = "request"
    """The user asked for it."""


class Action(StrEnum):
    """What is done to a path."""

    DROP = "dropped"
    EMPTY = "emptied"
    REWRITE = "rewritten"


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: `paths` are globs from the root; a folder that fits goes with all it holds."""

    name: str
    group: Group
    what: str
    """For people, in the plural or as a mass: "kernel modules"."""
    paths: tuple[str, ...]
    action: Action = Action.DROP
    files_only: bool = False
    """Folders, links and devices stay, whatever their path."""
    rewrite: Callable[[bytes], bytes] | None = None
    """For `Action.REWRITE`: from the file's content to what replaces it."""


def comment_out_fstab(content: bytes) -> bytes:
    """An fstab whose entries have become comments, so that nothing tries to mount them."""
    lines = []
    for line in content.splitlines():
        text = line.strip()
        lines.append(line if not text or text.startswith(b"#") else b"# in the machine: " + text)
    return b"".join(line + b"\n" for line in lines)


RULES: Final = (
    # The kernel and what belongs to it.
    Rule(
        "kernel-image",
        Group.KERNEL,
        "kernel images",
        (
            "boot/**/{vmlinuz,vmlinux,bzImage,zImage,Image,uImage,kernel}*",
            "boot/**/.vmlinuz*",
            "boot/{xen,unikernel}*",
            "{vmlinuz,vmlinux}*",
        ),
    ),
    Rule(
        "initramfs",
        Group.KERNEL,
        "initial RAM disks",
        ("boot/**/{initrd,initramfs,uInitrd}*", "initrd.img*", "var/lib/initramfs-tools/*"),
    ),
    Rule("microcode", Group.KERNEL, "processor microcode", ("boot/**/*-ucode.img",)),
    Rule(
        "kernel-description",
        Group.KERNEL,
        "kernel configurations and symbol tables",
        ("boot/{config,System.map,symvers,symsets,sysctl.conf}-*", "boot/.config-*"),
    ),
    Rule(
        "boot-loader",
        Group.KERNEL,
        "boot loaders",
        (
            "boot/{grub,grub2,efi,EFI,loader,extlinux,syslinux,isolinux}",
            "efi",
            "lib/grub",
            "lib/shim",
            "lib/systemd/boot/efi",
            "lib/ostree-boot",
        ),
    ),
    Rule("boot-other", Group.KERNEL, "other content of /boot", ("boot/*",)),
    Rule("modules", Group.KERNEL, "kernel modules", ("lib/modules/*",)),
    Rule("firmware", Group.KERNEL, "device firmware", ("lib/firmware",)),
    Rule("device-trees", Group.KERNEL, "device trees", ("lib/linux-image-*",)),
    Rule(
        "kernel-debug",
        Group.KERNEL,
        "debugging symbols of kernels",
        ("usr/lib/debug/boot", "usr/lib/debug/lib/modules", "usr/lib/debug/usr/lib/modules"),
    ),
    # The state of one machine.
    Rule(
        "fstab",
        Group.STATE,
        "mounts of the machine's disks, made comments",
        ("etc/fstab",),
        action=Action.REWRITE,
        files_only=True,
        rewrite=comment_out_fstab,
    ),
    Rule(
        "swap",
        Group.STATE,
        "swap files",
        ("{swapfile,swap.img,.swapfile}", "swap/swapfile", "var/swap", "var/{swapfile,swap.img}"),
        files_only=True,
    ),
    Rule(
        "machine-id",
        Group.STATE,
        "machine ids, for the first start to set",
        ("etc/machine-id",),
        action=Action.EMPTY,
        files_only=True,
    ),
    Rule(
        "dbus-machine-id",
        Group.STATE,
        "machine ids of D-Bus",
        ("var/lib/dbus/machine-id",),
        files_only=True,
    ),
    Rule("ssh-host-keys", Group.STATE, "SSH host keys", ("etc/ssh/*_host_*",)),
    Rule(
        "persistent-names",
        Group.STATE,
        "names bound to the machine's network cards and drives",
        ("etc/udev/rules.d/70-persistent-{net,cd}.rules",),
    ),
    Rule(
        "network-connections",
        Group.STATE,
        "network connections",
        ("etc/NetworkManager/system-connections/*", "var/lib/NetworkManager/*"),
    ),
    Rule(
        "dhcp-leases",
        Group.STATE,
        "DHCP leases",
        ("var/lib/{dhcp,dhclient,dhcpcd,dhcpcd5}/*",),
        files_only=True,
    ),
    Rule("lvm-devices", Group.STATE, "LVM device lists", ("etc/lvm/devices/system.devices",)),
    Rule(
        "random-seed",
        Group.STATE,
        "random seeds and machine secrets",
        (
            "var/lib/systemd/{random-seed,credential.secret}",
            "var/lib/{urandom,misc}/random-seed",
            "var/lib/random-seed",
            "var/lib/seedrng/*",
        ),
    ),
    Rule(
        "account-backups",
        Group.STATE,
        "backups of account files",
        (
            "etc/{passwd,shadow,group,gshadow,subuid,subgid}-",
            "var/backups/{passwd,shadow,group,gshadow}.bak",
        ),
    ),
    Rule("journal", Group.STATE, "journals", ("var/log/journal/*",)),
    Rule(
        "rotated-logs",
        Group.STATE,
        "rotated logs",
        (
            "var/log/**/*.{gz,xz,bz2,zst,old}",
            "var/log/**/*.[0-9]",
            "var/log/**/*.[0-9][0-9]",
            "var/log/**/*-20[0-9][0-9][0-9][0-9][0-9][0-9]",
        ),
        files_only=True,
    ),
    Rule(
        "logs",
        Group.STATE,
        "logs",
        ("var/log/**",),
        action=Action.EMPTY,
        files_only=True,
    ),
    Rule("temporary", Group.STATE, "temporary files", ("tmp/*", "var/tmp/*")),
    Rule(
        "package-cache",
        Group.STATE,
        "package caches and lists",
        (
            "var/cache/apt/archives/**",
            "var/cache/apt/{pkgcache,srcpkgcache}.bin",
            "var/lib/apt/lists/**",
            "var/cache/{dnf,yum,libdnf5,zypp,apk}/**",
            "var/cache/pacman/pkg/**",
        ),
        files_only=True,
    ),
    Rule("rpm-locks", Group.STATE, "caches of the RPM database", ("var/lib/rpm/__db.*",)),
)
"""The package databases themselves are in no row: ``dpkg -l`` and ``rpm -qa`` go on as before."""

LINK_TO_KERNEL: Final = Rule("kernel-links", Group.KERNEL, "links to what was left out", ())
"""A symlink that would lead nowhere, because a rule of `Group.KERNEL` took what it led to."""

SOCKET: Final = Rule("socket", Group.FORMAT, "sockets, which no image can hold", ())
UNREADABLE: Final = Rule("unreadable", Group.REQUEST, "what may not be read", ())
REQUESTED: Final = Rule("drop", Group.REQUEST, "what --drop names", ())
