"""Counters of clusters, against a plain dictionary."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from vmport_formats.disk.counts import Counts

STARTS = st.one_of(st.integers(0, 40), st.integers(4080, 4110), st.integers(12_280, 12_300))


@given(
    st.lists(st.tuples(STARTS, st.integers(0, 9000), st.sampled_from([1, 2, 100, 255, 1000]))),
)
def test_as_many_as_were_counted(uses: list[tuple[int, int, int]]) -> None:
    """Past 255 too, where a byte does not suffice: of a disk with 300 snapshots, say."""
    counts, expected = Counts(), Counter[int]()
    for first, length, times in uses:
        counts.add(first, first + length, times)
        for cluster in range(first, first + length):
            expected[cluster] += times
    assert list(counts.of(0, 22_000)) == [expected[cluster] for cluster in range(22_000)]
    used = {cluster for first, last in counts.used() for cluster in range(first, last)}
    assert used.issuperset(+expected)
    for cluster in (0, 39, 4095, 4096, 12_287, 12_288):
        assert counts[cluster] == expected[cluster]
