"""Errors and warnings on the terminal: a line that says where and what, one on what to do."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vmport_formats.disk.model import Concern
    from vmport_formats.errors import VmportError


def print_error(error: VmportError) -> None:
    """Print `error` to stderr; text out of a file is escaped, so that it drives no terminal."""
    print(f"vmport: error: {printable(str(error))} [{error.code}]", file=sys.stderr)  # noqa: T201
    if error.hint:
        print(f"  hint: {printable(error.hint)}", file=sys.stderr)  # noqa: T201


def print_concern(name: str, concern: Concern) -> None:
    """Print what is odd about the image called `name` to stderr; the work goes on."""
    line = f"vmport: warning: {printable(f'{name}: {concern.text}')} [{concern.code}]"
    print(line, file=sys.stderr)  # noqa: T201


def printable(text: str) -> str:
    """`text` with everything that is not printable, line ends included, as a backslash escape."""
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii")
        for sign in text
    )
