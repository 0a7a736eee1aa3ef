"""A folder is seen as it is; no link in it leads outside; what changes is noticed."""

from __future__ import annotations

import os
import resource
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.unprivileged import let_in, run_as_nobody
from vmport_converters.container.folder import reading_folder
from vmport_converters.container.rootfs import Limits
from vmport_formats.errors import UnreadableInput, UnsafeInput
from vmport_formats.filesystem.model import Entry, EntryKind, path_order

if TYPE_CHECKING:
    from pathlib import Path


def _content(entry: Entry) -> bytes:
    assert entry.content is not None
    return b"".join(entry.content.chunks())


def test_links_are_entries_and_are_never_followed(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "folder").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    (root / "loop").symlink_to(".")
    with reading_folder(root, limits=Limits()) as rootfs:
        found = {entry.path: (entry.kind, entry.content) for entry in rootfs.entries}
    link = (EntryKind.SYMLINK, None)
    assert found == {
        b"": (EntryKind.FOLDER, None), b"folder": link, b"file": link, b"loop": link,
    }  # fmt: skip


def test_the_named_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/file").touch()
    (tmp_path / "link").symlink_to("real")
    with reading_folder(tmp_path / "link", limits=Limits()) as rootfs:
        assert [entry.path for entry in rootfs.entries] == [b"", b"file"]


def test_order_is_by_component(tmp_path: Path) -> None:
    for name in ("a/b", "a-b", "a!", "a/b-c/d", "a/b/c", "B"):
        (tmp_path / name).mkdir(parents=True)
    with reading_folder(tmp_path, limits=Limits()) as rootfs:
        paths = [entry.path for entry in rootfs.entries]
    assert paths == sorted(paths, key=path_order)
    assert paths.index(b"a/b-c/d") < paths.index(b"a!")


@pytest.mark.parametrize("swap", ["link", "fifo", "folder"])
def test_a_swap_between_listing_and_reading_is_noticed(tmp_path: Path, swap: str) -> None:
    (tmp_path / "outside").write_bytes(b"12345")
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").write_bytes(b"12345")
    with reading_folder(root, limits=Limits()) as rootfs:
        entry = rootfs.entries[1]
        (root / "file").unlink()
        match swap:
            case "link":
                (root / "file").symlink_to(tmp_path / "outside")
            case "fifo":
                os.mkfifo(root / "file")
            case _:
                (root / "file").mkdir()
        with pytest.raises(UnreadableInput, match="changed"):
            _content(entry)


def test_a_folder_swapped_for_a_link_leads_nowhere(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    for folder, content in ((root / "a", b"inside"), (root / "b", b""), (outside, b"secret")):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(content)
    with reading_folder(root, limits=Limits()) as rootfs:
        inside, other = (entry for entry in rootfs.entries if entry.name == b"file")
        _content(inside)
        (root / "a").rename(root / "moved")
        (root / "a").symlink_to(outside)
        assert _content(inside) == b"inside", "the folder that was opened is still at hand"
        _content(other)
        with pytest.raises(UnreadableInput, match="changed"):
            _content(inside)


@pytest.mark.parametrize("change", ["grow", "shrink", "rewrite", "remove"])
def test_a_change_is_noticed(tmp_path: Path, change: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 3_000_000)
    with reading_folder(tmp_path, limits=Limits()) as rootfs:
        entry = rootfs.entries[1]
        assert entry.content is not None
        chunks = entry.content.chunks()
        if change != "remove":
            next(chunks)
        if change == "grow":
            with file.open("ab") as more:
                more.write(b"y")
        elif change == "shrink":
            os.truncate(file, 1_500_000)
        elif change == "rewrite":
            file.write_bytes(b"z" * 3_000_000)
        else:
            file.unlink()
        with pytest.raises(UnreadableInput, match="changed"):
            list(chunks)


def test_a_tree_deeper_than_descriptors_go(tmp_path: Path) -> None:
    """Far more folders in each other than may be open, and content at the bottom."""
    depth = 500
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    for name in ("bottom", "a-file-before"):
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    (tmp_path / "after").write_bytes(b"after")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        with reading_folder(tmp_path, limits=Limits()) as rootfs:
            assert len(rootfs.entries) == 1 + depth + 2 + 1
            by_path = {entry.path: entry for entry in rootfs.entries}
            bottom = b"/".join([b"d"] * depth)
            for path, content in ((b"after", b"after"), (bottom + b"/bottom", b"")):
                assert _content(by_path[path]) == content
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)


def test_limits_hold(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number:0100}").touch()
    with (
        pytest.raises(UnsafeInput, match="more than 10 entries"),
        reading_folder(tmp_path, limits=Limits(entries=10)),
    ):
        pass
    with (
        pytest.raises(UnsafeInput, match="exceed 1000 bytes"),
        reading_folder(tmp_path, limits=Limits(metadata=1000)),
    ):
        pass


@pytest.mark.needs_root
def test_what_a_running_system_mounts_is_not_on_its_disk(tmp_path: Path) -> None:
    for name in ("proc", "data"):
        (tmp_path / name).mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path / name], check=True)
        (tmp_path / name / "file").touch()
    try:
        with reading_folder(tmp_path, limits=Limits()) as rootfs:
            paths = [entry.path for entry in rootfs.entries]
    finally:
        for name in ("proc", "data"):
            subprocess.run(["umount", tmp_path / name], check=True)
    assert paths == [b"", b"data", b"data/file", b"proc"]
    assert [note.code for note in rootfs.notes] == ["export.mounted"]


@pytest.mark.needs_root
def test_what_a_user_may_not_read_is_marked(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "closed").mkdir(parents=True)
    (root / "closed/file").write_bytes(b"1")
    (root / "secret").write_bytes(b"2")
    (root / "open").write_bytes(b"3")
    (root / "closed").chmod(0o700)
    (root / "secret").chmod(0o600)
    let_in(tmp_path)
    program = f"""
from pathlib import Path
from vmport_converters.container.folder import reading_folder
from vmport_converters.container.rootfs import Limits
with reading_folder(Path({str(root)!r}), limits=Limits()) as rootfs:
    print([(entry.path, entry.readable) for entry in rootfs.entries])
"""
    done = run_as_nobody(program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(
        [(b"", True), (b"closed", False), (b"open", True), (b"secret", False)]
    )
