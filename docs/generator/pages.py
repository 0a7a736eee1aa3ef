"""Each generated page of the reference as text."""

from __future__ import annotations

import ast
import inspect
import re
from itertools import groupby
from typing import TYPE_CHECKING, Final

from docs.generator.check_page import check_page
from docs.generator.codes import ROOT, UNKNOWN, Code, codes_in, module_name
from docs.generator.records import RECORDS, cell, layout, limits, plain
from vmport_formats.disk.model import DiskFormat
from vmport_formats.disk.policy import FORMATS, RULES, Policy
from vmport_formats.errors import VmportError
from vmport_formats.references import ReferenceKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

REFERENCE: Final = ROOT / "docs" / "reference"
_NOTES: Final = ROOT / "docs" / "generator" / "notes"
_FORMATS: Final = ROOT / "formats" / "vmport_formats"
_PACKAGES: Final = (_FORMATS, ROOT / "converters" / "vmport_converters", ROOT / "vmport")
_POLICY: Final = _FORMATS / "disk" / "policy.py"
_SECOND_OPINION: Final = _FORMATS / "disk" / "openstack_view.py"
_MORE: Final = {
    "luks": ("encryption",),
    "raw": ("disk/partition_tables.py", "disk/raw_composer.py"),
}
"""What belongs to a format besides its own module."""
_MADE: Final = "<!-- Made by `make docs` from the code and docs/generator. -->\n"
_TEST: Final = re.compile(r"\[(test_\w+\.py)::(test_\w+)\]")
_EXIT_CODES: Final = {
    0: "done",
    1: "the thing looked at falls short: findings, a difference, a strict condition that fails",
    2: "wrong usage: the request makes no sense, whatever the files hold",
    3: "an input cannot be read: missing, corrupt, cut short, unsupported, unknown",
    4: "refused as unsafe: going on would touch something that was not granted",
    5: "an outside program is missing or failed",
    6: "the output could not be written; the destination is as it was before",
    130: "interrupted",
}


def pages() -> dict[Path, str]:
    """Every generated page, by its path."""
    made = {REFERENCE / "formats" / f"{item.code}.md": format_page(item) for item in DiskFormat}
    made[REFERENCE / "check.md"] = check_page(_intro("check"))
    made[REFERENCE / "errors.md"] = errors_page()
    made[REFERENCE / "safety.md"] = safety_page()
    made[REFERENCE / "policies.md"] = policies_page()
    return made


def format_page(disk_format: DiskFormat) -> str:
    """The page of one format: its hand-written part, around what follows from the code."""
    name = disk_format.code
    paths = _paths(name)
    files = [file for path in paths for file in _files(path)]
    notes = (_NOTES / f"{name}.md").read_text(encoding="utf-8")
    title, rest = notes.split("\n", 1)
    return "".join(
        (
            f"{title}\n\n{_MADE}",
            _tests_named(rest).replace("<!-- layout -->\n", _layouts(name, files)).rstrip() + "\n",
            f"\n{_codes_section(name, paths)}",
            f"\n{_modules_section(files)}",
        )
    )


def _paths(name: str) -> list[Path]:
    own = _FORMATS / "disk" / name
    return [own if own.is_dir() else own.with_suffix(".py"), *(_FORMATS / p for p in _more(name))]


def _more(name: str) -> tuple[str, ...]:
    return _MORE.get(name, ())


def _files(path: Path) -> list[Path]:
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


def _layouts(name: str, files: Iterable[Path]) -> str:
    parts = [layout(record) for record in RECORDS[name]]
    if bounds := limits(files):
        parts.append(bounds)
    heading = "## Layout\n\nOffsets in bytes; `u32` is an unsigned number of 32 bits.\n\n"
    return (heading if RECORDS[name] else "") + "\n".join(parts)


