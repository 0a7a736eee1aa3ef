"""Where the parent of an image may be: what its names can mean on this machine.

A backing file is known by its name alone, so that is taken to the letter.  A parent is known by an
id that its child remembers, so that it may be looked for: Windows and VMware name it in several
ways, with separators and drives of their own, and people move both to another place together.
"""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote

from vmport_formats.errors import UnreadableInput, UnsafeInput, VmportError
from vmport_formats.references import ReferenceKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vmport_formats.references import Reference

_FILE_URL: Final = "file://"


def whereabouts(names: Sequence[Reference]) -> Iterator[Reference]:
    """The places where one image may be that has these names, the likeliest first.

    Those of a parent are the paths that it is named by, with the separators of this machine, but
    for those on Windows drives; then the files of these names in the folder of the child.
    """
    parents = [item for item in names if item.kind is ReferenceKind.PARENT and item.is_path]
    paths = [_path(item.name) for item in parents]
    meant = [str(path) for path in paths if isinstance(path, PurePosixPath)]
    meant += [path.name for path in paths]
    yield from (item for item in names if item not in parents)
    for name in dict.fromkeys(name for name in meant if name):
        yield parents[0]._replace(name=name)


def _path(name: str) -> PurePosixPath | PureWindowsPath:
    """The path that a name of a parent is; a relative one with this machine's separators."""
    if name.startswith(_FILE_URL):
        name = unquote(name.removeprefix(_FILE_URL).removeprefix("localhost"))
    windows = PureWindowsPath(name)
    if windows.drive or (windows.root and "\\" in name):
        return windows
    return PurePosixPath(windows.as_posix() if "\\" in name else name)


class Failure(NamedTuple):
    """Why an image is not at a place."""

    place: Reference
    error: VmportError
    opened: bool
    """There is a file, but it is not the image, or broken."""


def foremost(child: str, failures: Sequence[Failure]) -> VmportError:
    """What to tell when the parent of the image in the file `child` is at none of some places."""
    for failure in failures:
        if failure.opened:
            return failure.error
    first = failures[0]
    looked = first.place.kind is ReferenceKind.PARENT and first.place.is_path
    if not looked or all(isinstance(item.error, UnsafeInput) for item in failures):
        return first.error
    looked_for = ", ".join(f"{item.place.name!r} ({_reason(item.error)})" for item in failures)
    return UnreadableInput(
        child,
        code="chain.parent",
        problem=f"its parent was not found: {looked_for}",
        hint="put the parent in the same folder, or pass --allow DIR with the folder that holds it",
    )


def _reason(error: VmportError) -> str:
    return "not allowed" if isinstance(error, UnsafeInput) else error.problem
