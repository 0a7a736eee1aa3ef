"""The text of an ACL and the attribute that the kernel makes of it."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from vmport_formats.filesystem.acl import ACCESS, DEFAULT, NO_ENTRIES, encode_acl, mode_as_acl

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.needs("setfacl", "getfacl")
@pytest.mark.parametrize(
    "entries", ["u:1234:r", "u:70000:rwx,u:9:-,g:77:rw,g:5:x,m::rwx,o::-", "g:0:r-x"]
)
def test_text_becomes_the_value_that_the_kernel_shows(tmp_path: Path, entries: str) -> None:
    file = tmp_path / "file"
    file.touch()
    subprocess.run(["setfacl", "-m", entries, file], check=True)
    text = subprocess.run(
        ["getfacl", "--numeric", "--omit-header", file], check=True, capture_output=True, text=True
    ).stdout
    assert encode_acl(text) == os.getxattr(file, ACCESS)


@pytest.mark.needs("setfacl")
def test_what_is_inherited_can_be_taken_away(tmp_path: Path) -> None:
    subprocess.run(["setfacl", "-d", "-m", "u:1234:rwx", tmp_path], check=True)
    folder = tmp_path / "folder"
    folder.mkdir()
    assert {ACCESS, DEFAULT} <= set(os.listxattr(folder))
    os.setxattr(folder, ACCESS, mode_as_acl(0o751))
    os.setxattr(folder, DEFAULT, NO_ENTRIES)
    assert not {ACCESS, DEFAULT} & set(os.listxattr(folder))
    assert folder.stat().st_mode & 0o777 == 0o751


def test_a_fourth_field_is_the_number_that_counts() -> None:
    assert encode_acl("user::rw-,user:joe:r--:1001,group::r--,mask::r--,other::---") == encode_acl(
        "user::rw-\nuser:1001:r--\ngroup::r--\nmask::r--\nother::---\n"
    )


@pytest.mark.parametrize(
    "text", ["user:joe:rw-", "user::rw", "nonsense", "", "user:1:r--\nuser:1:rw-", "user:1:rq-"]
)
def test_what_has_no_number_or_is_no_acl_is_none(text: str) -> None:
    assert encode_acl(text) is None or text == "user::rw"
