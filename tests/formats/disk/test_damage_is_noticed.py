"""A broken checksum, and a pointer that leads out of the file, are errors and not other content.

Each kind of pointer and checksum that a format has is damaged alone, in a sound image, with all
other checksums made right; then the disk is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from fixtures.disks import luks, vhd, vhdx
from tests.fuzz.subjects import subject
from tests.fuzz.trial import Memory, OwnFiles
from vmport_formats.disk.image import open_image
from vmport_formats.disk.model import DiskFormat
from vmport_formats.disk.probe import probe
from vmport_formats.errors import CorruptInput, InputError, LockedInput

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fuzz.parts import Order, Subject


@dataclass(frozen=True)
class Pointer:
    """A number that says where something is."""

    image: str
    what: str
    at: int | Callable[[bytes], int]
    """Where it is in the file."""
    width: int
    order: Order
    unit: int = 1
    """How many bytes each step of it is."""
    plus: int = 0
    """Bits that it has besides the place."""
    since: int = 0
    """The offset from which it counts."""


def number(at: int, width: int, order: Order, unit: int = 1) -> Callable[[bytes], int]:
    """The place that the number at `at` leads to."""
    return lambda data: int.from_bytes(data[at : at + width], order) * unit


def entry(image: str, table: int, index: int = 0) -> int:
    """Where an entry of one of the tables of a subject is, by its number among the regions."""
    region = subject(image).regions[table]
    return region.at + index * region.width


def end_of(image: str, back: int) -> int:
    """An offset from the end."""
    return len(subject(image).data) - back


def stored_entry(image: str, table: int = 2) -> int:
    """Where the first entry is that leads to data, in a table of blocks or one after it."""
    each = subject(image)
    for region in each.regions[table:]:
        for at in range(region.at, region.at + region.length, region.width):
            if int.from_bytes(each.data[at : at + region.width], region.order) >= 4:
                return at
    raise AssertionError("no entry")


KIB = 1 << 10
POINTERS = (
    Pointer("qcow", "L1 table", 40, 8, "big"),
    Pointer("qcow", "L2 table", number(40, 8, "big"), 8, "big"),
    Pointer("qcow", "cluster", stored_entry("qcow"), 8, "big"),
    Pointer("qcow2", "L1 table", 40, 8, "big"),
    Pointer("qcow2", "refcount table", 48, 8, "big"),
    Pointer("qcow2", "L2 table", number(40, 8, "big"), 8, "big"),
    Pointer("qcow2", "cluster", stored_entry("qcow2", 3), 8, "big"),
    Pointer("qcow2-extended", "cluster", stored_entry("qcow2-extended", 3), 8, "big", 16384),
    Pointer("vmdk-sparse", "grain directory", 56, 8, "little", 512),
    Pointer("vmdk-sparse", "grain table", number(56, 8, "little", 512), 4, "little", 512),
    Pointer("vmdk-sparse", "grain", stored_entry("vmdk-sparse"), 4, "little", 512),
    Pointer("vmdk-sparse", "descriptor", 28, 8, "little", 512),
    Pointer("vmdk-stream", "grain directory", end_of("vmdk-stream", 1024) + 56, 8, "little", 512),
    Pointer(
        "vmdk-stream",
        "grain table",
        number(end_of("vmdk-stream", 1024) + 56, 8, "little", 512),
        4,
        "little",
        512,
    ),
    Pointer("vmdk-stream", "grain", entry("vmdk-stream", 2), 4, "little", 512),
    Pointer("vmdk-cowd", "grain directory", 20, 4, "little", 512),
    Pointer("vmdk-cowd", "grain table", entry("vmdk-cowd", 1), 4, "little", 512),
    Pointer("vmdk-cowd", "grain", entry("vmdk-cowd", 2), 4, "little", 512),
    Pointer("vmdk-sesparse", "grain directory", 128, 8, "little", 512),
    Pointer("vmdk-sesparse", "grain tables", 144, 8, "little", 512),
    Pointer("vmdk-sesparse", "grains", 192, 8, "little", 512),
    Pointer("vmdk-sesparse", "volatile header", 80, 8, "little", 512),
    Pointer("vhd-dynamic", "dynamic disk header", end_of("vhd-dynamic", 496), 8, "big"),
    Pointer("vhd-dynamic", "block table", vhd.HEADER_AT + 16, 8, "big"),
    Pointer("vhd-dynamic", "block", vhd.TABLE_AT, 4, "big", 512),
    Pointer("vhd-differencing", "parent locator", vhd.HEADER_AT + 576 + 16, 8, "big"),
    Pointer("vhdx", "block table", vhdx.REGION_TABLES[0] + 32, 8, "little", 1 << 20),
    Pointer("vhdx", "metadata", vhdx.REGION_TABLES[0] + 64, 8, "little", 1 << 20),
    Pointer("vhdx", "metadata item", vhdx.METADATA_AT + 48, 4, "little", 1),
    Pointer("vhdx", "block", vhdx.BAT_AT, 8, "little", 1, plus=6),
    Pointer("vhdx-log", "log", vhdx.HEADERS[1] + 72, 8, "little", 1 << 20),
    Pointer("vdi", "block map", 340, 4, "little", 1),
    Pointer("vdi", "data", 344, 4, "little", 1),
    Pointer("vdi", "block", entry("vdi", 2), 4, "little", 4096),
    Pointer("qed", "L1 table", 40, 8, "little"),
    Pointer("qed", "L2 table", number(40, 8, "little"), 8, "little"),
    Pointer("qed", "cluster", entry("qed", 2), 8, "little"),
    Pointer("parallels", "cluster", 64, 4, "little", 4096),
    Pointer("parallels", "data", 48, 4, "little", 512),
    Pointer("parallels-old", "cluster", 64, 4, "little", 512),
    Pointer("dmg", "property list", end_of("dmg", 512) + 0xD8, 8, "big"),
    Pointer("dmg-fork", "resource fork", end_of("dmg-fork", 512) + 40, 8, "big"),
    Pointer("dmg-fork", "chunk", lambda data: data.find(b"mish") + 204 + 24, 8, "big"),
    Pointer("dmg-fork", "data of a table", lambda data: data.find(b"mish") + 24, 8, "big"),
    Pointer("cloop", "block", 136 + 8 * 5, 8, "big"),
    Pointer("cloop", "end of the last block", 136 + 8 * 12, 8, "big"),
    Pointer("bochs-1", "catalog", 72, 4, "little", 4),
    Pointer("bochs-2", "extent", 512, 4, "little", 512),
    Pointer("luks-xts", "payload", 104, 4, "big", 512),
    Pointer("luks-xts", "key material", 208 + 48 + 40, 4, "big", 512),
)


def read_all(image: Subject, data: bytes, folder: Path) -> None:
    probe(Memory(image.name, bytearray(data)), declared=image.format)
    with open_image(
        Memory(image.name, bytearray(data)),
        OwnFiles(image, image.data, folder),
        declared=image.format,
        passphrase=luks.PASSPHRASE if image.locked else None,
    ) as disk:
        disk.read(0, disk.virtual_size)


@pytest.mark.parametrize("pointer", POINTERS, ids=lambda item: f"{item.image}: {item.what}")
def test_a_pointer_out_of_the_file(pointer: Pointer, tmp_path: Path) -> None:
    """Just behind its end, and as far as the field reaches."""
    image = subject(pointer.image)
    at = pointer.at if isinstance(pointer.at, int) else pointer.at(image.data)
    first = -(-len(image.data) // (1 << 20)) * (1 << 20)
    furthest = {4: (1 << 32) - 1, 8: (1 << 55) - (1 << 20)}[pointer.width]
    for value in (first // pointer.unit + pointer.plus, furthest // pointer.unit + pointer.plus):
        data = bytearray(image.data)
        data[at : at + pointer.width] = value.to_bytes(pointer.width, pointer.order)
        assert data != image.data
        if image.seal is not None:
            image.seal(data, image.data)
            # The copies that a reader could take instead say the same.
            _repeat(image, data)
        with pytest.raises(CorruptInput) as caught:
            read_all(image, bytes(data), tmp_path)
        # The tables of a DMG can be text, where a number has no place of its own.
        assert caught.value.at is not None or image.format is DiskFormat.DMG


def _repeat(image: Subject, data: bytearray) -> None:
    if image.name == "vhd-dynamic":
        data[:512] = data[-512:]
    elif image.name.startswith("vhdx"):
        one, other = vhdx.REGION_TABLES
        data[other : other + 64 * KIB] = data[one : one + 64 * KIB]


@dataclass(frozen=True)
class Sum:
    """A checksum: where it is, or, of what is packed, one of the bytes that it is in."""

    image: str
    what: str
    places: Callable[[bytes], tuple[int, ...]]
    error: type[InputError] = CorruptInput


def last_of_chunk(method: int) -> Callable[[bytes], tuple[int, ...]]:
    """The last byte of the first chunk of a kind in a DMG with a resource fork."""

    def place(data: bytes) -> tuple[int, ...]:
        row = data.find(method.to_bytes(4, "big") + bytes(4), data.find(b"mish"))
        table = data.rfind(b"mish", 0, row)
        at, length = (int.from_bytes(data[row + n : row + n + 8], "big") for n in (24, 32))
        base = int.from_bytes(data[table + 24 : table + 32], "big")
        return (base + at + length - 1,)

    return place


def grain(data: bytes) -> tuple[int, ...]:
    """The last byte of zlib's checksum of the first grain of a stream."""
    at = int.from_bytes(data[entry("vmdk-stream", 2) :][:4], "little") * 512
    return (at + 12 + int.from_bytes(data[at + 8 : at + 12], "little") - 1,)


