"""Where results are printed: without markup, for what is printed may come out of a file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn, TextIO

if TYPE_CHECKING:
    from rich.console import Console


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
