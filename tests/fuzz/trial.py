"""One case: damage a subject, read all that is left, and measure what that costs."""

from __future__ import annotations

import json
import resource
import signal
import time
import tracemalloc
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING, Final

from fixtures.disks import luks
from tests.fuzz.mutators import damage
from tests.fuzz.subjects import subjects
from vmport.render.check import report_fields
from vmport.render.inspection import Inspection, image_fields
from vmport_formats.disk.check import Severity, check_image
from vmport_formats.disk.image import open_image
from vmport_formats.disk.probe import probe
from vmport_formats.disk.safety import assess
from vmport_formats.errors import CorruptInput, VmportError
from vmport_formats.references import Reference, ReferenceKind, deny
from vmport_formats.source import open_source
from vmport_formats.units import MAX_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path
    from types import FrameType

    from tests.fuzz.parts import Subject
    from vmport_formats.disk.check import CheckReport
    from vmport_formats.disk.image import DiskImage
    from vmport_formats.disk.model import DiskFormat
    from vmport_formats.source import ByteSource

SECONDS: Final = 0.050
"""Of processor time that a case may take."""
BYTES: Final = 64 << 20
"""Of memory that a case may take besides the image itself."""
_READ: Final = 4 << 20
"""Bytes of a disk that are read: of these subjects all, unless their size is damaged."""
_PIECE: Final = 65536 + 17
_HANG: Final = 10.0
_REPEATS: Final = 5
_ROUNDS: Final = 10_000
_LUKS: Final = b"LUKS\xba\xbe"


class Fault(AssertionError):
    """What a case did that it must not."""


class Hang(BaseException):
    """It was stopped: no `except Exception` shall catch this."""


class End(StrEnum):
    """How a case ended when all was well."""

    REFUSED = "refused"
    READ = "read"


@dataclass(frozen=True)
class Result:
    """What a case came to."""

    end: End
    seconds: float
    """Of processor time."""
    peak: int
    """Bytes, if they were traced."""


