"""What ``vmport convert`` prints, for people and for programs, and its answers to bad requests."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from vmport.cli import run
from vmport_converters.sandbox import landlock_version

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Vmport

pytestmark = pytest.mark.needs("qemu-img")

MIB = 1 << 20


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a raw disk in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.raw").write_bytes(b"data" * (MIB // 4) + bytes(MIB))
    return tmp_path


def test_one_line_of_what_was_done(folder: Path, vmport: Vmport) -> None:
    done = vmport("convert", "in.raw", "out.vmdk", "-o", "subformat=monolithicFlat")
    assert done.stderr == ""
    assert re.fullmatch(
        r"in\.raw \(raw\) -> out\.vmdk and 1 more file \(VMDK monolithicFlat\): disk of 2 MiB, "
        r"file of 2 MiB \([\d.]+ MiB on disk\), content compared, \d+\.\d s\n",
        done.stdout,
    )
    done = vmport("-q", "convert", "in.raw", "out.qcow2")
    assert (done.stdout, done.stderr) == ("", "")
    done = vmport("convert", "--no-verify", "--force", "in.raw", "out.qcow2")
    assert "content not compared" in done.stdout


def test_json(folder: Path, vmport: Vmport) -> None:
    done = vmport("convert", "--json", "in.raw", "out.vmdk", "-o", "subformat=monolithicFlat")
    said = json.loads(done.stdout)
    assert 0 < said.pop("seconds") < 60
    assert re.fullmatch(r"vmport-blake3-64k:[0-9a-f]{64}", said.pop("digest"))
    assert said["destination"].pop("actual-size") >= MIB
    assert said["destination"].pop("file-size") > 2 * MIB
    assert said == {
        "source": {
            "filename": "in.raw",
            "format": "raw",
            "variant": "raw",
            "virtual-size": 2 * MIB,
            "file-size": 2 * MIB,
            "files": [str(folder / "in.raw")],
        },
        "destination": {
            "filename": "out.vmdk",
            "format": "vmdk",
            "variant": "monolithicFlat",
            "virtual-size": 2 * MIB,
            "options": {"subformat": "monolithicFlat"},
            "files": ["out.vmdk", "out-flat.vmdk"],
        },
        "compression": "none",
        "copied-first": None,
        "engine": "qemu-img",
        "reasons": ["subformat=monolithicFlat is written by qemu-img"],
        "sandboxed": landlock_version() > 0,
        "verified": True,
        "notes": [],
    }


def test_verbose_says_which_engine_and_why_and_shows_the_commands(
    folder: Path, vmport: Vmport
) -> None:
    done = vmport("-v", "convert", "in.raw", "out.vdi")
    assert done.stderr == "vmport: run: engine native: it writes VDI itself\n"
    done = vmport("-v", "convert", "--engine", "qemu-img", "--force", "in.raw", "out.vdi")
    why, *commands = done.stderr.splitlines()
    assert why == "vmport: run: engine qemu-img: it was asked for"
    assert [line.split()[3] for line in commands] == ["measure", "convert"]
    for line in commands:
        assert f"driver=raw,file.driver=file,file.filename={folder}/in.raw" in line


def test_a_name_that_would_drive_the_terminal(folder: Path, vmport: Vmport) -> None:
    (folder / "in.raw").rename(folder / "\x1b[31mred\n.raw")
    done = vmport("convert", "\x1b[31mred\n.raw", "out.vdi")
    assert done.stdout.startswith(r"\x1b[31mred\n.raw (raw) -> out.vdi (VDI dynamic): ")


def on_a_terminal(*words: str) -> tuple[int, str]:
    """Run vmport with a terminal for stderr; exit code and what appeared there."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "vmport", *words],
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env=environment,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # nobody is at the other end any more
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    return process.wait(), shown.decode()


def test_a_bar_on_a_terminal(folder: Path) -> None:
    data = b"".join(os.urandom(512) + bytes(99) for _ in range(16 << 10))
    (folder / "in.raw").write_bytes(data + b"x")
    stream = "subformat=streamOptimized"
    code, shown = on_a_terminal("convert", "-o", stream, "in.raw", "out.vmdk")
    assert code == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert re.search(r"converting.* \d+% .*(B/s|\?)", plain)
    assert re.search(r"verifying .* \d+% ", plain)
    assert "note: out.vmdk: " in plain  # above the bar
    shares = [int(share) for share in re.findall(r"converting\D*(\d+)%", plain)]
    assert shares == sorted(shares)
    # It is taken away again: the last thing is to clear its line and show the cursor.
    assert shown.rstrip().endswith(("\x1b[2K", "\x1b[?25h"))

    code, shown = on_a_terminal("-q", "convert", "--force", "in.raw", "out.vmdk")
    assert (code, shown) == (0, "")


