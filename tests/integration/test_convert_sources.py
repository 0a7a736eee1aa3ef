"""What a source may name, and what is made of it; nothing is opened that was not granted."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from fixtures.disks import vdi, vhd, vhd_blocks, vhdx, vhdx_blocks, vmdk, vmdk_grains
from fixtures.disks.blocks import Kind
from fixtures.disks.image_file import ImageFile
from vmport.cli import run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.needs("qemu-img", "qemu-io")

MIB = 1 << 20


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Convert:
    """Runs ``vmport convert`` in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.error = ""

    def __call__(self, *arguments: str | Path) -> int:
        code = run(["-q", "convert", *map(str, arguments)])
        self.error = self._capsys.readouterr().err
        return code

    def refuses(self, expected: int, code: str, *arguments: str | Path) -> None:
        """That it ends with exit code `expected` and one line that carries `code`."""
        got = self(*arguments)
        assert got == expected, self.error
        first, *hints = self.error.splitlines()
        assert first.startswith("vmport: error: ")
        assert first.endswith(f" [{code}]")
        assert len(hints) <= 1


@pytest.fixture
def convert(capsys: pytest.CaptureFixture[str]) -> Convert:
    return Convert(capsys)


def qemu(*words: str | Path) -> str:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def overlay(name: str, backing: str, backing_format: str | None, size: str = "4M") -> None:
    """A qcow2 image that names `backing`, whatever that is."""
    declared = ["-F", backing_format] if backing_format else []
    qemu("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", backing, *declared, name, size)


@pytest.fixture
def chain(folder: Path) -> Path:
    """top.qcow2 on mid.qcow2 on base.raw, each with data of its own; what a guest sees in it."""
    (folder / "base.raw").write_bytes(b"B" * 4 * MIB)
    overlay("mid.qcow2", "base.raw", "raw")
    overlay("top.qcow2", "mid.qcow2", "qcow2")
    qemu("qemu-io", "-f", "qcow2", "-c", "write -P 77 1M 64k", "mid.qcow2")
    qemu("qemu-io", "-f", "qcow2", "-c", "write -P 84 2M 64k", "top.qcow2")
    disk = bytearray(b"B" * 4 * MIB)
    disk[MIB : MIB + 65536] = b"M" * 65536
    disk[2 * MIB : 2 * MIB + 65536] = b"T" * 65536
    (folder / "expected").write_bytes(disk)
    return folder


def test_a_chain_needs_a_grant_for_each_file(chain: Path, convert: Convert) -> None:
    convert.refuses(4, "reference.denied", "top.qcow2", "out.raw")
    convert.refuses(4, "reference.outside", "--allow", "/usr", "top.qcow2", "out.raw")
    (chain / "elsewhere").mkdir()
    (chain / "base.raw").rename(chain / "elsewhere" / "base.raw")
    (chain / "base.raw").symlink_to("elsewhere/base.raw")
    # The grant is for where a file is, not for where a link to it is.
    (chain / "granted").mkdir()
    for name in ("mid.qcow2", "top.qcow2", "base.raw"):
        (chain / name).rename(chain / "granted" / name)
    (chain / "granted" / "base.raw").unlink()
    (chain / "granted" / "base.raw").symlink_to("../elsewhere/base.raw")
    top = "granted/top.qcow2"
    convert.refuses(4, "reference.outside", "--allow", "granted", top, "out.raw")
    assert convert("--allow", "granted", "--allow", "elsewhere", top, "out.raw") == 0
    assert (chain / "out.raw").read_bytes() == (chain / "expected").read_bytes()


def test_a_declared_format_is_not_probed_again(folder: Path, convert: Convert) -> None:
    # A guest wrote a qcow2 header into its raw disk: it names a file of the host.
    overlay("guest.raw", "/etc/passwd", "raw")
    overlay("top.qcow2", "guest.raw", "raw", size="200k")
    assert convert("--allow", ".", "top.qcow2", "out.raw") == 0
    content = (folder / "guest.raw").read_bytes()
    assert (folder / "out.raw").read_bytes()[: len(content)] == content
    assert convert("--from", "raw", "guest.raw", "copy.raw") == 0
    assert (folder / "copy.raw").read_bytes() == content


