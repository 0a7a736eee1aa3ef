"""A destination is absent, as it was, or complete, whatever happens to the run that makes it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vmport_converters.publish import publishing
from vmport_formats.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534

SET = ("disk.vmdk", "disk-s001.vmdk", "disk-s002.vmdk")
"""A destination of several files, named by the first."""


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of ours, while we are not root: root may do anything."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "mine")
        folder.mkdir()
        root = os.geteuid() == 0
        if root:
            Path(name).chmod(0o755)
            os.chown(folder, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        try:
            yield folder
        finally:
            if root:
                os.seteuid(0)


def write_set(destination: Path, mark: str, *, force: bool, meanwhile: Path | None = None) -> None:
    """Publish the set; somebody else writes the file `meanwhile` while we work."""
    with publishing(destination, force=force) as staging:
        for name in SET:
            (staging.folder / name).write_text(f"{mark} {name}")
        if meanwhile is not None:
            meanwhile.write_text("somebody else's")


def content(folder: Path) -> dict[str, str]:
    """What a user sees in the folder: no name of ours, no hidden one either."""
    return {path.name: path.read_text() for path in sorted(folder.iterdir()) if path.is_file()}


def whole_set(mark: str) -> dict[str, str]:
    return {name: f"{mark} {name}" for name in sorted(SET)}


def test_a_file_appears_with_its_companions_and_the_scratch_folder_goes(tmp_path: Path) -> None:
    with publishing(tmp_path / "disk.vmdk") as staging:
        assert staging.path.parent == staging.folder
        assert list(tmp_path.iterdir()) == [staging.folder.parent]
        (staging.scratch / "note").write_text("for the work only")
        staging.path.write_text("a")
        (staging.folder / "disk-flat.vmdk").write_text("b")
    assert content(tmp_path) == {"disk-flat.vmdk": "b", "disk.vmdk": "a"}
    assert len(list(tmp_path.iterdir())) == 2


def test_an_exception_leaves_all_as_it_was(tmp_path: Path) -> None:
    write_set(tmp_path / SET[0], "old", force=False)
    with (
        pytest.raises(ZeroDivisionError),
        publishing(tmp_path / SET[0], force=True) as staging,
    ):
        staging.path.write_text(str(1 / 0))
    assert content(tmp_path) == whole_set("old")
    assert len(list(tmp_path.iterdir())) == len(SET)


def test_a_late_refusal_of_one_companion_undoes_the_others(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="exists already"):
        write_set(tmp_path / SET[0], "new", force=False, meanwhile=tmp_path / SET[2])
    assert content(tmp_path) == {SET[2]: "somebody else's"}


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("folder", "output.folder"),
        ("fifo", "output.special"),
        ("device", "output.special"),
        ("no folder", "output.no-folder"),
        ("below a file", "output.write"),
        ("dots", "output.name"),
        ("long name", "output.write"),
    ],
)
def test_what_is_never_replaced(tmp_path: Path, kind: str, code: str, force: bool) -> None:
    target = tmp_path / "out.raw"
    if kind == "folder":
        target.mkdir()
    elif kind == "fifo":
        os.mkfifo(target)
    elif kind == "device":
        target = Path("/dev/null")
    elif kind == "no folder":
        target = tmp_path / "missing" / "out.raw"
    elif kind == "below a file":
        (tmp_path / "file").write_text("")
        target = tmp_path / "file" / "out.raw"
    elif kind == "dots":
        target = tmp_path / ".."
    else:
        target = tmp_path / ("n" * 256)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OutputError) as caught, publishing(target, force=force):
        pytest.fail("the work was begun")
    assert caught.value.code == code
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("kind", ["file", "link", "dangling link"])
def test_what_is_replaced_by_force_only(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "out.raw"
    elsewhere = tmp_path / "elsewhere"
    if kind == "file":
        target.write_text("old")
    else:
        target.symlink_to(elsewhere)
    if kind == "link":
        elsewhere.write_text("old")
    with pytest.raises(OutputError) as caught, publishing(target):
        pytest.fail("the work was begun")
    assert caught.value.code == "output.exists"
    with publishing(target, force=True) as staging:
        staging.path.write_text("new")
    assert target.read_text() == "new"
    assert not target.is_symlink()
    if kind == "link":  # the link gave way, not what it led to
        assert elsewhere.read_text() == "old"


def test_a_folder_is_replaced_when_it_is_marked_as_ours(tmp_path: Path) -> None:
    target = tmp_path / "image"
    target.mkdir()
    (target / "diary").write_text("precious")
    with (
        pytest.raises(OutputError, match="other content"),
        publishing(target, force=True, folder_marker="oci-layout"),
    ):
        pytest.fail("the work was begun")
    (target / "oci-layout").write_text("")
    with publishing(target, force=True, folder_marker="oci-layout") as staging:
        staging.path.mkdir()
        (staging.path / "index.json").write_text("{}")
    assert [path.name for path in target.iterdir()] == ["index.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["image"]


def test_a_tree_with_links_pipes_and_closed_folders(unprivileged: Path) -> None:
    target = unprivileged / "rootfs"
    for attempt in range(2):
        try:
            with publishing(target, folder_marker="x") as staging:
                staging.path.mkdir()
                os.mkfifo(staging.path / "pipe")  # opening it would wait for ever
                (staging.path / "link").symlink_to("/dev/zero")
                (staging.path / "closed").mkdir()
                (staging.path / "closed" / "file").write_text("")
                (staging.path / "closed").chmod(0)
                if attempt == 0:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            assert list(unprivileged.iterdir()) == []
    (target / "closed").chmod(0o700)
    assert sorted(path.name for path in target.iterdir()) == ["closed", "link", "pipe"]


@pytest.mark.parametrize("name", ["n" * 255, "盘" * 85, "\udcff\udcfe,='\n", "-rf"])
def test_names_of_every_length_and_sort(tmp_path: Path, name: str) -> None:
    for force in (False, True):
        with publishing(tmp_path / name, force=force) as staging:
            staging.path.write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("force", [False, True])
def test_many_runs_to_one_destination_at_once(tmp_path: Path, force: bool) -> None:
    runs = 8
    ready = threading.Barrier(runs)
    outcomes: list[str] = []

    def one(mark: str) -> None:
        try:
            with publishing(tmp_path / SET[0], force=force) as staging:
                for name in SET:
                    (staging.folder / name).write_text(f"{mark} {name}")
                ready.wait()
        except OutputError as error:
            outcomes.append(error.code)
        else:
            outcomes.append(mark)

    threads = [threading.Thread(target=one, args=(f"run {number}",)) for number in range(runs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == runs
    winners = [outcome for outcome in outcomes if outcome != "output.exists"]
    assert len(winners) >= 1 if force else len(winners) == 1
    assert content(tmp_path) in [whole_set(mark) for mark in winners]
    assert len(list(tmp_path.iterdir())) == len(SET)


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = {paths!r}
from vmport_converters import publish

at, folder, force = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "force"
seen = 0

def before(function):
    def counted(*arguments, **options):
        global seen
        seen += 1
        if seen == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return counted

# Every call that changes a name, and the flushes between them.
for name in ("rename_new", "flush_folder", "flush_tree", "remove_tree"):
    setattr(publish, name, before(getattr(publish, name)))
Path.rename = before(Path.rename)
Path.replace = before(Path.replace)
with publish.publishing(folder / {first!r}, force=force) as staging:
    for name in {names!r}:
        (staging.folder / name).write_text(f"new {{name}}")
"""


