"""The house stands as agreed: storeys, one door for programs, lean start-up, one distribution."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for folder in ("vmport", "formats/vmport_formats", "converters/vmport_converters")
    for path in (ROOT / folder).rglob("*.py")
]


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_imports_run_downward_only() -> None:
    done = subprocess.run(
        [
            Path(sys.executable).with_name("lint-imports"),
            "--no-cache",
            "--config",
            "pyproject.toml",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_only_process_starts_programs() -> None:
    starters = {
        path.relative_to(ROOT).as_posix()
        for path in SOURCES
        if _imports(path) & {"subprocess", "multiprocessing", "pty"}
    }
    assert starters == {"converters/vmport_converters/process.py"}


def test_only_the_face_prints() -> None:
    printers = {
        path.relative_to(ROOT).parts[:2]
        for path in SOURCES
        if "rich" in _imports(path) or "typer" in _imports(path)
    }
    assert {folder for folder, _ in printers} == {"vmport"}


@pytest.mark.parametrize("package", ["vmport", "vmport_formats", "vmport_converters"])
def test_packages_are_typed(package: str) -> None:
    home = {"vmport": ROOT, "vmport_formats": ROOT / "formats"}.get(package, ROOT / "converters")
    assert (home / package / "py.typed").exists()


def _loaded_by(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.split(".")[0] for name in done.stdout.split()}


def test_the_command_line_starts_lean() -> None:
    heavy = {"lxml", "yaml", "hashlib", "vmport_converters", "zlib", "isal"}
    idle = _loaded_by("import typer")
    assert not (_loaded_by("import vmport.cli") - idle) & heavy


def test_the_formats_stand_alone() -> None:
    loaded = _loaded_by("import vmport_formats, vmport_formats.disk.probe")
    assert not loaded & {"typer", "rich", "lxml", "yaml", "vmport", "vmport_converters"}


def test_the_wheel_claims_three_names(tmp_path: Path) -> None:
    source = tmp_path / "source"  # a copy: setuptools builds where the source is
    for folder in ("vmport", "formats", "converters"):
        shutil.copytree(ROOT / folder, source / folder)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, source],
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "vmport",
        "vmport_formats",
        "vmport_converters",
    }
    assert {f"{top}/py.typed" for top in tops if not top.endswith(".dist-info")} <= set(names)