@pytest.mark.parametrize(
    ("name", "expected", "code"),
    [
        ("/etc/passwd", 4, "reference.outside"),
        ("../../../../../../etc/passwd", 4, "reference.outside"),
        ("nbd://127.0.0.1:1/x", 4, "reference.not-a-file"),
        ("nbd:unix:/run/x", 4, "reference.not-a-file"),
        ('json:{"driver":"file","filename":"/etc/passwd"}', 4, "reference.not-a-file"),
        ("file:/etc/passwd", 4, "reference.not-a-file"),
        ("fat:rw:.", 4, "reference.not-a-file"),
        ("missing.raw", 3, "reference.missing"),
        (".", 3, "source.not-regular"),
        ("fifo", 3, "source.not-regular"),
    ],
)
def test_what_a_backing_file_must_not_be(
    folder: Path, convert: Convert, name: str, expected: int, code: str
) -> None:
    os.mkfifo("fifo")
    overlay("top.qcow2", name, "raw")
    convert.refuses(expected, code, "--allow", ".", "top.qcow2", "out.raw")
    assert sorted(path.name for path in folder.iterdir()) == ["fifo", "top.qcow2"]


def test_chains_that_lead_back_or_nowhere(folder: Path, convert: Convert) -> None:
    overlay("one.qcow2", "two.qcow2", "qcow2")
    overlay("two.qcow2", "one.qcow2", "qcow2")
    convert.refuses(4, "chain.loop", "--allow", ".", "one.qcow2", "out.raw")
    # One file under a thousand names, each of which is one folder deeper.
    overlay("self.qcow2", "d/self.qcow2", "qcow2")
    (folder / "d").symlink_to(".")
    convert.refuses(4, "chain.loop", "--allow", ".", "self.qcow2", "out.raw")
    overlay("odd.qcow2", "one.qcow2", "blkdebug")
    convert.refuses(3, "chain.format", "--allow", ".", "odd.qcow2", "out.raw")


@pytest.mark.parametrize("depth", [80, 201])
def test_a_long_chain(folder: Path, convert: Convert, depth: int) -> None:
    # Names so long, and so many, that no plain list of options could hold them.
    names = [f"{number:03}-{'long' * 50}.qcow2" for number in range(depth + 1)]
    template = folder / names[0]
    overlay(names[0], names[1], "qcow2")
    header = template.read_bytes()
    for here, below in itertools.pairwise(names[1:]):
        (folder / here).write_bytes(header.replace(names[1].encode(), below.encode()))
    qemu("qemu-img", "create", "-q", "-f", "qcow2", names[-1], "4M")
    qemu("qemu-io", "-f", "qcow2", "-c", "write -P 66 1M 64k", names[-1])
    if depth > 200:
        convert.refuses(4, "chain.depth", "--allow", ".", names[0], "out.raw")
        return
    assert convert("--no-verify", "--allow", ".", names[0], "out.raw") == 0, convert.error
    assert (folder / "out.raw").read_bytes()[MIB : MIB + 65536] == b"B" * 65536


def test_an_external_data_file(folder: Path, convert: Convert) -> None:
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-o"]
    qemu(*create, "data_file=data,data_file_raw=on", "top.qcow2", "4M")
    qemu("qemu-io", "-f", "qcow2", "-c", "write -P 68 1M 64k", "top.qcow2")
    convert.refuses(4, "reference.denied", "top.qcow2", "out.vdi")
    assert convert("--allow", ".", "top.qcow2", "out.vdi") == 0
    qemu("qemu-img", "compare", "-f", "raw", "-F", "vdi", "data", "out.vdi")
    os.truncate("data", 3 * MIB)
    convert.refuses(3, "qcow2.l2-entry", "--allow", ".", "top.qcow2", "out2.vdi")