def test_a_bar_says_which_of_several_disks_it_is_about(folder: Path) -> None:
    (folder / "[b]two.raw").write_bytes(os.urandom(MIB))
    code, shown = on_a_terminal("convert", "--to", "vdi", "in.raw", "[b]two.raw", "missing", ".")
    assert code == 3
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert re.search(r"in\.raw \(1 of 3\): verifying .* \d+% ", plain)
    assert re.search(r"\[b\]two\.raw \(2 of 3\): verifying .* \d+% ", plain)
    assert "vmport: error: missing: " in plain


def test_errors_on_a_terminal_leave_no_bar_behind(folder: Path) -> None:
    (folder / "in.qcow2").write_bytes(b"QFI\xfb" + bytes(100))
    code, shown = on_a_terminal("convert", "in.qcow2", "out.vmdk")
    assert code == 3
    assert shown.startswith("vmport: error: in.qcow2: ")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["in.raw", "out"], 2, "the name does not say which format"),
        (["in.raw", "out.xyz"], 2, ".qcow2, .vmdk, .vhd, .vhdx, .vdi, .raw, .img"),
        (["--to", "qed", "in.raw", "out.qed"], 2, "can be read, not written"),
        (["--to", "what", "in.raw", "out.qed"], 2, "there is no such format"),
        (["--from", "what", "in.raw", "out.vdi"], 2, "there is no such format"),
        (["-o", "subformat=x", "in.raw", "out.vmdk"], 2, "monolithicSparse|streamOptimized"),
        (["-o", "x=y", "in.raw", "out.vmdk"], 2, "has no such option"),
        (["in.raw"], 2, "DST"),
        (["--from", "qcow2", "in.raw", "out.vdi"], 3, "magic"),
        (["missing.raw", "out.vdi"], 3, "No such file"),
        (["empty", "out.vdi"], 3, "the file is empty"),
        (["fifo", "out.vdi"], 3, "is a FIFO"),
        (["/dev/zero", "out.vdi"], 3, "is a character device"),
        ([".", "out.vdi"], 3, "is a folder"),
        (["huge.qcow2", "out.vdi"], 3, "18446744073709551615"),
        (["passwd.qcow2", "out.vdi"], 4, "/etc/passwd"),
        (["in.raw", "in.raw"], 2, "is part of the source"),
        (["in.raw", "there.vdi"], 6, "exists already; it was not touched"),
        (["in.raw", "no/out.vdi"], 6, "does not exist"),
        (["in.raw", "folder.vdi"], 6, "is a folder"),
        (["--force", "in.raw", "folder.vdi"], 6, "is a folder"),
        (["--force", "--to", "raw", "in.raw", "fifo"], 6, "neither a regular file nor a folder"),
        (["--force", "--to", "raw", "in.raw", "/dev/null"], 6, "neither a regular file"),
        (["in.raw", "/proc/out.vdi"], 6, "cannot be written"),
    ],
)
def test_bad_requests(
    arguments: list[str], code: int, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "empty").touch()
    os.mkfifo("fifo")
    (folder / "folder.vdi").mkdir()
    (folder / "there.vdi").write_text("precious")
    make = ["qemu-img", "create", "-q", "-u", "-f", "qcow2"]
    subprocess.run([*make, "-b", "/etc/passwd", "-F", "raw", "passwd.qcow2", "1M"], check=True)
    subprocess.run([*make, "huge.qcow2", "1M"], check=True)
    with (folder / "huge.qcow2").open("r+b") as image:
        image.seek(24)
        image.write(b"\xff" * 8)
    before = sorted(path.name for path in folder.iterdir())
    begin = time.monotonic()
    assert run(["convert", *arguments]) == code
    assert time.monotonic() - begin < 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    if code != 2:
        assert len(printed.err.splitlines()) <= 2
        assert printed.err.startswith("vmport: error: ")
    assert sorted(path.name for path in folder.iterdir()) == before
    assert (folder / "there.vdi").read_text() == "precious"


def test_force_replaces_and_says_no_more(folder: Path, vmport: Vmport) -> None:
    (folder / "out.vdi").write_text("old")
    done = vmport("convert", "--force", "in.raw", "out.vdi")
    assert done.stderr == ""
    assert (folder / "out.vdi").stat().st_size > MIB
