"""The first look at a file leaves out no format whose own module would know it."""

from __future__ import annotations

from random import Random

import pytest

from tests.specimens import NAMES, specimen
from vmport_formats.disk.marks import candidates
from vmport_formats.disk.model import DiskFormat
from vmport_formats.disk.probe import reader
from vmport_formats.source import MemorySource

MARKED = [item for item in DiskFormat if item is not DiskFormat.RAW]


def assert_complete(data: bytes) -> None:
    source = MemorySource(data)
    known = {item for item in MARKED if reader(item).matches(source)}
    assert known <= set(candidates(source)), known


@pytest.mark.needs("qemu-img")
@pytest.mark.qemu_samples
@pytest.mark.parametrize("name", NAMES)
def test_specimens_and_parts_of_them(name: str) -> None:
    data = specimen(name)
    assert_complete(data)
    random = Random(name)
    for _ in range(50):
        start = random.choice([0, 0, 0, 1, 512, random.randrange(len(data))])
        end = random.choice([len(data), len(data), len(data) - 1, random.randrange(len(data) + 1)])
        part = bytearray(data[start:end])
        for _ in range(random.randrange(4)):
            if part:
                part[random.randrange(min(len(part), 600))] = random.randrange(256)
        assert_complete(bytes(part))


@pytest.mark.parametrize(
    "text",
    [
        b"# Disk DescriptorFile\nversion=1\n",
        b"\n\n \t\r\n#disk descriptorfile\n",
        b'VERSION = "1"\n',
        b"# a comment\n\nversion=3\n",
        b"\n" * 6000 + b"# Disk DescriptorFile\n",
        b"\xbe\xba\xfe\xca\0\0\0\0" + bytes(600),
    ],
)
def test_descriptors_of_vmware(text: bytes) -> None:
    assert_complete(text)
