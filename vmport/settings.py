"""What the user said before the command's name, handed to every command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of ``vmport`` itself."""

    quiet: bool = False
    verbose: bool = False

    @classmethod
    def of(cls, context: typer.Context) -> Settings:
        """The settings that the main callback left in `context`."""
        found = context.obj
        return found if isinstance(found, cls) else cls()
