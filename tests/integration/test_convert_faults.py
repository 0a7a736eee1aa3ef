"""Whatever happens to a conversion: the destination is absent, as it was, or complete."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vmport.cli import run

pytestmark = pytest.mark.needs("qemu-img", "qemu-io")

MIB = 1 << 20
SPLIT = "subformat=twoGbMaxExtentSparse"


def vmport(*words: str | Path) -> list[str]:
    """The command line, to be run in a process of its own."""
    return [sys.executable, "-m", "vmport", *map(str, words)]


def qemu(*words: str | Path) -> str:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


HOSTILE = [
    "a,b=c,,d",
    "nbd:localhost:10809",
    'json:{"driver":"null-co"}',
    "file:x",
    "fat:rw:x",
    "-o",
    "--help",
    "\udcff\udcfe",
    " \n\t",
    "q\"u'o`te\\",
    "%s$(id)*?[a]",
    "盘" * 80,
]


FORMATS = ["qcow2", "vmdk", "vhd", "vhdx", "vdi"]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_a_name_is_but_a_name(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = HOSTILE[number]
    content = random.Random(5).randbytes(MIB)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / name).write_bytes(content)
    monkeypatch.chdir(tmp_path / "raw")
    last = "raw"
    for target in (FORMATS[number % 5], FORMATS[(number + 2) % 5], "raw"):
        folder = tmp_path / f"{target}.d"
        folder.mkdir()
        destination = folder / name if target in {"vmdk", "raw"} else Path("..", folder.name, name)
        arguments = ["-q", "convert", "--from", last, "--to", target]
        # As the shell passes it: a leading dash needs the two dashes.
        assert run([*arguments, "--", name, str(destination)]) == 0, capsys.readouterr().err
        assert names(folder) == [name]
        monkeypatch.chdir(folder)
        last = target
    assert (folder / name).read_bytes() == content


def test_a_name_that_a_vmdk_of_several_files_cannot_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.raw").write_bytes(bytes(MIB))
    for name in ('a"b.vmdk', "\udcff.vmdk", "a\nb.vmdk"):
        target = str(tmp_path / name)
        assert run(["convert", "-o", SPLIT, str(tmp_path / "in.raw"), target]) == 2
        assert "[usage.name]" in capsys.readouterr().err
    assert names(tmp_path) == ["in.raw"]


def test_a_backing_file_with_a_hostile_name(tmp_path: Path) -> None:
    (tmp_path / "a,b=c,file.filename=x").write_bytes(b"B" * MIB)
    backing = "./a,b=c,file.filename=x"
    top = tmp_path / "top.qcow2"
    qemu("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", backing, "-F", "raw", top, "1M")
    out = tmp_path / "out.raw"
    assert run(["-q", "convert", "--allow", str(tmp_path), str(top), str(out)]) == 0
    assert out.read_bytes() == b"B" * MIB


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk that takes a while to deflate."""
    path = tmp_path_factory.mktemp("heavy") / "heavy.raw"
    dice = random.Random(1)
    path.write_bytes(b"".join(dice.randbytes(512) + b"text" * 384 for _ in range(8 * 1024)))
    return path


STREAM = "subformat=streamOptimized"


# The tests may run under nohup, whose wish to pass over SIGHUP would be heeded.
STARTED = (
    "import signal, vmport.__main__ as it; signal.signal(signal.SIGHUP, signal.SIG_DFL); "
    "print(flush=True); it.main()"
)


