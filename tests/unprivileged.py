"""Runs code as a user without rights, even where that user may not read this checkout.

The process starts as root, loads all code that it may need, and then gives its rights up for good:
a checkout below `/root` is closed to everybody else.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

NOBODY: Final = 65534

_PROGRAM: Final = """
import os, pkgutil, sys, warnings
from contextlib import redirect_stderr, redirect_stdout, suppress
from importlib import import_module
warnings.simplefilter("ignore")
ours = ["vmport_formats", "vmport_converters", "vmport"]
for root in [*ours, "typer", "rich", "isal", "backports.zstd"]:
    with suppress(ImportError):
        for module in pkgutil.walk_packages(import_module(root).__path__, root + "."):
            if not module.name.endswith("__main__"):
                with suppress(Exception):
                    import_module(module.name)
from vmport.cli import run
with open(os.devnull, "w") as sink, redirect_stdout(sink), redirect_stderr(sink):
    run(["export", "/nonexistent", "/nonexistent/too"])  # what is loaded when options are read
os.setgroups([])
os.setresgid({nobody}, {nobody}, {nobody})
os.setresuid({nobody}, {nobody}, {nobody})
{code}
"""


def let_in(folder: Path) -> None:
    """Let everybody look into a temporary `folder`, and through those that it lies in."""
    for path in (folder, *folder.parents):
        if path == Path(tempfile.gettempdir()):
            return
        path.chmod(path.stat().st_mode | 0o055)


def run_as_nobody(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Python `code` with `arguments` in `sys.argv[1:]`."""
    return subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(nobody=NOBODY, code=code), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path)), "HOME": "/"},
    )


def vmport_as_nobody(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    return run_as_nobody("from vmport.cli import main; main()", *arguments)
