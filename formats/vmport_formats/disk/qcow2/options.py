"""What can be chosen of a qcow2 image that is made, with the limits that qemu sets."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from vmport_formats.disk.qcow2.extensions import MAX_BACKING_FORMAT
from vmport_formats.disk.qcow2.header import (
    CLUSTER_BITS,
    MAX_BACKING_NAME,
    MAX_L1_TABLE,
    MAX_REFCOUNT_TABLE,
    Compression,
)
from vmport_formats.units import KIB, SECTOR, format_size

if TYPE_CHECKING:
    from vmport_formats.disk.packing import Effort

_EXTENDED_FROM: Final = 16 * KIB
_REFCOUNT_BITS: Final = (1, 2, 4, 8, 16, 32, 64)
_HEADER_SPACE: Final = 256
"""Bytes at the start of the file that a backing file's name leaves to the header."""


class Preallocation(StrEnum):
    """What is there of clusters that hold no data."""

    OFF = "off"
    METADATA = "metadata"
    """Each has its place in the file, which is a hole there."""
    FULL = "full"
    """And it is full of zeros."""


@dataclass(frozen=True, slots=True)
class Qcow2Options:
    """As ``qemu-img create -o`` has them, and with the same defaults.

    Raises:
        ValueError: a value that the format does not have, or that contradicts another.
    """

    version: int = 3
    """3 is ``compat=1.1``, and 2 is ``compat=0.10``."""
    cluster_size: int = 64 * KIB
    """Bytes."""
    compress: Effort | None = None
    """None: clusters are stored as they are."""
    compression_type: Compression = Compression.ZLIB
    refcount_bits: int = 16
    lazy_refcounts: bool = False
    extended_l2: bool = False
    preallocation: Preallocation = Preallocation.OFF
    backing_file: str | None = None
    """What reads as this image where that one has nothing; the name is stored as it is."""
    backing_format: str | None = None

    def __post_init__(self) -> None:
        if self.version not in (2, 3):
            raise ValueError(f"version {self.version}; must be 2 (compat=0.10) or 3 (compat=1.1)")
        sizes = [1 << bits for bits in CLUSTER_BITS]
        if self.cluster_size not in sizes:
            raise ValueError(
                f"cluster_size {self.cluster_size}; must be a power of two from 512 bytes to 2 MiB"
            )
        if self.refcount_bits not in _REFCOUNT_BITS:
            raise ValueError(
                f"refcount_bits {self.refcount_bits}; must be a power of two from 1 to 64"
            )
        if self.version == 2:
            self._check_version_2()
        if self.extended_l2 and self.cluster_size < _EXTENDED_FROM:
            raise ValueError("extended_l2 needs a cluster_size of at least 16 KiB")
        if self.preallocation is not Preallocation.OFF and (self.compress or self.backing_file):
            raise ValueError("preallocation goes with neither compression nor a backing_file")
        self._check_backing()

    def _check_version_2(self) -> None:
        newer = {
            "refcount_bits other than 16": self.refcount_bits != 16,
            "lazy_refcounts": self.lazy_refcounts,
            "extended_l2": self.extended_l2,
            "compression_type zstd": self.compression_type is not Compression.ZLIB,
        }
        for what, wanted in newer.items():
            if wanted:
                raise ValueError(f"{what} needs version 3 (compat=1.1)")

    def _check_backing(self) -> None:
        if self.backing_file is None:
            if self.backing_format is not None:
                raise ValueError("backing_fmt needs a backing_file")
            return
        if not self.backing_file:
            raise ValueError("backing_file is empty")
        length = len(name_bytes(self.backing_file))
        most = min(MAX_BACKING_NAME, self.cluster_size - _HEADER_SPACE)
        if length > most:
            raise ValueError(f"backing_file has a name of {length} bytes; at most {most} fit")
        if self.backing_format is not None:
            length = len(name_bytes(self.backing_format))
            if not 1 <= length <= MAX_BACKING_FORMAT:
                raise ValueError(f"backing_fmt has {length} bytes; must be 1 to 15")

    @property
    def cluster_bits(self) -> int:
        """The cluster size is 2 to this power."""
        return self.cluster_size.bit_length() - 1

    @property
    def entry_size(self) -> int:
        """Bytes of an L2 entry."""
        return 16 if self.extended_l2 else 8

    @property
    def per_table(self) -> int:
        """Clusters that an L2 table is for."""
        return self.cluster_size // self.entry_size

    def l1_size(self, virtual_size: int) -> int:
        """How many L2 tables a disk has place for.

        Raises:
            ValueError: more than qemu opens, or than the counts and offsets can be of.
        """
        covered = self.cluster_size * self.per_table
        count = -(-virtual_size // covered)
        most = MAX_L1_TABLE // 8 * covered
        # Data take as many clusters as the disk has, at the most; L1 and L2 tables, and refcounts,
        # each of which also counts itself, at most an eighth of that even where they are largest.
        per_block = 8 * self.cluster_size // self.refcount_bits
        counted = MAX_REFCOUNT_TABLE // 8 * per_block * self.cluster_size
        addressed = 1 << (70 - self.cluster_bits if self.compress else 56)
        most = min(most, min(counted, addressed) // 8 * 7) // SECTOR * SECTOR
        if virtual_size > most:
            raise ValueError(
                f"a disk of {format_size(virtual_size)}; with a cluster_size of "
                f"{format_size(self.cluster_size)} and refcount_bits {self.refcount_bits}, qcow2 "
                f"holds {format_size(most)} at the most"
            )
        return count


def name_bytes(text: str) -> bytes:
    """A name as the file stores it; `extensions.text` reads it."""
    return text.encode("utf-8", "surrogateescape")