@pytest.mark.parametrize("force", [False, True])
def test_killed_at_every_step(tmp_path: Path, force: bool) -> None:
    code = KILLED.format(paths=sys.path, first=SET[0], names=SET)
    before = whole_set("old") if force else {}
    outcomes: list[str] = []
    for step in range(1, 40):
        folder = tmp_path / str(step)
        folder.mkdir()
        if force:
            write_set(folder / SET[0], "old", force=False)
        done = subprocess.run(
            [sys.executable, "-c", code, str(step), folder, "force" if force else "-"], check=False
        )
        seen = content(folder)
        if SET[0] in seen:  # the destination is there: then all of it is, and of one kind
            assert seen in (whole_set("old"), whole_set("new")), step
        # The next run cleans up first; that it fails later must not matter.
        with pytest.raises(ZeroDivisionError), publishing(folder / SET[0], force=True):
            raise ZeroDivisionError
        assert content(folder) in (before, whole_set("new")), step
        assert not [path for path in folder.iterdir() if path.is_dir()], step
        outcomes.append("new" if content(folder) == whole_set("new") else "before")
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
    # The sweep ended because the run did, and both sides of the turning point were met.
    assert done.returncode == 0
    assert outcomes == sorted(outcomes)
    assert {"before", "new"} == set(outcomes[:-1])


