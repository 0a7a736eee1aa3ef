"""qcow2: the rule of each field, and what is read of the lists behind the header."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.qemu_variants import VARIANTS, make
from vmport_formats.disk import qcow2
from vmport_formats.disk.safety import assess
from vmport_formats.errors import CorruptInput, TruncatedInput, UnsupportedFeature, VmportError
from vmport_formats.source import MemorySource, open_source

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vmport_formats.disk.model import ImageInfo

pytestmark = pytest.mark.needs("qemu-img")

FEATURE_NAMES = bytes.fromhex("6803f857")
BACKING_FORMAT = bytes.fromhex("e2792aca")
DATA_FILE = bytes.fromhex("44415441")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An empty image of version 3, 1 MiB, clusters of 64 KiB."""
    folder = tmp_path_factory.mktemp("fresh")
    return make(VARIANTS["qcow2-1.1-cluster-65536"], folder).read_bytes()


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An image over base.raw."""
    return make(VARIANTS["qcow2-over-raw"], tmp_path_factory.mktemp("overlay")).read_bytes()


def patched(data: bytes, *edits: tuple[int, bytes]) -> bytes:
    result = bytearray(data)
    for offset, value in edits:
        result[offset : offset + len(value)] = value
    return bytes(result)


def read(data: bytes) -> ImageInfo:
    return qcow2.read_info(MemorySource(data, name="image.qcow2"))


def qemu_complains(data: bytes, folder: Path) -> str:
    """What qemu-img says against the image; empty when it takes it."""
    image = folder / "image.qcow2"
    image.write_bytes(data)
    done = subprocess.run(
        ["qemu-img", "info", "-f", "qcow2", str(image)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr.strip() if done.returncode else ""


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def u64(value: int) -> bytes:
    return value.to_bytes(8, "big")


BROKEN: Sequence[tuple[str, tuple[int, bytes], str, type[VmportError]]] = [
    ("version 1", (4, u32(1)), "qcow2.version", UnsupportedFeature),
    ("version 4", (4, u32(4)), "qcow2.version", UnsupportedFeature),
    ("cluster bits 8", (20, u32(8)), "qcow2.cluster-bits", CorruptInput),
    ("cluster bits 22", (20, u32(22)), "qcow2.cluster-bits", CorruptInput),
    ("size 2^63", (24, u64(1 << 63)), "qcow2.size", CorruptInput),
    ("size 2^64-1", (24, u64((1 << 64) - 1)), "qcow2.size", CorruptInput),
    ("size beyond the L1 table", (24, u64(1 << 40)), "qcow2.l1-table", CorruptInput),
    ("L1 table too small", (36, u32(0)), "qcow2.l1-table", CorruptInput),
    ("L1 table too large", (36, u32((1 << 32) - 1)), "qcow2.l1-table", CorruptInput),
    ("L1 table unaligned", (40, u64(0x30001)), "qcow2.l1-table", CorruptInput),
    ("L1 table at 2^64-1", (40, u64((1 << 64) - 1)), "qcow2.l1-table", CorruptInput),
    ("refcount table unaligned", (48, u64(0x10200)), "qcow2.refcount-table", CorruptInput),
    ("no refcount table", (56, u32(0)), "qcow2.refcount-table", CorruptInput),
    ("refcount table too large", (56, u32(129)), "qcow2.refcount-table", CorruptInput),
    ("too many snapshots", (60, u32(65537)), "qcow2.snapshot-table", CorruptInput),
    ("compression bit alone", (72, u64(8)), "qcow2.compression-type", CorruptInput),
    ("refcount order 7", (96, u32(7)), "qcow2.refcount-order", CorruptInput),
    ("header too short", (100, u32(96)), "qcow2.header-length", CorruptInput),
    ("header too long", (100, u32(65544)), "qcow2.header-length", CorruptInput),
    ("compression type 2", (104, b"\2"), "qcow2.compression-type", UnsupportedFeature),
    ("unknown feature", (72, u64(1 << 63)), "qcow2.incompatible-features", UnsupportedFeature),
]


@pytest.mark.parametrize(
    ("edit", "code", "kind"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN]
)
def test_a_broken_header_is_refused_here_and_by_qemu(
    edit: tuple[int, bytes], code: str, kind: type[VmportError], fresh: bytes, tmp_path: Path
) -> None:
    data = patched(fresh, edit)
    with pytest.raises(VmportError) as caught:
        read(data)
    assert caught.value.code == code
    assert type(caught.value) is kind
    assert isinstance(caught.value.at, int)
    assert qemu_complains(data, tmp_path)


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        ((8, u64(1 << 40)), "qcow2.backing-file-offset"),
        ((8, u64(50)), "qcow2.backing-file-offset"),
        ((16, u32(1024)), "qcow2.backing-file-size"),
        ((16, u32((1 << 32) - 1)), "qcow2.backing-file-size"),
    ],
)
def test_a_backing_name_outside_its_place_is_refused(
    edit: tuple[int, bytes], code: str, overlay: bytes
) -> None:
    with pytest.raises(CorruptInput) as caught:
        read(patched(overlay, edit))
    assert caught.value.code == code


def test_tables_behind_the_end_of_the_file_are_a_cut_file_where_qemu_sees_an_empty_disk(
    fresh: bytes, tmp_path: Path
) -> None:
    data = patched(fresh, (40, u64(1 << 40)))
    with pytest.raises(TruncatedInput, match="the L1 table ends at"):
        read(data)
    assert not qemu_complains(data, tmp_path)


def test_luks_without_its_header_is_refused(fresh: bytes) -> None:
    with pytest.raises(CorruptInput) as caught:
        read(patched(fresh, (32, u32(2))))
    assert caught.value.code == "qcow2.encryption-header"


def test_an_unknown_feature_has_the_name_that_the_image_gives_it(
    fresh: bytes, tmp_path: Path
) -> None:
    table = fresh.index(FEATURE_NAMES) + 8
    entry = bytes([0, 40]) + b"time travel".ljust(46, b"\0")
    data = patched(fresh, (table, entry), (72, u64(1 << 40 | 1 << 41)))
    with pytest.raises(UnsupportedFeature, match="time travel, bit 41"):
        read(data)
    assert "time travel" in qemu_complains(data, tmp_path)


def test_unknown_compatible_and_autoclear_features_do_not_matter(fresh: bytes) -> None:
    info = read(patched(fresh, (80, u64(1 << 50)), (88, u64(1 << 51))))
    assert info.virtual_size == 1 << 20


def test_dirty_and_corrupt_bits_are_shown(fresh: bytes) -> None:
    info = read(patched(fresh, (72, u64(3))))
    assert info.dirty
    assert info.corrupt
    assert [reason.code for reason in assess(info).reasons] == ["qcow2.corrupt"]


def test_a_backing_file_of_undeclared_format_is_named_and_would_be_guessed(overlay: bytes) -> None:
    data = patched(overlay, (overlay.index(BACKING_FORMAT), b"\1\2\3\4"))
    info = read(data)
    assert info.backing is not None
    assert info.backing.name == "base.raw"
    assert info.backing.declared_format is None
    assert info.details["unknown-extensions"] == ["0x01020304"]
    (reason,) = assess(info).reasons
    assert reason.code == "qcow2.backing-file"
    assert "guessed" in reason.text


def test_a_data_file_without_a_name_is_unsafe_too(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("data")
    image = make(VARIANTS["qcow2-data-file-raw-on"], folder)
    data = image.read_bytes()
    named = read(data)
    assert [item.name for item in named.references] == [str(folder / "data.raw")]
    assert named.references[0].declared_format == "raw"
    nameless = read(patched(data, (data.index(DATA_FILE), b"\1\2\3\4")))
    assert nameless.references == ()
    for info in (named, nameless):
        assert [reason.code for reason in assess(info).reasons] == ["qcow2.data-file"]


@pytest.mark.parametrize("kind", ["fresh", "overlay"])
def test_a_repeated_or_overlong_extension_is_refused(
    kind: str, request: pytest.FixtureRequest
) -> None:
    data: bytes = request.getfixturevalue(kind)
    first = int.from_bytes(data[100:104], "big")
    too_long = patched(data, (first + 4, u32(1 << 31)))
    with pytest.raises(CorruptInput) as caught:
        read(too_long)
    assert caught.value.code == "qcow2.extension"
    empty_twice = patched(data, (first, b"\1\2\3\4\0\0\0\0" * 2))
    with pytest.raises(CorruptInput, match="appears twice"):
        read(empty_twice)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16, 32, 64])
def test_the_last_cluster_in_use_is_found_for_every_refcount_width(
    bits: int, tmp_path: Path
) -> None:
    """A file that lacks its last cluster is refused; one that has it in part is not."""
    image = make(VARIANTS[f"qcow2-refcount-{bits}-content"], tmp_path)
    size = image.stat().st_size
    last = (size - 1) // 65536 * 65536
    with open_source(image) as source:
        assert qcow2.read_info(source).file_size == size
    data = image.read_bytes()
    assert read(data[: last + 1]).file_size == last + 1
    with pytest.raises(TruncatedInput) as caught:
        read(data[:last])
    assert caught.value.code == "qcow2.file-size"
    assert f"ends at {last + 65536:#x}" in caught.value.problem


def test_snapshots_keep_the_size_of_their_time(tmp_path: Path) -> None:
    image = make(VARIANTS["qcow2-snapshot-then-resized"], tmp_path)
    with open_source(image) as source:
        info = qcow2.read_info(source)
    assert info.virtual_size == (1 << 20) + (64 << 10)
    assert [(item.name, item.virtual_size) for item in info.snapshots] == [("before", 1 << 20)]


def test_bitmaps_are_listed_unless_an_unknowing_program_wrote(tmp_path: Path) -> None:
    data = make(VARIANTS["qcow2-bitmaps"], tmp_path).read_bytes()
    assert read(data).details["bitmaps"] == [
        {"name": "first", "granularity": 65536, "flags": ["auto"]},
        {"name": "second", "granularity": 4096, "flags": []},
    ]
    assert "bitmaps" not in read(patched(data, (88, u64(0)))).details


def test_the_older_qcow_is_another_format(fresh: bytes) -> None:
    assert qcow2.matches(MemorySource(fresh))
    assert not qcow2.matches(MemorySource(patched(fresh, (4, u32(1)))))
    # A version that does not exist yet is still this format, and is refused as such.
    assert qcow2.matches(MemorySource(patched(fresh, (4, u32(4)))))
