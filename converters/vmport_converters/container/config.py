"""What an image says of how to run it, and for which processor it is.

Nothing is guessed: without a word of the user's, a container of the image is a shell.
Source: OCI image specification 1.1, "Image Configuration".
"""

from __future__ import annotations

import json
import os
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vmport_converters.container.rootfs import Links, Note
from vmport_formats.errors import UsageError
from vmport_formats.filesystem.model import Entry, EntryKind
from vmport_formats.guest.elf import HEADER_LENGTH, HOST_NAMES, Architecture, read_architecture

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SHELLS: Final = ("bin/sh", "bin/bash", "bin/busybox")
_INITS: Final = ("sbin/init", "lib/systemd/systemd", "init")
_PROGRAMS: Final = (
    *_SHELLS, "usr/bin/env", "bin/ls", *_INITS, "lib64/ld-linux-x86-64.so.2", "lib/ld-linux.so.2",
    "lib/ld-linux-aarch64.so.1", "lib/ld-linux-armhf.so.3", "lib/ld-linux-riscv64-lp64d.so.1",
)  # fmt: skip
"""Any one of them tells for which processor the guest is."""
_SYSTEMD_STOP: Final = (
    "SIGRTMIN+3"  # systemd(1), "Signals": halt, unlike SIGTERM, which re-executes
)
_VARIABLE: Final = re.compile(r"[^=\0]+")
_PORT: Final = re.compile(r"([0-9]{1,5})(?:/(tcp|udp|sctp))?")
_SIGNAL: Final = re.compile(r"SIG[A-Z]+[0-9]*(?:[+-][0-9]+)?|[0-9]{1,2}")


