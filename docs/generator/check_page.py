"""The page about checks: which faults each format can have, read from the checks themselves."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Final

from docs.generator.codes import ROOT, UNKNOWN, Code, faults_in
from docs.generator.records import cell
from vmport_formats.disk.check import CHECKERS, TELLING
from vmport_formats.disk.model import DiskFormat

if TYPE_CHECKING:
    from collections.abc import Iterable

_DISK: Final = ROOT / "formats" / "vmport_formats" / "disk"
_COMMON: Final = (_DISK / "check.py", _DISK / "placements.py")
_ELSEWHERE: Final = "what the error of this code says"
_LOCAL: Final = {
    DiskFormat.VHD: ("vhd.parent-time-stamp",),
    DiskFormat.VDI: ("vdi.parent-changed",),
}
"""Of a parent: what is odd about it, said by who opens it."""


def check_page(intro: str) -> str:
    """The page, behind `intro`."""
    lines = [intro.rstrip() + "\n", "## Any format\n", _table(faults_in(_COMMON))]
    for item in DiskFormat:
        if item not in CHECKERS:
            continue
        own = _DISK / item.code
        found = [code for code in faults_in([own]) if code.code.startswith(f"{item.code}.")]
        lines += [f"## {item.label}\n"]
        lines += [f"And the [errors of the format](formats/{item.code}.md).\n", _table(found)]
        warnings = sorted(code for code in TELLING if code.startswith(f"{item.code}."))
        warnings += _LOCAL.get(item, ())
        if warnings:
            named = ", ".join(f"`{code}`" for code in warnings)
            lines.append(f"Warnings that [safety](safety.md) explains: {named}.\n")
    return "\n".join(lines).rstrip() + "\n"


def _table(faults: Iterable[Code]) -> str:
    lines = ["| code | severity | what is wrong |", "|---|---|---|"]
    for code, items in groupby(faults, key=lambda item: item.code):
        rows = list(items)
        severity = " or ".join(sorted({item.kind for item in rows}))
        texts = dict.fromkeys(re.sub(f"{UNKNOWN}+", UNKNOWN, item.text) for item in rows)
        said = [
            text
            for text in texts
            if text != UNKNOWN and not any(other.startswith(f"{text} ") for other in texts)
        ]
        for number, text in enumerate(said or [_ELSEWHERE]):
            shown = f"`{code}`" if number == 0 else ""
            lines.append(f"| {shown} | {severity} | {cell(text)} |")
    return "\n".join(lines) + "\n"