def test_the_destination_is_never_a_part_of_the_source(chain: Path, convert: Convert) -> None:
    (chain / "link.raw").hardlink_to("base.raw")
    for name in ("top.qcow2", "mid.qcow2", "base.raw", "link.raw"):
        before = (chain / name).read_bytes()
        arguments = ["--force", "--allow", ".", "--to", "raw", "top.qcow2", name]
        convert.refuses(2, "usage.same-file", *arguments)
        assert (chain / name).read_bytes() == before
    # Nor is a companion: the extent of the new disk is called as that of the old one.
    qemu("qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=monolithicFlat",
         "base.raw", "disk.vmdk")  # fmt: skip
    flat = (chain / "disk-flat.vmdk").read_bytes()
    (chain / "disk.vmdk").rename("other.vmdk")
    convert.refuses(
        2, "usage.same-file", "--force", "--allow", ".", "-o", "subformat=monolithicFlat",
        "other.vmdk", "disk.vmdk",
    )  # fmt: skip
    assert (chain / "disk-flat.vmdk").read_bytes() == flat
    assert not (chain / "disk.vmdk").exists()


def test_a_vmdk_and_its_parent(folder: Path, convert: Convert) -> None:
    qemu("qemu-img", "create", "-q", "-f", "vmdk", "base.vmdk", "4M")
    qemu("qemu-io", "-f", "vmdk", "-c", "write -P 66 1M 64k", "base.vmdk")
    qemu("qemu-img", "create", "-q", "-f", "vmdk", "-b", "base.vmdk", "-F", "vmdk", "top.vmdk")
    qemu("qemu-io", "-f", "vmdk", "-c", "write -P 84 2M 64k", "top.vmdk")
    convert.refuses(4, "reference.denied", "top.vmdk", "out.raw")
    assert convert("--allow", ".", "top.vmdk", "out.raw") == 0
    disk = (folder / "out.raw").read_bytes()
    assert disk[MIB : MIB + 65536] == b"B" * 65536
    assert disk[2 * MIB : 2 * MIB + 65536] == b"T" * 65536
    # The parent was written to, which makes another disk of both.
    qemu("qemu-io", "-f", "vmdk", "-c", "write -P 67 1M 64k", "base.vmdk")
    convert.refuses(3, "vmdk.parent-cid", "--allow", ".", "top.vmdk", "again.raw")


def test_a_descriptor_of_many_kinds_of_extents(folder: Path, convert: Convert) -> None:
    (folder / "flat").write_bytes(b"-" * 512 + b"F" * MIB)
    (folder / "vmfs").write_bytes(b"V" * MIB)
    (folder / "part.raw").write_bytes(b"P" * MIB)
    qemu("qemu-img", "convert", "-f", "raw", "-O", "vmdk", "part.raw", "sparse")
    (folder / "disk.vmdk").write_text(
        vmdk.descriptor(
            # The blank line makes two of the extent for qemu; the third line none.
            'RW 2048 FLAT "flat" 1\n\nRW 2048 SPARSE "sparse"\n'
            'RW 2048 ZERO\nRDONLY 2048 VMFS "vmfs"',
            create_type="custom",
        )
    )
    assert convert("--allow", ".", "disk.vmdk", "out.raw") == 0, convert.error
    disk = (folder / "out.raw").read_bytes()
    assert disk == b"F" * MIB + b"P" * MIB + bytes(MIB) + b"V" * MIB


