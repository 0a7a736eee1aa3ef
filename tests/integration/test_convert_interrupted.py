"""^C in each phase of the native engine: heard within a second, and nothing is left."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20

# Says on stdout when the phase that it was told has begun and is not done.
TELLING = """
import sys
from vmport.__main__ import main
from vmport.render.progress import ProgressDisplay

wanted = sys.argv.pop(1)  # the phase, behind which of several disks it is of

def update(self, phase, share, size):
    global wanted
    if wanted and (self._of + phase).endswith(wanted) and share < 1:
        print(phase, flush=True)
        wanted = None

ProgressDisplay.update = update
main()
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk that takes some tenths of a second to write or to read."""
    path = tmp_path_factory.mktemp("source") / "in.raw"
    dice = random.Random(1)
    part = b"".join(dice.randbytes(512) + b"text" * 384 for _ in range(512))
    with path.open("wb") as file:
        for number in range(192):
            file.write(number.to_bytes(4, "big") + part[4:])
    return path


@pytest.mark.parametrize("phase", ["converting", "verifying"])
@pytest.mark.parametrize("options", ["raw", "qcow2", "vmdk,subformat=streamOptimized"])
def test_heard_within_a_second(options: str, phase: str, source: Path, tmp_path: Path) -> None:
    target, _, option = options.partition(",")
    out = tmp_path / f"out.{target}"
    convert = ["convert", *(["-o", option] if option else []), str(source), str(out)]
    took: list[float] = []
    while not took or (took[-1] > 1 and len(took) < 3):  # others may want the processors too
        with subprocess.Popen(
            [sys.executable, "-c", TELLING, phase, *convert],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == f"{phase}\n"
            process.send_signal(signal.SIGINT)
            sent = time.monotonic()
            _, said = process.communicate(timeout=20)
            took.append(time.monotonic() - sent)
        assert process.returncode == 130
        assert said == "vmport: interrupted; nothing half done was left behind\n"
        assert list(tmp_path.iterdir()) == []
    assert took[-1] < 1


def test_of_several_those_that_are_done_stay(source: Path, tmp_path: Path) -> None:
    (tmp_path / "first.raw").write_bytes(b"first" * 99999)
    (tmp_path / "to").mkdir()
    convert = ["convert", "--to", "qcow2", str(tmp_path / "first.raw"), str(source)]
    with subprocess.Popen(
        [sys.executable, "-c", TELLING, "(2 of 2): converting", *convert, str(tmp_path / "to")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        while process.stdout.readline() not in {"converting\n", ""}:
            pass
        process.send_signal(signal.SIGINT)
        printed, said = process.communicate(timeout=20)
    assert (process.returncode, printed) == (130, "")
    assert said.splitlines()[-1] == "vmport: interrupted; nothing half done was left behind"
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["first.qcow2"]
