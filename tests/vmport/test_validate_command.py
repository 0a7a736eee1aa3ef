"""``vmport validate`` as a user runs it: output, exit codes, JSON, SARIF, the catalogue."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import pytest

from vmport.commands import validate
from vmport.render.rules import rules_page
from vmport_converters.machine.rules.targets import ALIASES, TARGETS, find_target
from vmport_converters.machine.validate import all_rules
from vmport_formats.errors import UsageError

if TYPE_CHECKING:
    from tests.conftest import Golden, Vmport

ROOT: Final = Path(__file__).parents[2]
FIXTURES: Final = ROOT / "fixtures" / "validate"
BAD: Final = """\
.encoding = "UTF-8"
config.version = "8"
virtualHW.version = "19"
pciBridge0.present = "TRUE"
vmci0.present = "TRUE"
displayName = "bad\\x1b[31m"
guestOS = "debian12-64"
memsize = "2050"
scsi0.present = "TRUE"
scsi0:7.present = "TRUE"
scsi0:7.fileName = "web-000001.vmdk"
"""


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad machine.vmx"
    path.write_text(BAD, encoding="utf-8")
    return path


def test_a_good_file_is_done_with_one_line(vmport: Vmport) -> None:
    done = vmport("validate", FIXTURES / "good.vmx")
    assert done.stdout == f"{FIXTURES / 'good.vmx'}: VMX: nothing found\n"
    assert done.stderr == ""


def test_findings_say_where_what_who_and_how_to_mend(vmport: Vmport, bad: Path) -> None:
    done = vmport("validate", bad, check=False)
    assert done.returncode == 1
    assert done.stdout == (
        f"{bad}:8:12: error: memsize is 2050; it must be a multiple of 4 [vmx.memory-size]\n"
        "    memsize; affects all VMware products\n"
        "    found: 2050; expected: a multiple of 4\n"
        '    mend: write memsize = "2052"\n'
        f"{bad}:10:1: error: scsi0:7: unit 7 of a SCSI controller is the controller itself "
        "[vmx.scsi-reserved-unit]\n"
        "    scsi0:7.present; affects all VMware products\n"
        "    mend: move the device to another unit, such as scsi0:8\n"
        f"{bad}:11:21: note: scsi0:7 is the delta of a snapshot [vmx.delta-disk]\n"
        "    scsi0:7.fileName; affects every program that takes one file for the disk\n"
        "    mend: delete the snapshots (which merges them) before a move, or move the whole "
        "chain\n"
        f"{bad}: VMX: 2 errors, 1 note\n"
    )


def test_quiet_shows_errors_only(vmport: Vmport, bad: Path) -> None:
    done = vmport("-q", "validate", bad, FIXTURES / "good.xml", check=False)
    assert done.returncode == 1
    assert re.findall(r"\[(.*)\]", done.stdout) == ["vmx.memory-size", "vmx.scsi-reserved-unit"]


def test_warnings_alone_are_no_failure(vmport: Vmport, tmp_path: Path) -> None:
    path = tmp_path / "x.vmx"
    text = (FIXTURES / "good.vmx").read_text(encoding="utf-8")
    path.write_text(text.replace('hpet0.present = "TRUE"', 'hpet0.present = "maybe"'))
    done = vmport("validate", path)
    assert "warning" in done.stdout


@pytest.mark.parametrize(
    ("content", "exit_code", "code"),
    [
        (
            b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><domain>&b;</domain>',
            4,
            "xml.doctype",
        ),
        (b"<!DOCTYPE Envelope SYSTEM 'http://127.0.0.1:9/x.dtd'><Envelope/>", 4, "xml.doctype"),
        (b"<domain><name>x</domain>", 3, "xml.not-well-formed"),
        (b'config.version = "8"\n\0\0', 3, "validate.not-a-descriptor"),
        (b"QFI\xfb\0\0\0\x03" + bytes(100), 3, "validate.not-a-descriptor"),
        (b"", 3, "validate.unknown"),
    ],
)
def test_unreadable_files_are_one_line_and_do_not_stop_the_others(
    content: bytes, exit_code: int, code: str, vmport: Vmport, tmp_path: Path, bad: Path
) -> None:
    path = tmp_path / "machine.xml"
    path.write_bytes(content)
    done = vmport("validate", path, bad, check=False)
    assert done.returncode == exit_code
    (line, *hint) = done.stderr.splitlines()
    assert line.startswith(f"vmport: error: {path}")
    assert line.endswith(f"[{code}]")
    assert all(text.startswith("  hint: ") for text in hint)
    assert "2 errors, 1 note" in done.stdout


def test_a_missing_file_and_a_folder(vmport: Vmport, tmp_path: Path) -> None:
    done = vmport("validate", tmp_path / "nothing", tmp_path, check=False)
    assert done.returncode == 3
    assert "[source.open]" in done.stderr
    assert "[source.not-regular]" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [([], "usage.file"), (["--target", "esxi-0", "x"], "validate.target")],
)
def test_wrong_usage(arguments: list[str], code: str, vmport: Vmport) -> None:
    done = vmport("validate", *arguments, check=False)
    assert done.returncode == 2
    assert f"[{code}]" in done.stderr


def test_a_target_adds_what_only_it_minds(vmport: Vmport) -> None:
    path = FIXTURES / "good.vmx"
    done = vmport("validate", "--target", "ESXi-7.0", "--target", "esxi-8.0", path, check=False)
    assert done.returncode == 1
    assert re.findall(r"\[(.*)\]", done.stdout) == ["vmx.target-hardware"]
    assert "ESXi 7.0 does not run hardware version 19" in done.stdout


def test_targets_are_found_by_any_name_and_are_in_the_help() -> None:
    assert find_target("QEMU") is TARGETS["libvirt"]
    assert set(ALIASES.values()) <= set(TARGETS)
    with pytest.raises(UsageError):
        find_target("vmware")
    section = validate._HELP.partition("Targets[/bold]")[2].partition("A target adds")[0]
    assert re.sub(r"[\s.]+$", "", section).replace("\n", "").split(", ") == list(TARGETS)


def test_json(vmport: Vmport, bad: Path, tmp_path: Path) -> None:
    missing = tmp_path / "nothing"
    done = vmport("validate", "--json", bad, missing, check=False)
    assert done.returncode == 3
    document = cast("dict[str, Any]", json.loads(done.stdout))
    assert document["summary"] == {"errors": 2, "warnings": 0, "notes": 1, "unreadable": 1}
    first, second = document["files"]
    assert (first["filename"], first["dialect"], first["error"]) == (str(bad), "vmx", None)
    assert first["findings"][0] == {
        "rule": "vmx.memory-size",
        "severity": "error",
        "line": 8,
        "column": 12,
        "where": "memsize",
        "problem": "memsize is 2050; it must be a multiple of 4",
        "found": "2050",
        "expected": "a multiple of 4",
        "affects": "all VMware products",
        "mend": 'write memsize = "2052"',
    }
    assert (second["dialect"], second["findings"]) == (None, [])
    assert second["error"]["code"] == "source.open"
    for name in (*document, *first, *first["findings"][0]):
        assert f'"{name}"' in validate._HELP


def test_sarif(vmport: Vmport, bad: Path, tmp_path: Path) -> None:
    """The parts of SARIF 2.1.0 that readers need, by its specification."""
    evil = tmp_path / "evil.xml"
    evil.write_bytes(b"<!DOCTYPE a><domain/>")
    done = vmport("validate", "--format", "sarif", bad, evil, check=False)
    assert done.returncode == 4
    log = cast("dict[str, Any]", json.loads(done.stdout))
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-2.1.0.json")
    (run,) = log["runs"]
    assert run["columnKind"] == "unicodeCodePoints"
    driver = run["tool"]["driver"]
    assert driver["name"] == "vmport"
    rules = driver["rules"]
    assert [rule["id"] for rule in rules] == [rule.id for rule in all_rules()]
    for rule in rules:
        assert rule["defaultConfiguration"]["level"] in ("error", "warning", "note")
        assert rule["shortDescription"]["text"]
        assert rule["fullDescription"]["text"]
    uri = bad.as_uri()
    assert [item["location"]["uri"] for item in run["artifacts"]] == [uri, evil.as_uri()]
    assert " " not in uri
    assert len(run["results"]) == 3
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("error", "warning", "note")
        assert result["message"]["text"]
        (location,) = result["locations"]
        physical = location["physicalLocation"]
        assert physical["artifactLocation"] == {"uri": uri, "index": 0}
        assert physical["region"]["startLine"] >= 1
        assert physical["region"]["startColumn"] >= 1
    fingerprints = [tuple(result["partialFingerprints"].values()) for result in run["results"]]
    assert len(set(fingerprints)) == 3
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is False
    (notification,) = invocation["toolExecutionNotifications"]
    assert notification["level"] == "error"
    assert notification["descriptor"]["id"] == "xml.doctype"


def test_text_out_of_a_file_drives_no_terminal(vmport: Vmport, tmp_path: Path) -> None:
    path = tmp_path / "x.vmx"
    path.write_bytes(b'config.version = "\x1b[31m8"\nscsi9\x1b:0.present = "\x07"\n')
    done = vmport("validate", path, check=False)
    assert done.returncode == 1
    assert all(sign == "\n" or sign.isprintable() for sign in done.stdout)


def test_the_catalogue_lists_every_rule(vmport: Vmport) -> None:
    text = vmport("validate", "--rules").stdout
    listed = re.findall(r"^([a-z]\S+) \((?:error|warning|note); ", text, re.MULTILINE)
    assert listed == [rule.id for rule in all_rules()]
    fields = json.loads(vmport("validate", "--rules", "--json").stdout)
    assert [rule["rule"] for rule in fields] == listed
    assert "``" not in text


def test_the_page_of_rules_is_current(golden: Golden) -> None:
    golden(ROOT / "docs" / "reference" / "validation-rules.md", rules_page(all_rules()))
