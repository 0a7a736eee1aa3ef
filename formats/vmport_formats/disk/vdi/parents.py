"""Finds the parents of VDIs, which they name by UUID only, among the files of some folders."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vmport_formats.disk.vdi.info import UUID_PREFIX, matches, read_info
from vmport_formats.errors import InputError, UnsafeInput
from vmport_formats.references import Confined, deny
from vmport_formats.source import open_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vmport_formats.references import Reference

_MOST_FILES: Final = 10_000
"""Files that are looked at; a folder of VirtualBox's has a few for each machine."""


@dataclass(frozen=True, slots=True)
class FoundByUuid:
    """A `references.Resolver` that knows VDIs by the UUIDs in their headers.

    It grants what lies inside `folders`, at any depth, and of that it opens what is a regular file.
    What is named by a path is left to `references.Confined`.
    """

    folders: Sequence[Path]

    def __call__(self, reference: Reference, *, named_by: str) -> Path:
        """The path of the one file that is meant.

        Raises:
            UnsafeInput: no file in the folders is, or they hold more than 10,000 files.
            InputError: several files are.
        """
        if reference.is_path or not reference.name.startswith(UUID_PREFIX):
            return Confined(self.folders)(reference, named_by=named_by)
        if not self.folders:
            return deny(reference, named_by=named_by)
        wanted = reference.name.removeprefix(UUID_PREFIX)
        found: dict[tuple[int, int] | None, Path] = {}
        for number, path in enumerate(self._files()):
            if number == _MOST_FILES:
                raise UnsafeInput(
                    named_by,
                    code="vdi.parent-search",
                    problem=f"rests on the VDI with UUID {wanted}, which is not among the first "
                    f"{_MOST_FILES} files of the allowed folders",
                    hint="pass --allow DIR with the folder that holds it, and little else",
                )
            uuid, identity = _look(path)
            if uuid == wanted:
                found.setdefault(identity, path)
        if not found:
            raise UnsafeInput(
                named_by,
                code="vdi.parent-not-found",
                problem=f"rests on the VDI with UUID {wanted}, which is in none of the allowed "
                "folders",
                hint="pass --allow DIR with the folder that holds it; the machine's .vbox file "
                "says which that is",
            )
        if len(found) > 1:
            names = ", ".join(sorted(str(path) for path in found.values())[:4])
            raise InputError(
                named_by,
                code="vdi.parent-ambiguous",
                problem=f"rests on the VDI with UUID {wanted}, which several files claim to be: "
                f"{names}",
                hint="pass --allow DIR with a folder that holds the right one only",
            )
        return next(iter(found.values()))

    def _files(self) -> Iterator[Path]:
        """What is in the folders, without following links to elsewhere."""
        for folder in self.folders:
            for place, folders, names in os.walk(folder.resolve()):
                folders.sort()
                for name in sorted(names):
                    path = Path(place) / name
                    if not path.is_symlink():
                        yield path


def _look(path: Path) -> tuple[str | None, tuple[int, int] | None]:
    """The UUID of a VDI, None for anything else; and which file it is."""
    try:
        with open_source(path) as source:
            if matches(source):
                return str(read_info(source).details["uuid-create"]), source.identity
    except InputError:  # not readable, not a file, broken
        pass
    return None, None
