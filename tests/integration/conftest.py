"""Engines and root filesystems, started or made once for all tests of a process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.integration.debian_rootfs import debian_rootfs
from tests.integration.engines import (
    Containerd,
    Docker,
    Podman,
    podman_storage,
    running_containerd,
    running_docker,
)
from tests.odd_rootfs import make_odd_rootfs

# testcontainers reads this when it is imported; its reaper is an image that would be downloaded.
os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """A Docker daemon, on which testcontainers works, too."""
    with (
        running_docker(tmp_path_factory.mktemp("docker")) as daemon,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("DOCKER_HOST", daemon.host)
        yield daemon


@pytest.fixture(scope="session")
def containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    with running_containerd(tmp_path_factory.mktemp("containerd")) as daemon:
        yield daemon


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    with podman_storage(tmp_path_factory.mktemp("podman")) as storage:
        yield storage


@pytest.fixture(scope="session")
def odd_rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every oddity; root only, for owners, devices and capabilities."""
    root = tmp_path_factory.mktemp("odd") / "root"
    root.mkdir()
    make_odd_rootfs(root, privileged=True)
    return root


@pytest.fixture(scope="session")
def debian_tar() -> Path:
    """A tar of a real Debian with a kernel."""
    return debian_rootfs()
