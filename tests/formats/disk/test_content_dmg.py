"""DMG content: chunks of every kind, against the composer, qemu-img and 7-Zip."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.disks import dmg
from fixtures.disks.dmg import Method
from tests.content import check_content, converted
from vmport_formats.disk.dmg.compression import unadc, unbzip2, unxz
from vmport_formats.disk.extents import ExtentKind
from vmport_formats.disk.image import open_image
from vmport_formats.errors import CorruptInput, UnsafeInput, UnsupportedFeature, VmportError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fixtures.disks.blocks import Composed
    from fixtures.disks.image_file import ImageFile

QEMU = (Method.ZERO, Method.RAW, Method.IGNORE, Method.ZLIB, Method.COMMENT)
"""What qemu reads without modules that are packed apart."""
ALL = (*QEMU, Method.ADC, Method.BZIP2, Method.LZMA)


@st.composite
def images(
    draw: st.DrawFn, methods: tuple[Method, ...] = ALL, *, in_order: bool = False
) -> Composed:
    chunk = st.tuples(st.sampled_from(methods), st.sampled_from((1, 2, 7, 40)))
    tables = draw(st.lists(st.lists(chunk, min_size=1, max_size=8), min_size=1, max_size=4))
    if all(method is Method.COMMENT for table in tables for method, _ in table):
        tables[0].append((Method.RAW, 3))
    return dmg.compose(
        tables,
        resource_fork=draw(st.booleans()),
        data_offset=draw(st.sampled_from((0, 0, 1000))),
        seed=draw(st.integers(0, 1 << 32)),
        shuffled=not in_order,
    )


@given(image=images(), seed=st.integers(0, 1 << 32))
@settings(max_examples=30, deadline=None)
def test_chunks_of_any_kind_in_any_order(image: Composed, seed: int) -> None:
    with open_image(image.file) as disk:
        check_content(disk, image.truth, seed=seed)


@pytest.mark.needs("qemu-img")
@given(image=images(QEMU, in_order=True))
@settings(max_examples=10, deadline=None)
def test_the_composer_and_qemu_agree(
    image: Composed, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In the order of the disk, for qemu looks tables up as if they always were."""
    path = image.file.write(tmp_path_factory.mktemp("composed") / "image.dmg")
    assert converted(path, "dmg") == image.truth


@pytest.mark.needs("7z")
@pytest.mark.parametrize("method", ALL)
def test_the_composer_and_7zip_agree(method: Method, tmp_path: Path) -> None:
    """7-Zip checks the checksums too."""
    image = dmg.compose([[(Method.RAW, 1), (method, 5), (Method.ZLIB, 2), (method, 1)]], seed=5)
    path = image.file.write(tmp_path / "image.dmg")
    command = ["7z", "e", "-tDmg", "-so", str(path)]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stdout == image.truth


def test_free_space_is_a_hole_and_zeros_are_zeros() -> None:
    image = dmg.compose([[(Method.IGNORE, 3), (Method.ZERO, 2), (Method.RAW, 1), (Method.ZLIB, 1)]])
    with open_image(image.file) as disk:
        kinds = [extent.kind for extent in disk.extents()]
    assert kinds == [ExtentKind.HOLE, ExtentKind.ZERO, ExtentKind.DATA, ExtentKind.COMPRESSED]


# --- Compression --------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=9), st.integers(1, 90)), max_size=12))
@settings(max_examples=60)
def test_adc(parts: list[tuple[bytes, int]]) -> None:
    data = b"".join(part * times for part, times in parts)
    assert unadc(dmg.adc(data), len(data)) == data
    if data:
        with pytest.raises(ValueError, match="it"):
            unadc(dmg.adc(data), len(data) + 1)
        with pytest.raises(ValueError, match="it"):
            unadc(dmg.adc(data)[:-1], len(data))


def test_adc_copies_from_far() -> None:
    data = bytes(range(256)) * 2 + b"\0" * 65000 + bytes(range(100, 160))
    assert unadc(dmg.adc(data), len(data)) == data


@pytest.mark.parametrize("packed", [b"\x00\x00", b"\x40\x00", b"\x80a\x40\x00\x01", b"\x03"])
def test_adc_that_copies_what_is_not_there(packed: bytes) -> None:
    with pytest.raises(ValueError, match="it"):
        unadc(packed, 100)


@pytest.mark.parametrize(
    ("method", "unpack"), [(Method.BZIP2, unbzip2), (Method.LZMA, unxz)], ids=["bzip2", "lzma"]
)
def test_streams_yield_what_they_must_or_nothing(
    method: Method, unpack: Callable[[bytes, int], bytes]
) -> None:
    data = bytes(range(256)) * 4000
    packed = dmg.pack(method, data)
    assert unpack(packed + b"junk", len(data)) == data
    for size in (0, 1, len(data) - 1, len(data) + 1):
        with pytest.raises(ValueError, match="yields"):
            unpack(packed, size)
    for broken in (packed[:-1], packed[:50], b"", packed[:60] + b"\xff" * 20 + packed[80:]):
        with pytest.raises(ValueError, match=r"."):
            unpack(broken, len(data))