def _codes_section(name: str, paths: Iterable[Path]) -> str:
    found = [item for item in codes_in(paths) if item.code.startswith(f"{name}.")]
    errors = [item for item in found if item.kind != "Concern"]
    concerns = [item for item in found if item.kind == "Concern"]
    references = [f"`{name}.{kind.code}`" for kind in _named_kinds(paths)]
    parts = []
    if errors:
        parts.append(f"## Errors\n\nSee [errors](../errors.md).\n\n{_error_table(errors)}")
    if concerns or references:
        parts.append("## Reasons against its safety\n\nSee [safety](../safety.md).\n")
        if references:
            parts.append(f"For each other file that it names: {', '.join(references)}.\n")
        if concerns:
            parts.append(_concern_table(concerns))
    return "\n".join(parts)


def _named_kinds(paths: Iterable[Path]) -> list[ReferenceKind]:
    """The kinds of files that a format can name: those that its modules speak of."""
    found = set()
    for file in (file for path in paths for file in _files(path)):
        for node in ast.walk(ast.parse(file.read_bytes())):
            match node:
                case ast.Call(
                    func=ast.Name(id="Reference"),
                    args=[ast.Attribute(value=ast.Name(id="ReferenceKind"), attr=kind), *_],
                ):
                    found.add(ReferenceKind[kind])
    return sorted(found)


def _modules_section(files: Iterable[Path]) -> str:
    lines = ["## In the code\n"]
    sources: dict[str, None] = {}
    for file in files:
        doc = ast.get_docstring(ast.parse(file.read_bytes())) or ""
        first = plain(doc.partition("\n\n")[0])
        if not first:
            continue
        module = module_name(file)
        lines.append(
            f"- `{module}`: {first[0].lower() if first[1:2].islower() else first[0]}{first[1:]}"
        )
        for paragraph in doc.split("\n\n")[1:]:
            if re.match(r"(Sources?|Specification|Layout):", paragraph):
                sources[plain(paragraph)] = None
    if sources:
        lines += ["", "Where the layout is described:", "", *(f"- {text}" for text in sources)]
    return "\n".join(lines) + "\n"


def _tests_named(text: str) -> str:
    """Names of tests as links to their files; that each one exists is checked."""
    files = {path.name: path for path in (ROOT / "tests").rglob("test_*.py")}

    def link(found: re.Match[str]) -> str:
        file, name = found.groups()
        path = files.get(file)
        if path is None or f"def {name}(" not in path.read_text(encoding="utf-8"):
            raise ValueError(f"there is no test {file}::{name}")
        return f"[`{name}`](../../../{path.relative_to(ROOT)})"

    return _TEST.sub(link, text)


def errors_page() -> str:
    """Exit codes, classes, and every code outside the pages of the formats."""
    found = [item for item in codes_in(_PACKAGES) if item.kind != "Concern"]
    found = [item for item in found if UNKNOWN not in item.code]
    formats = {item.code for item in DiskFormat}
    lines = [
        "# Errors and exit codes\n",
        _MADE,
        "An error is one message on stderr: which file, where in it, what is wrong, and the limit;",
        "often what to do. Each has a stable, dotted code, at the end of its line; the",
        "exit code says what kind of failure it was. A traceback is a bug.\n",
        "## Exit codes\n",
        "| code | means |",
        "|---:|---|",
        *(f"| {code} | {text} |" for code, text in _EXIT_CODES.items()),
        "\n## Classes\n",
        "`vmport_formats.errors` has the family; a program catches `VmportError`, or less.\n",
        "| class | exit code | |",
        "|---|---:|---|",
        *(
            f"| `{item.__name__}` | {item.exit_code} | {cell(_about(item))} |"
            for item in _classes(VmportError)
        ),
        "\n## Codes\n",
        "The first part of a code is its family. Those of a disk format are on the format's page:",
        ", ".join(f"[{item.code}](formats/{item.code}.md)" for item in DiskFormat) + ".",
        "`FORMAT` stands for any of these, an ellipsis for a value.\n",
    ]
    for family, codes in groupby(found, key=lambda item: item.code.partition(".")[0]):
        if family not in formats:
            lines.append(f"### {family}\n\n{_error_table(codes)}")
    own = {item.code for name in formats for item in codes_in(_paths(name))}
    rest = [
        item for item in found if item.code.partition(".")[0] in formats and item.code not in own
    ]
    lines.append(f"### Disk formats, when converting\n\n{_error_table(rest)}")
    return "\n".join(lines).rstrip() + "\n"


