"""Disks that are encrypted by us: qemu-img opens them, and the passphrase shows nowhere."""

from __future__ import annotations

import json
import random
import shutil
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from fixtures.disks import luks
from tests.content import qemu_img
from vmport.cli import run as vmport
from vmport_converters.disk.qemu import engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.needs("qemu-img")

KIB, MIB = 1 << 10, 1 << 20
SIZE = MIB + 512
WORD: Final = luks.PASSPHRASE
SECRET: Final = ("--object", f"secret,id=s,data={WORD.decode()}")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    content = bytearray(random.Random(1).randbytes(SIZE))
    content[100 * KIB : 900 * KIB] = bytes(800 * KIB)
    (tmp_path / "disk.raw").write_bytes(content)
    (tmp_path / "word").write_bytes(WORD + b"\n")
    qemu_img("convert", "-f", "raw", "-O", "vmdk", tmp_path / "disk.raw", tmp_path / "disk.vmdk")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def opened(path: Path, driver: str) -> bytes:
    """What qemu-img makes of it, given the passphrase."""
    key = "key-secret" if driver == "luks" else "encrypt.key-secret"
    image = f"driver={driver},{key}=s,file.filename={path}"
    raw = path.with_name("opened")
    qemu_img("convert", *SECRET, "--image-opts", image, "-O", "raw", raw)
    return raw.read_bytes()


@pytest.mark.parametrize(
    ("source", "name", "options"),
    [
        ("disk.raw", "out.luks", ""),
        ("disk.vmdk", "out.luks",
         "cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=essiv,hash-alg=sha512"),
        ("disk.vmdk", "out.qcow2",
         "encrypt.format=luks,encrypt.cipher-mode=cbc,compat=v2,cluster_size=4k"),
    ],
)  # fmt: skip
def test_qemu_img_opens_what_we_encrypt(
    source: str, name: str, options: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """And the passphrase is in no list of processes, and in no environment."""
    plain = name.endswith("luks")
    fast = "iter-time=10" if plain else "encrypt.iter-time=10"
    wanted = f"{options},{fast}" if options else fast
    words = ["--new-passphrase-file", "word", "--from", source[-4:].strip("."), "-o", wanted]
    with watching() as seen:
        assert vmport(["-v", "convert", "--json", *words, source, name]) == 0
    assert seen == {"working", "nothing"}
    said = capfd.readouterr()
    assert json.loads(said.out)["verified"]
    assert json.loads(said.out)["engine"] == "qemu-img"
    assert "secret,id=new,file=/dev/fd/" in said.err
    assert "sesam" not in said.out + said.err
    assert opened(folder / name, "luks" if plain else "qcow2") == Path("disk.raw").read_bytes()
    assert vmport(["compare", "--passphrase-file", "word", name, "disk.vmdk"]) == 0
    capfd.readouterr()
    assert vmport(["inspect", "--json", name]) == 0
    details = json.loads(capfd.readouterr().out)["format-specific"]["data"]
    for option in filter(None, options.split(",")) if plain else ():
        key, value = option.split("=")
        assert details[key] == value
    if not plain:
        image = f"driver=qcow2,encrypt.key-secret=s,file.filename={name}"
        qemu_img("check", *SECRET, "--image-opts", image)


@contextmanager
def watching() -> Iterator[set[str]]:
    """What the command lines and environments of all processes show, looked at again and again."""
    seen: set[str] = set()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.005):
            for process in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    with suppress(OSError):
                        content = (process / name).read_bytes()
                        seen.add("the secret" if WORD in content else "nothing")
                        seen.update({"working"} if b"qemu-img\0convert\0" in content else ())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()


