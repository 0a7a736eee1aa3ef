"""Exports in real engines: they load, run, hold no kernel, and are as their source was."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.odd_rootfs import LEFT_OUT
from tests.tree import Facts, look_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from tests.conftest import Vmport
    from tests.integration.engines import Containerd, Docker, Podman

pytestmark = pytest.mark.needs_root

_PROOF = """
find / -xdev -name 'vmlinuz*' | sed 's/^/kernel: /'
find /lib/modules/ /boot/ -mindepth 1 | sed 's/^/kernel: /'
dpkg -l 2>/dev/null | grep linux-image
dpkg --version >/dev/null 2>&1 && dpkg --verify dpkg && echo dpkg is whole
echo end
"""


class Engine(Protocol):
    """What the tests ask of an engine."""

    def load(self, image: Path) -> None:
        """Take the Docker archive at `image`, which is called ``vmport-test``."""
        ...

    def output(self, script: str) -> str:
        """What `script` prints in a shell in a container of it."""
        ...

    def started(self) -> AbstractContextManager[int]:
        """The id of a process in a running container of it."""
        ...


class DockerEngine:
    """Docker, through testcontainers as its users do."""

    def __init__(self, docker: Docker) -> None:
        self._docker = docker

    def load(self, image: Path) -> None:
        said = self._docker.run("load", "-i", image).stdout
        assert b"Loaded image: vmport-test:latest" in said

    def output(self, script: str) -> str:
        return self._docker.run(
            "run", "--rm", "--network=none", "vmport-test", "/bin/sh", "-c", script
        ).stdout.decode()

    @contextmanager
    def started(self) -> Iterator[int]:
        from testcontainers.core.container import DockerContainer

        with DockerContainer("vmport-test:latest").with_command("sleep 600") as container:
            wrapped = container.get_wrapped_container()
            wrapped.reload()
            yield int(wrapped.attrs["State"]["Pid"])


class ContainerdEngine:
    """containerd, through ctr."""

    _NAME = "docker.io/library/vmport-test:latest"

    def __init__(self, containerd: Containerd) -> None:
        self._containerd = containerd

    def load(self, image: Path) -> None:
        self._containerd.ctr("image", "import", image)

    def output(self, script: str) -> str:
        return self._containerd.ctr(
            "run", "--rm", self._NAME, "output", "/bin/sh", "-c", script
        ).stdout.decode()

    @contextmanager
    def started(self) -> Iterator[int]:
        self._containerd.ctr("run", "--detach", self._NAME, "started", "sleep", "600")
        try:
            tasks = self._containerd.ctr("task", "list").stdout.decode().splitlines()
            yield next(int(line.split()[1]) for line in tasks if line.startswith("started"))
        finally:
            self._containerd.ctr("task", "kill", "--signal", "SIGKILL", "started")
            self._containerd.ctr("task", "delete", "started", check=False)
            self._containerd.ctr("container", "delete", "started", check=False)


class PodmanEngine:
    """Podman, as root."""

    _RUN = ("run", "--network=none", "--ulimit=nofile=512:512", "--ulimit=nproc=512:512")

    def __init__(self, podman: Podman) -> None:
        self._podman = podman

    def load(self, image: Path) -> None:
        said = self._podman.run("load", "-i", image).stdout
        assert b"vmport-test:latest" in said

    def output(self, script: str) -> str:
        return self._podman.run(
            *self._RUN, "--rm", "vmport-test", "/bin/sh", "-c", script
        ).stdout.decode()

    @contextmanager
    def started(self) -> Iterator[int]:
        self._podman.run(*self._RUN, "--detach", "--name=started", "vmport-test", "sleep", "600")
        try:
            pid = self._podman.run("inspect", "--format={{.State.Pid}}", "started").stdout
            yield int(pid)
        finally:
            self._podman.run("rm", "--force", "--time=0", "started")


class RuncEngine:
    """runC, on what umoci unpacks of an OCI layout that skopeo makes of the archive."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, image: Path) -> None:
        layout, bundle = self._folder / "layout", self._folder / "bundle"
        for old in (layout, bundle):
            subprocess.run(["rm", "-rf", old], check=True)
        copy = ["skopeo", "copy", "--quiet", f"docker-archive:{image}", f"oci:{layout}:latest"]
        subprocess.run(copy, check=True)
        unpack = ["umoci", "unpack", "--image", f"{layout}:latest", str(bundle)]
        subprocess.run(unpack, check=True, capture_output=True)

    def _configure(self, *command: str) -> None:
        path = self._folder / "bundle/config.json"
        config = json.loads(path.read_text())
        config["process"]["terminal"] = False
        config["process"]["args"] = list(command)
        config["process"].pop("rlimits", None)
        path.write_text(json.dumps(config))

    def _runc(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = ["runc", "--root", str(self._folder / "state"), *arguments]
        return subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)

    def output(self, script: str) -> str:
        self._configure("/bin/sh", "-c", script)
        return self._runc("run", "--bundle", str(self._folder / "bundle"), "output").stdout.decode()

    @contextmanager
    def started(self) -> Iterator[int]:
        self._configure("sleep", "600")
        bundle = str(self._folder / "bundle")
        command = ["runc", "--root", str(self._folder / "state"), "run", "--detach", "--bundle"]
        subprocess.run(
            [*command, bundle, "started"],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            yield json.loads(self._runc("state", "started").stdout)["pid"]
        finally:
            self._runc("delete", "--force", "started")


ENGINES = [
    pytest.param("docker", marks=pytest.mark.needs("docker", "dockerd", "runc", "ip")),
    pytest.param("containerd", marks=pytest.mark.needs("containerd", "ctr", "runc")),
    pytest.param("podman", marks=pytest.mark.needs("podman", "runc")),
    pytest.param("runc", marks=pytest.mark.needs("skopeo", "umoci", "runc")),
]


@pytest.fixture
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    match request.param:
        case "docker":
            return DockerEngine(request.getfixturevalue("docker"))
        case "containerd":
            return ContainerdEngine(request.getfixturevalue("containerd"))
        case "podman":
            return PodmanEngine(request.getfixturevalue("podman"))
    return RuncEngine(tmp_path)


@pytest.fixture(scope="module")
def odd_image(
    vmport: Vmport, odd_rootfs: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, set[bytes]]:
    """The export of the odd root filesystem, and the paths that it says it left out."""
    image = tmp_path_factory.mktemp("image") / "odd.tar"
    done = vmport("export", odd_rootfs, image, "--tag", "vmport-test", "--json")
    report = json.loads(done.stdout)
    dropped = [item for item in report["dropped"] if item["action"] == "dropped"]
    return image, {os.fsencode(item["path"]).strip(b"/") for item in dropped}


@pytest.fixture(scope="module")
def debian_image(
    vmport: Vmport, debian_tar: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    image = tmp_path_factory.mktemp("image") / "debian.tar"
    vmport("export", debian_tar, image, "--tag", "vmport-test")
    return image


_FROM_THE_ENGINE = frozenset({b"dev", b"proc", b"sys", b"run", b".dockerenv"}) | {
    b"etc/" + name for name in (b"hostname", b"hosts", b"resolv.conf", b"mtab", b"mtab~")
}
_CHANGED = frozenset({b"etc/fstab", b"etc/machine-id", b"var/log/syslog"})
_STRIPPED = frozenset({"security.selinux", "trusted.overlay.origin"})


def _comparable(facts: dict[bytes, Facts], left_out: set[bytes]) -> dict[bytes, Facts]:
    """`facts` without what engines add, what was left out, and the names that went with that."""
    kept = {path: one for path, one in facts.items() if path not in left_out}
    groups: dict[bytes, list[bytes]] = {}
    for path, one in kept.items():
        if one.first_name is not None:
            groups.setdefault(one.first_name, []).append(path)
    first = {path: min(group) for group in groups.values() if len(group) > 1 for path in group}
    return {
        path: replace(
            one,
            first_name=first.get(path),
            content="" if path in _CHANGED else one.content,
            # Docker writes the times before 1970 as 1970, and engines write into / and /etc.
            mtime=None if path in {b"", b"etc"} or (one.mtime or 0) <= 0 else one.mtime,
            xattrs=tuple(pair for pair in one.xattrs if pair[0] not in _STRIPPED),
        )
        for path, one in kept.items()
    }


@pytest.mark.needs("busybox", "setfacl")
@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_a_container_sees_what_the_source_holds(
    engine: Engine, odd_rootfs: Path, odd_image: tuple[Path, set[bytes]]
) -> None:
    image, left_out = odd_image
    assert {path.encode() for path in LEFT_OUT} <= left_out
    engine.load(image)
    truth = _comparable(look_at(odd_rootfs, skip=_FROM_THE_ENGINE), left_out)
    with engine.started() as process:
        inside = look_at(Path(f"/proc/{process}/root"), skip=_FROM_THE_ENGINE)
    seen = _comparable(inside, set())
    if isinstance(engine, PodmanEngine):  # it gives the root a mode of its own
        seen[b""] = truth[b""]
    assert sorted(set(truth) ^ set(seen)) == []
    assert {path: (truth[path], seen[path]) for path in truth if truth[path] != seen[path]} == {}


@pytest.mark.needs("busybox", "setfacl", "skopeo", "umoci")
def test_skopeo_and_umoci_read_every_form_as_the_same_image(
    vmport: Vmport, odd_rootfs: Path, tmp_path: Path
) -> None:
    forms = {"oci": "oci", "oci-archive": "oci-archive", "docker-archive": "oci-archive"}
    for form, transport in forms.items():
        path = tmp_path / form
        report = vmport("export", odd_rootfs, path, "--as", form, "--tag", "a/web:1", "--json")
        image = json.loads(report.stdout)["image"]
        command = ["skopeo", "inspect", "--raw", f"{transport}:{path}:1"]
        raw = subprocess.run(command, check=True, capture_output=True).stdout
        assert f"sha256:{hashlib.sha256(raw).hexdigest()}" == image["manifest"]
        assert json.loads(raw)["config"]["digest"] == image["id"]
        inspect = ["skopeo", "inspect", f"{transport}:{path}:1"]
        seen = json.loads(subprocess.run(inspect, check=True, capture_output=True).stdout)
        assert (seen["Os"], seen["Architecture"]) == ("linux", image["architecture"].split("/")[0])
        assert seen["Layers"] == [image["layers"][0]["digest"]]
    stat = ["umoci", "stat", "--json", "--image", f"{tmp_path / 'oci'}:1"]
    history = json.loads(subprocess.run(stat, check=True, capture_output=True).stdout)["history"]
    assert [line["layer"]["digest"] for line in history] == [image["layers"][0]["digest"]]


@pytest.mark.needs("mmdebstrap")
@pytest.mark.parametrize("engine", ENGINES[:2], indirect=True)
def test_a_debian_runs_without_its_kernel_and_its_package_database_is_whole(
    engine: Engine, debian_image: Path
) -> None:
    engine.load(debian_image)
    *packages, whole, end = engine.output(_PROOF).splitlines()
    assert packages, "dpkg -l should still list the kernel's package"
    assert [line.split()[0] for line in packages] == ["ii"] * len(packages)
    assert (whole, end) == ("dpkg is whole", "end")
