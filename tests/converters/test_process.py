"""An outside program gets exact arguments and firm limits, and never outlives its caller."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vmport_converters.process import Limits, find_tool, run, secret_pipe
from vmport_converters.sandbox import Sandbox
from vmport_formats.errors import ToolFailed, ToolMissing
from vmport_formats.units import MIB

SH = "/bin/sh"


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for_death(pid: int) -> None:
    end = time.monotonic() + 5
    while alive(pid):
        assert time.monotonic() < end, f"{pid} still runs"
        time.sleep(0.01)


def test_arguments_are_passed_to_the_byte() -> None:
    words = ["", " ", "\n", "-n", "$(id)", "a,b=c", "\udcff\udcfe", "盘"]
    done = run(["/usr/bin/printf", r"%s\0", *words]).check()
    assert done.stdout == b"".join(os.fsencode(word) + b"\0" for word in words)


def test_stdin_is_empty_and_the_folder_is_chosen(tmp_path: Path) -> None:
    assert run([SH, "-c", "cat; pwd -P"], folder=tmp_path).stdout.decode() == f"{tmp_path}\n"


def test_secrets_come_through_pipes_that_end() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    word, words = b"x", bytes(range(256)) * 16
    with secret_pipe(word) as one, secret_pipe(words) as other:
        names = [f"/dev/fd/{one}", f"/dev/fd/{other}"]
        done = run(["/bin/cat", *names], descriptors=(one, other), sandbox=Sandbox((), ()))
        assert done.check().stdout == word + words
    with secret_pipe(b"nobody reads it") as one:
        run([SH, "-c", f"exec 9<&- ; [ -e /dev/fd/{one} ]"], descriptors=(one,)).check()
        assert run([SH, "-c", f"[ -e /dev/fd/{one} ]"]).status == 1  # who is not given it
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_environment_speaks_english_and_can_be_added_to() -> None:
    done = run([SH, "-c", 'echo "$LC_ALL $EXTRA"; ls /missing'], environment={"EXTRA": "yes"})
    assert done.stdout == b"C.UTF-8 yes\n"
    assert "No such file or directory" in done.stderr


def test_signals_are_as_a_program_expects_them() -> None:
    # With SIGPIPE ignored, as Python does, `yes` would complain instead of ending quietly.
    done = run([SH, "-c", "yes | head -n 1"]).check()
    assert (done.stdout, done.stderr) == (b"y\n", "")


def test_output_comes_in_pieces_while_the_program_runs() -> None:
    pieces: list[tuple[bytes, float]] = []
    run(
        [SH, "-c", "printf a; sleep 0.3; printf b"],
        on_output=lambda piece: pieces.append((piece, time.monotonic())),
    )
    assert [piece for piece, _ in pieces] == [b"a", b"b"]
    assert pieces[1][1] - pieces[0][1] > 0.2


def test_a_failure_names_the_program_and_its_last_word() -> None:
    done = run([SH, "-c", "echo first >&2; echo 'sh: out of luck' >&2; echo >&2; exit 3"])
    assert done.status == 3
    with pytest.raises(ToolFailed) as caught:
        done.check(path="some.vmdk")
    assert str(caught.value) == "some.vmdk: sh ended with status 3: out of luck"
    assert caught.value.code == "tool.sh"
    done.check(accept=(0, 3))
    with pytest.raises(ToolFailed, match="signal 9: it said nothing"):
        run([SH, "-c", "kill -9 $$"]).check()


def test_a_program_that_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match=r"cannot start .*: No such file"):
        run([str(tmp_path / "missing")]).check()


def test_a_missing_tool_is_named_with_its_package() -> None:
    with pytest.raises(ToolMissing) as caught:
        find_tool("no-such-tool", package="some-package", purpose="do a thing")
    assert caught.value.exit_code == 5
    assert caught.value.hint == "apt-get install some-package"


def test_limits_are_errors_of_the_program_not_its_death(tmp_path: Path) -> None:
    write = [SH, "-c", "head -c 2097152 /dev/zero > x"]
    done = run(write, limits=Limits(file_size=MIB), folder=tmp_path)
    assert done.status > 0
    assert "File too large" in done.stderr
    assert (tmp_path / "x").stat().st_size == MIB
    assert run(write, limits=Limits(file_size=2 * MIB), folder=tmp_path).status == 0
    hungry = [sys.executable, "-c", "bytes(1 << 30)"]
    assert "MemoryError" in run(hungry, limits=Limits(address_space=512 * MIB)).stderr
    assert run(hungry).status == 0
    assert run([SH, "-c", "ulimit -c"]).stdout == b"0\n"


def test_a_lower_limit_of_our_own_is_no_error() -> None:
    code = (
        f"import resource, sys; sys.path[:0] = {sys.path!r}\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "from vmport_converters.process import Limits, run\n"
        "limits = Limits(address_space=1 << 40, open_files=1 << 30)\n"
        "print(run(['/bin/sh', '-c', 'ulimit -v; ulimit -n'], limits=limits).check().stdout)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"b'{1 << 20}\\n")


def test_endless_output_is_bounded() -> None:
    with pytest.raises(ToolFailed, match="printed more than"):
        run(["/usr/bin/yes"])
    done = run([SH, "-c", "yes | head -c 300000 >&2; echo end >&2"])
    assert len(done.stderr) == 1 << 16
    assert done.stderr.endswith("y\nend\n")


def test_what_it_leaves_in_the_background_holds_nobody_up() -> None:
    begin = time.monotonic()
    done = run([SH, "-c", "sleep 60 & echo $!"])
    assert time.monotonic() - begin < 5
    os.kill(int(done.stdout), signal.SIGKILL)


def test_an_exception_kills_the_program_and_its_children() -> None:
    pids: list[int] = []

    def stop(chunk: bytes) -> None:
        pids.extend(map(int, chunk.split()))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run([SH, "-c", "sleep 60 & echo $! $$; wait"], on_output=stop)
    assert len(pids) == 2
    for pid in pids:
        wait_for_death(pid)


def test_many_at_once() -> None:
    results: list[bytes] = []
    threads = [
        threading.Thread(
            target=lambda number: results.append(run([SH, "-c", f"echo {number}"]).stdout),
            args=(number,),
        )
        for number in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(int, results)) == list(range(12))


RUNNER = """
import signal, sys
sys.path[:0] = {paths!r}
from vmport_converters.process import run

def stop(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGTERM, stop)
try:
    run(["/bin/sh", "-c", "echo $$; exec sleep 60"],
        on_output=lambda piece: print(piece.decode(), end="", flush=True))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_the_program_dies_with_us(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RUNNER.format(paths=sys.path)], stdout=subprocess.PIPE, text=True
    ) as runner:
        assert runner.stdout is not None
        pid = int(runner.stdout.readline())
        assert alive(pid)
        begin = time.monotonic()
        runner.send_signal(number)
        assert runner.wait(10) == (-9 if number is signal.SIGKILL else 130)
        assert time.monotonic() - begin < 1
    wait_for_death(pid)
