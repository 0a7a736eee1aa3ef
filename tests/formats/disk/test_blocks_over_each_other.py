"""No two blocks of a VHD are in one place unnoticed, wherever they are and however many."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.disks import vhd
from vmport_formats.disk.image import open_image
from vmport_formats.disk.occupancy import BlockOccupancy, block_occupancy
from vmport_formats.errors import CorruptInput

GIB = 1 << 30
MIB = 1 << 20


@given(
    st.integers(1, 7),
    st.lists(st.tuples(st.integers(0, 200), st.integers(1, 9)), max_size=2),
    st.lists(
        st.lists(st.tuples(st.integers(0, 200), st.integers(1, 5)), min_size=1, max_size=6),
        max_size=8,
    ),
)
@settings(max_examples=300)
def test_the_first_unit_that_is_taken_twice(
    length: int, reserved: list[tuple[int, int]], calls: list[list[tuple[int, int]]]
) -> None:
    unit = 5
    occupancy = BlockOccupancy(length * unit, unit)
    taken: set[int] = set()
    for at, count in reserved:
        occupancy.reserve(at * unit, (at + count) * unit)
        taken |= set(range(at, at + count))
    for call in calls:
        wanted = set(taken)
        expected: tuple[int, int] | None = None
        for number, (at, count) in enumerate(call):
            units = range(at, at + count * length)
            hit = next((one for one in units if one in wanted), None)
            if hit is not None:
                expected = number, hit * unit
                break
            wanted |= set(units)
        ranges = [(at * unit, (at + count * length) * unit) for at, count in call]
        assert occupancy.take(ranges) == expected
        if expected is None:
            taken = wanted


def test_the_last_block_of_2_tebibytes() -> None:
    """All that 32 bits of sectors can address, full of blocks, in bounded memory."""
    length = 2 * MIB + 512
    count = (512 << 32) // length
    tracemalloc.start()
    try:
        occupancy = block_occupancy(length, 512, [(0, 4096)])
        assert occupancy.take([(4096, 4096 + (count - 1) * length)]) is None
        last = 4096 + (count - 1) * length
        for at in (last - 512, last - length, 5000 * 512, 3584):
            clash = occupancy.take([(last, last + length), (at, at + length)])
            assert clash is not None
            assert clash.number == 1
        assert occupancy.take([(last, last + length)]) is None
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_two_blocks_behind_64_gibibytes_of_others() -> None:
    """Some of more than 2^27 sectors were taken twice unnoticed, once.

    The block that lies there already is told by an earlier part of the table.
    """
    stride = 2 * MIB + 512
    count = 74 * GIB // stride
    first = 2 * MIB // 512
    sectors = [first + n * (stride // 512) for n in range(count)]
    sound = vhd.dynamic(count * 2 * MIB)
    sound.put(vhd.TABLE_AT, struct.pack(f">{count}I", *sectors))
    sound.put(first * 512 + count * stride, vhd.footer(count * 2 * MIB, vhd.DYNAMIC))
    with open_image(sound) as disk:
        assert sum(extent.length for extent in disk.extents()) == disk.virtual_size
    entry = vhd.TABLE_AT + 4 * (count - 1)
    broken = sound.patched({entry: (sectors[34_000] + 1).to_bytes(4, "big")})
    with open_image(broken) as disk, pytest.raises(CorruptInput) as caught:
        for _ in disk.extents():
            pass
    assert caught.value.code == "vhd.block-table-entry"
    assert caught.value.at == entry
