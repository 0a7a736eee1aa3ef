"""A confined program opens what it was given and nothing else: five leaks of qemu-img, stopped."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from fixtures.disks import vmdk
from vmport_converters import sandbox as sandbox_module
from vmport_converters.process import Limits, run
from vmport_converters.sandbox import Sandbox, landlock_version, make_ruleset
from vmport_formats.errors import UnreadableInput
from vmport_formats.units import GIB, Bytes

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
SECRET = b"secret of the host\n" + bytes(493)
LIMITS = Limits(address_space=Bytes(8 * GIB))

# Everything here is about what the kernel does; without Landlock there is only the last test.
confining = landlock_version() > 0


def box(folder: Path, *readable: Path) -> Sandbox:
    (folder / "out").mkdir(exist_ok=True)
    return Sandbox(readable, (folder / "out",))


def leaky(folder: Path, kind: str) -> Path:
    """An image that names the host's secret in one of the ways that qemu follows."""
    secret = folder / "secret"
    secret.write_bytes(SECRET)
    image = folder / f"{kind}.img"
    create = ["qemu-img", "create", "-q", "-u", "-f", "qcow2"]
    if kind == "extent":
        image.write_text(vmdk.descriptor(f'RW 1 FLAT "{secret}" 0'))
        return image
    if kind == "data file":
        data = folder / "data"
        options = f"data_file={data},data_file_raw=on,preallocation=metadata"
        create.remove("-u")
        subprocess.run([*create, "-o", options, image, "64k"], check=True)
        data.unlink()
        data.symlink_to(secret)
        return image
    backing = {
        "backing": str(secret),
        "json": f'json:{{"driver":"raw","file":{{"driver":"file","filename":"{secret}"}}}}',
    }[kind]
    subprocess.run([*create, "-b", backing, "-F", "raw", image, "512"], check=True)
    return image


def convert(image: Path, folder: Path, sandbox: Sandbox | None) -> tuple[int, bytes, str]:
    out = folder / "out" / "copy"
    out.unlink(missing_ok=True)
    tool = shutil.which("qemu-img")
    assert tool is not None
    source = "vmdk" if "extent" in image.name else "qcow2"
    argv = [tool, "convert", "-f", source, "-O", "raw", str(image), "./copy"]
    done = run(argv, limits=LIMITS, sandbox=sandbox, folder=folder / "out")
    return done.status, out.read_bytes() if out.exists() else b"", done.stderr


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize("kind", ["extent", "data file", "backing", "json"])
def test_leaks_are_stopped(kind: str, tmp_path: Path) -> None:
    image = leaky(tmp_path, kind)
    (tmp_path / "out").mkdir()
    status, copy, said = convert(image, tmp_path, None)
    assert (status, SECRET[:18] in copy) == (0, True), said  # it is a leak
    if not confining:
        return
    status, copy, said = convert(image, tmp_path, box(tmp_path, image))
    assert status != 0
    assert "Permission denied" in said
    assert SECRET[:18] not in copy
    # What is granted can still be read.
    status, copy, said = convert(image, tmp_path, box(tmp_path, image, tmp_path / "secret"))
    assert (status, SECRET[:18] in copy) == (0, True), said


@pytest.mark.needs("qemu-img")
def test_no_connection_is_made(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    image = tmp_path / "nbd.img"
    with socket.create_server(("127.0.0.1", 0)) as server:
        backing = f"nbd://127.0.0.1:{server.getsockname()[1]}/disk"
        create = ["qemu-img", "create", "-q", "-u", "-f", "qcow2"]
        subprocess.run([*create, "-b", backing, "-F", "raw", image, "512"], check=True)
        server.settimeout(0.2)
        tried = []
        for sandbox in (None, box(tmp_path, image)):
            tool = str(shutil.which("qemu-img"))
            argv = ["/usr/bin/timeout", "1", tool, "info", "--backing-chain", str(image)]
            run(argv, limits=LIMITS, sandbox=sandbox)
            try:
                server.accept()[0].close()
                tried.append(True)
            except TimeoutError:
                tried.append(False)
    assert tried == [True, not (confining and landlock_version() >= 4)]


def test_only_the_writable_folder_is_written(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.write_text("given")
    script = (
        f"cat {given}; echo x > out/new; echo x > {given}; echo x > {tmp_path}/other; rm {given}"
    )
    done = run(["/bin/sh", "-c", script], sandbox=box(tmp_path, given), folder=tmp_path)
    assert done.stdout == b"given"
    assert (tmp_path / "out" / "new").exists()
    if confining:
        assert given.read_text() == "given"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["given", "out"]


def test_a_tool_in_a_prefix_of_its_own(tmp_path: Path) -> None:
    tool = tmp_path / "prefix" / "bin" / "mytool"
    tool.parent.mkdir(parents=True)
    shutil.copy("/bin/cat", tool)
    given = tmp_path / "given"
    given.write_text("given")
    assert run([str(tool), str(given)], sandbox=box(tmp_path, given)).stdout == b"given"


def test_a_file_that_has_gone(tmp_path: Path) -> None:
    if confining:
        with pytest.raises(UnreadableInput, match="cannot open"):
            run(["/bin/true"], sandbox=box(tmp_path, tmp_path / "missing"))
    assert len(os.listdir("/proc/self/fd")) < 200  # noqa: PTH208 - a count is enough


@pytest.mark.parametrize("version", [0, 1, 2, 3, 5])
def test_older_kernels(version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # An older version of the interface is asked for less; none at all confines nothing.
    monkeypatch.setattr(sandbox_module, "landlock_version", lambda: version)
    ruleset = make_ruleset(box(tmp_path), "/bin/true")
    assert (ruleset is None) == (version == 0 or not confining)
    if ruleset is not None:
        os.close(ruleset)
    script = f"cat {tmp_path}/secret"
    (tmp_path / "secret").write_bytes(SECRET)
    done = run(["/bin/sh", "-c", script], sandbox=box(tmp_path))
    assert (done.status == 0) == (version == 0 or not confining)
