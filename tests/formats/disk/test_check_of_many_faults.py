"""Ten thousand faults: those that are not kept are counted as the others are, and quickly."""

from __future__ import annotations

import struct
import time
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest

from fixtures.disks import parallels, qed, vdi, vhd_blocks, vhdx_blocks, vmdk, vmdk_grains
from fixtures.disks.blocks import Kind
from tests.fuzz import trial
from tests.fuzz.subjects import subject
from vmport_formats.disk import check as checking
from vmport_formats.disk.check import CheckReport, Severity, check_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fixtures.disks.image_file import ImageFile
    from vmport_formats.references import Reference
    from vmport_formats.source import ByteSource

MANY = 10_000
BLOCKS = [Kind.DATA] * 8 + [Kind.ABSENT] * MANY
GRAINS = [vmdk_grains.Kind.DATA] * 8 + [vmdk_grains.Kind.ABSENT] * MANY


def _no_opener(reference: Reference) -> ByteSource:
    raise AssertionError(reference)


def _filled(file: ImageFile, entries: Iterable[int], form: str) -> bytearray:
    """The image with random entries in its tables, one of ten of which are small."""
    random = Random(1)
    data = bytearray(file.read_at(0, file.size))
    bits = 8 * struct.calcsize(form)
    for at in entries:
        value = random.getrandbits(bits)
        struct.pack_into(form, data, at, value if random.random() < 0.9 else value % 200)
    return data


def _vhd() -> bytearray:
    made = vhd_blocks.compose(BLOCKS, seed=1)
    return _filled(made.file, made.entries.values(), ">I")


def _vdi() -> bytearray:
    made = vdi.compose(BLOCKS, block_size=512, seed=1)
    return _filled(made.file, made.entries.values(), "<I")


def _parallels() -> bytearray:
    made = parallels.compose(BLOCKS, sectors=7, seed=1)
    return _filled(made.file, made.entries.values(), "<I")


def _qed() -> bytearray:
    made = qed.compose(BLOCKS, table_size=16, seed=1)
    return _filled(made.file, made.entries.values(), "<Q")


def _vhdx() -> bytearray:
    state = vhdx_blocks.State
    made = vhdx_blocks.compose([state.FULLY_PRESENT] * 2 + [state.NOT_PRESENT] * MANY, seed=1)
    return _filled(made.file, made.entries.values(), "<Q")


def _sparse() -> bytearray:
    made = vmdk_grains.compose_sparse(GRAINS, seed=1)
    return _filled(made.file, made.places.values(), "<I")


def _stream() -> bytearray:
    made = vmdk_grains.compose_stream(GRAINS, grain=4096, seed=1)
    return _filled(made.file, made.places.values(), "<I")


def _cowd() -> bytearray:
    made = vmdk_grains.compose_cowd(GRAINS, seed=1)
    return _filled(made.file, made.places.values(), "<I")


def _sesparse() -> bytearray:
    made = vmdk_grains.compose_sesparse(GRAINS, seed=1)
    return _filled(made.file, made.places.values(), "<Q")


def _appended(name: str) -> tuple[bytearray, int]:
    """A qcow2 image of the fuzzer with many random entries behind it, and where they are."""
    random = Random(2)
    data = bytearray(subject(name).data)
    data += bytes(-len(data) % 4096)
    at = len(data)
    for _ in range(MANY):
        entry = random.getrandbits(64) if random.random() < 0.9 else random.randrange(2 * at)
        data += struct.pack(">Q", entry)
    return data, at


