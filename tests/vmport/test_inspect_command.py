"""`vmport inspect` as a user meets it: text, JSON, exit codes, and what it never does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests import specimens
from tests.qemu_variants import VARIANTS, make
from vmport_formats.units import format_size

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Vmport

pytestmark = [pytest.mark.needs("qemu-img"), pytest.mark.qemu_samples]


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A qcow2 over base.raw, both in one folder."""
    return make(VARIANTS["qcow2-over-raw"], tmp_path_factory.mktemp("overlay"))


def renamed_backing(image: Path, name: bytes, to: Path) -> Path:
    """A copy of `image` whose backing file is called `name`."""
    data = bytearray(image.read_bytes())
    start = int.from_bytes(data[8:16], "big")
    data[16:20] = len(name).to_bytes(4, "big")
    data[start : start + len(name)] = name
    to.write_bytes(data)
    return to


def assert_refused(done: subprocess.CompletedProcess[str], code: str, exit_code: int = 3) -> None:
    """One line that names the code, and at most one that says what to do."""
    assert done.returncode == exit_code
    assert done.stdout == ""
    first, *rest = done.stderr.splitlines()
    assert first.startswith("vmport: error: ")
    assert first.endswith(f"[{code}]")
    assert len(rest) <= 1
    assert all(line.startswith("  hint: ") for line in rest)


def test_text_shows_what_matters_in_one_look(overlay: Path, vmport: Vmport) -> None:
    lines = vmport("inspect", overlay).stdout.splitlines()
    status = overlay.stat()
    size = f"{format_size(status.st_size)} ({status.st_size} bytes)"
    on_disk = format_size(status.st_blocks * 512)
    assert lines == [
        str(overlay),
        "  format         qcow2 v3",
        "  virtual size   1 MiB (1048576 bytes)",
        f"  file size      {size}, {on_disk} on disk",
        "  cluster size   64 KiB",
        "  backing file   base.raw (raw)",
        "  compat         1.1",
        "  compression    zlib",
        "  refcount bits  16",
        "  safety         unsafe",
        "                 qcow2.backing-file: names another file (backing file): base.raw",
    ]


def test_verbose_text_has_every_field(overlay: Path, vmport: Vmport) -> None:
    image = make(VARIANTS["vhdx-dynamic-content"], overlay.parent)
    assert "file write guid" not in vmport("inspect", image).stdout
    text = vmport("-v", "inspect", image).stdout
    fields = json.loads(vmport("inspect", "--json", image).stdout)["format-specific"]["data"]
    for key, value in fields.items():
        assert value in ([], {}, None, False, "") or key.replace("-", " ") in text


def test_a_long_list_is_cut_in_text_and_whole_in_json(tmp_path: Path, vmport: Vmport) -> None:
    descriptor = tmp_path / "disk.vmdk"
    extents = "".join(f'RW 4096 FLAT "disk-f{n:03}.vmdk" 0\n' for n in range(1, 301))
    descriptor.write_text(
        "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n"
        f'createType="twoGbMaxExtentFlat"\n\n{extents}\nddb.adapterType = "ide"\n'
    )
    text = vmport("inspect", descriptor).stdout
    assert "and 296 more; --json lists all" in text
    assert "vmdk.extent: and 296 more like these" in text
    assert len(text.splitlines()) < 25
    assert len(json.loads(vmport("inspect", "--json", descriptor).stdout)["references"]) == 300


def test_one_source_is_an_object_and_several_are_an_array(overlay: Path, vmport: Vmport) -> None:
    one = json.loads(vmport("inspect", "--json", overlay).stdout)
    assert one["filename"] == str(overlay)
    assert one["full-backing-filename"] == str(overlay.parent / "base.raw")
    assert one["references"] == [{"kind": "backing-file", "filename": "base.raw", "format": "raw"}]
    assert one["safety"]["verdict"] == "unsafe"
    assert [item["code"] for item in one["safety"]["reasons"]] == ["qcow2.backing-file"]
    base = overlay.parent / "base.raw"
    several = json.loads(vmport("inspect", "--json", overlay, base).stdout)
    assert several == [one, json.loads(vmport("inspect", "--json", base).stdout)]
    assert several[1]["safety"] == {"verdict": "safe", "reasons": []}


def test_one_unreadable_source_does_not_hide_the_others(overlay: Path, vmport: Vmport) -> None:
    both = overlay.parent / "both.img"
    both.write_bytes(overlay.read_bytes() + b"conectix".ljust(512, b"\0"))
    sources = (overlay, "missing.img", both)
    done = vmport("inspect", "--json", *sources, check=False)
    assert done.returncode == 4, "the most severe: a polyglot is refused as unsafe"
    good, missing, polyglot = json.loads(done.stdout)
    assert good["format"] == "qcow2"
    assert missing == {
        "filename": "missing.img",
        "error": {"code": "source.open", "text": "cannot open: No such file or directory"},
    }
    assert polyglot["error"]["code"] == "probe.polyglot"
    assert done.stderr.count("vmport: error: ") == 2
    text = vmport("inspect", *sources, check=False)
    assert text.returncode == 4
    assert text.stdout.startswith(f"{overlay}\n  format         qcow2 v3\n")


@pytest.mark.parametrize("what", ["missing", "folder", "fifo", "device", "empty"])
def test_what_is_no_image_file_is_refused_at_once(
    what: str, tmp_path: Path, vmport: Vmport
) -> None:
    path = tmp_path / what
    code = "source.not-regular"
    match what:
        case "missing":
            code = "source.open"
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "empty":
            path.touch()
            code = "probe.empty"
    assert_refused(vmport("inspect", path, check=False), code)


