"""The words that L1 and L2 tables of qcow2 consist of.

Source: qemu's ``docs/interop/qcow2.rst``, "Cluster mapping".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

OFFSET: Final = 0x00FF_FFFF_FFFF_FE00
"""Bits 9 to 55 of an L1 entry, or of an L2 entry that is not compressed."""
COPIED: Final = 1 << 63
"""What is pointed to has a reference count of just one."""
COMPRESSED: Final = 1 << 62
ALL_ZEROS: Final = 1


class Taken(NamedTuple):
    """A part of the file that has its own use, so that no cluster or L2 table can be there."""

    start: int
    end: int
    what: str


def overlapped(taken: Sequence[Taken], start: int, end: int) -> Taken | None:
    """What lies, at least in part, between two offsets."""
    return next((item for item in taken if item.start < end and start < item.end), None)
