"""Tables, occupancy and bitmaps, against the plainest code that does the same."""

from __future__ import annotations

import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmport_formats.disk.bitmaps import bit_runs
from vmport_formats.disk.occupancy import Occupancy
from vmport_formats.disk.tables import EntryKind, FlatTable, TableReader, largest
from vmport_formats.errors import CorruptInput, TruncatedInput
from vmport_formats.source import FileSource, MemorySource, open_source

if TYPE_CHECKING:
    from pathlib import Path

    from vmport_formats.source import ByteSource

FREE, ZERO = 0xFFFF_FFFF, 0
SIZE = 1 << 50


class Large(MemorySource):
    """Bytes, and behind them a hole that is never read."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.size = SIZE


def kind(
    width: Literal[4, 8] = 4, order: Literal["little", "big"] = "little", step: int = 1
) -> EntryKind:
    return EntryKind(
        "entry",
        code="test.entry",
        width=width,
        order=order,
        marks=frozenset({FREE, ZERO}),
        step=step,
        place=lambda value: (value << 12, step << 12, True),
    )


def packed(entries: list[int], entry: EntryKind) -> bytes:
    sign = "<" if entry.order == "little" else ">"
    return struct.pack(f"{sign}{len(entries)}{'I' if entry.width == 4 else 'Q'}", *entries)


def table(entries: list[int], entry: EntryKind, source: ByteSource | None = None) -> FlatTable:
    source = source or Large(packed(entries, entry))
    return FlatTable(TableReader(source, entry, Occupancy(0, 1 << 12)), 0, len(entries))


@st.composite
def entry_lists(draw: st.DrawFn, step: int) -> list[int]:
    """Rows of marks, and rows that go up or are scattered; no value twice."""
    entries: list[int] = []
    value = step
    for row in draw(st.lists(st.sampled_from(("free", "zero", "up", "scattered")), max_size=12)):
        # Now and then long enough for batches of one mark.
        length = draw(st.sampled_from((1, 2, 3, 7, 100, 9000)))
        for _ in range(length):
            if row == "free":
                entries.append(FREE)
            elif row == "zero":
                entries.append(ZERO)
            else:
                entries.append(value)
                value += step if row == "up" else 3 * step
        value += step
    return entries


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_stretches_are_the_entries(data: st.DataObject) -> None:
    step = data.draw(st.sampled_from((1, 5)))
    entry = kind(
        data.draw(st.sampled_from((4, 8))), data.draw(st.sampled_from(("little", "big"))), step
    )
    entries = data.draw(entry_lists(step))
    first = data.draw(st.integers(0, len(entries)))
    last = data.draw(st.integers(first, len(entries)))
    found = table(entries, entry)
    for _ in range(2):  # the second time from what was kept
        said: list[int] = []
        index = first
        for stretch in found.stretches(first, last):
            assert stretch.start == index
            assert stretch.entries > 0
            index += stretch.entries
            up = 0 if stretch.value in entry.marks else step
            said += [stretch.value + number * up for number in range(stretch.entries)]
        assert said == entries[first:last]


def test_a_long_row_is_one_stretch_a_batch() -> None:
    entries = [*range(1, 20001), *[FREE] * 20000]
    found = list(table(entries, kind()).stretches(0, len(entries)))
    assert len(found) <= 40000 // 4096 + 3


@pytest.mark.parametrize("top", [2**32 - 3, 2**32 - 2])
def test_the_last_numbers_of_all(top: int) -> None:
    """Where no number follows, no row goes on."""
    entries = [top - 1, top, 5, top - 2]
    entry = replace(kind(), marks=frozenset())
    found = table(entries, entry)
    assert [s.entries for s in found.stretches(0, 4)] == [2, 1, 1]


def test_holes_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "table"
    with path.open("wb") as file:
        file.truncate(4 << 30)
        file.seek(3 << 30)
        file.write(struct.pack("<II", 7, 8))
    reads: list[int] = []

    class Counting(FileSource):
        def read_at(self, offset: int, length: int) -> bytes:
            reads.append(length)
            return super().read_at(offset, length)

    with open_source(path) as opened:
        source = Counting(opened._descriptor, name="counting", size=opened.size)
        found = list(table([], kind(), source).reader.stretches(0, 1 << 30, 0, 1 << 30))
        assert largest(source, 0, 1 << 30, 4, "little") == ((3 << 28) + 1, 8)
    assert [s for s in found if s.value] == [(3 << 28, 2, 7)]
    assert sum(s.entries for s in found) == 1 << 30
    assert sum(reads) < 1 << 20


@given(st.lists(st.integers(0, 2**32 - 1), max_size=50), st.integers(0, 9000))
@settings(max_examples=40)
def test_the_largest_entry(entries: list[int], zeros: int) -> None:
    entries = [0] * zeros + entries
    source = MemorySource(packed(entries, kind()))
    index, value = largest(source, 0, len(entries), 4, "little")
    assert value == max(entries, default=0)
    assert not value or entries.index(value) == index
    with pytest.raises(TruncatedInput):
        largest(source, 0, len(entries) + 1, 4, "little")


# --- Faults -------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [0, 1, 4095, 4096, 20000])
@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (SIZE >> 12, TruncatedInput, "the file ends"),
        (30000, CorruptInput, "something else lies"),
    ],
)
def test_a_fault_is_told_at_its_entry(
    where: int, value: int, error: type[CorruptInput], words: str
) -> None:
    entries = list(range(2, 40000))
    entry = kind(8)
    if where < 30000 - 2:
        entries[29998] = FREE
        entries[29999] = 30000  # so that the other one comes second, or in the same batch
    entries[where] = value
    found = table(entries, entry)
    with pytest.raises(error, match=words) as caught:
        list(found.stretches(0, len(entries)))
    assert caught.value.code == "test.entry"
    assert caught.value.at in (8 * where, 8 * 29999)
    # The second look finds the same.
    with pytest.raises(error, match=words) as again:
        list(found.stretches(0, len(entries)))
    assert again.value.at == caught.value.at


def test_threads_check_a_batch_once() -> None:
    """Two that decode the same batch are not two that use the same blocks."""
    entries = [n * 7 % 20011 + 1 for n in range(1, 20000)]
    found = table(entries, kind())
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            for said in pool.map(lambda _: list(found.stretches(0, len(entries))), range(4)):
                assert sum(s.entries for s in said) == len(entries)
    finally:
        sys.setswitchinterval(interval)


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 60_000), st.integers(1, 40_000)), max_size=6), max_size=6
    )
)
@settings(max_examples=60)
def test_nothing_is_taken_twice(calls: list[list[tuple[int, int]]]) -> None:
    unit, start = 3, 1000
    occupancy = Occupancy(start, unit)
    taken: set[int] = set()
    for call in calls:
        ranges = [(start + at * unit, start + (at + count) * unit) for at, count in call]
        wanted = set(taken)
        expected: tuple[int, int] | None = None
        for number, (at, count) in enumerate(call):
            units = range(at, at + count)
            hit = next((one for one in units if one in wanted), None)
            if hit is not None:
                expected = number, start + hit * unit
                break
            wanted |= set(units)
        assert occupancy.take(ranges) == expected
        if expected is None:
            taken = wanted


@given(st.binary(max_size=40), st.data())
def test_runs_of_bits(bitmap: bytes, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 8 * len(bitmap)))
    for first, order in (("lsb", range(8)), ("msb", range(7, -1, -1))):
        bits = [bool(byte >> place & 1) for byte in bitmap for place in order][:count]
        runs = list(bit_runs(bitmap, count, first=first))  # type: ignore[arg-type]
        assert [bit for bit, length in runs for _ in range(length)] == bits
        assert all(one[0] != two[0] for one, two in pairwise(runs))
