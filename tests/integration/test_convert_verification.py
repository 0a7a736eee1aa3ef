"""That what was written is what was read: damage is found, and the digest follows the content."""

from __future__ import annotations

import json
import random
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from blake3 import blake3

from vmport.cli import run as vmport
from vmport_converters.disk import convert as convert_module

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.needs("qemu-img")

KIB = 1 << 10
MARK = b"here it will be damaged"
AT = 200 * KIB
"""Where the mark is on the disk."""

TARGETS = [
    ("raw", ""),
    ("qcow2", ""),
    ("vmdk", ""),
    ("vhd", ""),
    ("vhd", "subformat=fixed"),
    ("vhdx", ""),
    ("vhdx", "subformat=fixed"),
    ("vdi", ""),
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    content = bytearray(random.Random(8).randbytes(400 * KIB + 512))
    content[100 * KIB : 180 * KIB] = bytes(80 * KIB)
    content[AT : AT + len(MARK)] = MARK
    (tmp_path / "content").write_bytes(content)
    source = tmp_path / "in.qcow2"
    subprocess.run(
        ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(tmp_path / "content"), str(source)],
        check=True,
    )
    return source


def damaging(
    monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes], found: list[Path]
) -> None:
    """What is written is damaged before it is read back, as a bad medium might do it."""
    work = convert_module._Work
    read_back = work.read_back

    def damaged(self: Any, *arguments: Any) -> Any:
        path = self._staging.path
        found.append(path)
        path.write_bytes(damage(path.read_bytes()))
        return read_back(self, *arguments)

    monkeypatch.setattr(work, "read_back", damaged)


def without_the_mark(written: bytes) -> bytes:
    assert written.count(MARK) == 1
    return written.replace(MARK, MARK.replace(b"be", b"b\0"))


@pytest.mark.parametrize(("target", "options"), TARGETS)
def test_damage_is_found_and_nothing_is_published(
    target: str, options: str, source: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    found: list[Path] = []
    damaging(monkeypatch, without_the_mark, found)
    out = tmp_path / f"out.{target}"
    out.write_text("precious")
    convert = ["convert", "--force", *(["-o", options] if options else []), str(source), str(out)]
    assert vmport(convert) == 5
    said = capsys.readouterr().err
    assert "[convert.differs]" in said
    assert f"offset {AT + MARK.index(b'be') + 1:#x}: native wrote content that differs" in said
    assert "nothing was published" in said
    assert out.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["content", "in.qcow2", out.name]
    # Who does not want it compared gets what there is, and is told so.
    assert vmport([*convert[:1], "--no-verify", *convert[1:]]) == 0
    assert "content not compared" in capsys.readouterr().out
    assert b"here it will b\0 damaged" in out.read_bytes()
    assert len(found) == 2


@pytest.mark.parametrize("options", ["subformat=streamOptimized", "subformat=monolithicSparse"])
def test_damage_that_cannot_be_read(
    options: str, source: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    damaging(monkeypatch, lambda written: written[: len(written) // 2], [])
    assert vmport(["convert", "-o", options, str(source), str(tmp_path / "out.vmdk")]) == 6
    assert "[output.read-back]" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["content", "in.qcow2"]


def documented_digest(content: bytes) -> str:
    """The digest by the rule in docs/reference/convert.md."""
    whole = blake3()
    for index in range(-(-len(content) // 65536)):
        block = content[index * 65536 : (index + 1) * 65536].ljust(65536, b"\0")
        if block.strip(b"\0"):
            whole.update(index.to_bytes(8, "big") + blake3(block).digest())
    return f"vmport-blake3-64k:{whole.hexdigest()}"


def test_the_digest_is_as_documented(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tmp_path / "by-qemu"
    subprocess.run(
        ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(source), str(raw)], check=True
    )
    expected = documented_digest(raw.read_bytes())
    others = [("vmdk", f"subformat={name}") for name in ("streamOptimized", "twoGbMaxExtentSparse")]
    for number, (target, options) in enumerate([*TARGETS, *others]):
        wanted = ["-o", options] if options else []
        out = tmp_path / f"{number}.{target}"
        assert vmport(["convert", "--json", *wanted, str(source), str(out)]) == 0
        assert json.loads(capsys.readouterr().out)["digest"] == expected
    # And the other way round, from each; zeros at the end do not count, other bytes do.
    longer = [raw.read_bytes() + bytes(99 * 512), raw.read_bytes() + bytes(511) + b"x"]
    digests = []
    for number, content in enumerate(longer):
        (tmp_path / "longer").write_bytes(content)
        out = tmp_path / f"longer-{number}.vdi"
        assert vmport(["convert", "--json", str(tmp_path / "longer"), str(out)]) == 0
        digests.append(json.loads(capsys.readouterr().out)["digest"])
    assert digests == [expected, documented_digest(longer[1])]
    assert digests[1] != expected