@pytest.mark.parametrize("kind", ["VMFSSPARSE", "SESPARSE"])
def test_extents_of_esx(folder: Path, convert: Convert, kind: str) -> None:
    """Both engines read what the composer made."""
    compose = vmdk_grains.compose_cowd if kind == "VMFSSPARSE" else vmdk_grains.compose_sesparse
    kinds = random.Random(6).choices([vmdk_grains.Kind.ABSENT, vmdk_grains.Kind.DATA], k=50)
    extent = compose(kinds, seed=3)
    extent.file.write(folder / "delta")
    sectors = len(extent.truth) // 512
    (folder / "disk.vmdk").write_text(vmdk.descriptor(f'RW {sectors} {kind} "delta"'))
    convert.refuses(4, "reference.denied", "disk.vmdk", "out.raw")
    for engine in ("native", "qemu-img"):
        assert convert("--allow", ".", "--engine", engine, "disk.vmdk", f"{engine}.raw") == 0
        assert (folder / f"{engine}.raw").read_bytes() == extent.truth


def test_an_extent_without_its_descriptor(folder: Path, convert: Convert) -> None:
    extent = vmdk_grains.compose_cowd([vmdk_grains.Kind.DATA] * 9, seed=3)
    extent.file.write(folder / "delta")
    assert convert("delta", "out.raw") == 0
    assert (folder / "out.raw").read_bytes() == extent.truth


@pytest.mark.parametrize(
    ("extents", "expected", "code"),
    [
        ('RW 8 FLAT "/etc/passwd" 0', 4, "reference.outside"),
        ('RW 8 FLAT "../../../../../../etc/passwd" 0', 4, "reference.outside"),
        ('RW 8 FLAT "nbd://127.0.0.1:1/x" 0', 4, "reference.not-a-file"),
        ('RW 8 FLAT "json:{}" 0', 4, "reference.not-a-file"),
        ('RW 4096 FLAT "flat" 0', 3, "vmdk.extent-outside"),
        ('RW 2048 FLAT "flat" 1', 3, "vmdk.extent-outside"),
        ('RW 2048 FLAT "missing" 0', 3, "reference.missing"),
        ('RW 2048 FLAT "fifo" 0', 3, "source.not-regular"),
        ('RW 2048 VMFSRDM "flat"', 3, "vmdk.extent-device"),
        ('NOACCESS 2048 FLAT "flat" 0', 3, "vmdk.extent-access"),
        ('RW 2048 SPARSE "vessel"', 3, "vmdk.extent-capacity"),
        ('RW 2047 SPARSE "sparse"', 3, "vmdk.extent-capacity"),
    ],
)
def test_extents_that_are_refused(
    folder: Path, convert: Convert, extents: str, expected: int, code: str
) -> None:
    os.mkfifo("fifo")
    (folder / "flat").write_bytes(bytes(MIB))
    vmdk.sparse('RW 2048 SPARSE "x"').write(folder / "sparse")
    # A sparse extent of no size, in which qemu finds a descriptor, and opens what that names.
    inside = vmdk.descriptor('RW 2048 FLAT "/etc/passwd" 0')
    vmdk.sparse(inside, capacity=0).write(folder / "vessel")
    (folder / "disk.vmdk").write_text(vmdk.descriptor(extents))
    convert.refuses(expected, code, "--allow", ".", "disk.vmdk", "out.raw")


def test_a_sparse_extent_with_a_descriptor_inside(folder: Path, convert: Convert) -> None:
    text = vmdk.descriptor('RW 8 FLAT "/etc/passwd" 0')
    vmdk.sparse(text, capacity=0).write(folder / "vessel.vmdk")
    convert.refuses(4, "reference.denied", "vessel.vmdk", "out.raw")
    convert.refuses(4, "reference.outside", "--allow", ".", "vessel.vmdk", "out.raw")


# --- What qemu-img refuses, or reads wrongly ------------------------------------------------------

SIDE = ["--allow", "."]


def both_ways(folder: Path, convert: Convert, source: str, truth: bytes, *more: str) -> None:
    """Natively, and by qemu-img, which gets a copy: the content is `truth`."""
    assert convert(*more, source, "native.raw") == 0, convert.error
    assert (folder / "native.raw").read_bytes() == truth
    assert convert(*more, "--engine", "qemu-img", source, "by-qemu.vhdx") == 0, convert.error
    qemu("qemu-img", "compare", "-f", "raw", "-F", "vhdx", "native.raw", "by-qemu.vhdx")


