"""JSON on stdout, for programs: one document, pure ASCII, so that no locale can spoil it."""

from __future__ import annotations

import json
import sys


def print_json(value: object) -> None:
    """Print `value`; text that is no valid UTF-8 comes out as lone surrogate escapes."""
    sys.stdout.write(json.dumps(value, indent=4, ensure_ascii=True) + "\n")
