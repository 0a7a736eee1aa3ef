"""The ledger of a translation, as fields for programs and as text for people."""

from __future__ import annotations

import shlex
import sys
import textwrap
from collections import defaultdict
from itertools import takewhile
from pathlib import PurePath
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport.render.console import result_console
from vmport.render.errors import printable
from vmport_formats.machine.ledger import Impact, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vmport_formats.machine.ledger import DiskConversion, Entry, Ledger

WIDTH: Final = 100
"""Longest line of text, in characters, unless the terminal is narrower."""

_LONGEST_VALUE: Final = 70
_MOST_PARTS: Final = 3


_TELLING: Final = (
    "/target/@dev",
    "/source/@file",
    "/source/@dev",
    "/source/@dir",
    "/mac/@address",
    "/address/@bus",
    "/address/@slot",
)
"""Values by which a person knows a device again."""


# --- For programs -------------------------------------------------------------------------------


def ledger_fields(ledger: Ledger, conversions: Sequence[DiskConversion]) -> dict[str, object]:
    """The JSON object of a translation."""
    return {
        "source": {"filename": ledger.source, "dialect": ledger.source_dialect},
        "target": {"dialect": ledger.target_dialect},
        "counts": {str(verdict): ledger.count(verdict) for verdict in Verdict},
        "losses": len(ledger.losses),
        "disks-to-convert": [_conversion_fields(item) for item in conversions],
        "entries": [_entry_fields(entry) for entry in ledger.entries],
    }


def _conversion_fields(conversion: DiskConversion) -> dict[str, object]:
    return {
        "source": conversion.source,
        "source-format": conversion.source_format,
        "target": conversion.target,
        "target-format": conversion.target_format,
        "subformat": conversion.subformat,
        "backing": list(conversion.backing),
        "local": conversion.local,
    }


def _entry_fields(entry: Entry) -> dict[str, object]:
    fields: dict[str, object] = {"verdict": str(entry.verdict), "impact": str(entry.impact)}
    if entry.source is not None:
        fields["source"] = {
            "path": entry.source.path,
            "value": entry.source.value,
            "line": entry.source.position.line,
            "column": entry.source.position.column,
        }
    fields["model"] = list(entry.model)
    fields["target"] = list(entry.places)
    texts = {
        "from": entry.before,
        "to": entry.after,
        "why": entry.why,
        "effect": entry.effect,
        "action": entry.action,
    }
    fields.update({name: text for name, text in texts.items() if text})
    return fields


# --- For people ---------------------------------------------------------------------------------


class _Line(NamedTuple):
    """One line and how it looks on a terminal."""

    text: str
    style: str = ""


class _Reason(NamedTuple):
    """What entries that are shown together have in common."""

    impact: Impact
    verdict: Verdict
    why: str
    effect: str
    action: str


class _Item(NamedTuple):
    """One change within a reason."""

    before: str | None
    after: str | None
    places: tuple[str, ...]


_TITLES: Final = {
    "attention": ("Needs your attention", "bold red"),
    Verdict.ADAPTED: ("Adapted: serves the same end in another way", "bold yellow"),
    Verdict.DROPPED: ("Dropped: the target does not say it", "bold yellow"),
    Verdict.DEFAULTED: ("Chosen: the source does not say it, the target needs it", "bold"),
    Verdict.KEPT: ("Kept", "bold"),
    "harmless": ("Dropped, but of no consequence to the guest", "bold"),
}


def print_ledger(
    ledger: Ledger, conversions: Sequence[DiskConversion], *, destination: str, verbose: bool
) -> None:
    """Print the text, colours only on a terminal and never under NO_COLOR."""
    from rich.text import Text

    console = result_console()
    width = min(console.width, WIDTH)
    lines = _lines(ledger, conversions, destination=destination, verbose=verbose, width=width)
    for line in lines:
        console.print(Text(line.text, style=line.style))


