"""The folders that a user grants, as a resolver for the files that disk images name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vmport_formats.references import deny

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vmport_formats.references import Resolver


def granted(folders: Iterable[str | Path]) -> Resolver:
    """A resolver that grants what lies in `folders`, and nothing when there are none.

    A parent that is known by its id alone, as that of a VDI, is looked for in them.
    """
    paths = tuple(Path(folder) for folder in folders)
    if not paths:
        return deny
    from vmport_formats.disk.vdi.parents import FoundByUuid

    return FoundByUuid(paths)