def test_a_cut_image_of_each_format_is_refused(tmp_path: Path, vmport: Vmport) -> None:
    """But those whose mark is at the end, or whose metadata is shorter than that as a whole."""
    codes = []
    for name in specimens.NAMES:
        if name not in {"vhd-fixed", "dmg", "vmdk-descriptor", "qcow"}:
            (tmp_path / name).write_bytes(specimens.specimen(name)[:520])
            codes.append((name, specimens.format_of(name).code))
    done = vmport("inspect", *(tmp_path / name for name, _ in codes), check=False)
    assert done.returncode == 3
    assert done.stdout == ""
    errors = [line for line in done.stderr.splitlines() if not line.startswith("  hint: ")]
    assert len(errors) == len(codes)
    for error, (name, code) in zip(errors, codes, strict=True):
        assert error.startswith(f"vmport: error: {tmp_path / name}: ")
        assert f"[{code}." in error


def test_a_size_of_2_64_minus_1_is_refused(overlay: Path, tmp_path: Path, vmport: Vmport) -> None:
    data = bytearray(overlay.read_bytes())
    data[24:32] = b"\xff" * 8
    path = tmp_path / "huge.qcow2"
    path.write_bytes(data)
    assert_refused(vmport("inspect", path, check=False), "qcow2.size")


@pytest.mark.parametrize(
    ("name", "full"),
    [
        (b"/etc/passwd", "/etc/passwd"),
        (b'json:{"driver":"nbd","host":"::1"}', None),
        (b"nbd://127.0.0.1:9/x", None),
    ],
)
def test_a_named_file_is_never_opened(
    name: bytes, full: str | None, overlay: Path, tmp_path: Path
) -> None:
    image = renamed_backing(overlay, name, tmp_path / "image.qcow2")
    program = (
        "import os, sys\n"
        "seen = []\n"
        "sys.addaudithook(lambda event, args: seen.append((event, str(args))))\n"
        "from vmport.cli import run\n"
        "code = run(['inspect', '--json', sys.argv[1]])\n"
        "bad = [e for e in seen if e[0].startswith('socket.') or 'passwd' in e[1]\n"
        "       and e[0] in ('open', 'os.listdir', 'os.scandir', 'subprocess.Popen')]\n"
        "print(bad, file=sys.stderr)\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(image)], capture_output=True, text=True, check=True
    )
    assert done.stderr == "[]\n"
    shown: dict[str, Any] = json.loads(done.stdout)
    assert shown["backing-filename"] == name.decode()
    assert shown.get("full-backing-filename") == full
    assert shown["safety"]["verdict"] == "unsafe"


def test_text_from_an_image_drives_no_terminal(
    overlay: Path, tmp_path: Path, vmport: Vmport
) -> None:
    evil = b"\x1b]0;owned\x07\nformat: raw\r\xff"
    image = renamed_backing(overlay, evil, tmp_path / "image.qcow2")
    done = vmport("inspect", image, FORCE_COLOR="1")
    assert r"\x1b]0;owned\x07\nformat: raw\r\udcff" in done.stdout
    assert "\x07" not in done.stdout
    assert "\r" not in done.stdout
    shown = json.loads(vmport("inspect", "--json", image).stdout)
    assert os.fsencode(shown["backing-filename"]) == evil


def test_colours_are_for_terminals_and_those_who_want_them(overlay: Path) -> None:
    def shown(**environment: str) -> str:
        kept = {
            key: value
            for key, value in os.environ.items()
            if key not in {"NO_COLOR", "FORCE_COLOR", "TERM"}
        }
        return subprocess.run(
            [sys.executable, "-m", "vmport", "inspect", str(overlay)],
            capture_output=True,
            text=True,
            check=True,
            env={**kept, "TERM": "xterm-256color", **environment},
        ).stdout

    red = "\x1b[1;31munsafe\x1b[0m"
    assert "\x1b" not in shown()
    assert red in shown(FORCE_COLOR="1")
    assert "31m" not in shown(FORCE_COLOR="1", NO_COLOR="1")


def test_names_that_the_locale_cannot_write(overlay: Path, tmp_path: Path, vmport: Vmport) -> None:
    image = tmp_path / "Gerät-\udcff.qcow2"
    image.write_bytes(overlay.read_bytes())
    done = vmport("inspect", image, PYTHONIOENCODING="ascii")
    assert done.stdout.splitlines()[0] == str(tmp_path / r"Ger\xe4t-\udcff.qcow2")
    shown = json.loads(vmport("inspect", "--json", image).stdout)
    assert shown["filename"] == str(image)


def test_an_unknown_format_is_wrong_usage(overlay: Path, vmport: Vmport) -> None:
    done = vmport("inspect", "--format", "floppy", overlay, check=False)
    assert_refused(done, "usage.format", exit_code=2)
    assert "qcow2, vmdk, vhd, vhdx, vdi" in done.stderr


def test_a_declared_format_is_taken_at_its_word(overlay: Path, vmport: Vmport) -> None:
    shown = json.loads(vmport("inspect", "--json", "--format", "raw", overlay).stdout)
    sectors = -(-overlay.stat().st_size // 512)
    assert (shown["format"], shown["virtual-size"]) == ("raw", sectors * 512)
    assert_refused(vmport("inspect", "-f", "vhd", overlay, check=False), "vhd.magic")


def test_help_teaches(vmport: Vmport) -> None:
    text = vmport("inspect", "--help", COLUMNS="100").stdout
    for piece in ("vmport inspect disk.qcow2", "--format", "--json", "qcow2.backing-file"):
        assert piece in text
