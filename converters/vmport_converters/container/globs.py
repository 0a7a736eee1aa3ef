"""Globs over paths, as people know them from shells and .gitignore.

``*`` and ``?`` stay within a component, ``**`` crosses components, ``[...]`` is one of its signs,
``{a,b}`` one of its words.  A pattern that fits a folder covers all below it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_SPECIAL: Final = frozenset("*?[{\\")
_MOST_ALTERNATIVES: Final = 256


def expand(pattern: str) -> list[str]:
    """The patterns without braces that `pattern` stands for.

    Raises:
        ValueError: a brace is not closed, or they stand for too many.
    """
    done: list[str] = []
    todo = [pattern]
    while todo:
        item = todo.pop()
        start = _first_brace(item)
        if start is None:
            done.append(item)
            continue
        end, words = _words(item, start)
        todo += [item[:start] + word + item[end:] for word in reversed(words)]
        if len(todo) + len(done) > _MOST_ALTERNATIVES:
            raise ValueError(f"more than {_MOST_ALTERNATIVES} alternatives")
    return done


def literal_start(pattern: str) -> tuple[str, str]:
    """The leading components of `pattern` (without braces) that are no globs, and the rest."""
    parts = pattern.split("/")
    count = 0
    while count < len(parts) and not _SPECIAL & set(parts[count]):
        count += 1
    return "/".join(parts[:count]), "/".join(parts[count:])


def translate(pattern: str, *, subtree: bool) -> str:
    """`pattern` (without braces) as a regular expression over a whole path.

    `subtree` lets it fit what lies below, too.

    Raises:
        ValueError: a bracket is not closed, or holds a range that is none.
    """
    expression = "".join(_tokens(pattern)) + ("(?:/.*)?" if subtree else "")
    try:
        re.compile(expression)
    except re.error as error:
        raise ValueError(str(error)) from error
    return expression


def _tokens(pattern: str) -> Iterator[str]:
    at = 0
    while at < len(pattern):
        sign = pattern[at]
        if pattern.startswith("**/", at):
            yield "(?:.*/)?"
            at += 3
        elif pattern.startswith("**", at):
            yield ".*"
            at += 2
        elif sign == "*":
            yield "[^/]*"
            at += 1
        elif sign == "?":
            yield "[^/]"
            at += 1
        elif sign == "[":
            token, at = _bracket(pattern, at)
            yield token
        elif sign == "\\" and at + 1 < len(pattern):
            yield re.escape(pattern[at + 1])
            at += 2
        else:
            yield re.escape(sign)
            at += 1


def _bracket(pattern: str, at: int) -> tuple[str, int]:
    negated = pattern[at + 1 : at + 2] in {"!", "^"}
    start = at + 1 + negated
    end = pattern.find("]", start + 1)
    if end < 0:
        raise ValueError("a bracket is not closed")
    signs = re.sub(r"([\\\[\]^&~|])", r"\\\1", pattern[start:end])
    return f"(?!/)[{'^' if negated else ''}{signs}]", end + 1


def _first_brace(pattern: str) -> int | None:
    at = 0
    while at < len(pattern):
        if pattern[at] == "\\":
            at += 1
        elif pattern[at] == "{":
            return at
        at += 1
    return None


def _words(pattern: str, start: int) -> tuple[int, list[str]]:
    """The end of the brace that opens at `start`, and the words between its commas."""
    words = [""]
    depth = 0
    for at in range(start, len(pattern)):
        sign = pattern[at]
        if sign == "{":
            depth += 1
        elif sign == "}":
            depth -= 1
        if depth == 0:
            return at + 1, words
        if sign == "," and depth == 1:
            words.append("")
        elif not (sign == "{" and depth == 1):
            words[-1] += sign
    raise ValueError("a brace is not closed")
