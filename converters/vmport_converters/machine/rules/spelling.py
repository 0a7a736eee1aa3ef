"""Which known name an unknown one was meant to be: "did you mean"."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

_LONGEST: Final = 40
"""Longer names are no typing errors."""

MAX_WORDS: Final = 300
"""Different unknown names that are looked at in one file; hostile ones have thousands."""


class Speller:
    """Looks up near names, for at most `MAX_WORDS` different words."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, frozenset[str]], str | None] = {}

    def nearest(self, word: str, names: frozenset[str]) -> str | None:
        """The one of `names` that `word` most likely was meant to be; None when none is near."""
        key = (word, names)
        if key not in self._known:
            if len(self._known) >= MAX_WORDS:
                return None
            self._known[key] = nearest(word, names)
        return self._known[key]


def nearest(word: str, names: Collection[str]) -> str | None:
    """The one of `names` within one typing error of `word`, two when it is long; case aside."""
    if len(word) > _LONGEST:
        return None
    folded = word.lower()
    allowed = 0 if len(word) < 3 else 1 if len(word) < 8 else 2
    best: tuple[int, str] | None = None
    for name in sorted(names):
        if abs(len(name) - len(word)) > allowed or len(name) < 3:
            continue
        distance = edits(folded, name.lower())
        if distance <= allowed and (best is None or distance < best[0]):
            best = (distance, name)
    return None if best is None else best[1]


@lru_cache(maxsize=4096)
def edits(a: str, b: str) -> int:
    """How many letters to add, drop, change, or swap with the next, to turn `a` into `b`."""
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, sign in enumerate(a, start=1):
        row = [i]
        for j, other in enumerate(b, start=1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (sign != other))
            if i > 1 and j > 1 and sign == b[j - 2] and a[i - 2] == other:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]
