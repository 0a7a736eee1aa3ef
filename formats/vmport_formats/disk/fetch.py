"""The bytes of a run, however they are found: read, unpacked, decrypted, or zeros."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Final

from vmport_formats.disk.layer import Found
from vmport_formats.errors import CorruptInput, TruncatedInput
from vmport_formats.units import KIB, MIB, SECTOR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmport_formats.disk.layer import Cipher, Run, Unit
    from vmport_formats.source import ByteSource

_CACHE: Final = 8 * MIB
"""Bytes of unpacked units that are kept for the next read."""
_PIECE: Final = MIB
"""Bytes that are decrypted, or made zeros, at a time."""
_ZEROS: Final = bytes(_PIECE)
_GAP: Final = 4 * KIB
"""Bytes between two units that are read rather than stepped over."""
_AT_ONCE: Final = 2 * MIB
"""Bytes of packed units that are read at once."""


class Fetcher:
    """Fetches for one disk; safe in several threads at once."""

    def __init__(self) -> None:
        # glibc gives freed memory back and takes it anew, page by page, for each unit and piece,
        # until a larger block than these was freed once.  (This one is not even touched.)
        bytes(4 * MIB)
        self._units: OrderedDict[Unit, bytes | bytearray] = OrderedDict()
        self._kept = 0
        self._lock = Lock()

    def fill(self, target: memoryview, offset: int, run: Run, packed: bytes | None = None) -> None:
        """Put the bytes of `run`, which begins at `offset` of the disk, into `target`.

        A unit is kept for the next read only if a part of it was wanted.  `packed` is what it is
        unpacked from, where that has been read.

        Raises:
            CorruptInput, TruncatedInput: a compressed unit is broken.
            UnreadableInput: the system cannot read the file.
        """
        done = 0
        if run.source is not None and run.found is Found.STORED:
            if run.cipher is None:
                done = run.source.read_into(run.at, target)
            else:
                done = _decrypt_into(target, offset, run.source, run.at, run.cipher)
        elif run.unit is not None:
            start, done = offset - run.unit.start, len(target)
            whole = done == run.unit.size
            unpacked = unpack(run.unit, packed) if whole else self._unpacked(run.unit)
            target[:] = unpacked if whole else memoryview(unpacked)[start : start + done]
        # Nothing is stored, or the file ends inside its last cluster.
        for start in range(done, len(target), _PIECE):
            piece = target[start : start + _PIECE]
            piece[:] = _ZEROS[: len(piece)]

    def fetch(self, offset: int, run: Run, packed: bytes | None = None) -> bytes | bytearray:
        """The bytes of `run`, as `fill`; for reading in order: a whole unit is not kept.

        Raises:
            CorruptInput, TruncatedInput, UnreadableInput: as `fill`.
        """
        if run.unit is not None and run.length == run.unit.size:
            return unpack(run.unit, packed)
        if run.source is not None and run.found is Found.STORED and run.cipher is None:
            return run.source.read_at(run.at, run.length).ljust(run.length, b"\0")
        buffer = bytearray(run.length)
        self.fill(memoryview(buffer), offset, run)
        return buffer

    def _unpacked(self, unit: Unit) -> bytes | bytearray:
        with self._lock:
            if (known := self._units.get(unit)) is not None:
                self._units.move_to_end(unit)
                return known
        data = unpack(unit)
        with self._lock:
            if unit not in self._units:
                self._units[unit] = data
                self._kept += len(data)
            while self._kept > _CACHE and len(self._units) > 1:
                self._kept -= len(self._units.popitem(last=False)[1])
        return data


def read_packed(runs: Sequence[Run]) -> list[bytes | None]:
    """For each of `runs` what it is unpacked from, where it is a whole unit; else None.

    Those that are neighbours in their file are read at once.

    Raises:
        UnreadableInput: the system cannot read the file.
    """
    found: list[bytes | None] = [None] * len(runs)
    units: list[tuple[int, Unit]] = []
    for number, run in enumerate(runs):
        unit = run.unit
        if unit is None or run.length != unit.size:
            continue
        if units and not _is_next(units[0][1], units[-1][1], unit):
            _read_units(units, found)
            units = []
        units.append((number, unit))
    _read_units(units, found)
    return found


def _is_next(first: Unit, last: Unit, unit: Unit) -> bool:
    """Whether `unit` is read with those from `first` to `last`."""
    return (
        unit.source is last.source
        and last.at <= unit.at <= last.at + last.packed + _GAP
        and unit.at + unit.packed - first.at <= _AT_ONCE
    )


def _read_units(units: Sequence[tuple[int, Unit]], found: list[bytes | None]) -> None:
    if len(units) < 2:  # it is read when it is unpacked
        return
    start = units[0][1].at
    end = max(unit.at + unit.packed for _, unit in units)
    data = units[0][1].source.read_at(start, end - start)
    for number, unit in units:
        found[number] = data[unit.at - start : unit.at - start + unit.packed]


def unpack(unit: Unit, packed: bytes | None = None) -> bytes | bytearray:
    """The bytes of a compressed unit, which `packed` yields; by default what its file holds.

    Raises:
        CorruptInput: it is not what it should be, or does not yield what it should.
        TruncatedInput: the file ends inside it.
    """
    if packed is None:
        packed = unit.source.read_at(unit.at, unit.packed)
    try:
        return unit.unpack(packed, unit.size)
    except ValueError as error:
        kind, hint = CorruptInput, None
        if len(packed) < unit.packed:
            kind, hint = TruncatedInput, "the file is cut short; copy it again"
        raise kind(
            unit.source.name,
            at=unit.at,
            code=unit.code,
            problem=f"the compressed data for offset {unit.start:#x} of the disk is broken: "
            f"{error}",
            hint=hint,
        ) from error


def _decrypt_into(
    target: memoryview, offset: int, source: ByteSource, at: int, cipher: Cipher
) -> int:
    """Decrypt what is stored from `at` on; how many bytes that were, fewer only at the file's end.

    Ciphers work on whole sectors, so these are read, whatever part of them is asked for.
    """
    done = 0
    while done < len(target):
        before = (offset + done) % SECTOR
        wanted = -(-(before + min(_PIECE, len(target) - done)) // SECTOR) * SECTOR
        data = source.read_at(at + done - before, wanted)
        sectors = -(-len(data) // SECTOR) * SECTOR
        plain = cipher.decrypt(
            data.ljust(sectors, b"\0"),
            guest_offset=offset + done - before,
            host_offset=at + done - before,
        )[before : before + len(target) - done]
        target[done : done + len(plain)] = plain
        done += len(plain)
        if sectors < wanted:
            break
    return done
