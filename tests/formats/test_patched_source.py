"""Patches over a file, against the plainest code that does the same."""

from __future__ import annotations

import time
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from vmport_formats.patched import Patch, PatchedSource
from vmport_formats.source import MemorySource


class Holes(MemorySource):
    """Says that what is zero is a hole."""

    def data_ranges(self, offset, length):  # type: ignore[no-untyped-def]
        for at in range(offset, min(offset + length, self.size)):
            if self._data[at]:
                yield at, at + 1


patches = st.lists(
    st.builds(
        lambda at, data, zeros: Patch(at, len(data), None if zeros else data),
        st.integers(0, 60),
        st.binary(max_size=30),
        st.booleans(),
    ),
    max_size=12,
)


@given(base=st.binary(max_size=50), changes=patches, longer=st.integers(0, 60), data=st.data())
@settings(max_examples=200, deadline=None)
def test_later_patches_lie_over_earlier_ones(
    base: bytes, changes: list[Patch], longer: int, data: st.DataObject
) -> None:
    size = len(base) + longer
    truth = bytearray(base.ljust(200, b"\0"))
    for patch in changes:
        truth[patch.file_offset : patch.end] = patch.data or bytes(patch.length)
    del truth[size:]
    source = PatchedSource(Holes(base, name="base"), changes, size)
    assert source.size == size
    assert source.name == "base"
    offset = data.draw(st.integers(0, size + 5))
    length = data.draw(st.integers(0, size + 5))
    assert source.read_at(offset, length) == truth[offset : offset + length]
    target = bytearray(b"\xaa" * length)
    count = source.read_into(offset, memoryview(target))
    assert target[:count] == truth[offset : offset + length]
    assert count == len(truth[offset : offset + length])
    end = offset
    for start, stop in source.data_ranges(offset, length):
        assert end <= start < stop <= min(offset + length, size)
        assert not any(truth[end:start])
        end = stop
    assert not any(truth[end : offset + length])
    parts = list(source.parts(offset, offset + length))
    assert sum(part.end - part.start for part in parts) == length
    assert all(part.start < part.end for part in parts)


def test_offsets_that_are_none() -> None:
    source = PatchedSource(MemorySource(b"abc"), [Patch(0, 1, b"x")], 3)
    assert source.read_at(-1, 2) == b""
    assert source.read_at(3, 2) == b""
    assert source.read_into(-1, memoryview(bytearray(2))) == 0


def test_many_patches_over_each_other_cost_little() -> None:
    """As many as a log can hold: sectors, and zeros over all of them."""
    chance = Random(1)
    changes = [Patch(chance.randrange(1 << 30), 4096, bytes(4096)) for _ in range(16_000)]
    changes += [Patch(chance.randrange(1000), 1 << 30, None) for _ in range(16_000)]
    begin = time.process_time()
    PatchedSource(MemorySource(b""), changes, 1 << 30)
    PatchedSource(MemorySource(b""), changes[::-1], 1 << 30)
    assert time.process_time() - begin < 2
