"""VMDK descriptors as they are handed to qemu-img: written anew, from what we made of the original.

qemu reads more into a descriptor than it says (an extent after a blank line counts twice), passes
over extents of zeros, and opens whatever names it finds.  The descriptors written here say the same
disk in the plainest way; they name links to the granted files, which lie beside them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.disk.vmdk.description import descriptor_text
from vmport_formats.disk.vmdk.descriptor import NO_PARENT, ExtentType
from vmport_formats.units import SECTOR

if TYPE_CHECKING:
    from pathlib import Path

    from vmport_converters.disk.qemu.chain import Chain, Link

_TYPES: Final = {
    ExtentType.SPARSE: ("SPARSE", "twoGbMaxExtentSparse"),
    ExtentType.VMFSSPARSE: ("VMFSSPARSE", "vmfsSparse"),
    ExtentType.SESPARSE: ("SESPARSE", "seSparse"),
    ExtentType.FLAT: ("FLAT", "twoGbMaxExtentFlat"),
    ExtentType.VMFS: ("FLAT", "twoGbMaxExtentFlat"),
    ExtentType.ZERO: ("FLAT", "twoGbMaxExtentFlat"),
}
"""Of each extent type, the one that is written, and a createType that qemu takes with it."""


def write_descriptors(chain: Chain, folder: Path) -> dict[str, str]:
    """Write a descriptor for each link of `chain` that needs one into `folder`, which is ours.

    Returns:
        the new file's path by the link's.
    """
    written = {}
    for number, link in enumerate(chain.links):
        if link.pieces:
            written[link.path] = str(_write(link, folder, f"disk{number}"))
    return written


def _write(link: Link, folder: Path, stem: str) -> Path:
    lines = []
    for number, piece in enumerate(link.pieces):
        name = f"{stem}-{number}"
        if piece.path is None:
            with (folder / name).open("xb") as zeros:
                zeros.truncate(piece.size)
        else:
            (folder / name).symlink_to(piece.path)
        kind, _ = _TYPES[piece.type]
        offset = f" {piece.offset // SECTOR}" if kind == "FLAT" else ""
        lines.append(f'RW {piece.size // SECTOR} {kind} "{name}"{offset}')
    _, create_type = _TYPES[link.pieces[0].type]
    descriptor = folder / f"{stem}.vmdk"
    text = descriptor_text(
        create_type,
        lines,
        cid=_content_id(link, "cid", 0),
        parent_cid=_content_id(link, "parent-cid", NO_PARENT),
    )
    descriptor.write_text(text, encoding="ascii")
    return descriptor


def _content_id(link: Link, key: str, default: int) -> int:
    value = link.info.details.get(key)
    return value if isinstance(value, int) else default
