"""A streamOptimized VMDK keeps every rule that ESXi is known to have for one.

Tried on what convert writes, by a walk from its first byte to its last that shares nothing with our
readers (`tests/vmdk_stream.py`); and each rule is broken once in a good stream, so that the walk is
known to look at it.  Sources: VMware, "Virtual Disk Format 5.0"; glennmatthews/cot#65 (version 3);
VMware's open-vmdk, which puts grains in order and writes the same header and descriptor.
"""

from __future__ import annotations

import random
import re
import struct
import zlib
from typing import TYPE_CHECKING

import pytest

from tests.composing import compose, patchwork
from tests.vmdk_stream import SECTOR, walk
from vmport.cli import run as vmport
from vmport_formats.disk.vmdk.stream_composer import StreamComposer
from vmport_formats.units import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GRAIN = 64 * KIB
TABLE = 512 * GRAIN
KEYS = {"version", "encoding", "CID", "parentCID", "createType"}
DATABASE = {
    "virtualHWVersion": "4",
    "adapterType": "lsilogic",
    "toolsVersion": "2147483647",  # of no version that VMware would want to replace
}
"""What open-vmdk says, but for the geometry; ESXi warns of tools of version 0."""

DISKS: dict[str, Callable[[], dict[int, bytes]]] = {
    "nothing": dict,
    "noise that does not compress": lambda: {0: random.Random(1).randbytes(3 * MIB)},
    "patches": lambda: {0: patchwork(5 * MIB, GRAIN, seed=2)},
    "both ends of three tables": lambda: {
        place: bytes([place >> 20 or 1]) * 4096
        for table in range(3)
        for place in (table * TABLE, (table + 1) * TABLE - 4096)
    },
}


