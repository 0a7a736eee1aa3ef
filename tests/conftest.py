"""What all tests share: the marker for outside programs, and a runner for the command line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Protocol

import pytest

from tests import samples

if TYPE_CHECKING:
    from pathlib import Path

IN_CI = os.environ.get("CI", "") not in {"", "0", "false"}


def _lacking(item: pytest.Item) -> str | None:
    """What `item` needs and this machine has not, and how to get it."""
    wanted = [tool for mark in item.iter_markers("needs") for tool in mark.args]
    if tools := [tool for tool in wanted if shutil.which(tool) is None]:
        return f"MISSING PROGRAM: {', '.join(tools)}; run `make setup` as root"
    if item.get_closest_marker("needs_root") and os.geteuid() != 0:
        return "MISSING RIGHTS: only root may start engines, make devices and give files away"
    if item.get_closest_marker("qemu_samples") and samples.missing():
        return "MISSING SAMPLES of qemu; run `python3 tests/samples.py`"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that lack something, loudly; where CI is set they run, and so fail."""
    for item in items:
        if not IN_CI and (reason := _lacking(item)):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Where CI is set, a missing program or sample fails its tests by name."""
    if IN_CI and (reason := _lacking(item)):
        pytest.fail(reason, pytrace=False)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--regenerate`` rewrites the golden files; read the diff before you commit it."""
    parser.addoption("--regenerate", action="store_true", help="rewrite the golden files")


class Golden(Protocol):
    """Compares a text with the file that holds what it should be."""

    def __call__(self, path: Path, text: str) -> None: ...


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    def compare(path: Path, text: str) -> None:
        if request.config.getoption("--regenerate"):
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8"), f"{path} differs; see --regenerate"

    return compare


class Vmport(Protocol):
    """Runs the command line in a process of its own, as a user does."""

    def __call__(
        self, *arguments: str | Path, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture(scope="session")
def vmport() -> Vmport:
    def run(
        *arguments: str | Path, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "vmport", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200", **environment},
        )
        assert "Traceback" not in done.stderr, done.stderr
        if check:
            assert done.returncode == 0, done.stderr
        return done

    return run