def safety_page() -> str:
    """What a verdict is, and every reason that there can be."""
    of_policies = set(codes_in((_POLICY, _SECOND_OPINION)))
    found = [item for item in codes_in(_PACKAGES) if item.kind == "Concern"]
    found = [item for item in found if UNKNOWN not in item.code and item not in of_policies]
    lines = [f"{_intro('safety')}\n"]
    lines += ["## Files that an image names\n", "| format | reasons |", "|---|---|"]
    for item in DiskFormat:
        kinds = [f"`{item.code}.{kind.code}`" for kind in _named_kinds(_paths(item.code))]
        lines.append(f"| {item.label} | {', '.join(kinds) or 'it can name none'} |")
    for family, codes in groupby(found, key=lambda item: item.code.partition(".")[0]):
        title = "Any format" if family == "FORMAT" else _labels().get(family, family)
        lines.append(f"\n## {title}\n\n{_concern_table(codes)}".rstrip())
    return "\n".join(lines) + "\n"


def _intro(name: str) -> str:
    """The hand-written part of a page that is not of a format."""
    title, rest = (_NOTES / f"{name}.md").read_text(encoding="utf-8").split("\n", 1)
    return f"{title}\n\n{_MADE}{_tests_named(rest).replace('../../../', '../../').rstrip()}"


def policies_page() -> str:
    """What each policy refuses, and why."""
    lines = [_intro("policies")]
    anyone = [item for item in codes_in((_POLICY,)) if item.code.startswith("policy.")]
    lines.append(f"\n## Any policy but none\n\n{_concern_table(anyone)}".rstrip())
    for policy in Policy:
        codes = [Code(item.code, "", item.reason) for item in RULES.get(policy, ())]
        if policy is Policy.OPENSTACK:
            codes += codes_in((_SECOND_OPINION,))
        if not codes:
            continue
        lines.append(f"\n## {policy}\n\n{_concern_table(sorted(codes))}".rstrip())
        lines += [
            f"\nFormats that it refuses, as `{policy}.format`:\n",
            "| format | why |",
            "|---|---|",
        ]
        lines += [f"| {item.label} | {cell(why)} |" for item, why in FORMATS[policy].items()]
    return "\n".join(lines) + "\n"


def _labels() -> Mapping[str, str]:
    return {item.code: item.label for item in DiskFormat}


def _classes(root: type[VmportError]) -> Iterable[type[VmportError]]:
    yield root
    for item in root.__subclasses__():
        if item.__module__ == root.__module__:
            yield from _classes(item)


def _about(item: type[VmportError]) -> str:
    return re.sub(r" Exit code \d\.", "", plain((inspect.getdoc(item) or "").partition("\n\n")[0]))


def _error_table(codes: Iterable[Code]) -> str:
    lines = ["| code | class | problem |", "|---|---|---|"]
    for code, items in groupby(codes, key=lambda item: item.code):
        for number, item in enumerate(items):
            shown = f"`{code}`" if number == 0 else ""
            lines.append(f"| {shown} | {item.kind} | {cell(item.text)} |")
    return "\n".join(lines) + "\n"


def _concern_table(codes: Iterable[Code]) -> str:
    lines = ["| code | reason |", "|---|---|"]
    for code, items in groupby(codes, key=lambda item: item.code):
        for number, item in enumerate(items):
            lines.append(f"| {f'`{code}`' if number == 0 else ''} | {cell(item.text)} |")
    return "\n".join(lines) + "\n"