@pytest.mark.parametrize("disk", DISKS)
@pytest.mark.parametrize("effort", ["fast", "small"])
@pytest.mark.parametrize(
    ("asked", "size", "made"),
    [
        (("--for", "esxi"), 3 * TABLE - 1, 3 * TABLE),
        (("--for", "esxi"), 3 * TABLE + 512, 3 * TABLE + MIB),
        # Nobody has asked for another size than the source's; open-vmdk keeps it, too.
        (("-o", "subformat=streamOptimized"), 3 * TABLE + 1, 3 * TABLE + 512),
    ],
    ids=str,
)
def test_what_convert_writes(
    disk: str, effort: str, asked: tuple[str, str], size: int, made: int, tmp_path: Path
) -> None:
    source, target = tmp_path / "source.raw", tmp_path / "größe 1.vmdk"
    with source.open("xb") as file:
        for place, data in DISKS[disk]().items():
            file.seek(place)
            file.write(data)
        file.truncate(size)
    assert vmport(["-q", "convert", *asked, "--compress", effort, str(source), str(target)]) == 0
    stream = walk(target, whole_grains=made % GRAIN == 0)
    assert stream.capacity * SECTOR == made
    content = source.read_bytes()
    for number in range(-(-size // GRAIN)):
        there = content[number * GRAIN : (number + 1) * GRAIN].ljust(GRAIN, b"\0")
        assert stream.grains.get(number, bytes(GRAIN)) == there
    assert all(any(grain) for grain in stream.grains.values()), "zeros are left out"
    check_descriptor(stream.descriptor, stream.capacity, target.name)


def check_descriptor(text: str, capacity: int, name: str) -> None:
    """One extent, that is the whole disk; every key once; a geometry that is inside the disk."""
    lines = text.splitlines()
    assert lines[0] == "# Disk DescriptorFile"
    assert text.endswith("\n")
    assert "\r" not in text
    extents = [line for line in lines if line.startswith(("RW ", "RDONLY ", "NOACCESS "))]
    assert extents == [f'RW {capacity} SPARSE "{name}"']
    pairs = [line.partition("=") for line in lines if "=" in line]
    found = {key.strip(): value.strip().strip('"') for key, _, value in pairs}
    assert len(found) == len(pairs), "no key twice"
    assert {key for key in found if not key.startswith("ddb.")} == KEYS
    assert (found["version"], found["encoding"]) == ("1", "UTF-8")
    assert found["createType"] == "streamOptimized"
    assert found["parentCID"] == "ffffffff"
    assert re.fullmatch(r"[0-9a-f]{8}", found["CID"])
    assert found["CID"] not in {"ffffffff", "fffffffe"}, "no parent; no content yet"
    database = {key[4:]: value for key, value in found.items() if key.startswith("ddb.")}
    shape = [int(database.pop(f"geometry.{key}")) for key in ("cylinders", "heads", "sectors")]
    assert database == DATABASE
    cylinders, heads, track = shape
    assert cylinders * heads * track <= capacity < (cylinders + 1) * heads * track
    assert heads <= 255
    assert track <= 63


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    path = tmp_path / "disk.vmdk"
    content = {0: patchwork(6 * GRAIN, GRAIN, seed=4), TABLE: b"\x07" * GRAIN}
    content[0] = b"\x01" * GRAIN + content[0][GRAIN:]
    compose(StreamComposer(2 * TABLE), content, path)
    walk(path)
    return path


HEADER_RULES = {
    "magic": (0, "<I", 0x564D_444C),
    "version 1 is too old": (4, "<I", 1),
    "no test of newlines": (8, "<I", 3 << 16),
    "not compressed": (8, "<I", 1 | 1 << 17),
    "no markers": (8, "<I", 1 | 1 << 16),
    "a second directory": (8, "<I", 3 | 3 << 16),
    "not whole grains": (12, "<Q", 2 * TABLE // SECTOR - 1),
    "grains of 32 KiB": (20, "<Q", 64),
    "the descriptor elsewhere": (28, "<Q", 2),
    "a shorter descriptor": (36, "<Q", 19),
    "tables of 1024": (44, "<I", 1024),
    "a place of the second directory": (48, "<Q", 22),
    "overhead": (64, "<Q", 129),
    "unclean": (72, "<B", 1),
    "newlines": (73, "<4s", b"\n \n\n"),
    "no deflate": (77, "<H", 0),
    "padding": (511, "<B", 1),
}
"""Offset, format and a value that breaks the rule, in both headers."""


@pytest.mark.parametrize("rule", HEADER_RULES)
def test_the_walk_looks_at_the_header(rule: str, stream: Path) -> None:
    offset, layout, wrong = HEADER_RULES[rule]
    data = bytearray(stream.read_bytes())
    for header in (0, len(data) - 2 * SECTOR):
        struct.pack_into(layout, data, header + offset, wrong)
    assert broken(stream, data)


def at_the_end(data: bytearray) -> None:
    data += bytes(SECTOR)


def cut(data: bytearray) -> None:
    del data[-SECTOR:]


def half_a_sector(data: bytearray) -> None:
    data += bytes(SECTOR // 2)


def directory_in_the_header(data: bytearray) -> None:
    data[56:64] = data[-2 * SECTOR + 56 : -2 * SECTOR + 64]


def footer_unlike_the_header(data: bytearray) -> None:
    data[-2 * SECTOR + 44] ^= 1


def no_directory_in_the_footer(data: bytearray) -> None:
    data[-2 * SECTOR + 56 : -2 * SECTOR + 64] = b"\xff" * 8


def text_behind_the_descriptor(data: bytearray) -> None:
    data[21 * SECTOR - 1] = ord("x")


def grains_in_another_order(data: bytearray) -> None:
    first = 128 * SECTOR
    struct.pack_into("<Q", data, first, 128 * 400)


def a_grain_beyond_the_disk(data: bytearray) -> None:
    last = data.rindex(struct.pack("<Q", TABLE // SECTOR), 128 * SECTOR)
    struct.pack_into("<Q", data, last, 2 * TABLE // SECTOR)


def a_grain_within_another(data: bytearray) -> None:
    struct.pack_into("<Q", data, 128 * SECTOR, 1)


def damaged_grain(data: bytearray) -> None:
    data[128 * SECTOR + 12] ^= 0xFF


def something_behind_a_grain(data: bytearray) -> None:
    (size,) = struct.unpack_from("<I", data, 128 * SECTOR + 8)
    end = 128 * SECTOR + 12 + size
    assert end % SECTOR
    data[end] = 1


def marker(data: bytearray, kind: int) -> int:
    """Offset of the first marker of this kind."""
    for place in range(128 * SECTOR, len(data), SECTOR):
        _, size, found = struct.unpack_from("<QII", data, place)
        if (size, found) == (0, kind) and not any(data[place + 16 : place + SECTOR]):
            return place
    raise AssertionError(kind)


def a_table_that_places_a_grain_wrongly(data: bytearray) -> None:
    data[marker(data, 1) + SECTOR] ^= 1


def a_table_of_another_size(data: bytearray) -> None:
    data[marker(data, 1)] += 1


def a_directory_that_places_a_table_wrongly(data: bytearray) -> None:
    data[marker(data, 2) + SECTOR] ^= 1


def a_marker_of_no_kind(data: bytearray) -> None:
    data[marker(data, 2) + 12] = 9


BREACHES = [
    at_the_end, cut, half_a_sector, directory_in_the_header, footer_unlike_the_header,
    no_directory_in_the_footer, text_behind_the_descriptor, grains_in_another_order,
    a_grain_beyond_the_disk, a_grain_within_another, damaged_grain, something_behind_a_grain,
    a_table_that_places_a_grain_wrongly, a_table_of_another_size,
    a_directory_that_places_a_table_wrongly, a_marker_of_no_kind,
]  # fmt: skip


@pytest.mark.parametrize("breach", BREACHES, ids=lambda breach: breach.__name__)
def test_the_walk_looks_at_the_stream(breach: Callable[[bytearray], None], stream: Path) -> None:
    data = bytearray(stream.read_bytes())
    breach(data)
    assert broken(stream, data)


def broken(path: Path, data: bytearray) -> bool:
    """Whether the walk finds fault with this stream."""
    path.write_bytes(data)
    try:
        walk(path)
    except (AssertionError, ValueError, struct.error, zlib.error):
        return True
    return False