def bzip2_block(data: bytes) -> tuple[int, ...]:
    """The checksum of the first block, which follows the head of the stream and of the block."""
    return (data.find(b"BZh91AY&SY") + 11,)


SUMS = (
    Sum("vhd-fixed", "footer", lambda data: (len(data) - 512 + 64,)),
    Sum("vhd-dynamic", "both footers", lambda data: (64, len(data) - 512 + 64)),
    Sum("vhd-dynamic", "dynamic disk header", lambda data: (vhd.HEADER_AT + 36,)),
    Sum("vhdx", "both headers", lambda data: tuple(at + 4 for at in vhdx.HEADERS)),
    Sum("vhdx", "both region tables", lambda data: tuple(at + 4 for at in vhdx.REGION_TABLES)),
    Sum("vhdx-log", "log entry", lambda data: (vhdx.LOG_AT + 4,)),
    Sum("vhdx-log", "sector in the log", lambda data: (vhdx.LOG_AT + 4096 + 200,)),
    Sum("vmdk-stream", "packed grain", grain),
    Sum("cloop", "packed block", lambda data: (number(136 + 8, 8, "big")(data) - 1,)),
    Sum("dmg-fork", "zlib chunk", last_of_chunk(0x8000_0005)),
    Sum("dmg-fork", "bzip2 block", bzip2_block),
    Sum("dmg-fork", "xz chunk", lambda data: (last_of_chunk(0x8000_0008)(data)[0] - 30,)),
    Sum("luks-xts", "digest of the key", lambda data: (112,), LockedInput),
    Sum("luks-xts", "key material", lambda data: (8 * 512 + 4096,), LockedInput),
)


