"""VMX text: what a line means, where it stands, and what a broken one is told."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmport_formats.errors import CorruptInput, VmportError
from vmport_formats.machine.vmx.syntax import (
    MAX_FAULTS,
    MAX_LINES,
    MAX_VMX,
    looks_like_vmx,
    parse_vmx,
)


def _faults(text: str) -> list[tuple[str, str]]:
    document = parse_vmx(text.encode(), name="x.vmx")
    return [(str(fault.position), fault.code) for fault in document.faults]


def test_lines_comments_escapes_and_case() -> None:
    text = (
        "#!/usr/bin/vmware\r\n"
        "\r\n"
        '.encoding = "UTF-8"\r\n'
        '  DisplayName\t= "a |22b|22 |7C é"  # why\r\n'
        "numvcpus=2# two\r\n"
        "empty = \r\n"
        'path = "C:\\x # no comment"\r\n'
        'half = "50|2"'
    )
    document = parse_vmx(text.encode(), name="x.vmx")
    assert document.faults == ()
    values = [(entry.key, entry.value) for entry in document]
    assert values == [
        (".encoding", "UTF-8"),
        ("DisplayName", 'a "b" | é'),
        ("numvcpus", "2"),
        ("empty", ""),
        ("path", "C:\\x # no comment"),
        ("half", "50|2"),
    ]
    entry = document.get("displayname")
    assert entry is not None
    assert (str(entry.position), str(entry.value_position)) == ("4:3", "4:18")
    assert "DISPLAYNAME" in document
    assert document.value("nothing") is None


@pytest.mark.parametrize(
    ("declared", "codec"),
    [("UTF-8", "utf-8"), ("windows-1252", "cp1252"), ("GBK", "gb18030"), ("Shift_JIS", "cp932")],
)
def test_the_encoding_that_the_file_declares(declared: str, codec: str) -> None:
    name = {"cp1252": "Büro", "gb18030": "服务器", "cp932": "サーバ"}.get(codec, "Bü服サ")
    text = f'.encoding = "{declared}"\ndisplayName = "{name}"\n'
    document = parse_vmx(text.encode(codec), name="x.vmx")
    assert document.value("displayName") == name
    assert document.faults == ()


def test_escapes_are_bytes_of_the_encoding() -> None:
    utf8 = parse_vmx(b'.encoding = "UTF-8"\nx = "|C3|A9"', name="x.vmx")
    western = parse_vmx(b'.encoding = "windows-1252"\nx = "|E9"', name="x.vmx")
    assert utf8.value("x") == western.value("x") == "é"


def test_old_files_without_an_encoding_are_western() -> None:
    document = parse_vmx('displayName = "Büro"'.encode("cp1252"), name="x.vmx")
    assert document.value("displayName") == "Büro"
    assert document.faults == ()


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("memsize 2048", "2:1"),
        ('  "x" y = "2"', "2:3"),
        ('= "2"', "2:1"),
        ('a = "2', "2:5"),
        ('a = "2" 3', "2:9"),
        ("a = b c", "2:5"),
    ],
)
def test_broken_lines_are_faults_with_their_place(line: str, place: str) -> None:
    assert _faults(f"x = 1\n{line}\ny = 2\n") == [(place, "vmx.syntax")]


def test_the_first_of_two_lines_counts() -> None:
    document = parse_vmx(b'a = "1"\nA = "2"\n', name="x.vmx")
    assert document.value("a") == "1"
    assert [(str(f.position), f.code) for f in document.faults] == [("2:1", "vmx.duplicate-key")]
    with pytest.raises(CorruptInput) as caught:
        document.require_sound()
    assert (caught.value.code, caught.value.at) == ("vmx.duplicate-key", "2:1")


def test_text_in_another_encoding_than_declared() -> None:
    data = b'.encoding = "UTF-8"\nx = "1"\nname = "B\xfcro"\n'
    document = parse_vmx(data, name="x.vmx")
    assert [(str(f.position), f.code) for f in document.faults] == [("3:10", "vmx.encoding")]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"a = 1\n\0", "vmx.binary"),
        (b"a" * (MAX_VMX + 1), "vmx.too-large"),
        (b"a = 1\n" * (MAX_LINES + 1), "vmx.too-many-lines"),
    ],
)
def test_what_is_no_vmx_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(CorruptInput) as caught:
        parse_vmx(data, name="x.vmx")
    assert caught.value.code == code


def test_faults_are_bounded() -> None:
    assert len(_faults("x\n" * 5000)) == MAX_FAULTS


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'config.version = "8"', True),
        (b'\xef\xbb\xbf.encoding = "UTF-8"', True),
        (b"# comment\n  SCSI0:0.present = TRUE", True),
        (b"[section]\nkey = value", False),
        (b"<domain/>", False),
        (b"", False),
    ],
)
def test_telling_vmx_from_other_text(data: bytes, expected: bool) -> None:
    assert looks_like_vmx(data) is expected


_KEYS = st.text("abcdefgXYZ0123456789.:_", min_size=1, max_size=20)
_VALUES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=60)


def _quoted(value: str) -> str:
    signs = ((sign, sign.encode()) for sign in value)
    return "".join(
        "".join(f"|{byte:02X}" for byte in data) if sign in '"|' or ord(sign) < 32 else sign
        for sign, data in signs
    )


@given(st.dictionaries(_KEYS.map(str.lower), _VALUES, max_size=20), st.sampled_from(["\n", "\r\n"]))
def test_whatever_is_written_is_read_back(values: dict[str, str], ending: str) -> None:
    lines = [f'{key} = "{_quoted(value)}"' for key, value in values.items()]
    text = ending.join(['.encoding = "UTF-8"', *lines, ""])
    document = parse_vmx(text.encode(), name="x.vmx")
    assert document.faults == ()
    assert {e.key: e.value for e in document if e.key != ".encoding"} == {
        key: value for key, value in values.items() if key != ".encoding"
    }
    source = text.split(ending)
    for entry in document:
        line = source[entry.position.line - 1]
        assert line[entry.position.column - 1 :].startswith(entry.key)


@given(st.binary(max_size=400))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    with suppress(VmportError):
        parse_vmx(data, name="x.vmx")
