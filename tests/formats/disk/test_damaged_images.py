"""Whatever is done to an image, reading its metadata ends soon, in a result or a `VmportError`."""

from __future__ import annotations

import json
import random
import time
import tracemalloc
from typing import TYPE_CHECKING, Literal

import pytest

from tests import specimens
from vmport.render.inspection import Inspection, image_fields
from vmport_formats.disk.probe import probe
from vmport_formats.disk.safety import assess
from vmport_formats.errors import InputError, TruncatedInput, VmportError
from vmport_formats.source import MemorySource
from vmport_formats.units import MAX_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.model import DiskFormat, ImageInfo

pytestmark = [pytest.mark.needs("qemu-img"), pytest.mark.qemu_samples]

SECONDS = 1.0
BYTES = 64 << 20


class Image(MemorySource):
    """A specimen in memory that can be damaged, and counts what is read of it."""

    def __init__(self, name: str, disk_format: DiskFormat, data: bytes) -> None:
        super().__init__(b"", name=name)
        self.format = disk_format
        self.data = bytearray(data)
        self.size = len(data)
        self.read = 0

    def read_at(self, offset: int, length: int) -> bytes:
        if offset < 0 or length <= 0:
            return b""
        found = bytes(self.data[offset : offset + length])
        self.read += len(found)
        return found


@pytest.fixture(scope="module", params=specimens.NAMES)
def image(request: pytest.FixtureRequest) -> Image:
    name: str = request.param
    return Image(name, specimens.format_of(name), specimens.specimen(name))


def look(image: Image, declared: DiskFormat | None) -> ImageInfo | None:
    """The metadata, or None for a refusal; anything but that fails the test."""
    begin = time.process_time()
    image.read = 0
    refusal: VmportError | None = None
    info: ImageInfo | None = None
    try:
        info = probe(image, declared=declared)
    except VmportError as error:
        refusal = error
    assert time.process_time() - begin < SECONDS
    assert image.read < BYTES
    if refusal is not None:
        assert refusal.exit_code in (3, 4)
        assert refusal.code
        assert refusal.problem
    if info is not None:
        assert 0 <= info.virtual_size <= MAX_SIZE
        assert json.dumps(image_fields(Inspection(image.name, 0, info, assess(info))))
    return info


def metadata_places(image: Image) -> Iterator[int]:
    """Where a field can be: the head, the tail, and the structures that formats keep elsewhere."""
    yield from range(0, min(512, image.size), 4)
    yield from range(max(512, image.size - 512), image.size, 4)
    for start in (512, 1536, 1 << 16, 2 << 16, 3 << 16, 4 << 16, 3 << 20):
        yield from range(start, min(start + 96, image.size), 4)


@pytest.mark.parametrize(
    ("value", "width"), [(b"\xff", 4), (b"\xff", 8), (b"\x00", 8)], ids=["2^32-1", "2^64-1", "0"]
)
def test_extreme_values_in_every_field(image: Image, value: bytes, width: int) -> None:
    """2^64-1 and 0 wherever a size or an offset can be: bounded time and bounded reads."""
    for place in metadata_places(image):
        kept = image.data[place : place + width]
        image.data[place : place + width] = value * len(kept)
        look(image, image.format)
        image.data[place : place + width] = kept


def test_extreme_values_take_no_memory(image: Image) -> None:
    """2^63-1 and 2^64-1 in each field of the head: nothing is allocated because a field says so."""
    huge = ((1 << 63) - 1).to_bytes(8, "big")
    tracemalloc.start()
    try:
        for place in range(0, min(128, image.size - 8), 4):
            for value in (huge, huge[::-1], b"\xff" * 8):
                kept = image.data[place : place + 8]
                image.data[place : place + 8] = value
                tracemalloc.reset_peak()
                look(image, image.format)
                _, peak = tracemalloc.get_traced_memory()
                image.data[place : place + 8] = kept
                assert peak < BYTES, f"at {place}"
    finally:
        tracemalloc.stop()


def test_random_damage(image: Image) -> None:
    """A few hundred mutations, the same ones on each run."""
    chance = random.Random(image.name)
    places = [place for place in range(0, image.size, 512) if any(image.data[place : place + 512])]
    interesting = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0xFFFF, 1 << 31, (1 << 32) - 1, 1 << 63)
    for number in range(400):
        kept = []
        for _ in range(chance.randint(1, 6)):
            block = 0 if chance.random() < 0.4 else chance.choice(places)
            width = chance.choice((1, 2, 4, 8))
            place = min(block + chance.randrange(512), image.size - width)
            value = chance.choice((chance.choice(interesting), chance.getrandbits(64)))
            order: Literal["little", "big"] = "little" if chance.random() < 0.5 else "big"
            kept.append((place, bytes(image.data[place : place + width])))
            image.data[place : place + width] = (value % (1 << 8 * width)).to_bytes(width, order)
        look(image, image.format if number % 2 else None)
        for place, data in reversed(kept):
            image.data[place : place + len(data)] = data
    assert look(image, None) is not None, "the damage was not undone"


def test_a_cut_file_is_refused_or_was_cut_behind_its_metadata(image: Image) -> None:
    whole = look(image, image.format)
    assert whole is not None
    points = [0, 1, 3, 4, 15, 63, 100, 511, 512, 513, 1023, 1024, 4096, 65536]
    points += [image.size * part // 10 for part in range(1, 10)]
    points += [image.size - 512, image.size - 1]
    for point in sorted({point for point in points if 0 <= point < image.size}):
        cut = Image(image.name, image.format, bytes(image.data[:point]))
        found = look(cut, image.format)
        if point < 60:
            assert found is None, f"cut at {point}"
        if found is not None:
            assert found.file_size == point


@pytest.mark.parametrize(
    "name", ["qcow2", "qcow2-luks", "qed-content", "parallels", "cloop", "dmg"]
)
def test_a_cut_file_is_told_by_its_missing_data(name: str) -> None:
    """qemu reads what is missing as zeros and says nothing; these formats let us know better."""
    data = specimens.specimen(name)
    expected = InputError if name == "dmg" else TruncatedInput
    for part in (0.3, 0.6, 0.9):
        cut = MemorySource(data[: int(len(data) * part)])
        with pytest.raises(expected) as caught:
            probe(cut, declared=specimens.format_of(name))
        assert caught.value.hint
