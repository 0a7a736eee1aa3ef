"""gzip that several threads write: always the same, and every program's to read."""

from __future__ import annotations

import gzip
import os
import random
import subprocess
import sys
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmport_converters.container.gzip import BLOCK, GzipWriter
from vmport_formats.crc32 import combine_crc


def _compress(data: bytes) -> bytes:
    parts: list[bytes] = []
    writer = GzipWriter(parts.append)
    for start in range(0, len(data), BLOCK):
        writer.write_block(data[start : start + BLOCK])
    writer.finish()
    writer.close()
    return b"".join(parts)


def _sample(length: int) -> bytes:
    """Half text that repeats over block borders, half noise."""
    noise = random.Random(length).randbytes(max(length // 2, 1))
    return (b"".join(b"line %d of a log\n" % n for n in range(length // 20 + 1)) + noise)[:length]


@pytest.mark.needs("gzip")
@pytest.mark.parametrize("length", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 12345])
def test_gzip_reads_it(length: int) -> None:
    data = _sample(length)
    packed = _compress(data)
    assert gzip.decompress(packed) == data
    done = subprocess.run(["gzip", "-dc"], input=packed, capture_output=True, check=True)
    assert done.stdout == data


def test_the_number_of_threads_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = _sample(5 * BLOCK + 7)
    found = set()
    for threads in (1, 2, 7):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _pid, count=threads: set(range(count)))
        found.add(_compress(data))
    assert len(found) == 1


@given(st.binary(max_size=300), st.binary(max_size=3000))
@settings(max_examples=50, deadline=None)
def test_checksums_combine(first: bytes, second: bytes) -> None:
    combined = combine_crc(zlib.crc32(first), zlib.crc32(second), len(second))
    assert combined == zlib.crc32(first + second)


def test_without_isal_zlib_does_it() -> None:
    program = """
import sys, gzip
sys.modules["isal"] = None
from vmport_converters.container.gzip import BLOCK, GzipWriter
from vmport_converters.container.compression import decompress, detect
data = bytes(range(256)) * (BLOCK // 100)
parts = []
writer = GzipWriter(parts.append)
for start in range(0, len(data), BLOCK):
    writer.write_block(data[start:start + BLOCK])
writer.finish()
writer.close()
packed = b"".join(parts)
assert gzip.decompress(packed) == data
for step in (1000, len(packed)):
    pieces = [packed[start:start + step] for start in range(0, len(packed), step)]
    assert b"".join(decompress(pieces, detect(packed), name="x")) == data
"""
    subprocess.run([sys.executable, "-c", program], check=True)
