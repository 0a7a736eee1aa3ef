"""An archive is what an unpacking tar would leave of it, or is refused."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from tests.tree import look_at
from vmport_converters.container.archive import read_archive
from vmport_converters.container.rootfs import Limits, Rootfs
from vmport_formats.errors import (
    CorruptInput,
    UnsafeInput,
    UnsupportedFeature,
    VmportError,
)
from vmport_formats.filesystem.model import EntryKind
from vmport_formats.source import MemorySource

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Add = tuple[str, str, str]
"""A name, a kind (file, folder, link, symlink, ...), and the content or target."""

_TYPES = {
    "file": tarfile.REGTYPE,
    "folder": tarfile.DIRTYPE,
    "link": tarfile.LNKTYPE,
    "symlink": tarfile.SYMTYPE,
}


def _archive(*members: Add) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, value in members:
            info = tarfile.TarInfo(name)
            info.type = _TYPES[kind]
            if kind == "file":
                info.size = len(value)
            elif kind != "folder":
                info.linkname = value
            tar.addfile(info, io.BytesIO(value.encode()))
    return out.getvalue()


def _read(*members: Add) -> Rootfs:
    return read_archive(MemorySource(_archive(*members), name="a.tar"), limits=Limits())


def _content(rootfs: Rootfs) -> dict[bytes, bytes]:
    return {
        entry.path: b"".join(entry.content.chunks()) for entry in rootfs.entries if entry.content
    }


@pytest.mark.needs("tar")
@pytest.mark.parametrize(
    "members",
    [
        [("a", "file", "1"), ("a", "file", "22")],
        [("a", "file", "1"), ("b", "link", "a"), ("a", "file", "22")],
        [("a", "file", "1"), ("b", "link", "a"), ("c", "link", "b"), ("b", "file", "x")],
        [("a", "file", "1"), ("a", "symlink", "b"), ("b", "file", "2")],
        [("d", "folder", ""), ("d/a", "file", "1"), ("d", "folder", ""), ("d/b", "link", "d/a")],
        [("x/y/z", "file", "1"), ("x/y", "folder", "")],
        [("a", "symlink", "b"), ("b", "link", "a")],
    ],
)
def test_what_gnu_tar_leaves(tmp_path: Path, members: list[Add]) -> None:
    archive = _archive(*members)
    subprocess.run(["tar", "-xf", "-", "-C", tmp_path], input=archive, check=True)
    truth = look_at(tmp_path)
    truth.pop(b"")
    rootfs = read_archive(MemorySource(archive), limits=Limits())
    assert [entry.path for entry in rootfs.entries] == sorted(truth)
    groups: dict[object, set[bytes]] = {}
    for entry in rootfs.entries:
        if entry.inode is not None:
            groups.setdefault(entry.inode, set()).add(entry.path)
        if entry.kind is EntryKind.SYMLINK:
            assert os.fsdecode(entry.target) == truth[entry.path].content
    for path, content in _content(rootfs).items():
        assert (tmp_path / os.fsdecode(path)).read_bytes() == content
    linked = {path: facts.first_name for path, facts in truth.items() if facts.first_name}
    assert {path: min(group) for group in groups.values() if len(group) > 1 for path in group} == (
        linked
    )


def test_links_before_their_targets() -> None:
    rootfs = _read(("c", "link", "b"), ("b", "link", "a"), ("a", "file", "1"))
    assert _content(rootfs) == {b"a": b"1", b"b": b"1", b"c": b"1"}
    assert len({entry.inode for entry in rootfs.entries}) == 1


def test_many_links_before_their_targets_take_no_time() -> None:
    count = 5_000
    links: list[Add] = [(f"{n}", "link", f"{n + 1}") for n in range(count)]
    rootfs = _read(*links, (f"{count}", "file", "1"))
    assert len(rootfs.entries) == count + 1


def test_folders_without_a_member_are_made_and_told() -> None:
    rootfs = _read(("a/b/c", "file", "1"))
    assert [(entry.path, oct(entry.mode)) for entry in rootfs.entries[:2]] == [
        (b"a", "0o755"),
        (b"a/b", "0o755"),
    ]
    assert [note.code for note in rootfs.notes] == ["tar.implied-folders"]


@pytest.mark.parametrize(
    ("members", "error", "code"),
    [
        ([("../a", "file", "1")], UnsafeInput, "tar.escape"),
        ([("a/../../b", "file", "1")], UnsafeInput, "tar.escape"),
        ([("/a", "file", "1")], UnsafeInput, "tar.escape"),
        ([("a", "link", "/etc/passwd")], UnsafeInput, "tar.escape"),
        ([("a", "link", "../etc/passwd")], UnsafeInput, "tar.escape"),
        ([("a", "link", "b")], CorruptInput, "tar.link-target"),
        ([("a", "link", "a")], CorruptInput, "tar.link-target"),
        ([("a", "link", "b"), ("b", "link", "a")], CorruptInput, "tar.link-target"),
        ([("d", "folder", ""), ("a", "link", "d")], CorruptInput, "tar.link-target"),
        ([("l", "symlink", "/etc"), ("l/passwd", "file", "1")], UnsafeInput, "tar.below-link"),
        ([("l/passwd", "file", "1"), ("l", "symlink", "/etc")], UnsafeInput, "tar.below-link"),
        ([("f", "file", "1"), ("f/x/y", "file", "1")], UnsafeInput, "tar.below-link"),
        ([("lib", "symlink", "usr/lib"), ("lib", "folder", "")], UnsafeInput, "tar.kind-changes"),
        ([(".", "symlink", "/")], CorruptInput, "tar.root"),
    ],
)
def test_what_is_refused(members: list[Add], error: type[VmportError], code: str) -> None:
    with pytest.raises(error) as caught:
        _read(*members)
    assert caught.value.code == code
    assert caught.value.path == "a.tar"


def _set_type(archive: bytes, typeflag: bytes) -> bytes:
    block = bytearray(archive[:512])
    block[156:157] = typeflag
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + archive[512:]


@pytest.mark.parametrize("typeflag", [b"M", b"N", b"Z", b"\xff", b"8"])
def test_members_of_unknown_kinds(typeflag: bytes) -> None:
    archive = _set_type(_archive(("a", "file", "1")), typeflag)
    with pytest.raises(UnsupportedFeature, match="is of type"):
        read_archive(MemorySource(archive), limits=Limits())


def _claim(size: int) -> bytes:
    info = tarfile.TarInfo("big")
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT)


@pytest.mark.parametrize("size", [1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_size_that_is_not_there(size: int) -> None:
    with pytest.raises(CorruptInput):
        read_archive(MemorySource(_claim(size)), limits=Limits())


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda header: header.replace(b"ustar", b"USTAR"), id="checksum"),
        pytest.param(lambda header: header[:100] + b"zzzzzzz\0" + header[108:], id="mode"),
    ],
)
def test_damaged_headers(damage: Callable[[bytes], bytes]) -> None:
    archive = damage(_archive(("a", "file", "1")))
    with pytest.raises(CorruptInput):
        read_archive(MemorySource(archive), limits=Limits())
