"""Turns the descriptor of one hypervisor into that of another, with an account of every value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vmport_converters.machine.targets import TARGETS
from vmport_formats.errors import UnsupportedFeature, VmportError
from vmport_formats.machine.dialect import Dialect, detect_dialect
from vmport_formats.machine.ledger import compose
from vmport_formats.machine.libvirt import read_libvirt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vmport_converters.machine.targets import Request, Target
    from vmport_formats.machine.ledger import DiskConversion, Ledger, Reading
    from vmport_formats.machine.model import Machine

MAX_DESCRIPTOR: Final = 4 << 20
"""Largest descriptor that is read, in bytes; real ones are a hundredth of it."""

READERS: Final[Mapping[Dialect, Callable[[bytes, str], Reading[Machine]]]] = {
    Dialect.LIBVIRT: read_libvirt,
}


@dataclass(frozen=True, slots=True)
class Translation:
    """A descriptor in the target's dialect, and what became of each value of the source."""

    text: str
    ledger: Ledger
    conversions: tuple[DiskConversion, ...]


def read_machine(data: bytes, name: str, *, dialect: Dialect | None = None) -> Reading[Machine]:
    """The machine that the content `data` of the file called `name` describes.

    `dialect` is what the caller declares it to be; None: the content decides.

    Raises:
        UnsupportedFeature: a dialect that vmport knows but does not read yet.
        VmportError: as the reader says.
    """
    found = detect_dialect(data, name) if dialect is None else dialect
    reader = READERS.get(found)
    if reader is None:
        readable = ", ".join(each.label for each in READERS)
        raise UnsupportedFeature(
            name,
            code="translate.source",
            problem=f"is {found.label}, which vmport does not translate from yet",
            hint=f"it translates from {readable} to "
            + ", ".join(target.dialect.label for target in TARGETS.values()),
        )
    return reader(data, name)


def write_machine(reading: Reading[Machine], target: Target, request: Request) -> Translation:
    """The machine in the dialect of `target`.

    Raises:
        VmportError: as the target's writer says; it names the source file.
    """
    try:
        writing = target.write(reading.model, request)
    except VmportError as error:
        error.path = error.path or reading.name
        raise
    return Translation(writing.text, compose(reading, writing), writing.conversions)
