"""Raw images by the kernel's ways to copy, on file systems that share blocks or do not."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.disks import qcow2
from fixtures.disks.qcow2 import Cluster, Kind
from tests.composing import patchwork
from vmport_converters.disk.convert import Ears, Progress, Request, convert
from vmport_converters.disk.native.kernel_copy import CannotRead, KernelCopy
from vmport_converters.disk.native.output import OutputFile
from vmport_converters.disk.native.raw import copy_raw
from vmport_formats.disk.image import open_image
from vmport_formats.disk.raw_composer import RawComposer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KIB, MIB = 1 << 10, 1 << 20
SHARING = ("btrfs", "xfs")
WAYS = ("copy_file_range", "sendfile", "pread")


def unmount(place: Path) -> None:
    subprocess.run(["umount", place], check=True)


@pytest.fixture(scope="module")
def systems(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """A folder on each of four file systems; of these only btrfs and XFS share blocks."""
    folder = tmp_path_factory.mktemp("systems")
    with ExitStack() as stack:
        found = {}
        for name, size, make in (
            ("btrfs", 256, ["mkfs.btrfs", "-q"]),
            ("xfs", 320, ["mkfs.xfs", "-q"]),
            ("ext4", 64, ["mkfs.ext4", "-q", "-F"]),
            ("tmpfs", 64, None),
        ):
            place = found[name] = folder / name
            place.mkdir()
            if make is None:
                options = ["-t", name, "-o", f"size={size}m", name]
            else:
                medium = folder / f"{name}.medium"
                with medium.open("wb") as file:
                    file.truncate(size * MIB)
                subprocess.run([*make, medium], check=True, stdout=subprocess.DEVNULL)
                options = ["-o", "loop", str(medium)]
            subprocess.run(["mount", *options, place], check=True)
            stack.callback(unmount, place)
        yield found


def flags(path: Path) -> list[str]:
    """What the file system says of each extent of a file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    listed = subprocess.run(
        ["filefrag", "-v", path], capture_output=True, text=True, check=True
    ).stdout
    return re.findall(r"^ +\d+: .*:\s*([a-z,]*)$", listed, re.MULTILINE)


def data_ranges(path: Path) -> list[tuple[int, int]]:
    """Where a file has blocks."""
    found = []
    with path.open("rb") as file:
        os.fsync(file.fileno())
        at, end = 0, path.stat().st_size
        while at < end:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # a hole up to the end
                    break
                raise
            at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            found.append((start, at))
    return found


@contextmanager
def two_folders(systems: dict[str, Path], ours: str, theirs: str) -> Iterator[tuple[Path, Path]]:
    """New ones on two file systems."""
    with (
        tempfile.TemporaryDirectory(dir=systems[ours]) as one,
        tempfile.TemporaryDirectory(dir=systems[theirs]) as other,
    ):
        yield Path(one), Path(other)


