"""What several commands take from the command line, in the words of the user."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from vmport_formats.errors import UnreadableInput, UsageError

if TYPE_CHECKING:
    from vmport_formats.disk.model import DiskFormat
    from vmport_formats.units import Bytes

Kind = TypeVar("Kind", bound=StrEnum)

_LONGEST_PASSPHRASE: Final = 1 << 16


def format_named(option: str, name: str | None) -> DiskFormat | None:
    """The format that `option` names; None where it is not given.

    Raises:
        UsageError: there is no such format (``usage.format``).
    """
    from vmport_formats.disk.model import DiskFormat

    if name is None:
        return None
    try:
        return DiskFormat.named(name)
    except ValueError:
        raise UsageError(
            None,
            code="usage.format",
            problem=f"{option} {name}: there is no such format",
            hint=f"one of {', '.join(item.code for item in DiskFormat)}",
        ) from None


def named(option: str, name: str | None, kinds: type[Kind], *more: str) -> Kind | None:
    """The one of `kinds` that `option` names; None where it is not given, or one of `more`.

    Raises:
        UsageError: there is none of that name (``usage.choice``).
    """
    if name is None or name in more:
        return None
    try:
        return kinds(name)
    except ValueError:
        raise UsageError(
            None,
            code="usage.choice",
            problem=f"{option} {name}: is not known",
            hint=f"one of {', '.join([*more, *kinds])}",
        ) from None


def size_of(option: str, text: str | None) -> Bytes | None:
    """The size that `option` states; None where it is not given.

    Raises:
        UsageError: it is no size (``usage.size``).
    """
    from vmport_formats.units import parse_size

    if text is None:
        return None
    try:
        return parse_size(text)
    except ValueError:
        raise UsageError(
            None,
            code="usage.size",
            problem=f"{option} {text}: is no size",
            hint="a number of bytes, such as 65536, 0x10000 or 64K; K, M, G, T count in 1024s",
        ) from None


def passphrase_in(path: str | None) -> bytes | None:
    """The passphrase in the file at `path`, less one line end after it; None without a path.

    Raises:
        UnreadableInput: it cannot be read, or is too long for a passphrase.
    """
    if path is None:
        return None
    try:
        with Path(path).open("rb") as file:  # not `open_source`: a pipe is what shells make of <()
            content = file.read(_LONGEST_PASSPHRASE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UnreadableInput(path, code="source.open", problem=f"cannot open: {reason}") from error
    if len(content) > _LONGEST_PASSPHRASE:
        raise UnreadableInput(
            path,
            code="source.too-large",
            problem=f"a passphrase of more than {_LONGEST_PASSPHRASE} bytes",
            hint="is this really the file with the passphrase?",
        )
    return content.removesuffix(b"\n")
