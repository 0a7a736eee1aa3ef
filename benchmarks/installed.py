"""Vmport as whoever installs it has it: a wheel in a virtual environment of its own.

The environment of a checkout has an editable install instead, whose finder alone takes some 15 ms
of every start, and modules that are compiled anew.  What is measured here is what users run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

from benchmarks.debian_disk import CACHE, Missing

_ROOT: Final = Path(__file__).resolve().parent.parent
_FOLDERS: Final = ("vmport", "formats", "converters")
_FILES: Final = ("pyproject.toml", "README.md", "LICENSE")


def program(name: str) -> str:
    """The path of ``python`` or ``vmport``.

    Raises:
        Missing: as `installed`.
    """
    return str(installed() / name)


@cache
def installed() -> Path:
    """The folder of its programs, ``python`` and ``vmport``; made once, then brought up to date.

    Raises:
        Missing: pip failed, as it does without an index.
    """
    home = CACHE / "installed"
    programs = home / "bin"
    if not (programs / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    pip = [str(programs / "python"), "-m", "pip", "install", "--quiet"]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder)  # a copy: setuptools builds where the source is
        for name in _FOLDERS:
            shutil.copytree(_ROOT / name, source / name)
        for name in _FILES:
            shutil.copy(_ROOT / name, source)
        constraints = ["--constraint", str(_ROOT / "constraints.txt")]
        done = subprocess.run([*pip, *constraints, str(source)], capture_output=True, text=True)
    if done.returncode:
        raise Missing(f"pip cannot install vmport ({done.stderr.strip()[-300:]})")
    return programs
