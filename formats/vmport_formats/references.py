"""Files that an input names: reported by parsing, opened only through the caller's resolver.

A header never opens a file.  It yields `Reference`s; whoever reads content passes a `Resolver`, and
that decides for each one.  `deny` is the default for input of unknown origin.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from vmport_formats.errors import UnsafeInput

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class ReferenceKind(StrEnum):
    """What the named file is to the one that names it."""

    BACKING = "backing file"
    DATA = "data file"
    EXTENT = "extent"
    PARENT = "parent"
    CHANGE_TRACKING = "change tracking file"
    DISK = "disk"
    MEDIA = "removable medium"
    NVRAM = "NVRAM"

    @property
    def code(self) -> str:
        """As part of a code and in JSON: ``backing-file``."""
        return self.value.replace(" ", "-").lower()


class Reference(NamedTuple):
    """A file that another file names."""

    kind: ReferenceKind
    name: str
    """As written in the file: a path, or something that qemu would take for a URL."""
    declared_format: str | None = None
    """The format that the file declares for it; then it is never probed again."""
    is_path: bool = True
    """False: `name` is an identity, such as ``uuid:…``; the file must be found by that."""


class Resolver(Protocol):
    """Decides whether a reference may be opened, and as which path."""

    def __call__(self, reference: Reference, *, named_by: str) -> Path:
        """The path to open.

        Raises:
            UnsafeInput: the reference leads somewhere that was not granted.
        """
        ...


def deny(reference: Reference, *, named_by: str) -> Path:
    """A `Resolver` that grants nothing."""
    raise UnsafeInput(
        named_by,
        code="reference.denied",
        problem=f"names another file ({reference.kind}): {reference.name!r}",
        hint="pass --allow DIR with the folder that holds it, if you trust this image",
    )


class Confined(NamedTuple):
    """A `Resolver` that grants what lies, after all links are followed, inside named folders."""

    folders: Sequence[Path]

    def __call__(self, reference: Reference, *, named_by: str) -> Path:
        """The real path of the reference.

        Raises:
            UnsafeInput: outside every granted folder, or not a plain path at all.
        """
        from pathlib import Path  # who reads metadata alone resolves nothing

        if not self.folders:
            return deny(reference, named_by=named_by)
        if not reference.is_path:
            raise UnsafeInput(
                named_by,
                code="reference.no-path",
                problem=f"says what another file is ({reference.kind}), but not where: "
                f"{reference.name!r}",
            )
        try:
            target = (Path(named_by).resolve().parent / reference.name).resolve()
            granted = any(target.is_relative_to(folder.resolve()) for folder in self.folders)
        except (OSError, ValueError, RuntimeError):  # a loop of links, an embedded NUL
            granted = False
        if not granted:
            raise UnsafeInput(
                named_by,
                code="reference.outside",
                problem=f"names a file outside the allowed folders ({reference.kind}): "
                f"{reference.name!r}",
                hint="pass --allow DIR with the folder that holds it, if you trust this image",
            )
        return target
