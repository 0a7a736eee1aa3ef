"""Which paths the rules take, in guests of all kinds, and how --keep and --drop have their way."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from vmport_converters.container.kernel import RULES, Action, Group, comment_out_fstab
from vmport_converters.container.rootfs import Rootfs
from vmport_converters.container.selection import Selection, Wishes, select
from vmport_formats.errors import UnreadableInput, UnsupportedFeature, UsageError, VmportError
from vmport_formats.filesystem.acl import ACCESS, DEFAULT, NO_ENTRIES, mode_as_acl
from vmport_formats.filesystem.model import Device, Entry, EntryKind, MemoryContent, path_order

if TYPE_CHECKING:
    from collections.abc import Iterator


def _entry(path: str, kind: EntryKind = EntryKind.FILE, content: bytes = b"content") -> Entry:
    is_file = kind is EntryKind.FILE
    return Entry(
        path=path.encode("utf-8", "surrogateescape"),
        kind=kind,
        mode=0o755,
        uid=0,
        gid=0,
        mtime=0,
        size=len(content) if is_file else 0,
        content=MemoryContent(content) if is_file else None,
    )


def _guest(*things: Entry | str, links: dict[str, str] | None = None) -> Rootfs:
    """A root filesystem of `things` (a string is a file), `links`, and the folders they need."""
    entries = {b"": _entry("", EntryKind.FOLDER), b"usr": _entry("usr", EntryKind.FOLDER)}
    named = [_entry(thing) if isinstance(thing, str) else thing for thing in things]
    for path, target in (links or {}).items():
        named.append(replace(_entry(path, EntryKind.SYMLINK), target=target.encode()))
    for entry in named:
        above = entry.path.rpartition(b"/")[0]
        while above:
            entries.setdefault(above, _entry(above.decode(), EntryKind.FOLDER))
            above = above.rpartition(b"/")[0]
        entries[entry.path] = entry
    ordered = [entries[path] for path in sorted(entries, key=path_order)]
    return Rootfs(name="guest", entries=ordered, notes=())


def _removed(selection: Selection) -> dict[str, str]:
    return {removal.path.decode(): removal.rule.name for removal in selection.removals}


def _kept(selection: Selection) -> set[str]:
    return {entry.path.decode() for entry in selection.entries if entry.path}


DEBIAN = (
    "boot/vmlinuz-6.1.0-9-amd64", "boot/initrd.img-6.1.0-9-amd64", "boot/config-6.1.0-9-amd64",
    "boot/System.map-6.1.0-9-amd64", "boot/grub/grub.cfg", "boot/efi/EFI/debian/shimx64.efi",
)  # fmt: skip
FEDORA = (
    "boot/vmlinuz-6.5.6-300.fc39.x86_64", "boot/.vmlinuz-6.5.6-300.fc39.x86_64.hmac",
    "boot/initramfs-6.5.6-300.fc39.x86_64.img", "boot/initramfs-0-rescue-1234.img",
    "boot/symvers-6.5.6-300.fc39.x86_64.xz", "boot/loader/entries/x.conf", "boot/grub2/grubenv",
    "usr/lib/modules/6.5.6-300.fc39.x86_64/vmlinuz", "efi/EFI/x.efi",
)  # fmt: skip
OTHERS = (
    "boot/vmlinuz-linux", "boot/initramfs-linux-fallback.img", "boot/intel-ucode.img",  # Arch
    "boot/vmlinuz-lts", "boot/initramfs-lts", "boot/extlinux.conf",  # Alpine
    "boot/initrd-5.14.21-default", "boot/Image-5.14.21-default",  # SUSE
    "boot/ostree/fedora/vmlinuz-1", "usr/lib/ostree-boot/vmlinuz-1",
    "vmlinuz", "vmlinuz.old", "initrd.img", "boot/something-else",
)  # fmt: skip


@pytest.mark.parametrize("merged", [True, False])
def test_no_kernel_stays_and_nothing_else_goes(merged: bool) -> None:
    lib = "usr/lib" if merged else "lib"
    modules = [f"{lib}/modules/6.1.0/kernel/a.ko", f"{lib}/modules/6.1.0/modules.dep"]
    firmware = [f"{lib}/firmware/iwlwifi-1.ucode", f"{lib}/linux-image-6.1/board.dtb"]
    stay = [
        f"{lib}/modules-load.d/x.conf", f"{lib}/modprobe.d/y.conf", f"{lib}/udev/rules.d/z.rules",
        "etc/kernel/postinst.d/hook", "usr/src/linux-headers-6.1/Makefile", "srv/tftp/vmlinuz-1",
        "var/lib/dpkg/status", "var/lib/dpkg/info/linux-image-6.1.list", "usr/sbin/grub-install",
        "home/user/vmlinuz.txt", "usr/share/doc/boot/vmlinuz", "var/lib/rpm/rpmdb.sqlite",
    ]  # fmt: skip
    links = {"lib": "usr/lib"} if merged else {}
    guest = _guest(*DEBIAN, *FEDORA, *OTHERS, *modules, *firmware, *stay, links=links)
    selection = select(guest)
    removed = _removed(selection)
    assert set(DEBIAN) | set(FEDORA) | set(OTHERS) | set(modules) | set(firmware) <= set(removed)
    assert set(stay) <= _kept(selection)
    assert {f"{lib}/modules", "boot"} <= _kept(selection), "empty, but there"
    assert not {path for path in _kept(selection) if path.startswith(("boot/", f"{lib}/modules/"))}
    assert set(removed) | _kept(selection) == {e.path.decode() for e in guest.entries if e.path}


def test_the_state_of_one_machine_goes_or_is_emptied() -> None:
    guest = _guest(
        "etc/machine-id", "etc/ssh/ssh_host_rsa_key", "etc/ssh/ssh_host_rsa_key.pub",
        "etc/ssh/sshd_config", "etc/ssh/ssh_known_hosts", "etc/passwd", "etc/passwd-",
        "etc/shadow-", "etc/udev/rules.d/70-persistent-net.rules", "etc/lvm/devices/system.devices",
        "etc/NetworkManager/system-connections/wifi.nmconnection", "var/lib/dhcp/dhclient.leases",
        "var/lib/systemd/random-seed", "var/log/syslog", "var/log/syslog.2.gz", "var/log/wtmp",
        "var/log/journal/0123/system.journal", "var/log/nginx/access.log",
        "var/log/messages-20240101", "tmp/x/y", "var/tmp/z", "var/cache/apt/archives/a.deb",
        "var/lib/apt/lists/x_Packages", "var/cache/dnf/x/y.rpm", "var/lib/rpm/__db.001",
        "swap.img",
    )  # fmt: skip
    selection = select(guest)
    actions = {removal.path.decode(): removal.action for removal in selection.removals}
    emptied = {path for path, action in actions.items() if action is Action.EMPTY}
    assert emptied == {
        "etc/machine-id", "var/log/syslog", "var/log/wtmp", "var/log/nginx/access.log",
    }  # fmt: skip
    assert all(entry.size == 0 for entry in selection.entries if entry.path.decode() in emptied)
    kept_files = {e.path.decode() for e in selection.entries if e.kind is EntryKind.FILE}
    assert kept_files - emptied == {
        "etc/ssh/sshd_config", "etc/ssh/ssh_known_hosts", "etc/passwd",
    }  # fmt: skip
    folders = {"tmp", "var/tmp", "var/log/nginx", "var/lib/apt/lists", "var/cache/apt/archives"}
    assert folders <= _kept(selection)


def test_fstab_becomes_comments_and_its_swap_files_go() -> None:
    fstab = (
        b"# a comment\n\nUUID=1 / ext4 rw 0 1\n /pagefile  none swap sw 0 0\n/dev/sdb none swap\n"
    )
    guest = _guest(_entry("etc/fstab", content=fstab), "pagefile", "dev/sdb")
    selection = select(guest)
    assert _removed(selection) == {"etc/fstab": "fstab", "pagefile": "swap"}
    entry = next(entry for entry in selection.entries if entry.path == b"etc/fstab")
    assert entry.content is not None
    text = b"".join(entry.content.chunks())
    assert text == comment_out_fstab(fstab)
    assert text.splitlines()[:3] == [b"# a comment", b"", b"# in the machine: UUID=1 / ext4 rw 0 1"]
    assert all(not line or line.startswith(b"#") for line in text.splitlines())
    assert comment_out_fstab(text) == text
    assert entry.size == len(text)


def test_an_fstab_that_is_none_is_emptied_unread() -> None:
    class Unreadable:
        def chunks(self) -> Iterator[bytes]:
            raise AssertionError("it was read")

    huge = replace(_entry("etc/fstab"), size=1 << 40, content=Unreadable())
    selection = select(_guest(huge))
    assert [(one.action, one.size) for one in selection.removals] == [(Action.EMPTY, 1 << 40)]
    assert selection.content == 0


def test_links_to_the_kernel_go_and_others_stay() -> None:
    guest = _guest(
        "boot/grub2/grub.cfg", "usr/lib/modules/6.1/x.ko", "tmp/x",
        links={
            "lib": "usr/lib", "etc/grub2.cfg": "../boot/grub2/grub.cfg", "usr/lib/modules/k": "6.1",
            "opt/module": "/lib/modules/6.1/x.ko", "opt/twice": "module", "opt/temp": "/tmp/x",
            "opt/dangling": "nowhere", "opt/boot": "/boot", "opt/loop": "loop",
        },
    )  # fmt: skip
    removed = _removed(select(guest))
    assert {path for path, rule in removed.items() if rule == "kernel-links"} == {
        "etc/grub2.cfg", "opt/module", "opt/twice",
    }  # fmt: skip
    assert not {"opt/temp", "opt/dangling", "opt/boot", "opt/loop"} & set(removed)


@pytest.mark.parametrize(
    ("links", "kept"),
    [
        ({"boot": "."}, {"usr/bin/sh", "srv/data"}),
        ({"boot": "/"}, {"usr/bin/sh", "srv/data"}),
        ({"lib": "/"}, {"usr/bin/sh", "srv/data"}),
        ({"tmp": "/srv"}, {"usr/bin/sh", "srv/data"}),
        ({"tmp": "tmp"}, {"usr/bin/sh", "srv/data"}),
        ({"var": "/"}, {"usr/bin/sh", "srv/data"}),
        ({"lib": "usr/lib", "usr/lib": "/lib"}, {"usr/bin/sh", "srv/data"}),
    ],
)
def test_no_link_turns_a_rule_against_the_rest(links: dict[str, str], kept: set[str]) -> None:
    assert kept <= _kept(select(_guest("usr/bin/sh", "srv/data", links=links)))


def test_rules_follow_links_inside_the_guest() -> None:
    guest = _guest(
        "data/boot/vmlinuz-1", "data/lib/modules/1/x.ko", "usr/bin/sh",
        links={"boot": "data/boot", "lib": "/data/lib"},
    )  # fmt: skip
    removed = _removed(select(guest))
    assert removed["data/boot/vmlinuz-1"] == "kernel-image"
    assert removed["data/lib/modules/1"] == "modules"


def test_keep_wins_over_rules_and_drop_and_brings_its_folders() -> None:
    guest = _guest(
        "boot/vmlinuz-1", "boot/grub/grub.cfg", "boot/grub/fonts/x.pf2", "usr/lib/firmware/a/b.bin",
        "etc/machine-id", "usr/share/doc/a/copyright", "usr/share/doc/a/big", "usr/x.pyc",
        links={"lib": "usr/lib"},
    )  # fmt: skip
    wishes = Wishes(
        keep=("/boot/grub/fonts", "/lib/firmware/a/*", "machine-id", "copyright"),
        drop=("/usr/share/doc", "*.pyc"),
    )
    selection = select(guest, wishes)
    assert {
        "boot/grub", "boot/grub/fonts", "boot/grub/fonts/x.pf2", "usr/lib/firmware/a/b.bin",
        "usr/share/doc/a/copyright",
    } <= _kept(selection)  # fmt: skip
    removed = _removed(selection)
    assert set(removed) == {
        "boot/vmlinuz-1", "boot/grub/grub.cfg", "usr/share/doc/a/big", "usr/x.pyc",
    }  # fmt: skip
    assert removed["usr/x.pyc"] == "drop"
    machine_id = next(e for e in selection.entries if e.path == b"etc/machine-id")
    assert machine_id.size == len(b"content")


def test_a_wish_follows_links_above_it_but_takes_nothing_else() -> None:
    merged = _guest("usr/lib/a", "usr/lib/b", links={"lib": "usr/lib"})
    assert set(_removed(select(merged, Wishes(drop=("/lib",))))) == {"lib"}
    assert set(_removed(select(merged, Wishes(drop=("/lib/a",))))) == {"usr/lib/a"}
    split = _guest("usr/lib/a", "lib/a")
    assert set(_removed(select(split, Wishes(drop=("/lib/a",))))) == {"lib/a"}


def test_a_wish_that_fits_nothing_is_told() -> None:
    notes = select(_guest("etc/a"), Wishes(keep=("/etc/b",), drop=("etc/a", "*.none"))).notes
    told = [note.text for note in notes if note.code == "export.no-match"]
    assert told == ["--keep /etc/b fits nothing in the source", "--drop *.none fits nothing in the source"]  # fmt: skip  # noqa: E501


@pytest.mark.parametrize("glob", ["/", "", "//", "[a", "{a"])
def test_a_wish_that_makes_no_sense(glob: str) -> None:
    with pytest.raises(UsageError):
        select(_guest("etc/a"), Wishes(drop=(glob,)))


@pytest.mark.parametrize(
    "entry",
    [
        _entry("srv/.wh.file"),
        _entry("srv/.wh..wh..opq"),
        replace(_entry("srv/x", EntryKind.CHARACTER_DEVICE), device=Device(0, 0)),
        _entry("srv/" + "n" * 256),
        _entry("/".join(["d" * 200] * 21)),
        replace(_entry("srv/l", EntryKind.SYMLINK), target=b"t" * 4096),
        replace(_entry("srv/d", EntryKind.BLOCK_DEVICE), device=Device(1 << 22, 0)),
        replace(_entry("srv/closed"), readable=False),
    ],
)
def test_what_no_image_can_hold_is_refused_unless_it_is_dropped(entry: Entry) -> None:
    with pytest.raises(VmportError) as caught:
        select(_guest(entry))
    assert isinstance(caught.value, UnsupportedFeature | UnreadableInput)
    assert caught.value.hint is not None
    select(_guest(entry), Wishes(drop=("/" + entry.path.decode(),)))
    select(_guest(replace(entry, path=b"tmp/" + entry.path)))


def test_sockets_and_what_is_closed_to_a_patient_user_are_listed() -> None:
    guest = _guest(
        _entry("srv/socket", EntryKind.SOCKET), replace(_entry("srv/closed"), readable=False)
    )
    removed = _removed(select(guest, Wishes(skip_unreadable=True)))
    assert removed == {"srv/socket": "socket", "srv/closed": "unreadable"}


def test_attributes_that_belong_to_one_machine_are_taken_off_and_told() -> None:
    good = ("security.capability", b"\1\0\0\2" + bytes(16))
    acl = (ACCESS, mode_as_acl(0o640))
    guest = _guest(
        replace(
            _entry("srv/a"),
            xattrs=(
                good, ("security.selinux", b"x"), acl, ("trusted.overlay.opaque", b"y"),
                ("user.mime", b"z"), ("user.overlay.opaque", b"y"), ("user.a=b", b"1"),
            ),
        ),
        replace(_entry("srv/bad"), xattrs=(("security.capability", b"\1\0\0\2short"),)),
        replace(_entry("srv/fifo", EntryKind.FIFO), xattrs=(("user.mime", b"z"),)),
    )  # fmt: skip
    selection = select(guest)
    by_path = {entry.path: entry.xattrs for entry in selection.entries}
    assert by_path[b"srv/a"] == (good, acl, ("user.mime", b"z"))
    assert by_path[b"srv/bad"] == by_path[b"srv/fifo"] == ()
    told = [note.text for note in selection.notes if note.code == "export.attribute"]
    assert len(told) == 6


def test_what_a_folder_would_hand_down_is_taken_away_again() -> None:
    default = (DEFAULT, b"\2\0\0\0" + bytes(32))
    guest = _guest(
        replace(_entry("srv", EntryKind.FOLDER), xattrs=(default,)),
        replace(_entry("srv/plain"), mode=0o640),
        _entry("srv/folder", EntryKind.FOLDER), "srv/folder/far", links={"srv/link": "x"},
    )  # fmt: skip
    by_path = {entry.path: dict(entry.xattrs) for entry in select(guest).entries}
    assert by_path[b"srv/plain"] == {ACCESS: mode_as_acl(0o640)}
    assert by_path[b"srv/folder"] == {ACCESS: mode_as_acl(0o755), DEFAULT: NO_ENTRIES}
    assert by_path[b"srv/folder/far"] == by_path[b"srv/link"] == {}


def test_a_file_with_several_names_counts_once_and_not_while_one_is_kept() -> None:
    names = ["boot/vmlinuz-1", "boot/vmlinuz-2", "srv/netboot"]
    alone = _guest(*[replace(_entry(path), inode=1) for path in names[:2]])
    shared = _guest(*[replace(_entry(path), inode=1) for path in names])
    assert [removal.size for removal in select(alone).removals] == [7, 0]
    assert [removal.size for removal in select(shared).removals] == [0, 0]
    assert select(shared, Wishes(keep=("/boot",))).content == 7


def test_owner() -> None:
    selection = select(_guest("etc/a"), Wishes(owner=(7, 8)))
    assert {(entry.uid, entry.gid) for entry in selection.entries} == {(7, 8)}


def test_odd_sources_are_told() -> None:
    entries = [replace(_entry("", EntryKind.FOLDER), mode=0o700), _entry("file")]
    notes = select(Rootfs("guest", entries, ())).notes
    assert {note.code for note in notes} == {"export.no-root", "export.closed-root"}


def test_the_table_is_sound() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert all(rule.paths and not path.startswith("/") for rule in RULES for path in rule.paths)
    assert {rule.group for rule in RULES} == {Group.KERNEL, Group.STATE}
    assert all((rule.rewrite is not None) == (rule.action is Action.REWRITE) for rule in RULES)
    for rule in RULES:
        for path in rule.paths:
            assert not path.startswith(("var/lib/dpkg", "usr/lib/sysimage", "var/lib/pacman"))