def ledger_text(ledger: Ledger, conversions: Sequence[DiskConversion], *, destination: str) -> str:
    """The whole ledger as plain text."""
    lines = _lines(ledger, conversions, destination=destination, verbose=True, width=WIDTH)
    return "".join(f"{line.text}\n" for line in lines)


def _lines(
    ledger: Ledger,
    conversions: Sequence[DiskConversion],
    *,
    destination: str,
    verbose: bool,
    width: int,
) -> Iterator[_Line]:
    yield _Line(f"{printable(ledger.source)} → {printable(destination)}", "bold")
    yield _Line(f"  {ledger.source_dialect} to {ledger.target_dialect}", "dim")
    yield _Line(f"  {_counts(ledger)}")
    sections = _sections(ledger)
    for name in ("attention", Verdict.ADAPTED, Verdict.DROPPED, Verdict.DEFAULTED):
        yield from _section(name, sections[name], width)
    if conversions:
        yield from _conversion_lines(conversions, destination)
    if verbose:
        for name in (Verdict.KEPT, "harmless"):
            yield from _section(name, sections[name], width)
    elif sections[Verdict.KEPT] or sections["harmless"]:
        kept, harmless = len(sections[Verdict.KEPT]), len(sections["harmless"])
        yield _Line("")
        yield _Line(
            f"Not shown: {kept} kept, {harmless} dropped without consequence "
            "(vmport -v translate, or --ledger FILE)",
            "dim",
        )


def _counts(ledger: Ledger) -> str:
    dropped = ledger.count(Verdict.DROPPED)
    losses = len(ledger.losses)
    values = sum(entry.source is not None for entry in ledger.entries)
    return (
        f"{values} values: {ledger.count(Verdict.KEPT)} kept, "
        f"{ledger.count(Verdict.ADAPTED)} adapted, {dropped} dropped "
        f"({losses or 'none'} of consequence); {ledger.count(Verdict.DEFAULTED)} chosen"
    )


def _sections(ledger: Ledger) -> dict[str, list[Entry]]:
    sections: dict[str, list[Entry]] = defaultdict(list)
    for entry in ledger.entries:
        if entry.impact is Impact.MAJOR:
            sections["attention"].append(entry)
        elif entry.verdict is Verdict.DROPPED and entry.impact is Impact.NONE:
            sections["harmless"].append(entry)
        else:
            sections[entry.verdict].append(entry)
    return sections


def _section(name: str, entries: Sequence[Entry], width: int) -> Iterator[_Line]:
    if not entries:
        return
    title, style = _TITLES[name]
    yield _Line("")
    yield _Line(title, style)
    for reason, items in _grouped(entries).items():
        for item, members in items.items():
            yield from _item_lines(item, members, width)
        yield from _reason_lines(reason, width)


def _grouped(entries: Sequence[Entry]) -> dict[_Reason, dict[_Item, list[Entry]]]:
    """Entries by what they have in common, in the order in which they come first."""
    groups: dict[_Reason, dict[_Item, list[Entry]]] = {}
    for entry in entries:
        reason = _Reason(entry.impact, entry.verdict, entry.why, entry.effect, entry.action)
        item = _Item(entry.before, entry.after, entry.places)
        if entry.verdict is Verdict.DROPPED and entry.source is not None:
            item = _Item(_device(entry.source.path), None, ())
        groups.setdefault(reason, {}).setdefault(item, []).append(entry)
    return groups


