"""JSON on stdout, for programs: one document, pure ASCII, so that no locale can spoil it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def print_json(value: object) -> None:
    """Print `value`; text that is no valid UTF-8 comes out as lone surrogate escapes."""
    sys.stdout.write(json.dumps(value, indent=4, ensure_ascii=True) + "\n")


def print_json_lines(values: Iterable[object]) -> None:
    """Print an array with one of `values` a line: there can be thousands."""
    lines = ",\n".join(map(json.dumps, values))
    sys.stdout.write(f"[\n{lines}\n]\n")
