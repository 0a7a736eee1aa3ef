"""Archives that GNU tar and bsdtar make, read back and compared with the files themselves."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.odd_rootfs import make_odd_rootfs
from tests.tree import Facts, look_at
from vmport_formats.filesystem.model import EntryKind
from vmport_formats.filesystem.tar.reader import Member, read_members
from vmport_formats.filesystem.tar.stream import SourceStream
from vmport_formats.source import open_source

if TYPE_CHECKING:
    from pathlib import Path

    from vmport_formats.source import ByteSource

_GNU = ("tar", "--create", "--numeric-owner", "--sort=name")
_PRIVILEGED = pytest.mark.needs_root

_TYPES = {
    stat.S_IFREG: EntryKind.FILE,
    stat.S_IFDIR: EntryKind.FOLDER,
    stat.S_IFLNK: EntryKind.SYMLINK,
    stat.S_IFCHR: EntryKind.CHARACTER_DEVICE,
    stat.S_IFBLK: EntryKind.BLOCK_DEVICE,
    stat.S_IFIFO: EntryKind.FIFO,
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree") / "root"
    root.mkdir()
    make_odd_rootfs(root, privileged=True)
    return root


def content_of(source: ByteSource, member: Member) -> bytes:
    """The file that `member` is, holes filled."""
    stored = source.read_at(member.data, member.stored)
    if member.pieces is None:
        return stored
    whole, at = bytearray(member.size), 0
    for piece in member.pieces:
        whole[piece.offset : piece.offset + piece.length] = stored[at : at + piece.length]
        at += piece.length
    return bytes(whole)


def _read(path: Path) -> dict[bytes, tuple[Member, str]]:
    """The members by path, and a digest of the content of each."""
    with open_source(path) as source:
        return {
            member.path: (member, hashlib.sha256(content_of(source, member)).hexdigest())
            for member in read_members(SourceStream(source))
        }


def _compare(
    read: dict[bytes, tuple[Member, str]],
    truth: dict[bytes, Facts],
    *,
    sub_second: bool,
    xattrs: bool,
) -> None:
    truth = {path: one for path, one in truth.items() if one.kind != stat.S_IFSOCK}
    assert sorted(read) == sorted(truth)
    for path, facts in truth.items():
        member, digest = read[path]
        assert (member.mode, member.uid, member.gid) == (facts.mode, facts.uid, facts.gid), path
        assert facts.mtime is not None
        assert (member.mtime if sub_second else member.mtime // 10**9) == (
            facts.mtime if sub_second else facts.mtime // 10**9
        ), path
        if member.kind is None:
            assert facts.first_name == truth[member.link].first_name, path
            continue
        assert member.kind is _TYPES[facts.kind], path
        if member.kind is EntryKind.FILE:
            assert digest == facts.content, path
        elif member.kind is EntryKind.SYMLINK:
            assert os.fsdecode(member.link) == facts.content, path
        elif member.device is not None:
            assert os.makedev(*member.device) == facts.device, path
        if xattrs and member.kind is not None:
            assert member.xattrs == facts.xattrs, path


@_PRIVILEGED
@pytest.mark.needs("tar", "busybox", "setfacl")
@pytest.mark.parametrize(
    ("options", "exact"),
    [
        pytest.param(["--format=gnu"], False, id="gnu"),
        pytest.param(["--format=gnu", "--sparse"], False, id="gnu-sparse"),
        pytest.param(["--format=oldgnu", "--sparse"], False, id="oldgnu-sparse"),
        pytest.param(["--format=posix", "--xattrs", "--xattrs-include=*"], True, id="posix"),
        pytest.param(
            ["--format=posix", "--xattrs", "--xattrs-include=*", "--acls", "--selinux"],
            True,
            id="posix-acls",
        ),
        *[
            pytest.param(
                ["--format=posix", "--sparse", f"--sparse-version={version}"],
                False,
                id=f"posix-sparse-{version}",
            )
            for version in ("0.0", "0.1", "1.0")
        ],
    ],
)
def test_gnu_tar(tree: Path, tmp_path: Path, options: list[str], exact: bool) -> None:
    archive = tmp_path / "a.tar"
    command = [*_GNU, *options, f"--file={archive}", f"--directory={tree}", "."]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    assert "socket ignored" in said
    posix = options[0] == "--format=posix"
    _compare(_read(archive), look_at(tree), sub_second=posix, xattrs=exact)


@_PRIVILEGED
@pytest.mark.needs("bsdtar", "busybox", "setfacl")
@pytest.mark.parametrize(("form", "acls"), [("pax", "--acls"), ("gnutar", "--no-acls")])
def test_bsdtar(tree: Path, tmp_path: Path, form: str, acls: str) -> None:
    archive = tmp_path / "a.tar"
    command = ["bsdtar", "-c", f"--format={form}", "--xattrs", acls]
    subprocess.run([*command, "-f", archive, "-C", tree, "."], check=True, capture_output=True)
    exact = form == "pax"
    read, truth = _read(archive), look_at(tree)
    # libarchive has its own way with times before 1970: -2.5 for 1.5 seconds before.
    member, _ = read[b"opt/empty"]
    truth[b"opt/empty"] = replace(truth[b"opt/empty"], mtime=member.mtime)
    _compare(read, truth, sub_second=exact, xattrs=exact)


@pytest.mark.needs("tar")
@pytest.mark.parametrize("form", ["v7", "ustar"])
def test_old_formats_that_know_less(tmp_path: Path, form: str) -> None:
    tree = tmp_path / "tree"
    (tree / "folder").mkdir(parents=True)
    (tree / "folder/file").write_bytes(b"content" * 1000)
    (tree / "link").symlink_to("folder/file")
    os.link(tree / "folder/file", tree / "folder/second")
    archive = tmp_path / "a.tar"
    command = [*_GNU, f"--format={form}", f"--file={archive}", f"--directory={tree}", "."]
    subprocess.run(command, check=True)
    _compare(_read(archive), look_at(tree), sub_second=False, xattrs=False)


@pytest.mark.needs("tar")
def test_a_label_is_passed_over_and_joined_archives_are_refused(tmp_path: Path) -> None:
    from vmport_formats.errors import UnsupportedFeature

    (tmp_path / "file").write_bytes(b"1")
    labelled, joined = tmp_path / "labelled.tar", tmp_path / "joined.tar"
    command = [*_GNU, "--label=disk 1", f"--directory={tmp_path}"]
    subprocess.run([*command, f"--file={labelled}", "file"], check=True)
    assert [*_read(labelled)] == [b"file"]
    joined.write_bytes(labelled.read_bytes() * 2)
    with pytest.raises(UnsupportedFeature, match="second archive"):
        _read(joined)