def _item_lines(item: _Item, members: Sequence[Entry], width: int) -> Iterator[_Line]:
    places = ", ".join(item.places)
    leaves = [entry.source for entry in members if entry.source is not None]
    if not leaves:
        yield from _wrapped(f"{places} = {_value(item.after)}", width, first=2, rest=4)
        return
    position = str(leaves[0].position)
    label = _label([leaf.path for leaf in leaves])
    if members[0].verdict is Verdict.DROPPED:
        shown = [_value(leaf.value) for leaf in leaves if leaf.value]
        if len(shown) > _MOST_PARTS:
            telling = [leaf for leaf in leaves if leaf.path.endswith(_TELLING)]
            shown = [_value(leaf.value) for leaf in telling[:_MOST_PARTS]]
        label += f": {', '.join(shown)}" if shown else ""
    elif item.before is not None:
        label += f": {_value(item.before)} → "
        label += f"{places} = " if places and places != item.after else ""
        label += _value(item.after)
    elif places:
        shown = [_value(leaf.value) for leaf in leaves if leaf.value]
        label += f": {', '.join(shown)}" if 0 < len(shown) <= _MOST_PARTS else ""
        label += f"  [{places}]"
    yield from _wrapped(f"{position:<8}{label}", width, first=2, rest=10)


def _reason_lines(reason: _Reason, width: int) -> Iterator[_Line]:
    if reason.why:
        yield from _wrapped(f"why   {reason.why}", width, first=10, rest=16, style="dim")
    if reason.effect:
        yield from _wrapped(f"then  {reason.effect}", width, first=10, rest=16)
    if reason.action:
        yield from _wrapped(f"do    {reason.action}", width, first=10, rest=16, style="green")


def _conversion_lines(conversions: Sequence[DiskConversion], destination: str) -> Iterator[_Line]:
    yield _Line("")
    yield _Line("Next: convert the disks", "bold")
    for conversion in conversions:
        if not conversion.local:
            yield _Line(f"  # {printable(conversion.source)} is no file: fetch it first, as FILE")
        argv = ["vmport", "convert"]
        if conversion.source_format is not None:
            argv += ["--from", conversion.source_format]
        for folder in dict.fromkeys(path.rpartition("/")[0] or "." for path in conversion.backing):
            argv += ["--allow", folder]
        if conversion.subformat is not None:
            argv += ["-o", f"subformat={conversion.subformat}"]
        argv += [
            conversion.source if conversion.local else "FILE",
            str(PurePath(destination).with_name(conversion.target)),
        ]
        yield _Line(f"  {printable(shlex.join(argv))}")


def _wrapped(text: str, width: int, *, first: int, rest: int, style: str = "") -> Iterator[_Line]:
    wrapper = textwrap.TextWrapper(
        width=width,
        initial_indent=" " * first,
        subsequent_indent=" " * rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
    for line in wrapper.wrap(printable(text)):
        yield _Line(line, style)


def _value(value: str | None) -> str:
    text = printable(value or "")
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _device(path: str) -> str:
    """The device that a leaf of XML belongs to (three levels down); of a key, its first part."""
    return "/".join(path.split("/")[:4]) if path.startswith("/") else path.partition(".")[0]


def _label(paths: Sequence[str]) -> str:
    """Several paths in a few words: what they lie in, then what differs."""
    steps = [path.split("/") for path in paths]
    levels = zip(*steps, strict=False)
    common = [level[0] for level in takewhile(lambda level: len(set(level)) == 1, levels)]
    if len(paths) > 1 and len(common) == min(map(len, steps)):
        common.pop()
    inside = ["/".join(each[len(common) :]) for each in steps]
    # The root element goes without saying.
    where = "/".join(common[2:])
    if inside == [""]:
        return where
    if len(inside) > _MOST_PARTS:
        return f"{where} ({len(inside)} values)" if where else f"{', '.join(inside[:5])}, …"
    return "/".join(part for part in (where, " ".join(inside)) if part)


def print_refusal(ledger: Ledger, *, destination: str) -> None:
    """Say on stderr why ``--strict`` wrote nothing."""
    losses = len(ledger.losses)
    what = "value" if losses == 1 else "values"
    print(  # noqa: T201
        f"vmport: {printable(destination)} was not written: {losses} {what} of consequence would "
        "be lost (--strict)",
        file=sys.stderr,
    )
