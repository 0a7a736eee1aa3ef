"""A file that changed, was replaced, or that a running qemu may write to, is noticed."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from vmport_converters.disk.source import open_disk
from vmport_converters.disk.stamps import Stamps
from vmport_formats.errors import UnreadableInput
from vmport_formats.references import Reference, ReferenceKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MIB = 1 << 20


def stamps(*paths: str | Path) -> Stamps:
    made = Stamps()
    for path in paths:
        made.remember(path)
    return made


def later() -> None:
    """Let the clock of the file system go on: some tick a hundred times a second."""
    time.sleep(0.02)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"same length")


def replace(path: Path) -> None:
    """By a file that looks the same: by its size, and by its time."""
    status = path.stat()
    new = path.with_name("new")
    new.write_bytes(path.read_bytes())
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    new.replace(path)


def turn_link(path: Path) -> None:
    """Another file under the name, as a link."""
    moved = path.with_name("moved")
    path.rename(moved)
    other = path.with_name("other")
    other.write_bytes(moved.read_bytes())
    path.symlink_to(other)


@pytest.mark.parametrize("change", [grow, overwrite, replace, turn_link])
@pytest.mark.parametrize("by_link", [False, True], ids=["itself", "by a link"])
def test_a_change_is_noticed(change: Callable[[Path], None], by_link: bool, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(MIB))
    name = path
    if by_link:
        name = tmp_path / "link"
        name.symlink_to(path)
    before = stamps(name)
    before.check_unchanged()
    later()
    change(path)
    with pytest.raises(UnreadableInput) as caught:
        before.check_unchanged()
    assert (caught.value.code, caught.value.path) == ("source.changed", str(name))


def test_what_is_no_change(tmp_path: Path) -> None:
    """To read a file, to rename it back and forth, to change its rights, to name it once more."""
    path = tmp_path / "disk"
    path.write_bytes(bytes(MIB))
    before = stamps(path)
    later()
    assert path.read_bytes()
    path.chmod(0o400)
    os.link(path, tmp_path / "second name")
    path.rename(tmp_path / "away").rename(path)
    before.check_unchanged()


def test_one_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"x")
    before = stamps(path)
    path.unlink()
    with pytest.raises(UnreadableInput, match="cannot open: No such file"):
        before.check_unchanged()
    with pytest.raises(UnreadableInput, match="cannot open"):
        stamps(path)
    with pytest.raises(UnreadableInput, match="cannot open"):
        stamps(str(path) + "\0")


def test_the_first_look_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is opened twice, by whatever name, has changed if it did so between the two."""
    path = tmp_path / "disk"
    path.write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    before = stamps("disk")
    later()
    overwrite(path)
    before.remember(path)
    assert list(before) == [str(path)]
    monkeypatch.chdir("/")  # the name was absolute from the start
    with pytest.raises(UnreadableInput, match="was changed while it was read"):
        before.check_unchanged()


def test_which_files_are_held(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"x")
    (tmp_path / "copy").write_bytes(b"x")
    (tmp_path / "link").symlink_to(path)
    os.link(path, tmp_path / "hard link")
    before = stamps(tmp_path / "link")
    assert before.holds(path)
    assert before.holds(tmp_path / "hard link")
    assert not before.holds(tmp_path / "copy")
    assert not before.holds(tmp_path / "none")
    assert not before.holds("a\0b")


def test_what_a_resolver_grants_is_held(tmp_path: Path) -> None:
    path = tmp_path / "base"
    path.write_bytes(b"x")
    made = Stamps()
    resolve = made.noting(lambda reference, *, named_by: tmp_path / reference.name)
    reference = Reference(ReferenceKind.BACKING, "base")
    assert resolve(reference, named_by="top") == path
    assert list(made) == [str(path)]
    with pytest.raises(UnreadableInput):
        resolve(Reference(ReferenceKind.BACKING, "none"), named_by="top")


# --- qemu's locks -------------------------------------------------------------------------------


@contextmanager
def held_by_qemu(image: Path, *, export: bool, writes: bool) -> Iterator[None]:
    """A real qemu has `image` open: as qemu-io, or as a server of network block devices."""
    mode = ["-f", "qcow2", *([] if writes else ["-r"])]
    if export:
        # Its socket is there before it has opened anything; this comes when all is done.
        ready = image.with_name("ready")
        serve = ["qemu-nbd", *mode, "--socket", str(image.with_name("socket"))]
        with subprocess.Popen([*serve, "--pid-file", str(ready), str(image)]) as server:
            while not ready.exists():
                assert server.poll() is None
                time.sleep(0.01)
            try:
                yield
            finally:
                server.kill()  # it would not hear a politer word that comes too early
        return
    with subprocess.Popen(
        ["qemu-io", *mode, image], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as user:
        assert user.stdin is not None
        assert user.stdout is not None
        user.stdin.write("length\n")
        user.stdin.flush()
        user.stdout.readline()  # now it is open
        yield
        user.stdin.close()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A qcow2 image that rests on another."""
    base = tmp_path / "base.qcow2"
    create = ["qemu-img", "create", "-q", "-f", "qcow2"]
    subprocess.run([*create, base, "1M"], check=True)
    subprocess.run([*create, "-F", "qcow2", "-b", base, tmp_path / "top.qcow2"], check=True)
    return tmp_path


@pytest.mark.needs("qemu-img", "qemu-io", "qemu-nbd")
@pytest.mark.parametrize("export", [False, True], ids=["qemu-io", "qemu-nbd"])
def test_qemu_may_write(images: Path, export: bool) -> None:
    top, base, link = images / "top.qcow2", images / "base.qcow2", images / "link"
    link.symlink_to(top)
    with held_by_qemu(top, export=export, writes=True):
        for name in (top, link):
            with pytest.raises(UnreadableInput) as caught:
                stamps(base, name).check_unused()
            assert (caught.value.code, caught.value.path) == ("source.locked", str(name))
        stamps(base).check_unused()  # which is only read
        with pytest.raises(UnreadableInput), open_disk(str(top), allow=[str(images)]):
            raise AssertionError("it was opened")
    stamps(base, link).check_unused()


@pytest.mark.needs("qemu-img", "qemu-io", "qemu-nbd")
def test_somebody_writes_to_what_the_image_rests_on(images: Path) -> None:
    with (
        held_by_qemu(images / "base.qcow2", export=False, writes=True),
        pytest.raises(UnreadableInput) as caught,
        open_disk(str(images / "top.qcow2"), allow=[str(images)]),
    ):
        raise AssertionError("it was opened")
    assert caught.value.code == "source.locked"


@pytest.mark.needs("qemu-img", "qemu-io", "qemu-nbd")
@pytest.mark.parametrize("export", [False, True], ids=["qemu-io", "qemu-nbd"])
def test_qemu_only_reads(images: Path, export: bool) -> None:
    with held_by_qemu(images / "top.qcow2", export=export, writes=False):
        stamps(images / "top.qcow2", images / "base.qcow2").check_unused()
        with open_disk(str(images / "top.qcow2"), allow=[str(images)]) as source:
            assert source.disk.virtual_size == MIB


def test_what_cannot_be_asked_is_not_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    stamps(tmp_path / "fifo", tmp_path).check_unused()
    path = tmp_path / "gone"
    path.write_bytes(b"x")
    before = stamps(path)
    path.unlink()
    before.check_unused()  # whoever reads it will say so
