"""A place in a text, as editors count it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a text; both count from 1, columns in characters (code points)."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"

    def after(self, text: str) -> Position:
        """The place behind `text`, when it begins here; CR, LF and CR LF each end a line."""
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        if len(lines) == 1:
            return Position(self.line, self.column + len(text))
        return Position(self.line + len(lines) - 1, len(lines[-1]) + 1)
