"""The geometry that a VHD states for a disk of some size: cylinders, heads, sectors a track.

Source: Microsoft's VHD specification 1.0, appendix "CHS Calculation".
"""

from __future__ import annotations

from typing import Final, NamedTuple

from vmport_formats.disk.vhd.layout import MAX_CYLINDERS, MAX_HEADS, MAX_SECTORS_PER_TRACK

_LEAST_HEADS: Final = 4
_CYLINDERS_OF_OLD: Final = 1024
"""What a BIOS can count to; up to there, tracks are kept short."""
_IDE_TRACK: Final = 63
"""Sectors; the longest track but the one of the largest disks."""


class Geometry(NamedTuple):
    """What a disk would look like if it had cylinders."""

    cylinders: int
    heads: int
    sectors: int  # a track

    @property
    def total(self) -> int:
        """How many sectors it counts."""
        return self.cylinders * self.heads * self.sectors


LARGEST: Final = Geometry(MAX_CYLINDERS, MAX_HEADS, MAX_SECTORS_PER_TRACK)
"""Stated for every disk above 127 GiB, too; nobody takes that for its size."""


def geometry_within(sectors: int) -> Geometry:
    """The geometry of a disk of `sectors`; it counts no more than these, and mostly fewer."""
    sectors = min(sectors, LARGEST.total)
    if sectors >= MAX_CYLINDERS * MAX_HEADS * _IDE_TRACK:
        return _cut(sectors, MAX_HEADS, MAX_SECTORS_PER_TRACK)
    track = 17
    tracks = sectors // track
    heads = max(_LEAST_HEADS, -(-tracks // _CYLINDERS_OF_OLD))
    if tracks >= heads * _CYLINDERS_OF_OLD or heads > MAX_HEADS:
        track, heads = 31, MAX_HEADS
        tracks = sectors // track
    if tracks >= heads * _CYLINDERS_OF_OLD:
        track, heads = _IDE_TRACK, MAX_HEADS
    return _cut(sectors, heads, track)


def geometry_reaching(sectors: int) -> Geometry:
    """The first geometry, of this disk or one a little larger, that counts `sectors` or more.

    It is `LARGEST` where there is none.
    """
    if sectors >= LARGEST.total:
        return LARGEST
    wanted = sectors
    while (geometry := geometry_within(wanted)).total < sectors:
        wanted += 1
    return geometry


def _cut(sectors: int, heads: int, track: int) -> Geometry:
    return Geometry(sectors // track // heads, heads, track)
