"""Damaged and forged images: nothing that oslo.utils refuses passes the policy ``openstack``."""

from __future__ import annotations

from io import BytesIO
from random import Random
from typing import Final

import pytest

from fixtures.disks import luks
from tests.oslo import refusal
from tests.specimens import NAMES, specimen
from vmport_formats.disk.policy import Policy, judge
from vmport_formats.disk.probe import probe
from vmport_formats.errors import VmportError
from vmport_formats.source import MemorySource

pytestmark = [pytest.mark.needs("qemu-img"), pytest.mark.qemu_samples]

CASES: Final = 150
LONGEST: Final = 1 << 20
"""oslo.utils looks no further, and reads slowly."""

_MBR = bytes([0x80, 0, 2, 0, 0x83, 0, 1, 0]) + b"\1\0\0\0\7\0\0\0"
_GPT = bytes([0, 0, 2, 0, 0xEE, 0, 1, 0]) + b"\1\0\0\0\7\0\0\0"


def _raw(*pieces: tuple[int, bytes]) -> bytes:
    disk = bytearray(300 << 10)
    for offset, data in pieces:
        disk[offset : offset + len(data)] = data
    return bytes(disk)


OTHERS: Final = {
    "MBR": _raw((446, _MBR), (510, b"\x55\xaa")),
    "GPT": _raw((446, _GPT), (510, b"\x55\xaa"), (512, b"EFI PART")),
    "FAT": _raw((16, b"\2"), (21, b"\xf8"), (54, b"FAT16"), (510, b"\x55\xaa")),
    "ISO": _raw((32768, b"\1CD001\1")),
    "text": b"a line of text\n" * 2000,
    "LUKS": luks.disk(bytes(512)).read_at(0, 1 << 18),
}

SLOW: Final = {"luks", "qcow2-luks"}
"""To make these, qemu-img stretches keys for seconds."""

MARKS: Final = (b"QFI\xfb", b"QED\0", b"KDMV", b"conectix", b"vhdxfile", b"LUKS\xba\xbe\0\1")
LINES: Final = (
    b'#createType="vmfs"\n',
    b"/",
    b"\xc3\xa9",
    b"word word\n",
    b"RW 1 ZERO\n",
    b" ",
    b"\t",
)


def forged(image: bytes, chance: Random) -> bytes:
    """`image`, changed in up to three places, most of them where oslo.utils looks."""
    disk = bytearray(image)
    for _ in range(chance.choice((1, 1, 2, 3))):
        if not disk:
            break
        at = chance.randrange(min(len(disk), chance.choice((96, 512, 1536, 4096, LONGEST))))
        match chance.randrange(10):
            case 0 | 1 | 2:
                disk[at] = chance.randrange(256)
            case 3:
                disk[at] ^= 1 << chance.randrange(8)
            case 4:
                disk[-1 - chance.randrange(min(len(disk), 2048))] = chance.randrange(256)
            case 5:
                disk[510:512] = b"\x55\xaa"
            case 6:
                disk[32769:32774] = chance.choice((b"CD001", b"NSR02", b"NSR03"))
            case 7:
                place, mark = chance.choice(
                    [*((0, mark) for mark in MARKS), (64, b"\x7f\x10\xda\xbe")]
                )
                disk[place : place + len(mark)] = mark
            case 8:
                del disk[chance.randrange(len(disk)) :]
            case 9:
                line = chance.choice(LINES)
                place = 512 + chance.randrange(400)
                disk[place : place + len(line)] = line
    return bytes(disk)


def accepted(image: bytes) -> bool:
    source = MemorySource(image)
    try:
        return judge(Policy.OPENSTACK, source, probe(source)).accepted
    except VmportError:
        return False


@pytest.mark.parametrize("name", [*OTHERS, *sorted(set(NAMES) - SLOW)])
def test_no_laxer_than_oslo(name: str) -> None:
    image = OTHERS[name] if name in OTHERS else specimen(name)[:LONGEST]
    chance = Random(name)
    for number in range(CASES):
        case = forged(image, chance) if number else image
        if accepted(case):
            assert refusal(BytesIO(case)) is None, number
