"""The checksums of DMGs are looked at: sound images have none wrong, and each one counts."""

from __future__ import annotations

import binascii
import subprocess
import tracemalloc
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.disks import dmg
from fixtures.disks.dmg import Method
from fixtures.disks.image_file import ImageFile
from tests.samples import sample
from vmport_formats.crc32 import crc32_with_zeros
from vmport_formats.disk.check import CheckReport, check_image
from vmport_formats.source import open_source

if TYPE_CHECKING:
    from pathlib import Path

    from vmport_formats.references import Reference
    from vmport_formats.source import ByteSource

TABLES = (
    [(Method.RAW, 7), (Method.ZERO, 5), (Method.ZLIB, 9), (Method.COMMENT, 0)],
    [(Method.IGNORE, 4), (Method.BZIP2, 8), (Method.LZMA, 8), (Method.ADC, 8)],
)
TRAILER = 512
DATA_CHECKSUM, MASTER_CHECKSUM = 0x50, 0x160


def _opener(reference: Reference) -> ByteSource:
    raise AssertionError(reference)


def _check(file: ByteSource, *, deep: bool = True) -> CheckReport:
    return check_image(file, _opener, deep=deep)


def _codes(report: CheckReport) -> list[str]:
    return [fault.code for fault in report.faults]


def _flipped(file: ImageFile, at: int) -> ImageFile:
    return file.patched({at: bytes([file.read_at(at, 1)[0] ^ 0xFF])})


@pytest.mark.parametrize("fork", [False, True], ids=["property list", "resource fork"])
@pytest.mark.parametrize("data_offset", [0, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_a_sound_image_has_no_fault(fork: bool, data_offset: int, seed: int) -> None:
    image = dmg.compose(
        TABLES, resource_fork=fork, data_offset=data_offset, seed=seed, shuffled=True
    )
    report = _check(image.file)
    assert report.faults == ()
    assert report.statistics.compressed == 4
    assert report.complete


@pytest.mark.needs("7z")
def test_7zip_finds_the_checksums_of_the_composer_sound(tmp_path: Path) -> None:
    """So they are those of the format, and not only what is looked for here."""
    path = dmg.compose([[(Method.RAW, 7), (Method.ZLIB, 9)]]).file.write(tmp_path / "a.dmg")
    done = subprocess.run(["7z", "t", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "Error" not in done.stdout


@pytest.mark.qemu_samples
def test_an_image_of_hdiutil() -> None:
    """It has no checksum over what is stored, so its tables are unpacked even unasked."""
    with open_source(sample("simple-dmg.dmg")) as source:
        assert _check(source, deep=False).faults == ()
        at = source.size - TRAILER
        kinds = [source.read_at(at + field, 8) for field in (DATA_CHECKSUM, MASTER_CHECKSUM)]
        assert kinds == [bytes(8), bytes.fromhex("00000002 00000020")]
        data = source.read_at(0, source.size)
    base = data.index(b"<data>") + len(b"<data>")
    stored = b"".join(data[base : data.index(b"</data>")].split())
    table = bytearray(binascii.a2b_base64(stored))
    table[64 + 8] ^= 1  # of its checksum
    changed = binascii.b2a_base64(table, newline=False)
    blanks = data[base : data.index(b"</data>")]
    text = bytearray(blanks)
    signs = iter(changed)
    for index, sign in enumerate(blanks):
        if sign not in b" \t\r\n":
            text[index] = next(signs)
    broken = ImageFile({0: data}).patched({base: bytes(text)})
    assert _codes(_check(broken, deep=False)) == ["dmg.master-checksum", "dmg.table-checksum"]


@pytest.mark.parametrize(
    ("field", "code"),
    [(DATA_CHECKSUM, "dmg.data-checksum"), (MASTER_CHECKSUM, "dmg.master-checksum")],
)
def test_a_checksum_in_the_trailer(field: int, code: str) -> None:
    file = dmg.compose(TABLES).file
    at = file.size - TRAILER + field + 8
    report = _check(_flipped(file, at + 2), deep=False)
    (fault,) = report.faults
    assert (fault.code, fault.at) == (code, at)
    assert not report.sound


def test_what_is_stored_was_changed() -> None:
    """As the checksum over the file tells at once; a deep check tells which table."""
    image = dmg.compose(TABLES)
    broken = _flipped(image.file, image.hosts[0] + 100)  # a raw chunk, the only one unprotected
    assert _codes(_check(broken, deep=False)) == ["dmg.data-checksum"]
    report = _check(broken)
    assert _codes(report) == ["dmg.data-checksum", "dmg.table-checksum"]
    assert "sectors 0 to 21" in report.faults[1].text
    assert report.faults[1].at == image.file.read_at(0, image.file.size).index(b"<data>")


def test_a_chunk_that_cannot_be_unpacked_is_told_itself() -> None:
    image = dmg.compose(TABLES)
    broken = _flipped(image.file, image.hosts[2] + 10)
    assert _codes(_check(broken)) == ["dmg.data-checksum", "dmg.compressed-chunk"]


def test_every_chunk_and_gap_is_told() -> None:
    """A table that goes missing, and what of another lies outside of the file."""
    image = dmg.compose(
        [[(Method.RAW, 3)], [(Method.RAW, 3)], [(Method.RAW, 3)]], resource_fork=True
    )
    whole = image.file.read_at(0, image.file.size)
    places = [at for at in range(len(whole)) if whole.startswith(b"mish", at)]
    first = 204 + 24  # the offset of the first chunk of a table
    broken = image.file.patched(
        {
            places[0] + first: b"\x7f" * 8,
            places[1] + 16: bytes(8),  # so that it is for no sector
            places[1] + 204 + 16: bytes(8),
            places[2] + first: b"\x7f" * 8,
        }
    )
    report = _check(broken, deep=False)
    assert _codes(report) == ["dmg.chunk", "dmg.chunk", "dmg.gap"]


def test_a_kind_of_checksum_that_is_not_known_is_told_of() -> None:
    file = dmg.compose(TABLES).file
    at = file.size - TRAILER + DATA_CHECKSUM
    report = _check(file.patched({at: (4).to_bytes(4, "big") + (128).to_bytes(4, "big")}))
    assert _codes(report) == ["dmg.checksum-kind"]
    assert report.sound


@given(st.binary(max_size=100), st.integers(0, 10_000))
def test_zeros_are_summed_without_being_made(data: bytes, count: int) -> None:
    assert crc32_with_zeros(zlib.crc32(data), count) == zlib.crc32(data + bytes(count))


def test_memory_and_time_do_not_follow_the_size() -> None:
    """A chunk of 8 MiB that is stored as it is, and a terabyte of zeros."""
    image = dmg.compose([[(Method.RAW, 1 << 14)]])
    tracemalloc.start()
    try:
        assert _check(image.file).faults == ()
        assert tracemalloc.get_traced_memory()[1] < 5 << 20
    finally:
        tracemalloc.stop()
    assert crc32_with_zeros(0, 1 << 40) == crc32_with_zeros(crc32_with_zeros(0, 1 << 39), 1 << 39)