class Memory:
    """A `ByteSource` over damaged bytes, without a copy of them."""

    def __init__(self, name: str, data: bytearray) -> None:
        self.name = name
        self.size = len(data)
        self._data = memoryview(data)

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer only at the end."""
        if offset < 0 or length <= 0:
            return b""
        return bytes(self._data[offset : offset + length])

    def read_into(self, offset: int, target: memoryview) -> int:
        """Fill `target` from `offset`; fewer bytes than it holds only at the end."""
        found = self._data[offset : offset + len(target)] if offset >= 0 else self._data[:0]
        target[: len(found)] = found
        return len(found)

    def data_ranges(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """All of the range."""
        end = min(offset + length, self.size)
        if offset < end:
            yield offset, end


class OwnFiles:
    """A resolver that grants the extents of a subject, its parents if it says so, and no more."""

    def __init__(self, subject: Subject, data: bytes | bytearray, folder: Path) -> None:
        """`data` is what became of the subject."""
        self._folder = folder
        self._kinds = {ReferenceKind.EXTENT}
        if subject.parents:
            self._kinds |= {ReferenceKind.PARENT, ReferenceKind.BACKING}
        files = dict(subject.files or {})
        if subject.front is not None:
            files[subject.inner] = bytes(data)
        self._names = {name: f"{subject.name}-{number}" for number, name in enumerate(files)}
        for name, content in files.items():
            path = folder / self._names[name]
            if name == subject.inner or not path.exists():
                _put(path, content)

    def __call__(self, reference: Reference, *, named_by: str) -> Path:
        """The path to open."""
        if reference.kind in self._kinds and reference.name in self._names:
            return self._folder / self._names[reference.name]
        return deny(reference, named_by=named_by)


_PUT: Final[dict[Path, bytes]] = {}
"""What was written last to files that are written again."""
_BLOCK: Final = 1 << 16


def _put(path: Path, content: bytes) -> None:
    """Write a file: of a large one, only what differs from what is there."""
    before = _PUT.get(path, b"")
    _PUT[path] = content
    if len(before) != len(content) or not path.exists():
        path.write_bytes(content)
        return
    with path.open("r+b") as file:
        for at in range(0, len(content), _BLOCK):
            block = content[at : at + _BLOCK]
            if block != before[at : at + _BLOCK]:
                file.seek(at)
                file.write(block)


def case(family: str, seed: int, number: int) -> tuple[Subject, bytearray]:
    """Just this case: the subject and what became of it."""
    found = subjects(family)
    subject = found[number % len(found)]
    return subject, damage(subject, Random(f"{seed} {family} {number}"))


def run(
    subject: Subject,
    data: bytearray,
    folder: Path,
    *,
    declared: bool = True,
    traced: bool = True,
    checked: bool = False,
) -> Result:
    """Read the image in `data`, or check it if that is to be `checked`, and hold it to the limits.

    The limit of memory is always set; `traced` also measures how much is taken, which costs time.

    Raises:
        Fault: an exception that is no `VmportError`, or more time or memory than is allowed.
    """
    case = Case(subject, data, OwnFiles(subject, data, folder), declared, checked)
    peak = 0
    if traced:
        tracemalloc.start()
        try:
            end, seconds = _timed(case)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    else:
        end, seconds = _timed(case)
    if peak > BYTES:
        raise Fault(f"took {peak} bytes of memory; at most {BYTES} are allowed")
    for _ in range(_REPEATS):  # what was slow by itself stays slow
        if seconds <= SECONDS:
            break
        seconds = min(seconds, _timed(case)[1])
    else:
        raise Fault(f"took {seconds * 1000:.0f} ms; at most {SECONDS * 1000:.0f} are allowed")
    if checked:
        _check_again(case)
    return Result(end, seconds, peak)


def _timed(case: Case) -> tuple[End, float]:
    begin = time.process_time()
    try:
        with _stopped_after(_HANG), _no_more_than(BYTES):
            end = _check(case) if case.checked else _look(case)
    except Hang:
        raise Fault(f"did not end within {_HANG:.0f} s") from None
    except Fault:
        raise
    except Exception as error:
        raise Fault(f"{type(error).__name__}: {error}") from error
    return end, time.process_time() - begin


@contextmanager
def _stopped_after(seconds: float) -> Iterator[None]:
    def stop(signum: int, frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextmanager
def _no_more_than(size: int) -> Iterator[None]:
    """Let the process have only `size` bytes of address space besides what it has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


# --- What is looked at --------------------------------------------------------------------------


def _look(case: Case) -> End:
    """The metadata and the whole content, each read or refused."""
    ends = []
    try:
        info = probe(case.source, declared=case.format)
    except VmportError as error:
        ends.append(_refusal(error))
    else:
        _hold(0 <= info.virtual_size <= MAX_SIZE, f"a disk of {info.virtual_size} bytes")
        json.dumps(image_fields(Inspection(case.subject.name, 0, info, assess(info))))
        ends.append(End.READ)
    try:
        with case.opened() as disk:
            _read(disk)
    except VmportError as error:
        ends.append(_refusal(error))
    else:
        ends.append(End.READ)
        _hold(ends[0] is End.READ, "the content of what has no metadata was read")
    return ends[1]


def _check(case: Case) -> End:
    """A report, or an error that says why there can be none."""
    try:
        with case.checking() as report:
            fields = report_fields(report)
    except VmportError as error:
        return _refusal(error)
    json.dumps(fields)
    told = sum(fault.count for fault in report.faults)
    _hold(all(fault.code and fault.text and fault.count > 0 for fault in report.faults), "no fault")
    _hold(told <= report.counts.total(), "more faults than were counted")
    return End.REFUSED if report.counts[Severity.ERROR] else End.READ