@dataclass(frozen=True, slots=True)
class RunConfig:
    """How to run a container of an image; None and empty: the user did not say."""

    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    env: tuple[tuple[str, str], ...] = ()
    ports: tuple[str, ...] = ()
    """As ``80/tcp``."""
    workdir: str | None = None
    user: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    stop_signal: str | None = None


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a root filesystem itself suggests."""

    architecture: Architecture
    cmd: tuple[str, ...] | None
    stop_signal: str | None
    notes: tuple[Note, ...]


def look_for_defaults(entries: Sequence[Entry], run: RunConfig) -> Defaults:
    """What `entries` suggest where `run` says nothing."""
    by_path = {entry.path: entry for entry in entries}
    links = Links.of(entries)

    def program(path: str) -> Entry | None:
        real = links.resolve(path.encode())
        entry = by_path.get(real) if real else None
        return entry if entry is not None and entry.kind is EntryKind.FILE else None

    notes = []
    found = (_architecture_of(program(path)) for path in _PROGRAMS)
    architecture = next((one for one in found if one is not None), None)
    if architecture is None:
        machine = os.uname().machine
        architecture = HOST_NAMES.get(machine, Architecture(machine))
        notes.append(
            Note(
                "export.architecture",
                "no program in the source says for which processor it is; the image is marked "
                f"{architecture}, as this machine",
            )
        )
    cmd = stop_signal = None
    if run.cmd is None and run.entrypoint is None:
        start = next((path for path in (*_SHELLS, *_INITS) if program(path)), None)
        if start is None:
            notes.append(
                Note(
                    "export.no-command",
                    "there is no /bin/sh and no /sbin/init, so the image has no command; "
                    "give one with --cmd or --entrypoint",
                )
            )
        else:
            cmd = (f"/{start}", "sh") if start == "bin/busybox" else (f"/{start}",)
            if start in _INITS and program("lib/systemd/systemd"):
                stop_signal = _SYSTEMD_STOP
    return Defaults(architecture, cmd, stop_signal, tuple(notes))


def describe(
    run: RunConfig, defaults: Defaults, *, created: str, diff_id: str
) -> dict[str, object]:
    """The configuration document of an image of one layer."""
    env = {"PATH": DEFAULT_PATH, **dict(run.env)}
    config: dict[str, object] = {"Env": [f"{name}={value}" for name, value in env.items()]}
    cmd = run.cmd or defaults.cmd
    stop_signal = run.stop_signal or defaults.stop_signal
    if run.entrypoint:
        config["Entrypoint"] = list(run.entrypoint)
    if cmd:
        config["Cmd"] = list(cmd)
    if run.ports:
        config["ExposedPorts"] = {port: {} for port in sorted(run.ports)}
    if run.workdir:
        config["WorkingDir"] = run.workdir
    if run.user:
        config["User"] = run.user
    if run.labels:
        config["Labels"] = dict(sorted(run.labels))
    if stop_signal:
        config["StopSignal"] = stop_signal
    document: dict[str, object] = {
        "created": created,
        "architecture": defaults.architecture.name,
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": created, "created_by": "vmport export"}],
    }
    if defaults.architecture.variant:
        document["variant"] = defaults.architecture.variant
    return document


def parse_run_config(
    *,
    entrypoint: str | None,
    cmd: str | None,
    env: Sequence[str],
    ports: Sequence[str],
    workdir: str | None,
    user: str | None,
    labels: Sequence[str],
    stop_signal: str | None,
) -> RunConfig:
    """The options of the command line, checked.

    Raises:
        UsageError: one of them makes no sense.
    """
    given = (entrypoint, cmd, *env, *ports, workdir, user, *labels, stop_signal)
    for text in given:
        if text is not None and ("\0" in text or not _is_unicode(text)):
            raise UsageError(None, code="export.option", problem=f"{text!r} is not text in UTF-8")
    if workdir is not None and not workdir.startswith("/"):
        raise _usage("--workdir", workdir, "a path from /")
    if user is not None and (not user or any(sign.isspace() for sign in user)):
        raise _usage("--user", user, "a user or USER:GROUP, by name or number")
    if stop_signal is not None and not _SIGNAL.fullmatch(stop_signal):
        raise _usage("--stop-signal", stop_signal, "a signal such as SIGTERM or SIGRTMIN+3")
    return RunConfig(
        entrypoint=None if entrypoint is None else parse_command("--entrypoint", entrypoint),
        cmd=None if cmd is None else parse_command("--cmd", cmd),
        env=tuple(_pair("--env", text) for text in env),
        ports=tuple(_port(text) for text in ports),
        workdir=workdir,
        user=user,
        labels=tuple(_pair("--label", text) for text in labels),
        stop_signal=stop_signal,
    )


def parse_command(option: str, text: str) -> tuple[str, ...]:
    """A command in exec form: a JSON list, or words as a shell would split them.

    Raises:
        UsageError: it is neither.
    """
    if text.lstrip().startswith("["):
        try:
            words = json.loads(text)
        except ValueError:
            words = None
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise _usage(option, text, 'a JSON list of strings such as ["nginx", "-g"]')
        return tuple(words)
    try:
        return tuple(shlex.split(text))
    except ValueError:
        raise _usage(option, text, "words as a shell splits them; a quote is not closed") from None


def _architecture_of(program: Entry | None) -> Architecture | None:
    if program is None or program.content is None or program.size < HEADER_LENGTH:
        return None
    chunks = program.content.chunks()
    try:
        return read_architecture(next(chunks, b"")[:HEADER_LENGTH])
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _pair(option: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not _VARIABLE.fullmatch(name):
        raise _usage(option, text, "NAME=VALUE")
    return name, value


def _port(text: str) -> str:
    found = _PORT.fullmatch(text)
    if found is None or not 1 <= int(found[1]) <= 65535:
        raise _usage("--port", text, "PORT, PORT/tcp or PORT/udp, from 1 to 65535")
    return f"{int(found[1])}/{found[2] or 'tcp'}"


def _usage(option: str, text: str, wanted: str) -> UsageError:
    return UsageError(None, code="export.option", problem=f"{option} {text!r} is not {wanted}")
