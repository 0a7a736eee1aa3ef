"""Where results are printed: without markup, for what is printed may come out of a file."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

Line = tuple[tuple[str, str], ...]
"""A line in pieces: the text of each, and its style as rich names it, or nothing."""


def result_console() -> Console:
    """Standard output: colours only on a terminal and never under NO_COLOR, lines never wrapped."""
    from rich.console import Console

    class _ResultConsole(Console):
        def on_broken_pipe(self) -> NoReturn:
            raise BrokenPipeError  # not an exit of rich's own: `vmport.cli` knows what it means

    result_stream()
    return _ResultConsole(highlight=False, markup=False, emoji=False, soft_wrap=True)


def result_stream() -> TextIO:
    """Standard output for plain text; what its encoding cannot say comes out escaped."""
    if sys.stdout.encoding.lower() != "utf-8" and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    return sys.stdout


def print_lines(lines: Iterable[Line]) -> None:
    """Print lines as `result_console` would; rich, which takes its time, is asked for colours only.

    Without a terminal there are none, unless rich's users ask for them by its variables.
    """
    asked = any(os.environ.get(name) for name in ("FORCE_COLOR", "TTY_COMPATIBLE"))
    if not asked and not sys.stdout.isatty():
        result_stream().writelines("".join([*(text for text, _ in line), "\n"]) for line in lines)
        return
    from rich.text import Text

    console = result_console()
    for line in lines:
        console.print(Text.assemble(*line))
