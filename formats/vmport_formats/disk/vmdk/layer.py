"""VMDK content: a disk pieced together from extents, over the disk that it may be a child of.

Source: VMware, "Virtual Disk Format 5.0", "The Extent Description", "Delta Links".
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from vmport_formats.disk.layer import joined
from vmport_formats.disk.vmdk.extents import Piece, grains_of, open_extents
from vmport_formats.disk.vmdk.info import read_vmdk
from vmport_formats.disk.vmdk.parents import check_parent, parent_of
from vmport_formats.disk.vmdk.words import Pages
from vmport_formats.errors import UnsupportedFeature

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vmport_formats.disk.layer import Opener, Run
    from vmport_formats.disk.model import ImageInfo
    from vmport_formats.disk.vmdk.info import Vmdk
    from vmport_formats.references import Reference
    from vmport_formats.source import ByteSource


class VmdkLayer:
    """The virtual disk that a VMDK is, with all of its extents."""

    def __init__(
        self, name: str, info: ImageInfo, parent: Reference | None, pieces: Sequence[Piece]
    ) -> None:
        """`name` is that of the file, for messages; `pieces` cover the disk in order."""
        self.info = info
        self.size = int(info.virtual_size)
        self.parents = () if parent is None else (parent,)
        self._name = name
        self._pieces = pieces
        self._begins = [piece.begin for piece in pieces]

    def runs(self, offset: int, length: int) -> Iterator[Run]:
        """See `layer.Layer.runs`."""
        return joined(self._runs(offset, offset + length))

    def _runs(self, offset: int, end: int) -> Iterator[Run]:
        number = bisect_right(self._begins, offset) - 1
        while offset < end:
            piece = self._pieces[number]
            stop = min(end, piece.end)
            yield from piece.content.runs(offset - piece.begin, stop - piece.begin)
            offset = stop
            number += 1

    def check_parent(self, parent: ImageInfo, source: ByteSource) -> tuple[()]:
        """See `layer.Child.check_parent`."""
        check_parent(self.info, self._name, parent, source.name)
        return ()


def open_layer(source: ByteSource, opener: Opener) -> VmdkLayer:
    """The content of a VMDK, and of the extents that it names, through `opener`.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: as `info.read_info`,
            `extents.open_extents` and `parents.parent_of`; also when it is encrypted.
        UnsafeInput: `opener` does not grant an extent.
    """
    vmdk = read_vmdk(source)
    parent = parent_if_readable(vmdk, source.name)
    pieces: list[Piece] = []
    if vmdk.extent is not None:
        content = grains_of(source, vmdk.extent, 0, Pages())
        pieces = [Piece(0, int(vmdk.info.virtual_size), content)]
    elif vmdk.descriptor is not None:
        pieces = list(open_extents(source.name, vmdk.descriptor, opener))
    return VmdkLayer(source.name, vmdk.info, parent, pieces)


def parent_if_readable(vmdk: Vmdk, name: str) -> Reference | None:
    """The parent of the disk in the file called `name`, if it has one.

    Raises:
        CorruptInput, UnsupportedFeature: as `parents.parent_of`; also when it is encrypted.
    """
    if vmdk.info.encrypted:
        raise UnsupportedFeature(
            name,
            code="vmdk.encrypted",
            problem="the disk was encrypted by VMware, which alone has the key",
            hint="remove the encryption of the virtual machine in VMware first",
        )
    return parent_of(vmdk, name)
