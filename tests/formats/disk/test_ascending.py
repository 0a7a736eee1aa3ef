"""Data that comes in order: what is refused, and a table of which only a part is in memory."""

from __future__ import annotations

import tracemalloc
from array import array
from sys import byteorder
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vmport_formats.disk.ascending import AscendingTable, GrainOrder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vmport_formats.disk.composer import Write

MIB = 1 << 20
WINDOW = 1 << 14
UNUSED = 0xFFFF_FFFF
GAPS = st.integers(0, 5) | st.integers(WINDOW - 2, WINDOW + 2) | st.integers(0, MIB // 2)
COUNTS = st.integers(0, 5) | st.integers(WINDOW - 2, 2 * WINDOW + 2)


class Written:
    """The bytes of a file, each of which may be written once."""

    def __init__(self, size: int) -> None:
        self.bytes = bytearray(size)
        self.done = 0

    def take(self, writes: Iterable[Write]) -> None:
        for offset, data in writes:
            end = offset + len(data)
            assert not any(self.bytes[offset:end])
            assert end <= len(self.bytes)
            self.bytes[offset:end] = data
            self.done += len(data)


@given(
    runs=st.lists(st.tuples(GAPS, COUNTS, st.integers(1, 1 << 30)), max_size=6),
    rest=GAPS,
    order=st.sampled_from(("little", "big")),
)
@example(runs=[(0, WINDOW, 1)], rest=0, order="big")
@example(runs=[(WINDOW, 1, 1), (WINDOW - 1, WINDOW, 7)], rest=MIB, order="little")
@settings(max_examples=40, deadline=None)
def test_table_is_what_was_put_in(
    runs: list[tuple[int, int, int]], rest: int, order: Literal["little", "big"]
) -> None:
    truth = array("I")
    for gap, count, value in runs:
        truth.extend([UNUSED] * gap)
        truth.extend(range(value, value + count))
    truth.extend([UNUSED] * rest)
    table = AscendingTable(100, len(truth), order)
    file = Written(100 + 4 * len(truth))
    index = 0
    for gap, count, value in runs:
        file.take(table.put(index + gap, count, value))
        index += gap + count
    file.take(table.finish())
    assert file.done == 4 * len(truth)
    found = b"".join(value.to_bytes(4, order) for value in truth[:100])
    assert file.bytes[100 : 100 + len(found)] == found
    if order == "big":
        truth.byteswap()
    assert file.bytes[100:] == truth.tobytes()


@given(
    runs=st.lists(st.tuples(GAPS, COUNTS, st.integers(1, 1 << 40)), max_size=4),
    rest=GAPS,
    period=st.sampled_from((1, 2, 65, WINDOW, WINDOW + 1, MIB)),
    step=st.sampled_from((1, MIB)),
)
@example(runs=[(MIB // 2, 1, 1), (MIB // 2 - 1, 1, 1)], rest=0, period=MIB, step=1)
@settings(max_examples=25, deadline=None)
def test_what_is_unused_repeats(
    runs: list[tuple[int, int, int]], rest: int, period: int, step: int
) -> None:
    unused = array("Q", range(7, 7 + period))
    length = sum(gap + count for gap, count, _ in runs) + rest
    truth = (unused * (length // period + 1))[:length]
    table = AscendingTable(0, length, order=byteorder, width=8, unused=unused.tobytes())
    file = Written(8 * length)
    index = 0
    for gap, count, value in runs:
        index += gap
        truth[index : index + count] = array("Q", range(value, value + count * step, step))
        file.take(table.put(index, count, value, step))
        index += count
    file.take(table.finish())
    assert file.done == 8 * length
    assert file.bytes == truth.tobytes()


def test_table_of_64_mib_takes_little_memory() -> None:
    table = AscendingTable(0, 16 * MIB, "big")
    tracemalloc.start()
    try:
        done = 0
        for index in range(0, 16 * MIB, 32749):
            done += sum(len(data) for _, data in table.put(index, 3, index))
        done += sum(len(data) for _, data in table.finish())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert done == 64 * MIB
    assert peak < 2 * MIB


@pytest.mark.parametrize(
    ("offset", "length", "words"),
    [
        (4096 + 512, 4096, "no whole grains"),
        (8192, 100, "no whole grains"),
        (4096, 4096, "before 8192"),
        (16384, 4096, "behind the end"),
        (8192, 12288, "behind the end"),
    ],
)
def test_grains_that_are_not_in_order_are_refused(offset: int, length: int, words: str) -> None:
    order = GrainOrder(13000, 4096)
    assert order.take(4096, bytes(4096)) == bytes(4096)
    with pytest.raises(ValueError, match=words):
        order.take(offset, bytes(length))
    # Nothing has changed: what is right is taken still.
    assert len(order.take_clipped(8192, bytes(8192))) == 13000 - 8192
