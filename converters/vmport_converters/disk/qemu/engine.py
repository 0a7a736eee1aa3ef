"""Writes a disk with qemu-img: told everything, and confined to the files that it needs."""

from __future__ import annotations

import json
import os
import shlex
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vmport_converters._posix import free_space
from vmport_converters.disk.options import unfit_for_qemu
from vmport_converters.disk.qemu.chain import open_chain
from vmport_converters.disk.qemu.command import (
    NEW,
    OLD,
    PACKAGE,
    ProgressReader,
    convert_argv,
    explain_failure,
    explain_opening,
    size_argv,
    source_node,
)
from vmport_converters.disk.qemu.descriptors import write_descriptors
from vmport_converters.process import Limits, find_tool, run, secret_pipe
from vmport_converters.sandbox import Sandbox
from vmport_formats.disk.granted import granted
from vmport_formats.disk.model import DiskFormat
from vmport_formats.errors import ToolFailed, UnsafeInput, UsageError
from vmport_formats.units import GIB, KIB, Bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vmport_converters.disk.plan import Conversion
    from vmport_converters.disk.qemu.chain import Chain
    from vmport_converters.process import Completed
    from vmport_converters.publish import Staging
    from vmport_formats.errors import VmportError

# Its 64 worker threads may each want an arena of 64 MiB of address space; two do as well.
_ENVIRONMENT: Final = {"MALLOC_ARENA_MAX": "2"}
_SMALLEST_FREE: Final = 64 * KIB
"""With less space left, a failing write has failed for lack of it."""

_FLAW: Final = "Unable to get accurate CPU usage"
"""What qemu-img says, of encryption, if its measure of time fell between two ticks of the clock."""
_TRIES: Final = 10

# A disk of 2 TiB in extents of 2 GiB is of a thousand files.
_LIMITS: Final = Limits(address_space=Bytes(8 * GIB), open_files=1 << 16)


@dataclass(frozen=True, slots=True)
class Job:
    """What qemu-img is to do."""

    plan: Conversion
    source: str
    """The path of the image to read: the plan's, or that of a copy of its content."""
    declared: DiskFormat | None
    """The source's format; None: what our probe finds."""
    allow: Sequence[str]
    """Folders whose files the source may name."""
    staging: Staging
    destination: Path
    passphrase: bytes | None = field(default=None, repr=False)
    """Of the source, where that is encrypted, and qemu-img is to open it."""
    new_passphrase: bytes | None = field(default=None, repr=False)
    """Of the destination, where it is to be encrypted."""


def write_with_qemu(
    job: Job, *, on_progress: Callable[[float], object], on_command: Callable[[str], object]
) -> None:
    """Let qemu-img write the destination into the staging folder.

    Raises:
        ToolMissing: there is none.
        UnsupportedFeature: it cannot read the source, or not rightly; nothing was done.
        InputError, OutputError, ToolFailed: as far as its words tell them apart.
    """
    tool = find_tool("qemu-img", package=PACKAGE, purpose=f"write {job.plan.target.label} images")
    chain = open_chain(
        job.source,
        declared=job.declared,
        resolver=granted(job.allow),
        opened=job.passphrase is not None,
    )
    work = _Work(job, chain, tool, on_command)
    work.check_source()
    work.write(on_progress)


