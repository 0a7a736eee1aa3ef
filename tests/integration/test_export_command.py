"""``vmport export`` as its users run it: the same image every time, clear words when it fails."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from backports import zstd

from tests.odd_rootfs import make_odd_rootfs
from tests.unprivileged import NOBODY, let_in, vmport_as_nobody

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Vmport


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """What any user can make: no device nodes, all of one owner."""
    root = tmp_path / "rootfs"
    root.mkdir()
    make_odd_rootfs(root, privileged=False)
    return root


def _tree_bytes(path: Path) -> dict[str, bytes]:
    if path.is_file():
        return {"": path.read_bytes()}
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def _tar(root: Path, archive: Path) -> None:
    command = ["tar", "--create", "--format=posix", "--xattrs", "--xattrs-include=*"]
    subprocess.run(
        [*command, "--sort=inode", f"--file={archive}", f"--directory={root}", "."],
        check=True,
        capture_output=True,
    )


_COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "zstd": zstd.compress,
    "xz": lambda data: lzma.compress(data, preset=0),
}


@pytest.mark.needs("busybox", "setfacl", "tar")
@pytest.mark.parametrize(
    ("form", "compressions"),
    [("oci", ["zstd"]), ("oci-archive", ["xz"]), ("docker-archive", ["plain", "gzip"])],
)
def test_the_same_source_is_the_same_image_byte_for_byte(
    vmport: Vmport, rootfs: Path, tmp_path: Path, form: str, compressions: list[str]
) -> None:
    archive = tmp_path / "rootfs.tar"
    _tar(rootfs, archive)
    sources = [rootfs, rootfs]
    for name in compressions:  # the content tells how it is compressed, not the name
        sources.append(tmp_path / name)
        sources[-1].write_bytes(_COMPRESSORS[name](archive.read_bytes()))
    images = []
    for number, source in enumerate(sources):
        destination = tmp_path / f"image-{number}"
        vmport("export", source, destination, "--as", form, "--tag", "web:1")
        images.append(_tree_bytes(destination))
    assert all(image == images[0] for image in images)


@pytest.mark.needs("busybox", "setfacl")
def test_source_date_epoch_clamps_times(vmport: Vmport, rootfs: Path, tmp_path: Path) -> None:
    destination = tmp_path / "image"
    vmport("export", rootfs, destination, SOURCE_DATE_EPOCH="1700000000")
    config, layer = _open(destination)
    assert config["created"] == config["history"][0]["created"] == "2023-11-14T22:13:20Z"
    times = {member.name: member.mtime for member in layer.getmembers()}
    assert max(times.values()) == 1_700_000_000
    assert times["opt/suid"] == pytest.approx(1_600_000_000.123456789)


def _open(layout: Path) -> tuple[Any, tarfile.TarFile]:
    """The configuration and the layer of an OCI layout."""

    def blob(digest: str) -> bytes:
        return (layout / "blobs" / digest.replace(":", "/")).read_bytes()

    index = json.loads((layout / "index.json").read_bytes())
    manifest = json.loads(blob(index["manifests"][0]["digest"]))
    layer = gzip.decompress(blob(manifest["layers"][0]["digest"]))
    config = json.loads(blob(manifest["config"]["digest"]))
    return config, tarfile.open(fileobj=io.BytesIO(layer))


@pytest.mark.needs("busybox", "setfacl")
def test_every_path_is_in_the_image_or_in_the_list(
    vmport: Vmport, rootfs: Path, tmp_path: Path
) -> None:
    destination, listed = tmp_path / "image", tmp_path / "dropped.json"
    done = vmport("export", rootfs, destination, "--json", "--dropped", listed)
    report = json.loads(done.stdout)
    _, layer = _open(destination)
    names = {os.fsencode(name) for name in layer.getnames()} - {b"."}
    source = {
        os.path.relpath(os.fsencode(os.path.join(here, name)), os.fsencode(rootfs))  # noqa: PTH118
        for here, folders, files in os.walk(rootfs)
        for name in (*folders, *files)
    }
    dropped = {
        os.fsencode(item["path"])[1:] for item in report["dropped"] if item["action"] == "dropped"
    }
    assert names | dropped == source
    assert not names & dropped
    assert report["image"]["layers"][0]["entries"] == len(names) + 1
    listing = json.loads(listed.read_text())
    assert listing["dropped"] == report["dropped"]
    assert sum(total["paths"] for total in report["dropped-by-rule"]) == len(report["dropped"])
    assert all({"rule", "size", "path", "action"} <= set(item) for item in report["dropped"])


@pytest.mark.needs("busybox", "setfacl")
def test_options_say_how_to_run_it(vmport: Vmport, rootfs: Path, tmp_path: Path) -> None:
    destination = tmp_path / "image"
    vmport(
        "export", rootfs, destination, "--entrypoint", '["/bin/httpd", "-f"]', "--cmd",
        "-p 8080 -h '/srv data'", "--env", "A=1=2", "--env", "PATH=/bin", "--port", "8080",
        "--port", "53/udp", "--workdir", "/srv", "--user", "user:100", "--label", "a=b",
        "--stop-signal", "SIGQUIT", "--owner", "7:8", "--drop", "/opt", "--keep", "/opt/acl",
    )  # fmt: skip
    config, layer = _open(destination)
    assert config["config"] == {
        "Entrypoint": ["/bin/httpd", "-f"],
        "Cmd": ["-p", "8080", "-h", "/srv data"],
        "Env": ["PATH=/bin", "A=1=2"],
        "ExposedPorts": {"53/udp": {}, "8080/tcp": {}},
        "WorkingDir": "/srv",
        "User": "user:100",
        "Labels": {"a": "b"},
        "StopSignal": "SIGQUIT",
    }
    assert {(member.uid, member.gid) for member in layer.getmembers()} == {(7, 8)}
    assert {name for name in layer.getnames() if name.startswith("opt")} == {"opt", "opt/acl"}


@pytest.mark.needs("busybox", "setfacl", "tar")
def test_a_tar_on_standard_input(rootfs: Path, tmp_path: Path, vmport: Vmport) -> None:
    archive = tmp_path / "rootfs.tar"
    _tar(rootfs, archive)
    with archive.open("rb") as stdin:
        command = [sys.executable, "-m", "vmport", "export", "-", str(tmp_path / "from-stdin.tar")]
        done = subprocess.run(command, stdin=stdin, capture_output=True, text=True, check=True)
    assert "Docker archive" in done.stdout
    vmport("export", archive, tmp_path / "from-file.tar")
    assert _tree_bytes(tmp_path / "from-stdin.tar") == _tree_bytes(tmp_path / "from-file.tar")


@pytest.mark.needs_root
@pytest.mark.needs("busybox", "setfacl", "tar")
def test_an_unprivileged_user_exports_folders_and_tars_with_foreign_owners(
    rootfs: Path, tmp_path: Path, vmport: Vmport
) -> None:
    let_in(tmp_path)
    archive, own, work = tmp_path / "rootfs.tar", tmp_path / "own", tmp_path / "work"
    _tar(rootfs, archive)
    archive.chmod(0o644)
    subprocess.run(["cp", "-a", rootfs, own], check=True)
    subprocess.run(["chown", "-R", "-h", "65534:65534", own], check=True)
    work.mkdir()
    os.chown(work, NOBODY, NOBODY)

    def as_nobody(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return vmport_as_nobody("export", *arguments)

    # A tar: exactly what root makes of it.
    done = as_nobody(archive, work / "from-tar")
    assert done.returncode == 0, done.stderr
    vmport("export", archive, tmp_path / "by-root")
    assert _tree_bytes(work / "from-tar") == _tree_bytes(tmp_path / "by-root")
    # A folder of the user's own, with owners that the user chooses.
    done = as_nobody(own, work / "from-folder", "--owner", "0:0")
    assert done.returncode == 0, done.stderr
    _, layer = _open(work / "from-folder")
    assert {(member.uid, member.gid) for member in layer.getmembers()} == {(0, 0)}
    # What lies where the user may not look.
    hidden = as_nobody("/root/hidden/rootfs", work / "hidden")
    assert (hidden.returncode, "Permission denied" in hidden.stderr) == (3, True)
    # A folder of somebody else's with a closed file: told, and left out on request.
    refused = as_nobody(rootfs, work / "refused")
    assert refused.returncode == 3
    assert "may not be read by this user [export.unreadable]" in refused.stderr
    assert not (work / "refused").exists()
    skipped = as_nobody(rootfs, work / "skipped", "--skip-unreadable", "--json")
    assert skipped.returncode == 0, skipped.stderr
    left_out = {item["path"] for item in json.loads(skipped.stdout)["dropped"]}
    assert {"/root", "/opt/unreadable-by-others"} <= left_out


def _corrupt_tar(tmp_path: Path) -> Path:
    path = tmp_path / "corrupt.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("a", "b"):
            info = tarfile.TarInfo(name)
            info.size = 1000
            tar.addfile(info, io.BytesIO(bytes(1000)))
    return path


def _bad_source(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / kind
    whole = _corrupt_tar(tmp_path).read_bytes()
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "empty":
            path.touch()
        case "truncated":
            path.write_bytes(whole[:2000])
        case "truncated.gz":
            path.write_bytes(gzip.compress(os.urandom(4000) + whole)[:3000])
        case "corrupt":
            path.write_bytes(whole[:1540] + b"!!!!" + whole[1544:])
        case "image.qcow2":
            path.write_bytes(b"QFI\xfb" + bytes(2000))
        case "link-to-itself":
            path.symlink_to(path)
        case "dev-zero":
            return Path("/dev/zero")
    return path


@pytest.mark.parametrize(
    "kind",
    ["missing", "fifo", "empty", "truncated", "truncated.gz", "corrupt", "image.qcow2",
     "link-to-itself", "dev-zero"],
)  # fmt: skip
def test_bad_sources_end_with_3_and_one_line(vmport: Vmport, tmp_path: Path, kind: str) -> None:
    source = _bad_source(tmp_path, kind)
    before = sorted(tmp_path.iterdir())
    done = vmport("export", source, tmp_path / "image", check=False)
    assert done.returncode == 3
    assert done.stdout == ""
    first, *hints = done.stderr.splitlines()
    assert first.startswith(f"vmport: error: {source}: ")
    assert all(line.startswith("  hint: ") for line in hints)
    assert sorted(tmp_path.iterdir()) == before


def test_a_bomb_is_stopped_and_leaves_nothing(vmport: Vmport, tmp_path: Path) -> None:
    bombs = {"sparse": _sparse_bomb(tmp_path), "gzip": _gzip_bomb(tmp_path)}
    for source in bombs.values():
        before = sorted(tmp_path.iterdir())
        done = vmport("export", source, tmp_path / "image", "--max-size", "50M", check=False)
        assert done.returncode == 4
        assert "[export.content]" in done.stderr
        assert sorted(tmp_path.iterdir()) == before


def _sparse_bomb(tmp_path: Path) -> Path:
    path = tmp_path / "sparse.tar"
    pax = {"GNU.sparse.size": str(1 << 50), "GNU.sparse.map": "0,0", "GNU.sparse.name": "big"}
    info = tarfile.TarInfo("big")
    info.pax_headers = pax
    path.write_bytes(info.tobuf(tarfile.PAX_FORMAT) + bytes(1024))
    return path


def _gzip_bomb(tmp_path: Path) -> Path:
    path = tmp_path / "bomb.tar.gz"
    info = tarfile.TarInfo("big")
    info.size = 100 << 20
    with gzip.open(path, "wb", 1) as file:
        file.write(info.tobuf())
        for _ in range(101):
            file.write(bytes(1 << 20))
    return path


def test_source_and_destination_are_kept_apart(vmport: Vmport, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "bin").mkdir(parents=True)
    (tmp_path / "link").symlink_to("source")
    (source / "oci-layout").touch()  # --force would take the folder for an old image
    tar = _corrupt_tar(tmp_path)
    for destination in (source, source / "bin/image", tmp_path / "link", tmp_path):
        done = vmport("export", source, destination, "--force", check=False)
        assert (done.returncode, "[export.overlap]" in done.stderr) == (2, True), destination
    assert vmport("export", tar, tar, "--force", check=False).returncode == 2
    assert (source / "bin").is_dir()


def test_a_destination_that_is_there_stays_unless_forced(vmport: Vmport, tmp_path: Path) -> None:
    source, image = tmp_path / "source", tmp_path / "image"
    (source / "bin").mkdir(parents=True)
    vmport("export", source, image)
    first = _tree_bytes(image)
    assert vmport("export", source, image, check=False).returncode == 6
    (source / "bin/new").touch()
    vmport("export", source, image, "--force")
    assert _tree_bytes(image) != first
    home = tmp_path / "home"
    home.mkdir()
    (home / "precious").touch()
    assert vmport("export", source, home, "--force", check=False).returncode == 6
    assert (home / "precious").exists()


@pytest.mark.needs_root
def test_a_full_disk_leaves_nothing(vmport: Vmport, tmp_path: Path) -> None:
    small, source = tmp_path / "small", tmp_path / "source"
    small.mkdir()
    (source / "bin").mkdir(parents=True)
    (source / "bin/noise").write_bytes(os.urandom(4 << 20))
    archive = tmp_path / "source.tar.gz"
    subprocess.run(["tar", "-czf", archive, "-C", source, "."], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small], check=True)
    try:
        for what in (source, archive):
            for destination in ("image", "image.tar"):
                done = vmport("export", what, small / destination, check=False)
                assert done.returncode == 6
                assert "No space left" in done.stderr
                assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True)


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "bin").mkdir(parents=True)
    target.mkdir()
    for number in range(40):
        (source / f"bin/{number}").write_bytes(os.urandom(4 << 20))
    command = [sys.executable, "-m", "vmport", "export", str(source), str(target / "image.tar")]
    for number in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while process.poll() is None and not any(_sizes(target)):
            time.sleep(0.005)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 130, stderr
        assert b"Traceback" not in stderr
        assert list(target.iterdir()) == []


def _sizes(folder: Path) -> list[int]:
    return [path.stat().st_size for path in folder.rglob("*.tar") if path.exists()]


@pytest.mark.parametrize(
    "options",
    [["--as", "zip"], ["--tag", "UPPER"], ["--port", "0"], ["--workdir", "srv"], ["--env", "A"],
     ["--cmd", '["a"'], ["--cmd", "'a"], ["--owner", "root"], ["--max-size", "much"],
     ["--drop", "/"], ["--user", "a b"], ["--stop-signal", "TERM"], ["--label", "=x"]],
)  # fmt: skip
def test_wrong_usage(vmport: Vmport, tmp_path: Path, options: list[str]) -> None:
    source = tmp_path / "source"
    (source / "bin").mkdir(parents=True)
    done = vmport("export", source, tmp_path / "image", *options, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("vmport: error: ")
    assert not (tmp_path / "image").exists()