@pytest.mark.parametrize("item", SUMS, ids=lambda item: f"{item.image}: {item.what}")
def test_a_broken_checksum(item: Sum, tmp_path: Path) -> None:
    image = subject(item.image)
    data = bytearray(image.data)
    read_all(image, bytes(data), tmp_path)
    for at in item.places(image.data):
        data[at] ^= 0x10
    with pytest.raises(item.error):
        read_all(image, bytes(data), tmp_path)


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("vhd-dynamic", 64),
        ("vhd-dynamic", end_of("vhd-dynamic", 512) + 64),
        ("vhdx", vhdx.HEADERS[1] + 4),
        ("vhdx", vhdx.REGION_TABLES[0] + 4),
        ("vhdx", vhdx.REGION_TABLES[1] + 4),
    ],
)
def test_one_of_two_copies_is_enough_but_its_fault_is_told(
    name: str, at: int, tmp_path: Path
) -> None:
    image = subject(name)
    data = bytearray(image.data)
    data[at] ^= 0x10
    read_all(image, bytes(data), tmp_path)
    sound = probe(Memory(name, bytearray(image.data)))
    damaged = probe(Memory(name, data), declared=image.format)
    assert set(damaged.concerns) > set(sound.concerns)


def test_damage_alone_is_what_is_refused(tmp_path: Path) -> None:
    """The images of all these tests are read when nothing is done to them, but for a parent."""
    for name in {item.image for item in (*POINTERS, *SUMS)} - {"vhd-differencing"}:
        image = subject(name)
        read_all(image, image.data, tmp_path)
