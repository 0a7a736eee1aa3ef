"""What a source may name, and what is made of it; nothing is opened that was not granted."""

from __future__ import annotations

import itertools
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from fixtures.disks import vdi, vhd, vhdx, vmdk
from tests.samples import sample
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
    convert.refuses(3, "chain.loop", "--allow", ".", "one.qcow2", "out.raw")
    # One file under a thousand names, each of which is one folder deeper.
    overlay("self.qcow2", "d/self.qcow2", "qcow2")
    (folder / "d").symlink_to(".")
    convert.refuses(3, "chain.loop", "--allow", ".", "self.qcow2", "out.raw")
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
        convert.refuses(3, "chain.depth", "--allow", ".", names[0], "out.raw")
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
    convert.refuses(3, "source.truncated", "--allow", ".", "top.qcow2", "out2.vdi")


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
    convert.refuses(3, "vmdk.parent-changed", "--allow", ".", "top.vmdk", "again.raw")


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


def test_extents_of_esx(folder: Path, convert: Convert) -> None:
    vmdk.cowd().write(folder / "delta")
    (folder / "disk.vmdk").write_text(
        vmdk.descriptor('RW 2048 VMFSSPARSE "delta"', create_type="vmfsSparse")
    )
    assert convert("--allow", ".", "disk.vmdk", "out.raw") == 0, convert.error
    assert (folder / "out.raw").stat().st_size == MIB
    convert.refuses(3, "vmdk.lone-extent", "delta", "part.raw")


@pytest.mark.parametrize(
    ("extents", "expected", "code"),
    [
        ('RW 8 FLAT "/etc/passwd" 0', 4, "reference.outside"),
        ('RW 8 FLAT "../../../../../../etc/passwd" 0', 4, "reference.outside"),
        ('RW 8 FLAT "nbd://127.0.0.1:1/x" 0', 4, "reference.not-a-file"),
        ('RW 8 FLAT "json:{}" 0', 4, "reference.not-a-file"),
        ('RW 4096 FLAT "flat" 0', 3, "source.truncated"),
        ('RW 2048 FLAT "flat" 1', 3, "source.truncated"),
        ('RW 2048 FLAT "fifo" 0', 3, "source.not-regular"),
        ('RW 2048 VMFSRDM "flat"', 3, "vmdk.extent-type"),
        ('NOACCESS 2048 FLAT "flat" 0', 3, "vmdk.extent-type"),
        ('RW 2048 SPARSE "vessel"', 4, "vmdk.nested-extent"),
        ('RW 2047 SPARSE "sparse"', 3, "vmdk.extent-size"),
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
    for granted in ([], ["--allow", "/"]):
        convert.refuses(3, "vmdk.vessel", *granted, "vessel.vmdk", "out.raw")


def test_what_qemu_img_would_read_wrongly(folder: Path, convert: Convert) -> None:
    # qemu-img converts this one with exit code 0, and the parent's data become zeros.
    vhd.differencing(4 * MIB).write(folder / "child.vhd")
    qemu("qemu-img", "convert", "-f", "vpc", "-O", "raw", "child.vhd", "wrong.raw")
    vhdx.differencing().write(folder / "child.vhdx")
    vdi.differencing().write(folder / "child.vdi")
    vdi.image(block_extra=512).write(folder / "extra.vdi")
    for granted in ([], ["--allow", "."]):
        convert.refuses(3, "vhd.differencing", *granted, "child.vhd", "out.raw")
        convert.refuses(3, "vhdx.differencing", *granted, "child.vhdx", "out.raw")
        convert.refuses(3, "vdi.differencing", *granted, "child.vdi", "out.raw")
        convert.refuses(3, "vdi.block-extra", *granted, "extra.vdi", "out.raw")
    dirty = sample("iotest-dirtylog-10G-4M.vhdx")
    convert.refuses(3, "vhdx.dirty-log", dirty, "out.raw")


def test_encrypted_and_corrupt_images(folder: Path, convert: Convert) -> None:
    secret = ["--object", "secret,id=s,data=x"]
    aes = "encrypt.format=aes,encrypt.key-secret=s"
    qemu("qemu-img", "create", "-q", *secret, "-f", "qcow2", "-o", aes, "e.qcow2", "1M")
    convert.refuses(3, "qcow2.encrypted", "e.qcow2", "out.raw")
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
