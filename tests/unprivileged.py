"""Runs code as a user without rights, even where that user may not read this checkout.

The process starts as root, loads all code that it may need, and then gives its rights up for good:
a checkout below `/root` is closed to everybody else.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

NOBODY: Final = 65534

_PROGRAM: Final = """
import os, pkgutil, sys, warnings
from contextlib import suppress
from importlib import import_module
warnings.simplefilter("ignore")
ours = ["vmport_formats", "vmport_converters", "vmport"]
for root in [*ours, "typer", "rich", "isal", "backports.zstd"]:
    with suppress(ImportError):
        for module in pkgutil.walk_packages(import_module(root).__path__, root + "."):
            if not module.name.endswith("__main__"):
                with suppress(Exception):
                    import_module(module.name)
os.setgroups([])
os.setresgid({nobody}, {nobody}, {nobody})
os.setresuid({nobody}, {nobody}, {nobody})
{code}
"""


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
