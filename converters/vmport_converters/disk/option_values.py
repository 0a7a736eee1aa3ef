"""The kinds of values that options take: how each is read, and how all of them are told."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from vmport_formats.units import format_size


class Kind(Protocol):
    """The values that an option takes."""

    def read(self, value: str) -> str | None:
        """`value` as qemu-img wants it; None when it is not one of them."""
        ...

    def __str__(self) -> str:
        """All of them, for people."""
        ...


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words."""

    values: tuple[str, ...]

    def read(self, value: str) -> str | None:
        """The word, whatever its case."""
        return next((item for item in self.values if item.lower() == value.lower()), None)

    def __str__(self) -> str:
        return "|".join(self.values)


@dataclass(frozen=True, slots=True)
class Switch:
    """On or off."""

    def read(self, value: str) -> str | None:
        """``on`` or ``off``, of any of the words that qemu takes for them."""
        words = {"on": "on", "yes": "on", "true": "on", "off": "off", "no": "off", "false": "off"}
        return words.get(value.lower())

    def __str__(self) -> str:
        return "on|off"


@dataclass(frozen=True, slots=True)
class Size:
    """A length in bytes."""

    least: int
    most: int
    power_of_two: bool = False
    multiple: int = 1
    zero: str | None = None
    """What 0 stands for, where it stands for something."""

    def read(self, value: str) -> str | None:
        """The number of bytes; ``k``, ``M``, ``G`` count in 1024s."""
        found = re.fullmatch(r"(\d{1,19})([bkmg]?)", value.lower())
        if found is None:
            return None
        size = int(found[1]) << {"": 0, "b": 0, "k": 10, "m": 20, "g": 30}[found[2]]
        if size == 0 and self.zero:
            return "0"
        if not self.least <= size <= self.most or size % self.multiple:
            return None
        if self.power_of_two and size & (size - 1):
            return None
        return str(size)

    def __str__(self) -> str:
        text = f"{_short(self.least)} to {_short(self.most)}"
        if self.power_of_two:
            text += ", a power of two"
        if self.multiple > 1:
            text += f", whole {format_size(self.multiple).removeprefix('1 ')}"
        return text + (f", or 0: {self.zero}" if self.zero else "")


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number of a few, or of a range."""

    values: range | tuple[int, ...]

    def read(self, value: str) -> str | None:
        """The number."""
        if not re.fullmatch(r"\d{1,10}", value) or int(value) not in self.values:
            return None
        return str(int(value))

    def __str__(self) -> str:
        if isinstance(self.values, range):
            return f"{self.values[0]} to {self.values[-1]}"
        return "|".join(map(str, self.values))


@dataclass(frozen=True, slots=True)
class Name:
    """A path, of whatever signs."""

    def read(self, value: str) -> str | None:
        """The path."""
        return value if value and "\0" not in value else None

    def __str__(self) -> str:
        return "a path, a comma in it written twice"


def _short(size: int) -> str:
    return format_size(size).replace(" ", "").replace("iB", "").replace("bytes", "")
