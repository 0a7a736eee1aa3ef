"""The dialects that a machine can be translated to: a table."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from vmport_formats.errors import UsageError
from vmport_formats.machine.dialect import Dialect
from vmport_formats.machine.ovf.writer import write_ovf
from vmport_formats.machine.vmx.writer import write_vmx

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vmport_formats.machine.ledger import Writing
    from vmport_formats.machine.model import Machine
    from vmport_formats.machine.ovf.writer import DiskFacts


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller can ask of a translation, beyond the target."""

    stem: str
    """The name of the output file without its suffix; other files are named after it."""
    hardware: int | None = None
    """A version of VMware's virtual hardware."""
    disks: Mapping[int, DiskFacts] = field(default_factory=dict)
    """What is known of the disks, by index into the machine's."""


@dataclass(frozen=True, slots=True)
class Target:
    """A dialect that is written."""

    dialect: Dialect
    suffix: str
    write: Callable[[Machine, Request], Writing]
    needs_disk_sizes: bool = False
    """Whether its descriptor states the size of each disk."""


def _to_vmx(machine: Machine, request: Request) -> Writing:
    return write_vmx(machine, name=request.stem, hardware=request.hardware)


def _to_ovf(machine: Machine, request: Request) -> Writing:
    return write_ovf(machine, name=request.stem, hardware=request.hardware, facts=request.disks)


TARGETS: Final = {
    target.dialect: target
    for target in (
        Target(Dialect.VMX, ".vmx", _to_vmx),
        Target(Dialect.OVF, ".ovf", _to_ovf, needs_disk_sizes=True),
    )
}


def find_target(destination: str, *, named: str | None = None) -> Target:
    """The target called `named`, or else the one that the suffix of `destination` tells.

    Raises:
        UsageError: there is none; the hint lists all.
    """
    wanted = named.lower() if named is not None else PurePath(destination).suffix.lower()
    for target in TARGETS.values():
        if wanted in ({target.suffix} if named is None else {target.dialect, target.suffix[1:]}):
            return target
    names = ", ".join(f"{target.dialect} ({target.suffix})" for target in TARGETS.values())
    raise UsageError(
        destination,
        code="translate.target",
        problem=f"vmport does not translate to {named!r}"
        if named is not None
        else f"the suffix {wanted!r} does not tell what to translate to",
        hint=f"it writes {names}; say which with --to",
    )
