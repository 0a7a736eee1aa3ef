"""Which processor a program is for."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from vmport_formats.guest.elf import HOST_NAMES, Architecture, read_architecture


def test_the_running_python_is_for_this_machine() -> None:
    with Path(sys.executable).open("rb") as file:
        assert read_architecture(file.read(64)) == HOST_NAMES[os.uname().machine]


def _header(bits: int, order: int, machine: int, flags: int = 0) -> bytes:
    name = "little" if order == 1 else "big"
    header = bytearray(64)
    header[:6] = b"\x7fELF" + bytes([bits, order])
    header[18:20] = machine.to_bytes(2, "little" if name == "little" else "big")
    header[36:40] = flags.to_bytes(4, "little")
    return bytes(header)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (_header(2, 1, 62), Architecture("amd64")),
        (_header(1, 1, 3), Architecture("386")),
        (_header(2, 1, 183), Architecture("arm64", "v8")),
        (_header(1, 1, 40, 0x05000400), Architecture("arm", "v7")),
        (_header(1, 1, 40, 0x05000200), Architecture("arm", "v5")),
        (_header(2, 1, 243), Architecture("riscv64")),
        (_header(2, 2, 22), Architecture("s390x")),
        (_header(2, 1, 21), Architecture("ppc64le")),
        (_header(2, 2, 21), Architecture("ppc64")),
        (_header(1, 1, 62), None),  # x32: no engine has a name for it
        (_header(2, 9, 62), None),
        (_header(2, 1, 62)[:40], None),
        (b"#!/bin/sh" + bytes(60), None),
    ],
)
def test_headers(header: bytes, expected: Architecture | None) -> None:
    assert read_architecture(header) == expected