class _Work:
    """One conversion, step by step."""

    def __init__(
        self, job: Job, chain: Chain, tool: str, on_command: Callable[[str], object]
    ) -> None:
        self._plan = job.plan
        self._chain = chain
        self._staging = job.staging
        self._destination = job.destination
        self._old = _key_of_source(job, chain)
        self._new = {} if job.new_passphrase is None else {NEW: job.new_passphrase}
        self._on_command = on_command
        self._tool = tool
        self._source = source_node(chain, write_descriptors(chain, job.staging.scratch))
        self._name = _safe_name(job.plan, job.destination)
        files = (Path(path) for path in chain.stamps)
        self._sandbox = Sandbox((*files, job.staging.scratch), (job.staging.folder,))

    def check_source(self) -> None:
        """That qemu-img sees the same disk as we do.

        Raises:
            InputError: it cannot open it.
            UnsafeInput: it sees one of another size.
        """
        said = self._run(partial(size_argv, self._tool, self._source), self._old)
        if said.status != 0:
            raise explain_opening(self._chain, said.stderr)
        seen = json.loads(said.stdout)["required"]
        if seen != self._plan.virtual_size:
            raise UnsafeInput(
                self._chain.name,
                code="convert.size-ambiguous",
                problem=f"is a disk of {self._plan.virtual_size} bytes, but qemu-img sees {seen}",
                hint="pass --from FORMAT if it is of another format than was found",
            )

    def write(self, on_progress: Callable[[float], object]) -> None:
        """Let qemu-img write the destination into the staging folder."""
        argv = partial(convert_argv, self._tool, self._plan, self._source, self._name)
        reader = ProgressReader()
        on_progress(0.0)

        def heard(piece: bytes) -> None:
            if (share := reader.feed(piece)) is not None:
                on_progress(share)

        for _ in range(_TRIES):
            done = self._run(argv, self._old | self._new, on_output=heard)
            if done.status == 0 or _FLAW not in done.stderr:
                break
            (self._staging.folder / self._name).unlink(missing_ok=True)
        done = replace(done, stdout=reader.rest)
        if done.status != 0:
            raise self._failure(done)
        written = self._staging.folder / self._name
        if self._plan.length is not None:
            os.truncate(written, self._plan.length)
        written.rename(self._staging.path)

    def _failure(self, done: Completed) -> VmportError:
        """Why the program failed, after what its words say; a change of the source explains all."""
        self._chain.stamps.check_unchanged()
        full = free_space(self._staging.folder) < _SMALLEST_FREE
        said = explain_failure(self._chain, str(self._destination), done.stderr, full=full)
        if said is not None:
            return said
        try:
            done.check(path=self._chain.name)
        except ToolFailed as error:
            return error
        raise AssertionError("unreachable")

    def _run(
        self,
        argv: Callable[[Mapping[str, int]], Sequence[str]],
        secrets: Mapping[str, bytes],
        *,
        on_output: Callable[[bytes], None] | None = None,
    ) -> Completed:
        """Run qemu-img in the folder that it writes to, with its limits.

        `argv` is made from the descriptors that `secrets` can be read from.
        """
        with ExitStack() as stack:
            pipes = {
                name: stack.enter_context(secret_pipe(secret)) for name, secret in secrets.items()
            }
            words = argv(pipes)
            self._on_command(shlex.join(words))
            start = partial(
                run,
                words,
                limits=_LIMITS,
                sandbox=self._sandbox,
                folder=self._staging.folder,
                environment=_ENVIRONMENT,
                descriptors=tuple(pipes.values()),
            )
            return start() if on_output is None else start(on_output=on_output)


def _key_of_source(job: Job, chain: Chain) -> dict[str, bytes]:
    """What opens it, where that is needed.

    Raises:
        UsageError: qemu-img would not take it.
    """
    if job.passphrase is None or not any(link.info.encrypted for link in chain.links):
        return {}
    problem = unfit_for_qemu(job.passphrase)
    if problem is not None:
        raise UsageError(
            None,
            code="usage.passphrase",
            problem=f"--passphrase-file: {problem}, to make one encrypted disk of another",
        )
    return {OLD: job.passphrase}


def _safe_name(conversion: Conversion, destination: Path) -> str:
    """The name to write under: the destination's, except where that cannot stand in the file.

    A VMDK names its extents, or itself, in quotes.

    Raises:
        UsageError: it is of several files, whose names follow from this one.
    """
    name = destination.name
    if conversion.target is not DiskFormat.VMDK or (name.isprintable() and '"' not in name):
        return name
    if dict(conversion.options)["subformat"] in {"monolithicSparse", "streamOptimized"}:
        return "disk.vmdk"
    raise UsageError(
        str(destination),
        code="usage.name",
        problem="has signs in its name that a VMDK of several files cannot have",
        hint='choose a name without quotes (") and control characters, in UTF-8',
    )