def _check_again(case: Case) -> None:
    """That what is sound can be read: a check finds whatever a reader stumbles over.

    A parent is not checked itself, only that it is the right one.
    """
    if case.subject.parents and case.subject.front is not None:
        return
    try:
        with case.checking() as report:
            if report.counts[Severity.ERROR] or not report.complete:
                return
        with case.opened() as disk:
            _read(disk)
    except CorruptInput as error:
        raise Fault(f"has no error, but cannot be read: [{error.code}] {error}") from error
    except VmportError:
        return


@dataclass(frozen=True)
class Case:
    """A subject that is damaged, and how it is looked at."""

    subject: Subject
    data: bytearray
    resolver: OwnFiles
    declared: bool
    checked: bool

    @property
    def source(self) -> Memory:
        """What is opened."""
        front = self.subject.front
        return Memory(self.subject.name, self.data if front is None else bytearray(front))

    @property
    def format(self) -> DiskFormat | None:
        """What it is said to be; None where that must be found out."""
        return self.subject.format if self.declared else None

    def opened(self) -> AbstractContextManager[DiskImage]:
        """The disk."""
        locked = self.subject.locked and _quick(self.data)
        return open_image(
            self.source,
            self.resolver,
            declared=self.format,
            passphrase=luks.PASSPHRASE if locked else None,
            snapshot=self.subject.snapshot,
        )

    @contextmanager
    def checking(self) -> Iterator[CheckReport]:
        """What a deep check reports."""
        name = self.subject.name
        with ExitStack() as stack:

            def opener(reference: Reference) -> ByteSource:
                target = self.resolver(reference, named_by=name)
                return stack.enter_context(open_source(target))

            yield check_image(self.source, opener, self.resolver, declared=self.format, deep=True)


def opened(
    subject: Subject, data: bytearray, folder: Path, *, declared: bool
) -> AbstractContextManager[DiskImage]:
    """The disk in `data`, as all cases open it."""
    return Case(subject, data, OwnFiles(subject, data, folder), declared, False).opened()


def _refusal(error: VmportError) -> End:
    _hold(error.exit_code in (3, 4), f"exit code {error.exit_code}")
    _hold(bool(error.code and error.problem), "an error that says nothing")
    str(error)
    return End.REFUSED


def _read(disk: DiskImage) -> None:
    """The map, whole and without gaps, and the bytes; what the map calls zeros must be zeros."""
    expected = 0
    left = _READ
    stored = []
    for extent in disk.extents():
        _hold(extent.offset == expected and extent.length > 0, f"a gap in the map at {expected}")
        expected = extent.end
        if left > 0:
            length = min(extent.length, left)
            stored.append((extent, length))
            left -= 4096 if extent.kind.reads_zero else length
    _hold(expected == disk.virtual_size, f"the map ends at {expected} of {disk.virtual_size}")
    for extent, length in stored:
        if extent.kind.reads_zero:
            for at, count in ((extent.offset, min(length, 4096)), (extent.end - 1, 1)):
                found = disk.read(at, count)
                _hold(found == bytes(count), f"zeros that are none, or too few, at {at}")
            continue
        for at in range(extent.offset, extent.offset + length, _PIECE):
            count = min(_PIECE, extent.offset + length - at)
            _hold(len(disk.read(at, count)) == count, f"a short read at {at}")


def _hold(fact: bool, otherwise: str) -> None:
    if not fact:
        raise Fault(otherwise)


def _quick(data: bytearray) -> bool:
    """Whether trying the passphrase takes little: rounds of hashing are what protects a LUKS disk.

    Up to the limit of the reader, they may take as long as they take.
    """
    total = 0
    at = data.find(_LUKS)
    while at >= 0:
        places = (at + 164, *(at + 208 + 48 * slot + 4 for slot in range(8)))
        total += sum(int.from_bytes(data[place : place + 4], "big") for place in places)
        at = data.find(_LUKS, at + 1)
    return total <= _ROUNDS
