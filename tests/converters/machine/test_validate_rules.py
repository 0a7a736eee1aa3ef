"""Every rule finds what it is for, in its exact place, and nothing in its good twin.

`fixtures/validate` has one good file a dialect, in which nothing is found, and a list of cases.
A case edits the good file so that it breaks one rule; ``►`` in the edited text marks the place of
the finding, and is taken out before the file is checked.  Its other keys: ``target`` (what is
checked for besides), ``severity`` (when it is not the rule's own), ``encoding`` (how the text is
saved), ``also`` (other rules that such an edit cannot help breaking) and ``good`` (an edit that is
near the bad one, and must not break the rule).
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from vmport_converters.machine.rules.targets import find_target
from vmport_converters.machine.validate import FileReport, all_rules, validate_bytes

FIXTURES = Path(__file__).parents[3] / "fixtures" / "validate"
GOOD = {"libvirt": "good.xml", "vmx": "good.vmx", "ovf": "good.ovf"}
MARK = "►"

Case = dict[str, Any]


def _cases() -> list[Case]:
    found: list[Case] = []
    for dialect in GOOD:
        text = (FIXTURES / f"{dialect}.yaml").read_text(encoding="utf-8")
        found.extend(cast("list[Case]", yaml.safe_load(text)))
    return found


CASES = _cases()
RULES = {rule.id: rule for rule in all_rules()}


def _edited(case: Case, edit: dict[str, str]) -> str:
    name = GOOD[str(case["rule"]).partition(".")[0]]
    text = (FIXTURES / name).read_text(encoding="utf-8")
    for old, new in edit.items():
        assert old in text, f"{name} has no {old!r}"
        text = text.replace(old, new)
    return text


def _check(case: Case, text: str) -> FileReport:
    targets = [find_target(case["target"])] if "target" in case else []
    data = text.encode(case.get("encoding", "utf-8"))
    return validate_bytes(data, name="machine", targets=targets)


def _label(case: Case) -> str:
    return f"{case['rule']}-{CASES.index(case)}"


@pytest.mark.parametrize("case", CASES, ids=_label)
def test_a_bad_file_breaks_its_rule_in_its_place(case: Case) -> None:
    marked = _edited(case, case["edit"])
    assert marked.count(MARK) == 1, "mark one place"
    before, _, after = marked.partition(MARK)
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    report = _check(case, before + after)
    found = [finding for finding in report.findings if finding.rule == case["rule"]]
    places = [(finding.position.line, finding.position.column) for finding in found]
    assert places == [(line, column)], report.findings
    assert found[0].severity == case.get("severity", RULES[case["rule"]].severity)
    assert found[0].problem
    assert found[0].mend
    assert found[0].affects
    others = {finding.rule for finding in report.findings} - {case["rule"]}
    allowed = case.get("also", [])
    unexpected = {rule for rule in others if not any(fnmatchcase(rule, a) for a in allowed)}
    assert not unexpected, [f for f in report.findings if f.rule in unexpected]


@pytest.mark.parametrize("case", [case for case in CASES if "good" in case], ids=_label)
def test_a_near_miss_does_not_break_the_rule(case: Case) -> None:
    report = _check(case, _edited(case, case["good"]))
    assert case["rule"] not in {finding.rule for finding in report.findings}, report.findings


@pytest.mark.parametrize("name", GOOD.values())
def test_nothing_is_found_in_the_good_file(name: str) -> None:
    report = validate_bytes((FIXTURES / name).read_bytes(), name=name)
    assert report.findings == ()


def test_every_rule_has_a_case() -> None:
    assert {case["rule"] for case in CASES} == set(RULES)
