"""Encrypted disks: read with the passphrase as qemu reads them, and never with another or none."""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING

import pytest

from fixtures.disks import luks
from fixtures.disks.image_file import ImageFile
from tests.content import check_content, qemu_img, qemu_io
from vmport_formats.disk.image import open_image
from vmport_formats.errors import CorruptInput, LockedInput, TruncatedInput, UnsupportedFeature
from vmport_formats.references import Confined
from vmport_formats.source import MemorySource

if TYPE_CHECKING:
    from pathlib import Path

PASSPHRASE = luks.PASSPHRASE
SECRET = ("--object", f"secret,id=key,data={PASSPHRASE.decode()}")
HASH_AT, ITERATIONS_AT, SLOT_AT = 72, 164, 208

SCHEMES = [
    ("xts-plain64", 64, "sha256"),
    ("xts-plain64", 32, "sha1"),
    ("xts-plain", 64, "sha512"),
    ("cbc-essiv:sha256", 16, "sha1"),
    ("cbc-essiv:sha256", 32, "sha256"),
    ("cbc-plain64", 32, "sha512"),
    ("cbc-plain", 16, "sha224"),
    ("xts-essiv:sha256", 64, "sha384"),
]


def content(sectors: int) -> bytes:
    return b"".join(bytes([n % 251, n // 251]) * 256 for n in range(sectors))


@pytest.fixture(scope="module")
def locked() -> bytes:
    disk = luks.disk(content(40), slot=5)
    return disk.read_at(0, disk.size)


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize(("mode", "key_length", "hash_name"), SCHEMES)
def test_luks_disks(mode: str, key_length: int, hash_name: str, tmp_path: Path) -> None:
    """Of 300 sectors, more than are decrypted at once."""
    truth = content(300)
    disk = luks.disk(truth, mode=mode, key_length=key_length, hash_name=hash_name, slot=2)
    with open_image(disk, passphrase=PASSPHRASE) as image:
        check_content(image, truth)
    path = disk.write(tmp_path / "image.luks")
    options = f"driver=luks,key-secret=key,file.filename={path}"
    qemu_img("convert", *SECRET, "--image-opts", options, "-O", "raw", tmp_path / "raw")
    assert (tmp_path / "raw").read_bytes() == truth


def test_a_luks_disk_that_ends_inside_a_sector(locked: bytes) -> None:
    """All but its last sector is sound; the last is decrypted as if zeros followed."""
    with open_image(MemorySource(locked[:-100]), passphrase=PASSPHRASE) as image:
        assert image.virtual_size == 40 * 512
        assert image.read(0, 39 * 512) == content(40)[: 39 * 512]
        assert len(image.read(39 * 512, 512)) == 512


@pytest.mark.needs("qemu-img", "qemu-io")
@pytest.mark.parametrize(
    ("options", "bits"),
    [
        ("encrypt.format=luks,encrypt.iter-time=10", 16),
        (
            "encrypt.format=luks,encrypt.iter-time=10,encrypt.cipher-alg=aes-128,"
            "encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv,encrypt.ivgen-hash-alg=sha256",
            12,
        ),
        ("encrypt.format=aes", 16),
    ],
    ids=["xts-plain64", "cbc-essiv", "aes"],
)
def test_encrypted_qcow2(options: str, bits: int, tmp_path: Path) -> None:
    """With clusters out of order, so that places in the file and on the disk differ.

    LUKS counts sectors in the file, the old AES on the disk.
    """
    path = tmp_path / "image.qcow2"
    options = f"{options},encrypt.key-secret=key,cluster_size={1 << bits}"
    qemu_img("create", *SECRET, "-q", "-f", "qcow2", "-o", options, path, str(1 << 20))
    opened = f"driver=qcow2,encrypt.key-secret=key,file.filename={path}"
    writes = [f"write -P {n} {n * 37 % 31 * 33000 // 512 * 512} 20k" for n in range(1, 25)]
    qemu_io(opened, *writes, "write -z 512k 64k", options=(*SECRET, "--image-opts"))
    qemu_img("convert", *SECRET, "--image-opts", opened, "-O", "raw", tmp_path / "raw")
    truth = (tmp_path / "raw").read_bytes()
    with open_image(path, passphrase=PASSPHRASE) as image:
        assert image.info.encrypted
        extents = check_content(image, truth)
    assert all(extent.host_offset is None for extent in extents)
    with pytest.raises(LockedInput, match="no passphrase was given"), open_image(path):
        pass


@pytest.mark.needs("qemu-img")
def test_an_encrypted_backing_file_opens_with_the_same_passphrase(
    locked: bytes, tmp_path: Path
) -> None:
    (tmp_path / "base.luks").write_bytes(locked)
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-q", "-u", "-f", "qcow2", "-b", "base.luks", "-F", "luks", path, "20480")
    with open_image(path, Confined([tmp_path]), passphrase=PASSPHRASE) as image:
        check_content(image, content(40))


# --- What does not open -------------------------------------------------------------------------


@pytest.mark.parametrize("passphrase", [b"", b"open sesam", b"open sesame\n", b"x" * 5000])
def test_a_wrong_passphrase(locked: bytes, passphrase: bytes) -> None:
    with (
        pytest.raises(LockedInput, match="opens none of the 1 key slots") as caught,
        open_image(MemorySource(locked), passphrase=passphrase),
    ):
        pass
    assert caught.value.code == "luks.passphrase"
    assert caught.value.exit_code == 3


def test_no_passphrase(locked: bytes) -> None:
    with pytest.raises(LockedInput) as caught, open_image(MemorySource(locked)):
        pass
    assert caught.value.code == "luks.passphrase"


def patched(data: bytes, at: int, value: bytes) -> MemorySource:
    return MemorySource(data[:at] + value + data[at + len(value) :])


SLOT = SLOT_AT + 5 * 48
HUGE = struct.pack(">I", (1 << 32) - 1)


@pytest.mark.parametrize(
    ("at", "value", "code", "kind"),
    [
        (8, b"serpent\0", "luks.cipher", UnsupportedFeature),
        (40, b"ctr-plain64\0", "luks.cipher", UnsupportedFeature),
        (40, b"cbc-essiv:sha1\0", "luks.cipher", UnsupportedFeature),
        (40, b"\xff\xfe", "luks.cipher", UnsupportedFeature),
        (HASH_AT, b"shake_128\0", "luks.hash", UnsupportedFeature),
        (108, struct.pack(">I", 16), "luks.key-length", CorruptInput),
        (ITERATIONS_AT, HUGE, "luks.iterations", UnsupportedFeature),
        (ITERATIONS_AT, bytes(4), "luks.key-slot", CorruptInput),
        (SLOT, bytes(4), "luks.key-slot", CorruptInput),
        (SLOT + 4, HUGE, "luks.iterations", UnsupportedFeature),
        (SLOT + 4, bytes(4), "luks.key-slot", CorruptInput),
        (SLOT + 40, HUGE, "luks.key-slot", CorruptInput),
        (SLOT + 44, HUGE, "luks.key-slot", CorruptInput),
        (SLOT + 44, bytes(4), "luks.key-slot", CorruptInput),
        (104, HUGE, "luks.payload-offset", TruncatedInput),
    ],
)
def test_a_hostile_header_ends_soon_in_an_error(
    locked: bytes, at: int, value: bytes, code: str, kind: type[Exception]
) -> None:
    begin = time.monotonic()
    with (
        pytest.raises(kind) as caught,
        open_image(patched(locked, at, value), passphrase=PASSPHRASE),
    ):
        pass
    assert getattr(caught.value, "code", None) == code
    assert time.monotonic() - begin < 1


def test_a_key_in_more_stripes_than_any_has(locked: bytes) -> None:
    """So many that they would fit the file, but are a wish for memory."""
    data = bytearray(locked)
    data[104:108] = struct.pack(">I", 1 << 20)  # the payload, half a GiB in
    data[SLOT + 44 : SLOT + 48] = struct.pack(">I", 1 << 22)
    file = ImageFile({0: bytes(data[:4096])}, size=1 << 30)
    with pytest.raises(UnsupportedFeature) as caught, open_image(file, passphrase=PASSPHRASE):
        pass
    assert caught.value.code == "luks.stripes"


def test_damaged_key_material_is_a_wrong_passphrase(locked: bytes) -> None:
    """One bit of one stripe is enough to lose the key: that is what stripes are for."""
    start = int.from_bytes(locked[SLOT + 40 : SLOT + 44], "big") * 512
    with (
        pytest.raises(LockedInput),
        open_image(patched(locked, start + 100_000, b"\0\1"), passphrase=PASSPHRASE),
    ):
        pass
