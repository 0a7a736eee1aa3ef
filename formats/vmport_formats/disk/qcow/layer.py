"""qcow content: L1 table, L2 tables, clusters that may be compressed or encrypted.

Layout: qemu ``block/qcow.c`` has the only description there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.disk.block_layer import BlockLayer
from vmport_formats.disk.codecs import inflate_raw
from vmport_formats.disk.layer import Found, Run, Unit
from vmport_formats.disk.occupancy import Occupancy
from vmport_formats.disk.qcow.info import read_header, read_info
from vmport_formats.disk.tables import EntryKind, FlatTable, TableReader, TwoLevelTable
from vmport_formats.errors import LockedInput
from vmport_formats.units import SECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.layer import Cipher, Opener
    from vmport_formats.disk.qcow.info import Header
    from vmport_formats.disk.tables import Stretch
    from vmport_formats.source import ByteSource

_ABSENT: Final = 0
_PACKED: Final = 1 << 63


def open_layer(
    source: ByteSource, opener: Opener, *, passphrase: bytes | None = None
) -> BlockLayer:
    """The content of a qcow image of version 1.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: as `info.read_info`.
        LockedInput: it is encrypted, and no passphrase was given.
    """
    header = read_header(source)
    info = read_info(source)
    clusters = _Clusters(source, header, _cipher(source, header, passphrase))
    table = 8 << header.l2_bits
    l1, l1_end = header.l1_table_offset, header.l1_table_offset + 8 * header.l1_size
    occupancy = Occupancy(0, SECTOR)
    # The L1 table may begin, or even end, in the same sector as the header.
    occupancy.take([(0, SECTOR)])
    occupancy.take([(max(l1, SECTOR), l1_end)])
    upper = EntryKind(
        "L1 table entry",
        code="qcow.l1-entry",
        width=8,
        order="big",
        marks=frozenset({_ABSENT}),
        step=table,
        place=lambda value: (_aligned(value), table, True),
    )
    lower = EntryKind(
        "L2 table entry",
        code="qcow.l2-entry",
        width=8,
        order="big",
        marks=frozenset({_ABSENT}),
        step=header.cluster_size,
        place=clusters.place,
        single=_PACKED,
    )
    tables = TwoLevelTable(
        FlatTable(TableReader(source, upper, occupancy), l1, header.l1_size),
        TableReader(source, lower, occupancy),
        lower_size=1 << header.l2_bits,
        lower_step=table,
    )
    return BlockLayer(info, header.cluster_size, tables, clusters.found)


class _Clusters:
    """What the entries of L2 tables say."""

    def __init__(self, source: ByteSource, header: Header, cipher: Cipher | None) -> None:
        self._source = source
        self._cipher = cipher
        self._size = header.cluster_size
        self._length_shift = 63 - header.cluster_bits

    def place(self, value: int) -> tuple[int, int, bool]:
        if not value & _PACKED:
            return _aligned(value), self._size, True
        at, length = self._packed(value)
        if not length:
            raise ValueError("is of a compressed cluster, but of 0 bytes")
        return at, length, False

    def found(self, stretch: Stretch) -> Iterator[Run]:
        value, length = stretch.value, stretch.entries * self._size
        if value == _ABSENT:
            yield Run(length, Found.ABSENT)
        elif value & _PACKED:
            at, packed = self._packed(value)
            start = stretch.start * self._size
            code = "qcow.compressed-cluster"
            unit = Unit(start, self._size, self._source, at, packed, inflate_raw, code)
            yield Run(length, Found.PACKED, unit=unit)
        else:
            yield Run(length, Found.STORED, self._source, value, cipher=self._cipher)

    def _packed(self, value: int) -> tuple[int, int]:
        """Host offset and length of a compressed cluster."""
        return value & (1 << self._length_shift) - 1, (value & _PACKED - 1) >> self._length_shift


def _aligned(value: int) -> int:
    if value % SECTOR:
        raise ValueError(f"points to {value:#x}; must be a multiple of {SECTOR}")
    return value


def _cipher(source: ByteSource, header: Header, passphrase: bytes | None) -> Cipher | None:
    if not header.crypt_method:
        return None
    if passphrase is None:
        raise LockedInput(
            source.name,
            at=36,
            code="qcow.passphrase",
            problem="the content is encrypted with AES, and no passphrase was given",
        )
    from vmport_formats.encryption.sectors import GuestNumbered, Mode, Scheme, SectorCipher, Vector

    # The passphrase is the key, and nothing tells whether it is the right one.
    key = passphrase[:16].ljust(16, b"\0")
    return GuestNumbered(SectorCipher(Scheme(Mode.CBC, Vector.PLAIN64), key))
