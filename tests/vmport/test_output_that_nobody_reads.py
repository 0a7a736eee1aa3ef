"""`vmport ... | head -1` is no error, whatever prints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FIXTURES = Path(__file__).parents[2] / "fixtures"
MACHINE = FIXTURES / "machine/libvirt/debian-virtio/machine.xml"


@pytest.mark.parametrize(
    "arguments",
    [
        ["validate", "--rules"],
        ["validate", str(MACHINE)],
        ["validate", "--json", str(MACHINE)],
        ["translate", str(MACHINE), "out.vmx"],
        ["translate", "--json", str(MACHINE), "out.vmx"],
        ["inspect", "disk.raw"],
        ["inspect", "--json", "disk.raw"],
        ["export", str(FIXTURES / "guest-data/rootfs"), "out.tar"],
    ],
    ids=" ".join,
)
def test_a_reader_that_went_away_is_no_error(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(bytes(512))
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "vmport", *arguments],
            stdout=closed,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            check=False,
        )
    assert b"Traceback" not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr
