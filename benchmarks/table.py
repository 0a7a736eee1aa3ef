"""What a benchmark comes to: tables, and goals that were reached or not; as Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: int = 1
    """So many columns, the first ones, are words; the others are numbers, put to the right."""


@dataclass(frozen=True, slots=True)
class Goal:
    """Something that was to be reached."""

    name: str
    unit: str
    """What is counted: ``times as fast``."""
    limit: float
    found: float | None
    """None: could not be measured."""
    verified: float | None = None
    """The same, of a conversion that also compares the content."""
    at_least: bool = True
    """`limit` is the least, not the most."""

    @property
    def met(self) -> str:
        """Whether it was reached."""
        if self.found is None:
            return "not measured"
        if not self._reached(self.found):
            return "**no**"
        if self.verified is not None and not self._reached(self.verified):
            return "yes, but not verified"
        return "yes"

    def _reached(self, found: float) -> bool:
        return found >= self.limit if self.at_least else found <= self.limit

    @property
    def cells(self) -> tuple[str, ...]:
        """A row of the table of goals."""
        sign = "≥" if self.at_least else "≤"
        return (
            self.name,
            f"{sign} {self.limit:.3g} {self.unit}",
            "" if self.found is None else _number(self.found),
            "" if self.verified is None else _number(self.verified),
            self.met,
        )


@dataclass(frozen=True, slots=True)
class Chapter:
    """All that one benchmark has to say."""

    title: str
    text: str
    tables: tuple[Table, ...]
    goals: tuple[Goal, ...] = ()


def goals_table(goals: tuple[Goal, ...]) -> Table:
    """What was to be reached, and what was."""
    columns = ("goal", "wanted", "measured", "verified too", "met")
    return Table("Goals", columns, tuple(goal.cells for goal in goals), texts=2)


def markdown(table: Table) -> str:
    """`table` with its title in bold."""
    return "\n".join((*([f"**{table.title}**", ""] if table.title else []), *_lines(table)))


def _lines(table: Table) -> Iterator[str]:
    yield _line(table.columns)
    words = table.texts
    yield "|" + "---|" * words + "--:|" * (len(table.columns) - words)
    yield from map(_line, table.rows)


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3f}" if value < 10 else f"{value:.1f}"
