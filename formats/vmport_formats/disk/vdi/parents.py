"""Finds the parents of VDIs, which they name by UUID only, among the files of some folders."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vmport_formats.disk.vdi.info import UUID_PREFIX, matches, read_info
from vmport_formats.errors import InputError, UnsafeInput
from vmport_formats.references import Confined, deny
from vmport_formats.source import open_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmport_formats.references import Reference

_SUFFIX: Final = ".vdi"
_MOST_FILES: Final = 10_000
"""VDIs whose headers are read; a folder of VirtualBox's has a few for each machine."""
_MOST_NAMES: Final = 200_000
"""Names of files and folders that are gone through."""

_Identity = tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class FoundByUuid:
    """A `references.Resolver` that knows VDIs by the UUIDs in their headers.

    It grants what lies inside `folders`, at any depth, and of that it opens the regular files whose
    names end in ``.vdi``, each once however many parents are looked for, and reads their headers.
    What is named by a path is left to `references.Confined`.
    """

    folders: Sequence[Path]
    _known: dict[str, dict[_Identity, Path]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """The files with each UUID, once they were looked at."""

    def __call__(self, reference: Reference, *, named_by: str) -> Path:
        """The path of the one file that is meant.

        Raises:
            UnsafeInput: no file in the folders is, or they hold more than 10,000 VDIs or 200,000
                names.
            InputError: several files are.
        """
        if reference.is_path or not reference.name.startswith(UUID_PREFIX):
            return Confined(self.folders)(reference, named_by=named_by)
        if not self.folders:
            return deny(reference, named_by=named_by)
        wanted = reference.name.removeprefix(UUID_PREFIX)
        if not self._known:
            self._known.update(self._look_around(named_by, wanted))
        found = self._known.get(wanted, {})
        if not found:
            raise UnsafeInput(
                named_by,
                code="vdi.parent-not-found",
                problem=f"rests on the VDI with UUID {wanted}, which no .vdi file in the allowed "
                "folders has",
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

    def _look_around(self, named_by: str, wanted: str) -> dict[str, dict[_Identity, Path]]:
        """What is in the folders, without following links to elsewhere."""
        known: dict[str, dict[_Identity, Path]] = {}
        names = files = 0
        for folder in self.folders:
            for place, below, inside in os.walk(folder.resolve()):
                names += len(below) + len(inside)
                below.sort()
                for name in sorted(inside):
                    path = Path(place) / name
                    if not name.lower().endswith(_SUFFIX) or path.is_symlink():
                        continue
                    files += 1
                    if files > _MOST_FILES:
                        raise _too_many(named_by, wanted, f"{_MOST_FILES} VDIs")
                    uuid, identity = _look(path)
                    if uuid is not None:
                        known.setdefault(uuid, {}).setdefault(identity, path)
                if names > _MOST_NAMES:
                    raise _too_many(named_by, wanted, f"{_MOST_NAMES} files and folders")
        return known


def _too_many(named_by: str, wanted: str, what: str) -> UnsafeInput:
    return UnsafeInput(
        named_by,
        code="vdi.parent-search",
        problem=f"rests on the VDI with UUID {wanted}, to be looked for among more than {what}",
        hint="pass --allow DIR with the folder that holds it, and little else",
    )


def _look(path: Path) -> tuple[str | None, _Identity]:
    """The UUID of a VDI, None for anything else; and which file it is."""
    try:
        with open_source(path) as source:
            if matches(source):
                return str(read_info(source).details["uuid-create"]), source.identity
    except InputError:  # not readable, not a file, broken
        pass
    return None, None
