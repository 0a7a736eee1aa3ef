"""Several disks into a folder: which file each becomes, settled before any work."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vmport_converters.disk.convert import files_of, wish_of
from vmport_converters.disk.options import SUFFIXES
from vmport_converters.disk.plan import check_wish
from vmport_converters.disk.presets import PRESETS
from vmport_converters.disk.stamps import Stamp
from vmport_formats.errors import UnreadableInput, UsageError, VmportError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmport_converters.disk.convert import Request

_IMAGE: Final = frozenset(
    {*SUFFIXES, ".qcow", ".qed", ".vpc", ".dmg", ".hdd", ".hds", ".cloop", ".bochs", ".luks"}
)
"""Suffixes of names of images; others are part of the name, as in ``web-1.2``."""


def requests_into(folder: str, sources: Sequence[str], common: Request) -> tuple[Request, ...]:
    """What is asked for each of `sources`: as in `common`, and to a file in `folder`.

    Raises:
        UsageError: `folder` is none, nothing says the format, two sources would become one file, or
            one a file that is read; or as `wish_of` and `check_wish`.
    """
    if not Path(folder).is_dir():
        raise UsageError(
            folder,
            code="usage.folder",
            problem=f"is no folder, and {len(sources)} disks do not fit into one file",
            hint="create it first",
        )
    if common.target_name is None and common.platform is None:
        raise UsageError(
            folder,
            code="usage.folder",
            problem="the name of a folder does not say which format to write",
            hint="pass --to FORMAT or --for PLATFORM",
        )
    wish = wish_of(replace(common, destination=""))
    check_wish(wish)
    suffix = next(name for name, target in SUFFIXES.items() if target is wish.target)
    if common.platform is not None:
        suffix = PRESETS[common.platform].suffix
    requests = tuple(
        replace(common, source=source, destination=str(Path(folder, _stem(source) + suffix)))
        for source in sources
    )
    _check_apart(requests)
    return requests


def _stem(source: str) -> str:
    """The name without the suffix that says what kind of image it is."""
    name = Path(source).name
    suffix = re.search(r"(?<=.)\.[^.]+$", name)
    return name[: suffix.start()] if suffix and suffix[0].lower() in _IMAGE else name


def _check_apart(requests: Sequence[Request]) -> None:
    sources: dict[str, str] = {}
    there: dict[tuple[int, int], str] = {}
    for request in requests:
        path = request.destination
        if path in sources:
            raise UsageError(
                path,
                code="usage.same-name",
                problem=f"both {sources[path]} and {request.source} would become this file",
                hint="convert them into different folders",
            )
        sources[path] = request.source
        if (file := _file(path)) is not None:
            there[file] = path
    for request in requests if there else ():
        for name in _files(request):
            file = _file(name)
            if file is not None and file in there:
                raise UsageError(
                    there[file],
                    code="usage.same-file",
                    problem=f"is to be read, for {request.source}; it is not replaced",
                    hint="convert into another folder",
                )


def _files(request: Request) -> tuple[str, ...]:
    """All files that are read; of what cannot be opened, which its own conversion will say, one."""
    try:
        return files_of(request)
    except VmportError:
        return (request.source,)


def _file(path: str) -> tuple[int, int] | None:
    """Which file it is, under whatever name; None if there is none."""
    try:
        return Stamp.of(path).file
    except UnreadableInput:
        return None