def test_a_differencing_vhd(folder: Path, convert: Convert) -> None:
    # qemu-img converts this one with exit code 0, and the parent's data become zeros.
    base = random.Random(1).randbytes(MIB)
    foot = vhd.footer(MIB, vhd.FIXED, unique_id=vhd.PARENT_UUID)
    ImageFile({0: base, MIB: foot}).write(folder / "parent.vhd")
    kinds = [Kind.ABSENT, vhd_blocks.PARTLY, Kind.DATA, vhd_blocks.PARTLY] * 4
    child = vhd_blocks.compose(kinds, block_size=64 * 1024, parent=base, seed=2)
    child.file.write(folder / "child.vhd")
    convert.refuses(4, "reference.denied", "child.vhd", "out.raw")
    both_ways(folder, convert, "child.vhd", child.truth, *SIDE)


def test_a_differencing_vhdx(folder: Path, convert: Convert) -> None:
    state = vhdx_blocks.State
    base = vhdx_blocks.compose([state.FULLY_PRESENT] * 4, seed=1)
    base.file.write(folder / "parent.vhdx")
    child = vhdx_blocks.compose(
        [state.NOT_PRESENT, state.PARTIALLY_PRESENT, state.ZERO, state.FULLY_PRESENT],
        parent=base.truth,
        linkage=f"{{{vhdx.DATA_GUID}}}",
        stale=False,
    )
    child.file.write(folder / "child.vhdx")
    both_ways(folder, convert, "child.vhdx", child.truth, *SIDE)


def test_a_differencing_vdi(folder: Path, convert: Convert) -> None:
    base = vdi.compose([Kind.DATA] * 3, seed=1)
    base.file.write(folder / "base.vdi")
    child = vdi.compose(
        [Kind.ABSENT, Kind.DATA, Kind.ZERO],
        seed=2,
        below=base.truth,
        image_type=vdi.DIFFERENCING,
        parent=vdi.CREATED,
        parent_modified=vdi.MODIFIED,
        created=UUID(int=7),
    )
    child.file.write(folder / "child.vdi")
    convert.refuses(4, "reference.denied", "child.vdi", "out.raw")
    both_ways(folder, convert, "child.vdi", child.truth, *SIDE)
    extra = vdi.compose([Kind.DATA, Kind.ABSENT, Kind.DATA], seed=4, block_extra=512)
    extra.file.write(folder / "extra.vdi")
    assert convert("extra.vdi", "extra.raw") == 0
    assert (folder / "extra.raw").read_bytes() == extra.truth


def test_a_vhdx_that_was_not_closed(folder: Path, convert: Convert) -> None:
    """Its log is replayed in memory; qemu-img replays it into a copy of the file."""
    state = vhdx_blocks.State
    image = vhdx_blocks.compose([state.FULLY_PRESENT, state.ZERO, state.FULLY_PRESENT], logged=12)
    before = image.file.write(folder / "dirty.vhdx").read_bytes()
    both_ways(folder, convert, "dirty.vhdx", image.truth)
    assert (folder / "dirty.vhdx").read_bytes() == before
    qemu("qemu-img", "check", "-q", "-r", "all", "dirty.vhdx")
    qemu("qemu-img", "compare", "-f", "vhdx", "-F", "raw", "dirty.vhdx", "native.raw")


