"""VMX lines while they are written, each with its reason in the books."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from vmport_formats.machine.ledger import Impact

if TYPE_CHECKING:
    from vmport_formats.machine.ledger import Books, Loss

_ESCAPED: Final = re.compile(r'["|\x00-\x1f\x7f]')


class VmxLines:
    """The lines of a VMX file in order, and the books on where their values came from."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self._lines: dict[str, str] = {}

    def line(self, key: str, value: str | int | bool) -> str:
        """Write a line that only goes with another one; gives the value as written."""
        text = {True: "TRUE", False: "FALSE"}[value] if isinstance(value, bool) else str(value)
        self._lines[key] = text
        return text

    def kept(self, key: str, value: str | int | bool, *paths: str) -> None:
        """Write a line that says the same as the model's `paths`."""
        self.books.kept(*paths, place=key, after=self.line(key, value))

    def adapted(
        self,
        key: str,
        value: str | int | bool,
        *paths: str,
        why: str,
        before: str | None = None,
        effect: str = "",
        action: str = "",
        impact: Impact = Impact.NONE,
    ) -> None:
        """Write a line that serves the end of the model's `paths` in another way."""
        self.books.adapted(
            *paths,
            place=key,
            after=self.line(key, value),
            why=why,
            before=before,
            effect=effect,
            action=action,
            impact=impact,
        )

    def defaulted(
        self,
        key: str,
        value: str | int | bool,
        why: str,
        *,
        effect: str = "",
        action: str = "",
        impact: Impact = Impact.NONE,
    ) -> None:
        """Write a line that VMware needs and the source says nothing about."""
        self.books.defaulted(
            place=key,
            after=self.line(key, value),
            why=why,
            effect=effect,
            action=action,
            impact=impact,
        )

    def dropped(self, *paths: str, loss: Loss) -> None:
        """Write nothing about the model's `paths`."""
        self.books.dropped(*paths, loss=loss)

    def text(self) -> str:
        """The file."""
        return "".join(f'{key} = "{escape(value)}"\n' for key, value in self._lines.items())


def escape(value: str) -> str:
    """`value` as it stands between quotes: ``|22`` for a quote, ``|0A`` for the end of a line."""
    return _ESCAPED.sub(lambda found: f"|{ord(found[0]):02X}", value)
