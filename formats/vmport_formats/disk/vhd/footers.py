"""The footer of a VHD, which is there once or twice: finding it, and which one counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vmport_formats.disk.model import Concern
from vmport_formats.disk.vhd.layout import (
    COOKIE,
    FOOTER_LENGTH,
    DiskType,
    Footer,
    footer_checksum,
    unpack_footer,
)
from vmport_formats.errors import CorruptInput

if TYPE_CHECKING:
    from vmport_formats.source import ByteSource


class FoundFooter(NamedTuple):
    """A footer, where it was found, sound or not."""

    at: int
    raw: bytes  # padded to 512 bytes
    length: int  # in the file: 512, or 511

    @property
    def sound(self) -> bool:
        """Whether the checksum is right."""
        return footer_checksum(self.raw) == unpack_footer(self.raw).checksum


def find_front(source: ByteSource) -> FoundFooter | None:
    """The copy of the footer in the first sector, if there is one."""
    sector = source.read_at(0, FOOTER_LENGTH)
    if len(sector) < FOOTER_LENGTH or not sector.startswith(COOKIE):
        return None
    return FoundFooter(0, sector, FOOTER_LENGTH)


def find_back(source: ByteSource) -> FoundFooter | None:
    """The footer in the last 512 bytes, or in the last 511 as before Virtual PC 2004."""
    for length in (FOOTER_LENGTH, FOOTER_LENGTH - 1):
        at = source.size - length
        if at < 0:
            continue
        sector = source.read_at(at, length)
        if sector.startswith(COOKIE) and len(sector) == length:
            return FoundFooter(at, sector.ljust(FOOTER_LENGTH, b"\0"), length)
    return None


def choose_footer(source: ByteSource) -> tuple[FoundFooter, list[Concern]]:
    """The footer that counts, and what is odd about the other one.

    The one at the end counts, as the specification wants it; the copy at the start stands in when
    that is missing or damaged.

    Raises:
        CorruptInput: there is none, none is sound, or it is in the wrong place.
    """
    front, back = find_front(source), find_back(source)
    damaged = back or front
    if damaged is None:
        raise CorruptInput(
            source.name, code="vhd.magic", problem="has no VHD footer at its end or start"
        )
    if back is not None and back.sound:
        return back, _front_concerns(front, back)
    if front is None or not front.sound:
        raise CorruptInput(
            source.name,
            at=damaged.at,
            code="vhd.footer-checksum",
            problem=f"footer checksum is {unpack_footer(damaged.raw).checksum:#010x}; "
            f"its bytes sum to {footer_checksum(damaged.raw):#010x}",
        )
    if unpack_footer(front.raw).disk_type == DiskType.FIXED:
        raise CorruptInput(
            source.name,
            at=front.at,
            code="vhd.footer-place",
            problem="a fixed disk has its footer at the end of the file, not at the start",
            hint="the file may be cut short; copy it again",
        )
    text = (
        "has no footer at its end; the copy at its start was used"
        if back is None
        else "the footer at its end is damaged; the copy at its start was used"
    )
    return front, [Concern("vhd.footer-missing" if back is None else "vhd.footer-checksum", text)]


def _front_concerns(front: FoundFooter | None, back: FoundFooter) -> list[Concern]:
    fixed = unpack_footer(back.raw).disk_type == DiskType.FIXED
    if front is None:
        if fixed:
            return []
        return [Concern("vhd.footer-copy", "has no copy of its footer at the start")]
    if front.at == back.at:  # a fixed disk of no bytes is its footer alone
        return []
    if fixed:
        text = "is a fixed disk, but begins like a dynamic one; qemu takes it for that"
        return [Concern("vhd.footer-mismatch", text)]
    if front.raw[: back.length] == back.raw[: back.length]:
        return []
    pairs = zip(Footer._fields, unpack_footer(front.raw), unpack_footer(back.raw), strict=True)
    fields = [name.replace("_", "-") for name, one, other in pairs if one != other]
    return [
        Concern(
            "vhd.footer-mismatch",
            "the footer and its copy at the start disagree on "
            + (", ".join(fields) or "reserved bytes"),
        )
    ]
