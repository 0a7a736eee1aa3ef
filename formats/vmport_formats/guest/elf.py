"""Which processor an ELF program is for, by the names that container images use.

Source: System V ABI, "ELF Header"; Go's GOARCH names, as the OCI image specification demands.
"""

from __future__ import annotations

from typing import Final, NamedTuple

HEADER_LENGTH: Final = 52
"""Bytes of the shortest ELF header; what is read here lies within."""

_MAGIC: Final = b"\x7fELF"
_ARM_HARD_FLOAT: Final = 0x400


class Architecture(NamedTuple):
    """A processor: `name` as in GOARCH, and the variant that tells generations apart."""

    name: str
    variant: str | None = None

    def __str__(self) -> str:
        return f"{self.name}/{self.variant}" if self.variant else self.name


# By machine number, word size in bits, and byte order.
_MACHINES: Final = {
    (62, 64, "little"): Architecture("amd64"),
    (3, 32, "little"): Architecture("386"),
    (183, 64, "little"): Architecture("arm64", "v8"),
    (243, 64, "little"): Architecture("riscv64"),
    (21, 64, "little"): Architecture("ppc64le"),
    (21, 64, "big"): Architecture("ppc64"),
    (22, 64, "big"): Architecture("s390x"),
    (258, 64, "little"): Architecture("loong64"),
    (8, 64, "little"): Architecture("mips64le"),
    (8, 64, "big"): Architecture("mips64"),
    (8, 32, "little"): Architecture("mipsle"),
    (8, 32, "big"): Architecture("mips"),
}
_ARM: Final = (40, 32, "little")


def read_architecture(header: bytes) -> Architecture | None:
    """The processor of the program that begins with `header`.

    None: it is no ELF program, or one for a processor that container engines have no name for.
    """
    if len(header) < HEADER_LENGTH or not header.startswith(_MAGIC):
        return None
    bits = {1: 32, 2: 64}.get(header[4])
    order = {1: "little", 2: "big"}.get(header[5])
    if bits is None or order is None:
        return None
    machine = int.from_bytes(header[18:20], "little" if order == "little" else "big")
    key = (machine, bits, order)
    if key == _ARM:
        hard_float = int.from_bytes(header[36:40], "little") & _ARM_HARD_FLOAT
        return Architecture("arm", "v7" if hard_float else "v5")
    return _MACHINES.get(key)


HOST_NAMES: Final = {
    "x86_64": Architecture("amd64"),
    "i686": Architecture("386"),
    "aarch64": Architecture("arm64", "v8"),
    "armv7l": Architecture("arm", "v7"),
    "riscv64": Architecture("riscv64"),
    "ppc64le": Architecture("ppc64le"),
    "s390x": Architecture("s390x"),
    "loongarch64": Architecture("loong64"),
}
"""By the name that uname(2) gives a machine."""
