"""Starts container engines for the tests and for `make demo`; needs root, but not pytest.

Each engine keeps everything in a folder of its own and ends with its block, so that nothing of the
machine's own Docker or containerd is touched: no firewall rules, no docker0.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE = 60.0


class EngineFailed(Exception):
    """An engine did not start; the message ends with what it said."""


@dataclass(frozen=True)
class Docker:
    """A Docker daemon that answers."""

    host: str
    """For DOCKER_HOST."""

    def run(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """Run the docker command on this daemon."""
        return _run(["docker", *map(str, arguments)], check=check, DOCKER_HOST=self.host)


@dataclass(frozen=True)
class Containerd:
    """A containerd of our own."""

    socket: Path

    def ctr(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """Run ctr on it, in a namespace of our own."""
        command = ["ctr", "--address", str(self.socket), "--namespace", "vmport"]
        return _run([*command, *map(str, arguments)], check=check)


@dataclass(frozen=True)
class Podman:
    """Podman with a storage of its own; it has no daemon."""

    folder: Path
    state: Path

    def run(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """Run podman on that storage."""
        command = [
            "podman", "--root", f"{self.folder}/root", "--runroot", f"{self.state}/run",
            "--tmpdir", f"{self.state}/tmp", "--storage-driver", "overlay",
            "--cgroup-manager", "cgroupfs", "--events-backend", "file",
        ]  # fmt: skip
        return _run([*command, *map(str, arguments)], check=check)


@contextmanager
def podman_storage(folder: Path) -> Iterator[Podman]:
    """Podman with its storage in `folder`, which can be removed afterwards."""
    with _state_folder(folder) as state:  # podman takes no run folder of more than 50 characters
        yield Podman(folder, state)


@contextmanager
def running_docker(folder: Path) -> Iterator[Docker]:
    """The Docker daemon that answers already, or else one of our own that keeps to `folder`.

    Raises:
        EngineFailed: it does not answer within a minute.
    """
    answering = _answering_docker()
    if answering is not None:
        yield answering
        return
    socket = folder / "docker.sock"
    host = f"unix://{socket}"
    with _bridge() as bridge, _state_folder(folder) as state:
        command = [
            "dockerd", "--host", host, "--data-root", f"{folder}/data", "--exec-root", str(state),
            "--pidfile", f"{folder}/docker.pid", "--config-file", f"{folder}/no-config.json",
            # Published ports go through Docker's own proxy; the machine's firewall stays as it is.
            "--bridge", bridge, "--iptables=false", "--ip6tables=false", "--ip-masq=false",
        ]  # fmt: skip
        (folder / "no-config.json").write_text("{}")
        with _daemon(command, folder / "dockerd.log") as log:
            docker = Docker(host)
            _wait(lambda: docker.run("info", check=False).returncode == 0, log)
            yield docker


@contextmanager
def running_containerd(folder: Path) -> Iterator[Containerd]:
    """A containerd of our own that keeps to `folder`.

    Raises:
        EngineFailed: it does not answer within a minute.
    """
    with _state_folder(folder) as state:
        socket = state / "c.sock"
        config = folder / "containerd.toml"
        config.write_text(
            f'version = 2\nroot = "{folder}/root"\nstate = "{state}/state"\n'
            f'[grpc]\n  address = "{socket}"\n'
        )
        with _daemon(["containerd", "--config", str(config)], folder / "containerd.log") as log:
            containerd = Containerd(socket)
            _wait(lambda: containerd.ctr("version", check=False).returncode == 0, log)
            yield containerd


def _answering_docker() -> Docker | None:
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    docker = Docker(host)
    with suppress(OSError):
        if docker.run("version", check=False).returncode == 0:
            return docker
    return None


@contextmanager
def _bridge() -> Iterator[str]:
    """A network bridge of our own, for docker0 belongs to the machine."""
    _remove_dead_bridges()
    name = f"vmp{os.getpid()}"
    # A network that RFC 5737 keeps for documentation, so that nobody else routes it.
    network = f"198.51.100.{os.getpid() % 15 * 16 + 1}/28"
    _run(["ip", "link", "add", name, "type", "bridge"])
    try:
        _run(["ip", "address", "add", network, "dev", name])
        _run(["ip", "link", "set", name, "up"])
        yield name
    finally:
        _run(["ip", "link", "delete", name], check=False)


def _remove_dead_bridges() -> None:
    for path in Path("/sys/class/net").glob("vmp[0-9]*"):
        owner = path.name.removeprefix("vmp")
        if owner.isdecimal() and not Path("/proc", owner).exists():
            _run(["ip", "link", "delete", path.name], check=False)


@contextmanager
def _state_folder(folder: Path) -> Iterator[Path]:
    """A folder with a short name for sockets: their paths may have 107 bytes at most."""
    folder.mkdir(parents=True, exist_ok=True)
    state = Path("/run") / f"vmport-{os.getpid()}-{time.monotonic_ns() % 10**6}"
    state.mkdir(mode=0o700)
    try:
        yield state
    finally:
        _unmount_below(folder)
        _unmount_below(state)
        shutil.rmtree(state, ignore_errors=True)


def _unmount_below(folder: Path) -> None:
    """Engines leave mounts behind, their own storage folder among them."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in sorted(mounts, reverse=True):
        if Path(mount).is_relative_to(folder):
            _run(["umount", "--lazy", mount], check=False)


@contextmanager
def _daemon(command: list[str], log: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A daemon that is asked to stop, and then made to, when the block is left."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process, log
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(answers: object, daemon: tuple[subprocess.Popen[bytes], Path]) -> None:
    process, log = daemon
    assert callable(answers)
    end = time.monotonic() + _PATIENCE
    while not answers():
        if process.poll() is not None or time.monotonic() > end:
            said = log.read_text(errors="replace").splitlines()[-5:]
            raise EngineFailed("\n".join(["the engine did not start; it said:", *said]))
        time.sleep(0.1)


def _run(
    command: list[str], *, check: bool = True, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        env={**os.environ, **environment},
    )
    if check and done.returncode:
        said = done.stderr.decode(errors="replace")
        raise EngineFailed(f"{' '.join(command)} ended with {done.returncode}: {said}")
    return done
