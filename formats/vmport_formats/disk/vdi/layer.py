"""VDI content: blocks, placed by a block map.

Source: VirtualBox's ``VDICore.h``.  A block that is free falls through to the parent, one that is
marked as zero does not, whatever the type of the image (VirtualBox ticket 850).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

from vmport_formats.disk.block_layer import BlockLayer
from vmport_formats.disk.layer import Found, Run
from vmport_formats.disk.model import Concern
from vmport_formats.disk.occupancy import Occupancy
from vmport_formats.disk.tables import EntryKind, FlatTable, TableReader
from vmport_formats.disk.vdi.info import read_info, read_layout
from vmport_formats.errors import CorruptInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.layer import Opener
    from vmport_formats.disk.model import ImageInfo
    from vmport_formats.disk.tables import Stretch
    from vmport_formats.disk.vdi.info import Layout
    from vmport_formats.references import Reference
    from vmport_formats.source import ByteSource

_FREE: Final = 0xFFFF_FFFF
_ZERO: Final = 0xFFFF_FFFE
_MARKS: Final = {_FREE: Found.ABSENT, _ZERO: Found.ZERO}


class VdiLayer(BlockLayer):
    """A `layer.Layer`, and a `layer.Child`."""

    def __init__(self, source: ByteSource, info: ImageInfo, layout: Layout) -> None:
        self._source = source
        self._data = layout.header.data_offset
        self._stride = layout.stride
        self._extra = layout.header.block_extra
        blocks = layout.header.blocks

        def place(value: int) -> tuple[int, int, bool]:
            if value >= blocks:
                raise ValueError(f"is for block {value} of the file, which can have {blocks}")
            return self._data + value * self._stride, self._stride, True

        kind = EntryKind(
            "block map entry",
            code="vdi.block-map-entry",
            width=4,
            order="little",
            marks=frozenset(_MARKS),
            step=1,
            place=place,
        )
        reader = TableReader(source, kind, Occupancy(self._data, self._stride))
        table = FlatTable(reader, layout.header.blocks_offset, blocks)
        super().__init__(info, layout.header.block_size, table, self._runs_of)

    @property
    def parents(self) -> tuple[Reference, ...]:
        """See `layer.Child`."""
        return self.info.references

    def check_parent(self, parent: ImageInfo, source: ByteSource) -> tuple[Concern, ...]:
        """See `layer.Child`: the parent's UUIDs are those that this image remembers.

        The one that changes when a disk is written to is a hint only: VirtualBox does not look at
        it, nor does it keep it up to date in what rests on a disk that it merges another into.
        """
        remembered, found = self.info.details, parent.details
        if found.get("uuid-create") != remembered["uuid-linkage"]:
            raise CorruptInput(
                self._source.name,
                code="vdi.parent-uuid",
                problem=f"rests on the VDI with UUID {remembered['uuid-linkage']}, but that of "
                f"{source.name} is {found.get('uuid-create')}",
            )
        since = remembered["uuid-parent-modify"]
        if since in (str(UUID(int=0)), found.get("uuid-modify")):
            return ()
        text = (
            f"{source.name} may have been written to since {self._source.name} was made from it: "
            f"its modification UUID is {found.get('uuid-modify')}, and was {since}"
        )
        return (Concern("vdi.parent-changed", text),)

    def _runs_of(self, stretch: Stretch) -> Iterator[Run]:
        if stretch.value in _MARKS:
            yield Run(stretch.entries * self._block_size, _MARKS[stretch.value])
            return
        # Blocks follow each other without a gap, unless there are extra bytes before each.
        together = 1 if self._extra else stretch.entries
        for number in range(0, stretch.entries, together):
            at = self._data + (stretch.value + number) * self._stride + self._extra
            yield Run(together * self._block_size, Found.STORED, self._source, at)


def open_layer(source: ByteSource, opener: Opener) -> VdiLayer:
    """The content of a VDI.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: as `info.read_info`.
    """
    return VdiLayer(source, read_info(source), read_layout(source))
