"""Five ways in which an image names what is not its own: both engines refuse; and locked disks."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from fixtures.disks import vmdk
from vmport.cli import run as vmport
from vmport_converters.disk.qemu import engine
from vmport_converters.disk.qemu.command import Node
from vmport_converters.sandbox import landlock_version

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.needs("qemu-img")

SECRET = b"secret of the host\n" + bytes(65517)


def create(image: Path, *options: str, size: str = "512") -> None:
    words = ["qemu-img", "create", "-q", "-f", "qcow2", *options, str(image), size]
    subprocess.run(words, check=True)


def leaky(image: Path, kind: str, secret: Path, port: int) -> None:
    """Make an image that names the secret, or a server, in one of the ways that qemu follows."""
    if kind == "extent":
        image.write_text(vmdk.descriptor(f'RW 1 FLAT "{secret}" 0'))
    elif kind == "data file":
        data = image.with_name("data")
        create(image, "-o", f"data_file={data},data_file_raw=on", size="64k")
        data.unlink()
        data.symlink_to(secret)
    else:
        protocol = json.dumps({"driver": "file", "filename": str(secret)})
        backing = {
            "backing": str(secret),
            "json": f'json:{{"driver":"raw","file":{protocol}}}',
            "nbd": f"nbd://127.0.0.1:{port}/disk",
        }[kind]
        create(image, "-u", "-b", backing, "-F", "raw")


@pytest.mark.parametrize("by", ["native", "qemu-img"])
@pytest.mark.parametrize("kind", ["extent", "data file", "backing", "json", "nbd"])
def test_a_leak_is_refused(
    kind: str, by: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "host").mkdir()
    (tmp_path / "given").mkdir()
    secret = tmp_path / "host" / "secret"
    secret.write_bytes(SECRET)
    image = tmp_path / "given" / "image"
    out = tmp_path / "given" / "out.raw"
    with socket.create_server(("127.0.0.1", 0)) as server:
        leaky(image, kind, secret, server.getsockname()[1])
        before = sorted((tmp_path / "given").iterdir())
        convert = ["convert", "--engine", by, str(image), str(out)]
        allow = ["--allow", str(tmp_path / "given")]
        everything = ["--allow", "/"] if kind in {"json", "nbd"} else []
        for granted in ([], allow, everything):
            assert vmport([*convert, *granted]) == 4
            said = capsys.readouterr().err
            assert "[reference." in said
            assert sorted((tmp_path / "given").iterdir()) == before
        server.settimeout(0)
        with pytest.raises(BlockingIOError):  # nobody has called
            server.accept()
    # What may be read is, where a file is what it is: it is the grant that decides.
    if not everything:
        assert vmport(["-q", *convert, "--allow", str(tmp_path)]) == 0
        assert out.read_bytes().startswith(SECRET[:512])


@pytest.mark.parametrize("everything", [False, True])
def test_where_we_err_the_kernel_stops_it(
    everything: bool, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """qemu-img is told to open what no check of ours has seen, even if all is allowed."""
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    (tmp_path / "given").mkdir()
    image, out = tmp_path / "given" / "image", tmp_path / "given" / "out.raw"
    image.write_bytes(bytes(len(SECRET)))
    told: list[Node] = []

    def erring(*_: object) -> Node:
        told.append(Node("raw", str(secret)))
        return told[-1]

    monkeypatch.setattr(engine, "source_node", erring)
    allow = ["--allow", "/"] if everything else []
    convert = ["convert", "--engine", "qemu-img", "--no-verify", *allow, str(image), str(out)]
    code = vmport(convert)
    assert told
    if landlock_version() == 0:  # the warning says so
        assert "this kernel has no Landlock" in capsys.readouterr().err
        return
    assert code == 3
    assert "Permission denied" in capsys.readouterr().err
    assert list((tmp_path / "given").iterdir()) == [image]


@contextmanager
def running(words: list[str], ready: Path) -> Iterator[None]:
    """A program that has opened its disk once the file `ready` is there."""
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            end = time.monotonic() + 20
            while not ready.exists():
                assert process.poll() is None, process.stderr and process.stderr.read()
                assert time.monotonic() < end
                time.sleep(0.01)
            yield
        finally:
            process.kill()  # qemu-nbd does not hear a SIGTERM that comes too early


def machine(disk: Path, control: Path) -> list[str]:
    """A machine that does not run yet, with a disk."""
    return [
        "qemu-system-x86_64", "-accel", "tcg", "-nodefaults", "-display", "none", "-S",
        "-m", "16", "-drive", f"if=virtio,format=qcow2,file={disk}",
        "-qmp", f"unix:{control},server=on,wait=off",
    ]  # fmt: skip


def export(disk: Path, control: Path, *more: str) -> list[str]:
    socket = control.with_name("socket")  # is there before anything is open; the other comes last
    serve = ["qemu-nbd", "-f", "qcow2", "--persistent", "-k", str(socket)]
    return [*serve, "--pid-file", str(control), *more, str(disk)]


@pytest.mark.parametrize(
    "holder",
    [
        pytest.param(machine, marks=pytest.mark.needs("qemu-system-x86_64")),
        pytest.param(export, marks=pytest.mark.needs("qemu-nbd")),
    ],
)
def test_a_disk_that_is_written_to_is_refused(
    holder: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(holder)
    disk = tmp_path / "in.qcow2"
    create(disk, size="1M")
    overlay = tmp_path / "overlay.qcow2"
    create(overlay, "-b", str(disk), "-F", "qcow2", size="1M")
    out = tmp_path / "out.raw"
    with running(holder(disk, tmp_path / "control"), tmp_path / "control"):
        for by in ("native", "qemu-img"):
            assert vmport(["convert", "--engine", by, str(disk), str(out)]) == 3
            said = capsys.readouterr().err
            assert f"{disk}: is in use by another program" in said
            assert "[source.locked]" in said
        # So is one that another rests on.
        assert vmport(["convert", "--allow", str(tmp_path), str(overlay), str(out)]) == 3
        assert f"{disk}: is in use by another program" in capsys.readouterr().err
    assert not out.exists()
    assert vmport(["-q", "convert", str(disk), str(out)]) == 0


@pytest.mark.needs("qemu-nbd")
def test_a_disk_that_is_only_read_is_not(tmp_path: Path) -> None:
    disk = tmp_path / "in.qcow2"
    create(disk, size="1M")
    with running(export(disk, tmp_path / "control", "-r"), tmp_path / "control"):
        assert vmport(["-q", "convert", str(disk), str(tmp_path / "out.raw")]) == 0