@pytest.fixture
def qemu_img_that(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a qemu-img on PATH that, to convert, runs a few lines of shell instead.

    `prepared` is there, a LUKS disk of the right content.
    """
    real = shutil.which("qemu-img")
    script = folder / "bin" / "qemu-img"
    script.parent.mkdir()
    prepared = luks.disk((folder / "disk.raw").read_bytes()).write(folder / "prepared")

    def install(lines: str) -> None:
        script.write_text(
            f'#!/bin/sh\n[ "$1" = convert ] || exec {real} "$@"\n'
            f"{lines.replace('prepared', str(prepared))}\n"
        )
        script.chmod(0o755)

    monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")
    monkeypatch.setattr(engine, "Sandbox", lambda *_: None)
    return install


NEW: Final = ["--new-passphrase-file", "word"]


@pytest.mark.parametrize("name", ["luks", "qcow2"])
def test_another_passphrase(name: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The source's and the destination's are two, and nothing lies unencrypted between them."""
    (folder / "other").write_bytes("ein anderes Paßwort".encode())
    old = luks.disk((folder / "disk.raw").read_bytes()).write(folder / "old.luks")
    fast = ["-o", "iter-time=10" if name == "luks" else "encrypt.format=luks,encrypt.iter-time=10"]
    words = ["--passphrase-file", "word", "--new-passphrase-file", "other", *fast]
    assert vmport(["-v", "convert", *words, str(old), f"new.{name}"]) == 0
    said = capfd.readouterr().err
    assert "raw copy" not in said
    assert "not encrypted" not in said
    for word, status in (("word", 3), ("other", 0)):
        with_it = ["--passphrase-file", word]
        assert vmport(["-q", "convert", *with_it, f"new.{name}", f"{word}.raw"]) == status
    assert (folder / "other.raw").read_bytes() == (folder / "disk.raw").read_bytes()


def test_what_opens_the_source_has_to_be_text_for_qemu_img(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "noise").write_bytes(b"a\xffb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(luks, "PASSPHRASE", b"a\xffb")
        old = luks.disk((folder / "disk.raw").read_bytes()).write(folder / "noise.luks")
    words = ["--passphrase-file", "noise", *NEW]
    assert vmport(["convert", *words, str(old), "new.luks"]) == 2
    assert "[usage.passphrase]" in capfd.readouterr().err


def test_damage_of_what_is_encrypted_is_found(
    folder: Path, qemu_img_that: Callable[[str], None], capfd: pytest.CaptureFixture[str]
) -> None:
    qemu_img_that("head -c -512 prepared >out.luks; head -c 512 /dev/zero >>out.luks")
    assert vmport(["convert", *NEW, "disk.vmdk", "out.luks"]) == 5
    said = capfd.readouterr().err
    assert "[convert.differs]" in said
    assert f"offset {MIB:#x}" in said
    assert not (folder / "out.luks").exists()


def test_the_clock_of_qemu_img(
    folder: Path, qemu_img_that: Callable[[str], None], capfd: pytest.CaptureFixture[str]
) -> None:
    """It fails where its measurement falls between two ticks; that is tried again."""
    flaw = 'echo "qemu-img: Unable to get accurate CPU usage" >&2; exit 1'
    tries = folder / "tries"
    qemu_img_that(
        f"echo >>{tries}\n[ $(wc -l <{tries}) -gt 2 ] || {{ {flaw}; }}\ncp prepared ./out.luks"
    )
    assert vmport(["convert", *NEW, "disk.vmdk", "out.luks"]) == 0
    assert (folder / "out.luks").read_bytes() == (folder / "prepared").read_bytes()
    qemu_img_that(f"echo >>{tries}\n{flaw}")
    assert vmport(["convert", *NEW, "disk.vmdk", "never.luks"]) == 5
    assert "Unable to get accurate CPU usage" in capfd.readouterr().err
    assert len(tries.read_text()) == 3 + 10


@pytest.mark.parametrize(
    ("content", "words", "said"),
    [
        (None, ["--to", "luks"], "is needed: the destination is encrypted"),
        (None, ["-o", "encrypt.format=luks"], "is needed"),
        (b"x", [], "the destination is not encrypted"),
        (b"x", ["--for", "openstack"], "the destination is not encrypted"),
        (b"\n", ["--to", "luks"], "holds 0 bytes; must be 1 to 4096"),
        (b"x" * 4097, ["--to", "luks"], "holds 4097 bytes"),
        (b"a\xff", ["--to", "luks"], "is no text in UTF-8"),
        (b"a\0b", ["--to", "luks"], "is no text in UTF-8"),
    ],
)
def test_passphrases_that_do_not_fit(
    content: bytes | None, words: list[str], said: str, folder: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    given = []
    if content is not None:
        (folder / "new").write_bytes(content)
        given = ["--new-passphrase-file", "new"]
    for dry in ([], ["-n"]):
        assert vmport(["convert", *given, *dry, *words, "disk.vmdk", "out.qcow2"]) == 2
        error = capfd.readouterr().err
        assert "[usage.new-passphrase]" in error
        assert said in error
    assert not (folder / "out.qcow2").exists()
