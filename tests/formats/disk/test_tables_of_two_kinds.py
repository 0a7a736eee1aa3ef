"""Tables in which entries of another kind lie between those of interest, as in a VHDX."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmport_formats.disk.occupancy import Occupancy
from vmport_formats.disk.tables import EntryKind, FlatTable, Place, TableReader
from vmport_formats.errors import CorruptInput, TruncatedInput
from vmport_formats.source import MemorySource, open_source

if TYPE_CHECKING:
    from pathlib import Path

    from vmport_formats.source import ByteSource

IGNORED = 3
FILE_END = 1 << 40
BLOCK = 1 << 15


class Large(MemorySource):
    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.size = FILE_END


def place(value: int) -> Place | None:
    if value & 7 == IGNORED:
        return None
    return Place(value << 12, BLOCK)


def table(
    entries: list[int], group: int, *, source: ByteSource | None = None, short: int = 0
) -> FlatTable:
    kind = EntryKind(
        "entry",
        code="test.entry",
        width=8,
        order="little",
        marks=frozenset({0, 1}),
        step=1 << 3,
        place=place,
        group=group,
        short=short,
    )
    source = source or Large(packed(entries, group))
    return FlatTable(TableReader(source, kind, Occupancy(0, BLOCK)), 0, len(entries))


def packed(entries: list[int], group: int) -> bytes:
    """The table, with junk between the entries."""
    rows = []
    for number, entry in enumerate(entries):
        rows.append(entry)
        if number % group == group - 1:
            rows.append(0 if not entry else 0xDEAD_BEEF_DEAD_BEEF)
    return struct.pack(f"<{len(rows)}Q", *rows)


@st.composite
def rows(draw: st.DrawFn) -> list[int]:
    entries: list[int] = []
    value = 1 << 3
    for row in draw(st.lists(st.sampled_from(("0", "1", "up", "ignored")), max_size=10)):
        for _ in range(draw(st.sampled_from((1, 2, 5, 16, 17, 5000)))):
            if row in "01":
                entries.append(int(row))
            else:
                entries.append(value | (IGNORED if row == "ignored" else 0))
                value += 1 << 3
    return entries


@given(data=st.data(), group=st.sampled_from((1, 2, 16, 100, 4096, 8192)))
@settings(max_examples=40, deadline=None)
def test_stretches_are_the_entries_of_one_kind(data: st.DataObject, group: int) -> None:
    entries = data.draw(rows())
    first = data.draw(st.integers(0, len(entries)))
    last = data.draw(st.integers(first, len(entries)))
    found = table(entries, group)
    for _ in range(2):
        said: list[int] = []
        for stretch in found.stretches(first, last):
            assert stretch.start == first + len(said)
            up = 0 if stretch.value in (0, 1) else 8
            said += [stretch.value + number * up for number in range(stretch.entries)]
        assert said == entries[first:last]


@pytest.mark.parametrize("group", [1, 16, 5000])
def test_holes_count_only_what_is_of_the_kind(group: int, tmp_path: Path) -> None:
    """The first entry behind a hole is where it should be."""
    path = tmp_path / "table"
    size = 200_000
    for where in (0, 3, group, 70_000 // group * group, 123_456):
        with path.open("wb") as file:
            file.truncate(1 << 30)
            file.seek(8 * (where + where // group))
            file.write(struct.pack("<Q", 40))
        with open_source(path) as source:
            found = list(table([0] * size, group, source=source).stretches(0, size))
        assert [stretch for stretch in found if stretch.value] == [(where, 1, 40)]
        assert sum(stretch.entries for stretch in found) == size


@pytest.mark.parametrize("where", [0, 15, 16, 4097, 9000])
def test_faults_are_told_at_the_place_in_the_whole_table(where: int) -> None:
    entries = [number << 3 for number in range(1, 10_001)]
    for value, error in ((FILE_END >> 12 << 3, TruncatedInput), (10_000 << 3, CorruptInput)):
        wrong = [*entries[:where], value, *entries[where + 1 :]]
        with pytest.raises(error) as caught:
            list(table(wrong, 16).stretches(0, len(wrong)))
        wanted = where if error is TruncatedInput else len(wrong) - 1
        assert caught.value.at in (8 * (where + where // 16), 8 * (wanted + wanted // 16))


@pytest.mark.parametrize(
    ("lost", "short", "order", "ok"),
    [
        (0, 0, (1, 2), True),
        (1, 0, (1, 2), False),
        (100, 100, (1, 2), True),
        (101, 100, (1, 2), False),
        (1, 100, (2, 1), False),
    ],
)
def test_only_the_last_may_be_cut_short(
    lost: int, short: int, order: tuple[int, int], ok: bool
) -> None:
    entries = [number << 3 for number in order]
    source = MemorySource(packed(entries, 16).ljust(3 * BLOCK - lost, b"\0"))
    found = table(entries, 16, source=source, short=short)
    if ok:
        assert sum(stretch.entries for stretch in found.stretches(0, 2)) == 2
    else:
        with pytest.raises(TruncatedInput):
            list(found.stretches(0, 2))
