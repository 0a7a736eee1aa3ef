"""Every way in which vmport can fail, as one family of exceptions.

The exit code hangs on the class and a stable, dotted code such as ``qcow2.cluster-bits`` on each
instance, so that a script can tell failures apart without reading prose.  `vmport.cli` is the only
place that turns one into text and an exit status.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from os import PathLike


class VmportError(Exception):
    """Root of all errors that vmport raises on purpose.

    `problem` says what is wrong and the limit that was broken, `path` which file, `at` where in it
    (a byte offset for images, ``line:column`` for text), `hint` what to do about it.
    """

    exit_code: ClassVar[int] = 3

    def __init__(
        self,
        path: str | PathLike[str] | None,
        *,
        code: str,
        problem: str,
        at: int | str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(problem)
        self.path = None if path is None else str(path)
        self.code = code
        self.problem = problem
        self.at = at
        self.hint = hint

    @property
    def place(self) -> str | None:
        """The offset or position inside the file, in words; None when it concerns all of it."""
        if isinstance(self.at, int):
            return f"offset {self.at:#x}"
        return self.at

    def __str__(self) -> str:
        where = ": ".join(part for part in (self.path, self.place) if part is not None)
        return f"{where}: {self.problem}" if where else self.problem


class UsageError(VmportError):
    """The request itself makes no sense, whatever the files hold.  Exit code 2."""

    exit_code = 2


class InputError(VmportError):
    """An input cannot be read.  Exit code 3."""


class UnreadableInput(InputError):
    """The operating system would not hand over the file, or it is not a regular file."""


class UnknownFormat(InputError):
    """Nothing that vmport knows begins or ends like this."""


class CorruptInput(InputError):
    """A field breaks a rule of its format."""


class TruncatedInput(CorruptInput):
    """The file ends before something that it promises."""


class UnsupportedFeature(InputError):
    """The file is sound, but uses something that vmport does not know; it does not guess."""


class LockedInput(InputError):
    """The content is encrypted, and the key to it is missing or wrong."""


class UnsafeInput(VmportError):
    """Going on would touch something that the user did not grant.  Exit code 4."""

    exit_code = 4


class ToolError(VmportError):
    """An outside program is missing or failed.  Exit code 5."""

    exit_code = 5


class ToolMissing(ToolError):
    """An outside program is not installed."""


class ToolFailed(ToolError):
    """An outside program ended with an error."""


class OutputError(VmportError):
    """The destination could not be written; it is as it was before.  Exit code 6."""

    exit_code = 6
