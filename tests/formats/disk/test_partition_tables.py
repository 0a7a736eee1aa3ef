"""The partition table of a raw disk: what sfdisk writes can be true, what is damaged cannot."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from vmport_formats.disk import raw
from vmport_formats.disk.partition_tables import look
from vmport_formats.source import MemorySource

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.needs("sfdisk")

SIZE = 8 << 20


def partitioned(folder: Path, label: str) -> bytearray:
    disk = folder / "disk.raw"
    with disk.open("wb") as output:
        output.truncate(SIZE)
    subprocess.run(
        ["sfdisk", "--quiet", str(disk)],
        input=f"label: {label}\nsize=2MiB, bootable\nsize=1MiB\n",
        text=True,
        check=True,
        capture_output=True,
    )
    return bytearray(disk.read_bytes())


def concerns(data: bytes | bytearray) -> list[str]:
    return [item.code for item in look(MemorySource(bytes(data))).concerns]


@pytest.mark.parametrize(("label", "kind"), [("dos", "mbr"), ("gpt", "gpt")])
def test_what_sfdisk_writes_can_be_true(label: str, kind: str, tmp_path: Path) -> None:
    table = look(MemorySource(bytes(partitioned(tmp_path, label))))
    assert (table.kind, table.concerns) == (kind, ())


def test_a_gpt_of_a_disk_with_large_sectors(tmp_path: Path) -> None:
    small = partitioned(tmp_path, "gpt")
    large = bytearray(SIZE * 8)  # as many sectors, each of 4096 bytes
    for number in range(34):
        # The entries fill their sectors: 32 small ones are 4 large ones.
        place = number * 4096 if number < 2 else 8192 + (number - 2) * 512
        large[place : place + 512] = small[number * 512 : number * 512 + 512]
    table = look(MemorySource(bytes(large)))
    assert (table.kind, table.concerns) == ("gpt", ())
    assert concerns(large[: SIZE * 4]) == ["raw.gpt-beyond-end"]


def test_a_cut_disk_is_told_by_its_partition_table(tmp_path: Path) -> None:
    assert concerns(partitioned(tmp_path, "dos")[: 2 << 20]) == ["raw.mbr-beyond-end"]
    assert concerns(partitioned(tmp_path, "gpt")[: SIZE - 512]) == ["raw.gpt-beyond-end"]


@pytest.mark.parametrize(
    ("place", "code"),
    [
        (512 + 56, "raw.gpt-header"),  # the disk's GUID: breaks the header's checksum
        (1024 + 16, "raw.gpt-entries"),  # the first partition's GUID
        (446 + 4, "raw.gpt-unprotected"),  # the type of the protective partition
        (512, "raw.gpt-missing"),  # the signature
    ],
)
def test_a_damaged_gpt_cannot_be_true(place: int, code: str, tmp_path: Path) -> None:
    data = partitioned(tmp_path, "gpt")
    data[place] ^= 0x55
    assert code in concerns(data)


def test_a_boot_flag_that_is_neither_cannot_be_true(tmp_path: Path) -> None:
    data = partitioned(tmp_path, "dos")
    data[446] = 0x42
    assert concerns(data) == ["raw.mbr-status"]


def test_the_boot_sector_of_a_file_system_is_no_partition_table() -> None:
    sector = bytearray(b"\xeb\x52\x90NTFS    ".ljust(510, b"\xf4") + b"\x55\xaa")
    assert look(MemorySource(bytes(sector))).kind is None
    info = raw.read_info(MemorySource(bytes(sector)))
    assert info.details == {"content": "NTFS"}
    assert info.concerns == ()


def test_random_bytes_are_no_partition_table() -> None:
    table = look(MemorySource(bytes(range(256)) * 64))
    assert (table.kind, table.concerns) == (None, ())