def _qcow2_l1() -> bytearray:
    """Both the present's L1 table and that of a snapshot."""
    data, at = _appended("qcow2-snapshot")
    struct.pack_into(">IQ", data, 36, MANY // 2, at)
    (snapshots,) = struct.unpack_from(">Q", data, 64)
    struct.pack_into(">QI", data, snapshots, at + 4 * MANY // 4096 * 4096, MANY // 2)
    return data


def _qcow2_bitmaps() -> bytearray:
    data, at = _appended("qcow2-bitmaps")
    (directory,) = struct.unpack_from(">Q", data, 136)
    struct.pack_into(">QI", data, directory, at, MANY)
    return data


def _report(data: bytearray) -> CheckReport:
    return check_image(trial.Memory("image", data), _no_opener)


@pytest.mark.parametrize(
    "image",
    [
        *(_vhd, _vdi, _parallels, _qed, _vhdx, _sparse, _stream, _cowd, _sesparse),
        *(_qcow2_l1, _qcow2_bitmaps),
    ],
)
def test_faults_that_are_not_kept_are_counted(
    image: Callable[[], bytearray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The numbers are those of a check that puts each into words; and it is soon done."""
    data = image()
    taken = []
    for _ in range(5):
        begin = time.process_time()
        report = _report(data)
        taken.append(time.process_time() - begin)
    monkeypatch.setattr(checking, "_KEPT", 1 << 30)
    whole = _report(data)
    assert report.counts == whole.counts
    assert whole.counts[Severity.ERROR] > MANY // 3
    assert sum(fault.count for fault in whole.faults) == whole.counts.total()
    for severity in Severity:
        kept = [fault for fault in report.faults if fault.severity is severity]
        assert kept == [fault for fault in whole.faults if fault.severity is severity][:1000]
    # What is lost is not fragmented either way.
    assert replace(report.statistics, fragmented=0) == replace(whole.statistics, fragmented=0)
    assert min(taken) <= trial.SECONDS * max(1.0, report.counts.total() / (2 * MANY))


def test_thousands_of_snapshots_with_one_table() -> None:
    """Each could be as long as the file, and would be read for each."""
    data, at = _appended("qcow2-snapshot")
    (old,) = struct.unpack_from(">Q", data, 64)
    entry = bytearray(data[old : old + 64])
    struct.pack_into(">QI", entry, 0, at, MANY)
    data += bytes(-len(data) % 4096)
    struct.pack_into(">IQ", data, 60, 5000, len(data))
    data += bytes(entry) * 5000
    begin = time.process_time()
    report = _report(data)
    assert time.process_time() - begin < 1
    assert not report.complete
    assert [fault.code for fault in report.faults].count("qcow2.snapshot-table") <= 1
    assert report.counts[Severity.ERROR] > MANY


def test_thousands_of_bitmaps_with_one_table() -> None:
    data, at = _appended("qcow2-bitmaps")
    data += bytes(-len(data) % 4096)
    rows = b"".join(
        (struct.pack(">QIIBBHI", at, MANY, 0, 1, 9, 4, 0) + struct.pack(">I", number)).ljust(32)
        for number in range(5000)
    )
    struct.pack_into(">IIQQ", data, 120, 5000, 0, len(rows), len(data))
    data += rows
    begin = time.process_time()
    report = _report(data)
    assert time.process_time() - begin < 1
    assert not report.complete
    assert report.counts[Severity.ERROR] > MANY


def test_tables_of_grains_at_every_sector() -> None:
    """Each of 16 KiB, so most bytes are in 32 of them."""
    number = 2000
    header = vmdk.cowd(sectors=4096 * number, grain_size=1, gd_offset=4)
    data = bytearray(header.read_at(0, 2048))
    data += struct.pack(f"<{number}I", *range(20, 20 + number))
    data += Random(1).randbytes((20 + number + 32) * 512 - len(data))
    begin = time.process_time()
    report = _report(data)
    assert time.process_time() - begin < 1
    assert not report.complete
    assert report.counts[Severity.ERROR] > number


def test_compressed_grains_of_every_length() -> None:
    """Each length was once looked for among all others."""
    grain = 4096
    made = vmdk_grains.compose_stream(2 * GRAINS, grain=grain, footer=False, seed=1)
    data = bytearray(made.file.read_at(0, made.file.size))
    data += bytes(-len(data) % 512)
    for index, at in made.places.items():
        struct.pack_into("<I", data, at, len(data) // 512)
        data += struct.pack("<QI", index * grain // 512, index).ljust(index + 12, b"\0")
        data += bytes(-len(data) % 512)
    begin = time.process_time()
    report = _report(data)
    assert time.process_time() - begin < 0.25
    assert not report.faults
    assert report.statistics.allocated == len(made.places)