@pytest.mark.parametrize("encryption", ["aes", "luks"])
def test_an_encrypted_qcow2(folder: Path, convert: Convert, encryption: str) -> None:
    (folder / "word").write_text("open sesame\n")
    (folder / "plain.raw").write_bytes(random.Random(2).randbytes(MIB))
    for iteration_time in (10, 50, 200, 1000):  # where it is too short to be measured, qemu fails
        slow = f",encrypt.iter-time={iteration_time}" if encryption == "luks" else ""
        made = subprocess.run(
            [
                "qemu-img", "convert", "--object", "secret,id=s,data=open sesame", "-f", "raw",
                "-O", "qcow2", "-o", f"encrypt.format={encryption},encrypt.key-secret=s{slow}",
                "plain.raw", "secret.qcow2",
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if "accurate CPU usage" not in made.stderr:
            break
    assert made.returncode == 0, made.stderr
    lacking = "luks.passphrase" if encryption == "luks" else "qcow2.passphrase"
    convert.refuses(3, lacking, "secret.qcow2", "out.raw")
    truth = (folder / "plain.raw").read_bytes()
    both_ways(folder, convert, "secret.qcow2", truth, "--passphrase-file", "word")
    if encryption == "luks":
        (folder / "word").write_text("open barley")
        wrong = ("--passphrase-file", "word", "secret.qcow2", "out.raw")
        convert.refuses(3, "luks.passphrase", *wrong)


def test_a_snapshot_instead_of_the_present(folder: Path, convert: Convert) -> None:
    qemu("qemu-img", "create", "-q", "-f", "qcow2", "in.qcow2", "1M")
    qemu("qemu-io", "-f", "qcow2", "-c", "write -P 66 0 64k", "in.qcow2")
    qemu("qemu-img", "snapshot", "-c", "before", "in.qcow2")
    qemu("qemu-io", "-f", "qcow2", "-c", "write -P 65 0 128k", "in.qcow2")
    qemu("qemu-img", "convert", "-f", "qcow2", "-O", "raw", "-l", "before", "in.qcow2", "old.raw")
    truth = (folder / "old.raw").read_bytes()
    assert truth[0] == 66
    both_ways(folder, convert, "in.qcow2", truth, "--snapshot", "before")
    convert.refuses(3, "qcow2.snapshot", "--snapshot", "after", "in.qcow2", "out.raw")


def test_an_image_that_says_that_it_is_corrupt(folder: Path, convert: Convert) -> None:
    qemu("qemu-img", "create", "-q", "-f", "qcow2", "c.qcow2", "1M")
    with (folder / "c.qcow2").open("r+b") as image:
        image.seek(79)
        image.write(b"\2")
    convert.refuses(3, "qcow2.corrupt", "c.qcow2", "out.raw")


@pytest.mark.parametrize(
    ("disk_format", "options", "cut"),
    [
        ("qcow2", "", 0.5),
        ("vmdk", "subformat=monolithicSparse", 0.5),
        ("vmdk", "subformat=streamOptimized", 0.5),
        ("vpc", "subformat=dynamic", 0.5),
        ("vpc", "subformat=fixed", 0.5),
        ("vhdx", "", 0.5),
        ("vdi", "", 0.5),
        ("qed", "", 0.5),
        ("parallels", "", 0.5),
        ("qcow2", "", 0.9),
        ("vmdk", "subformat=monolithicSparse", 0.9),
        ("vmdk", "subformat=streamOptimized", 0.9),
        ("vdi", "", 0.9),
    ],
)
def test_a_file_that_is_cut_short(
    folder: Path, convert: Convert, disk_format: str, options: str, cut: float
) -> None:
    # qemu-img reads zeros for what is missing of most of these, and ends with 0.
    (folder / "full.raw").write_bytes(os.urandom(3 * MIB))
    wanted = ["-o", options] if options else []
    qemu("qemu-img", "convert", "-f", "raw", "-O", disk_format, *wanted, "full.raw", "image")
    os.truncate("image", int((folder / "image").stat().st_size * cut))
    declared = ["--from", "vhd"] if disk_format == "vpc" else []
    assert convert(*declared, "image", "out.raw") == 3, convert.error
    assert len(convert.error.splitlines()) <= 2
    assert not (folder / "out.raw").exists()
