"""Globs fit what a shell's fit."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from vmport_converters.container.globs import expand, literal_start, translate

if TYPE_CHECKING:
    from pathlib import Path

_TREE = (
    "a", "ab", "b", "a.txt", "dir/a", "dir/ab", "dir/sub/a", "dir/sub/deep/a.txt", "dir/x-1",
    "dir/x-12", "other/[x]", "other/{y}", "other/a^b", "other/-", "other/Z", "ä/ö", "dir/new\nline",
)  # fmt: skip

_PATTERNS = (
    "*", "a*", "?", "dir/*", "**", "**/a", "**/*.txt", "dir/**/a", "dir/**/*", "{a,b}",
    "{a,b}{,.txt}", "dir/{a,sub/{a,deep}}", "dir/x-[0-9]", "dir/x-[0-9]*", "other/[[]x]", "*/[!a]*",
    "other/[a-z^]*", "?/?", "other/[]x[]*", "dir/[^x]*", "dir/?b", "nothing/*", "other/[-]",
    "other/[A-Z]",
)  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("globs")
    for name in _TREE:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.needs("bash")
@pytest.mark.parametrize("pattern", _PATTERNS)
def test_as_bash_expands_them(tree: Path, pattern: str) -> None:
    # Bash's ** alone takes folders at any depth, as ours takes what is below them.
    script = f"shopt -s globstar nullglob dotglob; printf '%s\\0' {pattern}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tree,
        capture_output=True,
        check=True,
        env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
    )
    expected = {name.decode().rstrip("/") for name in done.stdout.split(b"\0") if name}
    everything = [str(path.relative_to(tree)) for path in tree.rglob("*")]
    expressions = [translate(one, subtree=False) for one in expand(pattern)]
    expression = re.compile("|".join(expressions), re.DOTALL)
    fitting = {path for path in everything if expression.fullmatch(path)}
    assert fitting == expected & set(everything)


def test_the_leading_components_that_are_no_globs() -> None:
    assert literal_start("lib/modules/*") == ("lib/modules", "*")
    assert literal_start("etc/fstab") == ("etc/fstab", "")
    assert literal_start("*/a") == ("", "*/a")
    assert literal_start("a/b[c]/d") == ("a", "b[c]/d")


@pytest.mark.parametrize("pattern", ["{a,b", "[a", "{a{b,c}", "[z-a]", "{" + "a," * 300 + "}"])
def test_malformed_ones_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        _ = [translate(one, subtree=True) for one in expand(pattern)]


def test_two_stars_at_the_end_are_all_below_but_not_the_folder() -> None:
    expression = re.compile(translate("dir/**", subtree=False))
    assert expression.fullmatch("dir/a/b")
    assert not expression.fullmatch("dir")
