"""The generated pages of the manual: they are current, and name every code that a test has met."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Final

import pytest

from docs.generator.codes import CODE, ROOT
from docs.generator.pages import REFERENCE, pages
from vmport_formats.disk.model import DiskFormat

if TYPE_CHECKING:
    from tests.conftest import Golden

DOCS: Final = ROOT / "docs"
_LINK: Final = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return {str(path.relative_to(DOCS)): text for path, text in pages().items()}


def test_the_generated_pages_are_current(made: dict[str, str], golden: Golden) -> None:
    for name, text in made.items():
        golden(DOCS / name, text)
    written = {f"reference/formats/{path.name}" for path in (REFERENCE / "formats").iterdir()}
    assert written == {name for name in made if "/formats/" in name}


def test_every_code_that_a_test_expects_is_documented(made: dict[str, str]) -> None:
    documented = set(re.findall(r"`([a-zA-Z0-9.-]+)`", "".join(made.values())))
    general = {code[6:] for code in documented if code.startswith("FORMAT.")}
    missing = _codes_in_tests() - documented
    assert {code for code in missing if code[code.index(".") :] not in general} == set()


def test_links_lead_to_files() -> None:
    for page in DOCS.rglob("*.md"):
        if "generator" in page.parts:  # parts of pages, whose links are made from there
            continue
        for target in _LINK.findall(page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), f"{page}: {target}"


def _codes_in_tests() -> set[str]:
    """The codes that tests of disks compare with: each stands in a call or a comparison."""
    families = {item.code for item in DiskFormat} | {"probe", "chain", "source"}
    found = set()
    for file in (ROOT / "tests" / "formats" / "disk").glob("test_*metadata.py"):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                code = node.value
                if CODE.fullmatch(code) and code.partition(".")[0] in families:
                    found.add(code)
    return found - {f"{item.code}.{item.code}" for item in DiskFormat}