class Calls:
    """Counts the calls of each way to copy; refuses some."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        self.refused: dict[str, int] = {}
        for name in WAYS:
            monkeypatch.setattr(os, name, self._watched(name, getattr(os, name)))

    def _watched(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.made.append(name)
            if name in self.refused:
                raise OSError(self.refused[name], os.strerror(self.refused[name]))
            return real(*arguments)

        return call


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


def copy_between(source: Path, target: Path, content: bytes) -> None:
    """Copy two ranges, one of them to another place, and look at what came of it."""
    source.write_bytes(content)
    with source.open("rb") as ours, target.open("xb") as theirs:
        copy = KernelCopy(theirs.fileno())
        copy.copy(ours.fileno(), 1000, 3 * MIB, 70_000)
        copy.copy(ours.fileno(), len(content) - 7, 7, 0)
        copy.copy(ours.fileno(), 0, 0, 0)
    expected = bytearray(70_000) + content[1000 : 1000 + 3 * MIB]
    expected[:7] = content[-7:]
    assert target.read_bytes() == expected


CONTENT = patchwork(3 * MIB + 5000, 4096, seed=3)


@pytest.mark.needs_root
@pytest.mark.needs("mkfs.btrfs", "mkfs.xfs", "mkfs.ext4")
@pytest.mark.parametrize(
    ("source", "target", "way"),
    [
        ("ext4", "ext4", ["copy_file_range"]),
        ("btrfs", "btrfs", ["copy_file_range"]),
        ("xfs", "xfs", ["copy_file_range"]),
        ("tmpfs", "ext4", ["copy_file_range", "sendfile"]),
        ("ext4", "tmpfs", ["copy_file_range", "sendfile"]),
    ],
)
def test_the_first_way_that_works(
    source: str, target: str, way: list[str], systems: dict[str, Path], calls: Calls
) -> None:
    with two_folders(systems, source, target) as (ours, theirs):
        copy_between(ours / "from", theirs / "to", CONTENT)
    assert set(calls.made) == set(way)
    assert calls.made.count("copy_file_range") == 1 or way == ["copy_file_range"]


@pytest.mark.parametrize(
    "code", [errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM, errno.ETXTBSY]
)
@pytest.mark.parametrize("refused", [1, 2])
def test_a_way_that_is_refused_is_asked_once(
    code: int, refused: int, tmp_path: Path, calls: Calls
) -> None:
    calls.refused = dict.fromkeys(WAYS[:refused], code)
    copy_between(tmp_path / "from", tmp_path / "to", CONTENT)
    assert [calls.made.count(name) for name in WAYS[:refused]] == [1] * refused
    assert set(calls.made) == set(WAYS[: refused + 1])


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_a_failure_is_not_a_refusal(code: int, tmp_path: Path, calls: Calls) -> None:
    (tmp_path / "from").write_bytes(CONTENT)
    calls.refused = {"copy_file_range": code}
    with (tmp_path / "from").open("rb") as ours, (tmp_path / "to").open("xb") as theirs:
        with pytest.raises(OSError, match=re.escape(os.strerror(code))):
            KernelCopy(theirs.fileno()).copy(ours.fileno(), 0, MIB, 0)
        assert calls.made == ["copy_file_range"]


def test_of_two_files_the_one_that_fails_is_named(tmp_path: Path, calls: Calls) -> None:
    (tmp_path / "from").write_bytes(CONTENT)
    calls.refused = {"copy_file_range": errno.EIO, "pread": errno.EIO}
    with (tmp_path / "from").open("rb") as ours, (tmp_path / "to").open("xb") as theirs:
        with pytest.raises(CannotRead):
            KernelCopy(theirs.fileno()).copy(ours.fileno(), 0, MIB, 0)
        assert calls.made == ["copy_file_range", "pread"]


def test_a_medium_that_fails_is_asked_which_file_it_was(tmp_path: Path, calls: Calls) -> None:
    calls.refused = {"copy_file_range": errno.EIO}
    copy_between(tmp_path / "from", tmp_path / "to", CONTENT)
    assert calls.made.count("copy_file_range") == 1
    assert set(calls.made) == {"copy_file_range", "pread"}
    calls.refused["pread"] = errno.EIO
    with (
        (tmp_path / "from").open("rb") as ours,
        (tmp_path / "new").open("xb") as theirs,
        pytest.raises(CannotRead),
    ):
        KernelCopy(theirs.fileno()).copy(ours.fileno(), 0, MIB, 0)


def test_when_all_refuse_the_last_refusal_is_told(tmp_path: Path, calls: Calls) -> None:
    (tmp_path / "from").write_bytes(CONTENT)
    calls.refused = dict.fromkeys(WAYS, errno.EPERM)
    with (
        (tmp_path / "from").open("rb") as ours,
        (tmp_path / "to").open("xb") as theirs,
        pytest.raises(OSError, match=os.strerror(errno.EPERM)),
    ):
        KernelCopy(theirs.fileno()).copy(ours.fileno(), 0, MIB, 0)


def test_a_source_that_is_shorter_than_it_was(tmp_path: Path) -> None:
    (tmp_path / "from").write_bytes(CONTENT)
    with (tmp_path / "from").open("r+b") as ours, (tmp_path / "to").open("xb") as theirs:
        ours.truncate(MIB)
        with pytest.raises(EOFError):
            KernelCopy(theirs.fileno()).copy(ours.fileno(), 0, 2 * MIB, 0)


# --- Sharing ------------------------------------------------------------------------------------


@pytest.mark.needs_root
@pytest.mark.needs("mkfs.btrfs", "mkfs.xfs", "mkfs.ext4", "filefrag")
@pytest.mark.parametrize("name", SHARING)
def test_blocks_are_shared(name: str, systems: dict[str, Path]) -> None:
    with two_folders(systems, name, name) as (source, target):
        (source / "from").write_bytes(CONTENT)
        with (source / "from").open("rb") as ours, (target / "to").open("xb") as theirs:
            os.fsync(ours.fileno())
            theirs.truncate(5 * MIB)
            copy = KernelCopy(theirs.fileno())
            assert copy.share(ours.fileno(), 4096, MIB, MIB)
            assert copy.share(ours.fileno(), 0, 0, 0)  # none, and not all
            assert not copy.share(ours.fileno(), 17, MIB, 0)  # not at a block
            assert not copy.share(ours.fileno(), 0, 1000, 0)  # no whole block
        shared = CONTENT[4096 : 4096 + MIB]
        assert (target / "to").read_bytes() == bytes(MIB) + shared + bytes(3 * MIB)
        assert data_ranges(target / "to") == [(MIB, 2 * MIB)]
        told = flags(target / "to")
        assert told
        assert all("shared" in one for one in told)


@pytest.mark.needs_root
@pytest.mark.needs("mkfs.btrfs", "mkfs.xfs", "mkfs.ext4")
@pytest.mark.parametrize(
    ("source", "target"),
    [("ext4", "ext4"), ("tmpfs", "btrfs"), ("btrfs", "ext4"), ("btrfs", "xfs")],
)
def test_no_blocks_can_be_shared(source: str, target: str, systems: dict[str, Path]) -> None:
    with two_folders(systems, source, target) as (ours, theirs):
        (ours / "from").write_bytes(CONTENT)
        with (ours / "from").open("rb") as read, (theirs / "to").open("xb") as written:
            assert not KernelCopy(written.fileno()).share(read.fileno(), 0, MIB, 0)
        assert (theirs / "to").stat().st_size == 0


# --- Whole conversions --------------------------------------------------------------------------

DISK = 6 * MIB
HOLE = (2 * MIB, 4 * MIB)
TAIL = 1000


def make_source(folder: Path, kind: str) -> tuple[Path, bytes]:
    """A disk with a hole in it, and what it holds."""
    content = bytearray(patchwork(DISK + TAIL, 4096, seed=4))
    content[HOLE[0] : HOLE[1]] = bytes(HOLE[1] - HOLE[0])
    content[-TAIL:] = b"tail" * (TAIL // 4)
    master, source = folder / "master", folder / "source"
    master.write_bytes(content)
    make = ["qemu-img", "convert", "-f", "raw", "-O"]
    if kind == "raw":  # of no whole sectors
        with source.open("xb") as sparse:
            sparse.truncate(len(content))
            for start in range(0, len(content), 4096):
                piece = content[start : start + 4096]
                if any(piece):
                    os.pwrite(sparse.fileno(), piece, start)
    else:
        content += bytes(-len(content) % 512)
        subprocess.run([*make, "qcow2", master, source], check=True)
    if kind == "mixed":  # stored over compressed, in parts smaller than any block
        base = folder / "base"
        subprocess.run([*make, "qcow2", "-c", master, base], check=True)
        source.unlink()
        options = "extended_l2=on,cluster_size=16k"
        create = ["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, "-F", "qcow2"]
        subprocess.run([*create, "-b", base, source], check=True)
        places = dict.fromkeys((512, 4608, 64 * KIB + 1536, MIB, DISK - 512), 1024)
        places[5 * MIB] = 64 * KIB  # the kernel is there before we are
        writes = [
            word
            for place, length in places.items()
            for word in ("-c", f"write -P 85 {place} {length}")
        ]
        subprocess.run(
            ["qemu-io", "-f", "qcow2", *writes, source], check=True, stdout=subprocess.DEVNULL
        )
        for place, length in places.items():
            content[place : place + length] = b"\x55" * length
    master.unlink()
    with source.open("rb") as file:
        os.fsync(file.fileno())
    return source, bytes(content)


@pytest.mark.needs_root
@pytest.mark.needs("mkfs.btrfs", "mkfs.xfs", "mkfs.ext4", "filefrag", "qemu-img", "qemu-io")
@pytest.mark.parametrize("kind", ["raw", "qcow2", "mixed"])
@pytest.mark.parametrize(
    ("origin", "destination"),
    [
        ("btrfs", "btrfs"),
        ("xfs", "xfs"),
        ("ext4", "ext4"),
        ("tmpfs", "ext4"),
        ("ext4", "tmpfs"),
    ],
)
def test_conversions_to_raw(
    origin: str, destination: str, kind: str, systems: dict[str, Path]
) -> None:
    with two_folders(systems, origin, destination) as (ours, theirs):
        source, content = make_source(ours, kind)
        digests = set()
        for verify in (True, False):
            target = theirs / f"{verify}.raw"
            heard: list[Progress] = []
            ears = Ears(on_progress=heard.append)
            request = Request(str(source), str(target), allow=[str(ours)], verify=verify)
            digests.add(convert(request, ears).digest)
            assert target.read_bytes() == content
            shares = [now.share for now in heard if now.phase == "converting"]
            assert shares == sorted(shares)
            assert shares[-1] == 1
            # What is a hole stays one, but for what shares a block with data.
            for start, stop in data_ranges(target):
                assert stop <= HOLE[0] or start >= HOLE[1]
            if destination in SHARING and kind != "mixed":
                shared = ["shared" in one for one in flags(target)]
                assert sum(shared) >= len(shared) - 1  # the end of a disk may be half a block
                assert any(shared)
        assert len(digests - {None}) == 1
        assert None in digests


@pytest.mark.needs_root
@pytest.mark.needs("mkfs.btrfs", "mkfs.xfs", "mkfs.ext4")
@pytest.mark.parametrize("verify", [True, False])
def test_zeros_that_the_source_stores_become_holes(verify: bool, systems: dict[str, Path]) -> None:
    block = 64 * KIB  # a file system may give a file more than was written
    with two_folders(systems, "ext4", "ext4") as (ours, theirs):
        data = [bytes([number % 5]) * block for number in range(160)]
        (ours / "source").write_bytes(b"".join(data) + bytes(5000))
        request = Request(str(ours / "source"), str(theirs / "target.raw"), verify=verify)
        convert(request)
        target = theirs / "target.raw"
        assert target.read_bytes() == (ours / "source").read_bytes()
        expected = [(start * block, (start + 4) * block) for start in range(1, len(data), 5)]
        assert data_ranges(target) == expected


@given(
    clusters=st.lists(st.sampled_from(Kind), min_size=1, max_size=64),
    seed=st.integers(0, 1 << 32),
)
@settings(max_examples=60, deadline=None)
def test_what_the_kernel_copied_is_not_written_over(clusters: list[Kind], seed: int) -> None:
    """Clusters of a sector: of one block of the file some are stored, and some are packed."""
    image = qcow2.compose([Cluster(kind) for kind in clusters], cluster_bits=9, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source"), Path(folder, "target")
        source.write_bytes(image.file.read_at(0, image.file.size))
        with open_image(source) as disk, OutputFile(target) as output:
            composer = RawComposer(disk.virtual_size, grain=4096)
            copy_raw(disk, composer, output, on_progress=lambda _: None)
        assert target.read_bytes() == image.truth