# --- Faults -------------------------------------------------------------------------------------


def test_what_cannot_be_unpacked_is_named() -> None:
    image = dmg.compose([[(Method.LZFSE, 3)]])
    with pytest.raises(UnsupportedFeature, match="LZFSE") as caught, open_image(image.file):
        pass
    assert caught.value.code == "dmg.compression"


TABLES = [[(Method.RAW, 2), (Method.ZLIB, 3)], [(Method.ZERO, 4), (Method.BZIP2, 2)]]


def changed(old: bytes, new: bytes, *, resource_fork: bool = True) -> ImageFile:
    """An image whose block tables are not in base64, with something else in them."""
    image = dmg.compose(TABLES, resource_fork=resource_fork)
    whole = image.file.read_at(0, image.file.size)
    assert whole.count(old)
    at = whole.index(old)
    return image.file.patched({at: new})


def chunk(kind: int, start: int, count: int) -> bytes:
    return b"".join(
        (kind.to_bytes(4, "big"), bytes(4), start.to_bytes(8, "big"), count.to_bytes(8, "big"))
    )


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (chunk(Method.ZLIB, 2, 3), chunk(Method.ZLIB, 1, 3), "dmg.overlap"),
        (chunk(Method.ZLIB, 2, 3), chunk(Method.ZLIB, 3, 2), "dmg.gap"),
        (chunk(Method.ZLIB, 2, 3), chunk(Method.END, 2, 3), "dmg.gap"),
        (chunk(Method.RAW, 0, 2), chunk(Method.COMMENT, 0, 2), "dmg.gap"),
        (chunk(Method.ZLIB, 2, 3), chunk(Method.ZLIB, 2, 4), "dmg.block-table"),
        (chunk(Method.ZLIB, 2, 3), chunk(Method.ZLIB, 2, 1 << 63), "dmg.block-table"),
        (chunk(Method.ZLIB, 2, 3), chunk(Method.ZLIB, 2, 2), "dmg.compressed-chunk"),
        (chunk(Method.ZLIB, 2, 3), chunk(Method.RAW, 2, 3), "dmg.chunk"),
        (chunk(Method.ZLIB, 2, 3), chunk(0x8000_00AA, 2, 3), "dmg.compression"),
        (b"mish\0\0\0\1", b"mish\0\0\0\2", "dmg.block-table"),
        (b"blkx", b"blky", "dmg.gap"),
    ],
)
def test_a_broken_table(old: bytes, new: bytes, code: str) -> None:
    with pytest.raises(VmportError) as caught, open_image(changed(old, new)) as disk:
        disk.read(0, disk.virtual_size)
    assert caught.value.code == code


def test_a_resource_fork_that_leads_out_of_itself() -> None:
    """With any number in its header and map: the disk as it is, or a clear error."""
    image = dmg.compose(TABLES, resource_fork=True)
    fork = int.from_bytes(image.file.read_at(image.file.size - 512 + 0x28, 8), "big")
    length = int.from_bytes(image.file.read_at(image.file.size - 512 + 0x30, 8), "big")
    refused = 0
    for place in (*range(fork, fork + 16), *range(fork + length - 100, fork + length - 1)):
        for value in (b"\xff\xff", b"\0\0", b"\x7f\x01"):
            try:
                with open_image(image.file.patched({place: value})) as disk:
                    assert disk.read(0, disk.virtual_size) == image.truth
            except CorruptInput:
                refused += 1
    assert refused > 50


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (b"<!DOCTYPE plist ", b"<!DOCTYPE pl [<!ENTITY a 'b'>]><plist><!--", UnsafeInput),
        (b"</dict>\n", b"</dicd>\n", CorruptInput),
        (b"bWlza", b"bW*za", CorruptInput),
        (b"bWlza", b"bWlzb", CorruptInput),
        (b"<dict>", b"<array", CorruptInput),
    ],
)
def test_a_broken_property_list(old: bytes, new: bytes, error: type[VmportError]) -> None:
    with (
        pytest.raises(error) as caught,
        open_image(changed(old, new, resource_fork=False)) as disk,
    ):
        disk.read(0, disk.virtual_size)
    assert caught.value.code in {"dmg.property-list", "dmg.block-table"}


def test_a_property_list_of_nothing_but_depth() -> None:
    image = dmg.compose(TABLES)
    whole = image.file.read_at(0, image.file.size)
    at = whole.index(b"<key>resource-fork")
    deep = b"<dict><key>a</key>" * 40
    with pytest.raises(CorruptInput, match="deeper"), open_image(image.file.patched({at: deep})):
        pass