def test_a_living_run_is_not_swept(tmp_path: Path) -> None:
    with publishing(tmp_path / "out") as first:
        first.path.write_text("first")
        with publishing(tmp_path / "out") as second:
            second.path.write_text("second")
            assert first.path.exists()
        with pytest.raises(OutputError, match="exists already"), publishing(tmp_path / "out"):
            pass
        assert first.path.exists()
        (tmp_path / "out").unlink()
    assert content(tmp_path) == {"out": "first"}


INTERRUPTED = """
import signal, sys
from pathlib import Path
sys.path[:0] = {paths!r}
from vmport_converters.publish import publishing

def stop(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGTERM, stop)
folder = Path(sys.argv[1])
try:
    print("ready", flush=True)  # which may be heard before this line is done
    for turn in range(1000):
        with publishing(folder / {first!r}, force=True) as staging:
            for name in {names!r}:
                (staging.folder / name).write_text(f"{{turn}} {{name}}")
except KeyboardInterrupt:
    # As the command line does: an interpreter that ends gives its handlers up.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(130)
"""


def test_interrupted_at_random_times(tmp_path: Path) -> None:
    dice = random.Random(20)
    code = INTERRUPTED.format(paths=sys.path, first=SET[0], names=SET)
    for turn in range(24):
        with subprocess.Popen(
            [sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            time.sleep(dice.uniform(0, 0.03))
            number = (signal.SIGINT, signal.SIGTERM)[turn % 2]
            for _ in range(dice.choice((1, 1, 3))):  # an impatient user
                child.send_signal(number)
            assert child.wait(10) == 130
        seen = content(tmp_path)
        assert {text.split()[1] for text in seen.values()} in (set(), set(SET))
        assert len({text.split()[0] for text in seen.values()}) <= 1
        assert len(list(tmp_path.iterdir())) in (0, len(SET))


FULL = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
from vmport_converters.publish import publishing
from vmport_formats.errors import OutputError

folder = Path(sys.argv[1])
try:
    with publishing(folder / "out") as staging, staging.path.open("wb") as file:
        while True:
            file.write(bytes(65536))
except OutputError as error:
    print(error)
print([path.name for path in folder.iterdir()])
"""


@pytest.mark.needs("unshare", "mount")
def test_a_full_file_system(tmp_path: Path) -> None:
    code = FULL.format(paths=sys.path)
    done = subprocess.run(
        [
            "unshare",
            *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]),
            "--mount",
            "sh",
            "-c",
            'mount -t tmpfs -o size=1m none "$1" && exec "$2" -c "$3" "$1"',
            "sh",
            tmp_path,
            sys.executable,
            code,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        f"{tmp_path / 'out'}: cannot be written: No space left on device",
        "[]",
    ]


def test_a_folder_that_may_not_be_written(unprivileged: Path) -> None:
    folder = unprivileged / "closed"
    folder.mkdir()
    folder.chmod(0o555)
    with pytest.raises(OutputError, match="Permission denied"), publishing(folder / "out"):
        pytest.fail("the work was begun")


def test_a_folder_that_may_be_written_but_not_listed(unprivileged: Path) -> None:
    folder = unprivileged / "drop"
    folder.mkdir()
    folder.chmod(0o300)
    with publishing(folder / "out") as staging:
        staging.path.write_text("x")
    folder.chmod(0o700)
    assert content(folder) == {"out": "x"}
