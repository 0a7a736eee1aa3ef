"""Numbers of tables, made and compared many at a time, are those that one by one would be."""

from __future__ import annotations

from array import array
from typing import Literal

from hypothesis import example, given
from hypothesis import strategies as st

from vmport_formats.disk.numbers import progression, reach

CODES = {4: "I", 8: "Q"}


@given(
    st.integers(0, (1 << 64) - 1),
    st.integers(0, 20_000),
    st.sampled_from((0, 1, 512, 65536, (1 << 21) + 7)),
    st.sampled_from((4, 8)),
)
@example((1 << 64) - 4097, 4097, 1, 8)
@example((1 << 32) - 64, 64, 1, 4)
def test_a_progression(first: int, count: int, step: int, width: Literal[4, 8]) -> None:
    """To the largest number that there is place for, and however they divide into lanes."""
    top = 1 << 8 * width
    first %= top
    if step:
        count = min(count, -(-(top - first) // step))
    made = progression(first, count, step, width)
    assert made == array(CODES[width], (first + index * step for index in range(count)))
    assert made.itemsize == width


@given(
    st.lists(
        st.tuples(st.integers(0, (1 << 33) - 1), st.integers(1, 700), st.sampled_from((0, 1, 512))),
        min_size=1, max_size=5,
    ),
    st.sampled_from((0, 1, 512)),
    st.data(),
)  # fmt: skip
def test_how_far_numbers_go_up(
    runs: list[tuple[int, int, int]], step: int, data: st.DataObject
) -> None:
    numbers = array("Q")
    for first, count, by in runs:
        numbers.extend(first + index * by for index in range(count))
    index = data.draw(st.integers(0, len(numbers) - 1))
    end = data.draw(st.integers(index + 1, len(numbers)))
    count = 1
    while index + count < end and numbers[index + count] == numbers[index] + count * step:
        count += 1
    assert reach(numbers, index, end, step) == count