def start(*words: str | Path) -> subprocess.Popen[str]:
    """A conversion in a process of its own, past the start of the interpreter."""
    process = subprocess.Popen(
        [sys.executable, "-c", STARTED, "-q", "convert", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "\n"
    return process


def wait_a_while(dice: random.Random, folder: Path) -> None:
    """Half of the times from the start, and else from when the output is begun."""
    end = time.monotonic() + 10
    if dice.random() < 0.5:
        time.sleep(dice.uniform(0, 0.3))
    else:
        while not any(name.startswith(".") for name in names(folder)) and time.monotonic() < end:
            time.sleep(0.005)
        time.sleep(dice.uniform(0, 0.1))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small disk of several files, to be replaced; its folder."""
    folder = tmp_path_factory.mktemp("old")
    (folder / "in.raw").write_bytes(b"old" * MIB)
    (folder / "set").mkdir()
    out = str(folder / "set" / "out.vmdk")
    assert run(["-q", "convert", "-o", SPLIT, str(folder / "in.raw"), out]) == 0
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopped_at_random_times(
    number: signal.Signals, heavy: Path, old: Path, tmp_path: Path
) -> None:
    dice = random.Random(number)
    before = contents(old / "set")
    stopped = 0
    took = []
    for turn in range(6):
        folder = tmp_path / str(turn)
        target = folder / "out.vmdk"
        replace = turn % 2 == 1
        if replace:
            shutil.copytree(old / "set", folder)
        else:
            folder.mkdir()
        with start("--force", "-o", SPLIT if replace else STREAM, heavy, target) as process:
            wait_a_while(dice, folder)
            process.send_signal(number)
            sent = time.monotonic()
            _, said = process.communicate(timeout=20)
            took.append(time.monotonic() - sent)
        assert not [name for name in names(folder) if name.startswith(".")]
        if contents(folder) != (before if replace else {}):  # it came too late
            qemu("qemu-img", "compare", "-f", "raw", "-F", "vmdk", heavy, target)
        else:
            assert process.returncode != 0
            stopped += 1
        if process.returncode == 0:
            continue
        if process.returncode != -number:  # or it came before it could be heard
            assert process.returncode == 130, said
            assert said == "vmport: interrupted; nothing half done was left behind\n"
    assert stopped
    assert sorted(took)[1] < 1  # half of them: others may want the processors too


def test_killed_at_random_times(heavy: Path, old: Path, tmp_path: Path) -> None:
    dice = random.Random(9)
    before = contents(old / "set")
    left_behind = 0
    for turn in range(8):
        folder = tmp_path / str(turn)
        target = folder / "out.vmdk"
        replace = turn % 2 == 1
        if replace:
            shutil.copytree(old / "set", folder)
        else:
            folder.mkdir()
        with start("--force", "-o", SPLIT if replace else STREAM, heavy, target) as process:
            wait_a_while(dice, folder)
            process.kill()
        if target.exists() and contents(folder) != before:
            qemu("qemu-img", "compare", "-f", "raw", "-F", "vmdk", heavy, target)
        left_behind += any(name.startswith(".") for name in names(folder))
        # The next run to this destination removes what was left behind.
        arguments = ["-q", "convert", "--force", "-o", SPLIT, str(old / "in.raw"), str(target)]
        assert run(arguments) == 0
        assert contents(folder).keys() == before.keys()
        qemu("qemu-img", "compare", "-f", "raw", "-F", "vmdk", old / "in.raw", target)
        assert names(folder) == sorted(before)
    assert left_behind


def test_qemu_img_dies_with_us(heavy: Path, tmp_path: Path) -> None:
    engine = ("--engine", "qemu-img")
    with start(*engine, "-o", STREAM, heavy, tmp_path / "out.vmdk") as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        end = time.monotonic() + 10
        while not (found := children.read_text().split()) and time.monotonic() < end:
            time.sleep(0.005)
        process.kill()
    child = Path("/proc", found[0])
    while child.exists() and time.monotonic() < end:
        time.sleep(0.01)
    assert not child.exists()


def in_a_small_file_system(folder: Path, megabytes: int, *words: str | Path) -> tuple[int, str]:
    """Run `words` where `folder` is a file system of so many MiB; code and stderr."""
    script = (
        'mount -t tmpfs -o size="$1"m none "$2" && shift 2 && "$@"; code=$?; ls -A "$0"; exit $code'
    )
    done = subprocess.run(
        [
            "unshare",
            *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]),
            "--mount",
            *("sh", "-c", script, str(folder), str(megabytes), str(folder)),
            *map(str, words),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "", f"left behind: {done.stdout}"
    return done.returncode, done.stderr


@pytest.mark.needs("unshare", "mount")
@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("raw", ""),
        ("qcow2", ""),
        ("vmdk", "subformat=monolithicSparse"),
        ("vmdk", "subformat=streamOptimized"),
        ("vmdk", "subformat=monolithicFlat"),
        ("vmdk", SPLIT),
        ("vhd", "subformat=dynamic"),
        ("vhd", "subformat=fixed"),
        ("vhdx", ""),
        ("vdi", ""),
    ],
)
def test_a_full_file_system(target: str, options: str, tmp_path: Path) -> None:
    (tmp_path / "in.raw").write_bytes(random.Random(3).randbytes(6 * MIB))
    folder = tmp_path / "small"
    folder.mkdir()
    wanted = ["-o", options] if options else []
    code, said = in_a_small_file_system(
        folder, 3, *vmport("convert", *wanted, tmp_path / "in.raw", folder / f"out.{target}")
    )
    assert code == 6
    *warnings, error = said.splitlines()
    assert error == (
        f"vmport: error: {folder / f'out.{target}'}: cannot be written: "
        "No space left on device [output.write]"
    )
    assert [line.startswith("vmport: warning: ") for line in warnings] == [True]


@pytest.mark.needs("unshare", "mount")
def test_space_that_is_needed_for_certain(tmp_path: Path) -> None:
    with (tmp_path / "in.raw").open("wb") as disk:
        disk.truncate(16 * MIB)
    folder = tmp_path / "small"
    folder.mkdir()
    convert = vmport("convert", tmp_path / "in.raw", folder / "out.raw")
    code, said = in_a_small_file_system(folder, 4, *convert, "-o", "preallocation=falloc")
    assert (code, "needs 16 MiB, but its file system has 4 MiB left" in said) == (6, True)


def test_a_source_that_changes_meanwhile(heavy: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.raw"
    shutil.copy(heavy, source)
    with start("-o", STREAM, source, tmp_path / "out.vmdk") as process:
        while process.poll() is None:
            with source.open("r+b") as file:
                file.write(b"changed")
            time.sleep(0.02)
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 3
    assert f"{source}: was changed while it was read; nothing was published" in said
    assert names(tmp_path) == ["in.raw"]


def test_a_source_that_is_in_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in.qcow2"
    qemu("qemu-img", "create", "-q", "-f", "qcow2", source, "1M")
    with subprocess.Popen(
        ["qemu-io", "-f", "qcow2", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as user:
        assert user.stdin is not None
        assert user.stdout is not None
        user.stdin.write("length\n")
        user.stdin.flush()
        user.stdout.readline()  # now it is open
        assert run(["convert", str(source), str(tmp_path / "out.raw")]) == 3
        user.stdin.close()
    assert "is in use by another program" in capsys.readouterr().err
    assert names(tmp_path) == ["in.qcow2"]


def test_two_runs_to_one_destination(heavy: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.vmdk"
    runs = [start("-o", STREAM, heavy, target) for _ in range(2)]
    said = [process.communicate(timeout=60)[1] for process in runs]
    assert sorted(process.returncode for process in runs) == [0, 6], said
    assert "exists already; it was not touched" in "".join(said)
    assert names(tmp_path) == ["out.vmdk"]
    qemu("qemu-img", "compare", "-f", "raw", "-F", "vmdk", heavy, target)


FAULTY = """#!/bin/sh
case "$1" in
{case}
esac
exec {real} "$@"
"""


@pytest.mark.parametrize(
    ("case", "code", "problem"),
    [
        # It says that it is done, but wrote something else, or of another size, or nothing.
        ('convert) {real} "$@" && for x; do :; done; printf x | dd of=$x bs=1 seek=700000'
         " conv=notrunc status=none; exit;;", 5, "differs from the source"),
        ("convert) for x; do :; done; {real} create -q -f raw $x 2M; exit;;", 5,
         "wrote a disk of 2097152 bytes instead of 1048576"),
        ("convert) exit 0;;", 6, "cannot be written: No such file"),
        ("convert) kill -9 $$;;", 5, "qemu-img ended with signal 9"),
        ("convert) echo oops >&2; exit 1;;", 5, "qemu-img ended with status 1: oops"),
        ('measure) echo "{{\\"required\\": 512}}"; exit;;', 4, "but qemu-img sees 512"),
    ],
)  # fmt: skip
def test_a_faulty_qemu_img(
    case: str, code: int, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    real = shutil.which("qemu-img")
    (tmp_path / "bin").mkdir()
    faulty = tmp_path / "bin" / "qemu-img"
    faulty.write_text(FAULTY.format(case=case.format(real=real), real=real))
    faulty.chmod(0o755)
    monkeypatch.setenv("PATH", f"{faulty.parent}:{os.environ['PATH']}")
    (tmp_path / "in.raw").write_bytes(bytes(MIB))
    paths = [str(tmp_path / "in.raw"), str(tmp_path / "out.img")]
    assert run(["convert", "--engine", "qemu-img", *paths]) == code
    assert problem in capsys.readouterr().err
    assert names(tmp_path) == ["bin", "in.raw"]


def test_no_qemu_img(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.raw").write_bytes(bytes(MIB))
    monkeypatch.setenv("PATH", str(tmp_path))
    flat = ["-o", "subformat=monolithicFlat"]
    assert run(["convert", *flat, str(tmp_path / "in.raw"), str(tmp_path / "out.vmdk")]) == 5
    assert capsys.readouterr().err == (
        "vmport: error: qemu-img is needed to write VMDK images, but is not on PATH "
        "[tool.qemu-img]\n  hint: apt-get install qemu-utils\n"
    )
    assert names(tmp_path) == ["in.raw"]
