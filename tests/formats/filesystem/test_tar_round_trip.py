"""What our writer writes, Python's tarfile, GNU tar and our own reader read as it was."""

from __future__ import annotations

import io
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vmport_formats.errors import VmportError
from vmport_formats.filesystem.model import NANOSECONDS, Device, Entry, EntryKind, MemoryContent
from vmport_formats.filesystem.tar.header import format_header, padding, parse_header
from vmport_formats.filesystem.tar.reader import read_members
from vmport_formats.filesystem.tar.stream import SourceStream
from vmport_formats.filesystem.tar.writer import END_OF_ARCHIVE, encode_member
from vmport_formats.source import MemorySource

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_NAMES = st.one_of(
    st.text(
        st.characters(exclude_characters="/\0", exclude_categories=["Cs"]),
        min_size=1,
        max_size=60,
    ).map(str.encode),
    st.binary(min_size=1, max_size=80).map(lambda name: name.translate(None, b"/\0") or b"x"),
).filter(lambda name: name not in {b".", b".."} and len(name) <= 255)
_PATHS = st.lists(_NAMES, min_size=1, max_size=6).map(b"/".join)
_TARGETS = st.binary(min_size=1, max_size=300).map(lambda t: t.translate(None, b"\0") or b"x")
_IDS = st.one_of(st.integers(0, 0xFFFFFFFF), st.sampled_from([0, 0o7777777, 0o10000000]))
_TIMES = st.one_of(
    st.integers(-(10**20), 10**20),
    st.integers(0, 4 * 10**9).map(lambda seconds: seconds * NANOSECONDS),
    st.sampled_from([-1, 0, 1, 0o77777777777 * NANOSECONDS, 0o100000000000 * NANOSECONDS]),
)
_XATTRS = st.dictionaries(
    st.text(st.characters(exclude_characters="=\0", exclude_categories=["Cs"]), min_size=1).map(
        lambda name: f"user.{name}"
    ),
    st.binary(max_size=200),
    max_size=3,
).map(lambda found: tuple(sorted(found.items())))


@st.composite
def _entries(draw: st.DrawFn) -> Entry:
    kind = draw(st.sampled_from([kind for kind in EntryKind if kind is not EntryKind.SOCKET]))
    content = draw(st.binary(max_size=1500)) if kind is EntryKind.FILE else b""
    is_device = kind in {EntryKind.CHARACTER_DEVICE, EntryKind.BLOCK_DEVICE}
    numbers = st.integers(0, 0o7777777)
    return Entry(
        path=draw(_PATHS),
        kind=kind,
        mode=draw(st.integers(0, 0o7777)),
        uid=draw(_IDS),
        gid=draw(_IDS),
        mtime=draw(_TIMES),
        size=len(content),
        target=draw(_TARGETS) if kind is EntryKind.SYMLINK else b"",
        device=Device(draw(numbers), draw(numbers)) if is_device else None,
        xattrs=draw(_XATTRS),
        content=MemoryContent(content) if kind is EntryKind.FILE else None,
    )


def _archive(entries: Sequence[Entry]) -> bytes:
    parts = []
    for entry in entries:
        content = b"".join(entry.content.chunks()) if entry.content else b""
        parts += [encode_member(entry), content, padding(len(content))]
    return b"".join([*parts, END_OF_ARCHIVE])


@settings(max_examples=100, deadline=None)
@given(st.lists(_entries(), max_size=5))
def test_our_reader(entries: list[Entry]) -> None:
    archive = _archive(entries)
    source = MemorySource(archive)
    read = [
        (
            Entry(
                path=member.path,
                kind=member.kind or EntryKind.SOCKET,
                mode=member.mode,
                uid=member.uid,
                gid=member.gid,
                mtime=member.mtime,
                size=member.size,
                target=member.link,
                device=member.device,
                xattrs=member.xattrs,
                content=MemoryContent(source.read_at(member.data, member.stored))
                if member.kind is EntryKind.FILE
                else None,
            )
        )
        for member in read_members(SourceStream(source))
    ]
    assert read == [
        Entry(**{**_fields(entry), "path": _normal(entry.path)})  # type: ignore[arg-type]
        for entry in entries
    ]


_TARFILE_TYPES = {
    EntryKind.FILE: tarfile.REGTYPE,
    EntryKind.FOLDER: tarfile.DIRTYPE,
    EntryKind.SYMLINK: tarfile.SYMTYPE,
    EntryKind.CHARACTER_DEVICE: tarfile.CHRTYPE,
    EntryKind.BLOCK_DEVICE: tarfile.BLKTYPE,
    EntryKind.FIFO: tarfile.FIFOTYPE,
}


@settings(max_examples=100, deadline=None)
@given(st.lists(_entries(), max_size=5))
def test_python_tarfile(entries: list[Entry]) -> None:
    with tarfile.open(fileobj=io.BytesIO(_archive(entries)), mode="r:", encoding="utf-8") as tar:
        members = tar.getmembers()
        assert len(members) == len(entries)
        for member, entry in zip(members, entries, strict=True):
            assert _bytes(member.name) == entry.path.rstrip(b"/")
            assert member.type == _TARFILE_TYPES[entry.kind]
            assert (member.mode, member.uid, member.gid) == (entry.mode, entry.uid, entry.gid)
            # tarfile keeps times as floating-point numbers.
            assert member.mtime == pytest.approx(entry.mtime / NANOSECONDS, rel=1e-15, abs=1e-6)
            assert _bytes(member.linkname) == entry.target
            if entry.device is not None:
                assert (member.devmajor, member.devminor) == entry.device
            if entry.kind is EntryKind.FILE and entry.content is not None:
                file = tar.extractfile(member)
                assert file is not None
                assert file.read() == b"".join(entry.content.chunks())
            for name, value in entry.xattrs:
                assert _bytes(member.pax_headers[f"SCHILY.xattr.{name}"]) == value


@pytest.mark.needs("tar")
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(_entries(), min_size=1, max_size=8, unique_by=lambda entry: entry.path))
def test_gnu_tar_finds_nothing_to_complain_of(tmp_path: Path, entries: list[Entry]) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(_archive(entries))
    command = ["tar", "--list", "--null", "--quoting-style=literal", "--show-stored-names"]
    done = subprocess.run(
        [*command, "--warning=no-unknown-keyword", "--absolute-names", f"--file={archive}"],
        capture_output=True,
        check=True,
        env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
    )
    assert done.stderr == b""
    shown = b"".join(
        entry.path + (b"/" if entry.kind is EntryKind.FOLDER else b"") + b"\n" for entry in entries
    )
    assert done.stdout == shown


def test_a_file_of_more_than_8_gib_is_written_and_read() -> None:
    size = (8 << 30) + 5
    entry = Entry(b"big", EntryKind.FILE, 0o644, 0, 0, 0, size=size)
    header = encode_member(entry)
    assert tarfile.TarInfo.frombuf(header[-512:], "utf-8", "strict").name == "big"
    with tarfile.open(fileobj=io.BytesIO(header), mode="r:") as tar:
        first = tar.next()
        assert first is not None
        assert first.size == size


def test_a_blob_of_more_than_8_gib_needs_no_record() -> None:
    header = format_header(b"blob", typeflag=b"0", mode=0o644, size=9 << 30)
    assert tarfile.TarInfo.frombuf(header, "utf-8", "strict").size == 9 << 30
    assert parse_header(header, archive="x", at=0).size == 9 << 30


@settings(max_examples=250, deadline=1000)
@given(st.lists(_entries(), min_size=1, max_size=3), st.data())
def test_a_damaged_archive_ends_in_an_error_of_ours_or_in_members(
    entries: list[Entry], data: st.DataObject
) -> None:
    archive = bytearray(_archive(entries))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(archive) - 1))
        archive[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(archive)), st.integers(0, len(archive))))
    _repair_checksums(archive)
    try:
        for member in read_members(SourceStream(MemorySource(bytes(archive[:cut])))):
            assert b".." not in member.path.split(b"/")
    except VmportError:
        pass


@given(st.lists(_entries(), min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
def test_a_cut_archive_is_never_taken_for_a_whole_one(entries: list[Entry]) -> None:
    archive = _archive(entries)[: -len(END_OF_ARCHIVE)]
    for cut in range(0, len(archive) + 1, 512):
        with pytest.raises(VmportError):
            list(read_members(SourceStream(MemorySource(archive[:cut]))))


def _repair_checksums(archive: bytearray) -> None:
    """Let damage in a header go past the checksum, which would stop all of it."""
    for start in range(0, len(archive) - 511, 512):
        block = archive[start : start + 512]
        if block[257:262] == b"ustar":
            total = sum(block) - sum(block[148:156]) + 8 * 32
            archive[start + 148 : start + 156] = b"%06o\0 " % total


def _fields(entry: Entry) -> dict[str, object]:
    return {name: getattr(entry, name) for name in Entry.__dataclass_fields__}


def _normal(path: bytes) -> bytes:
    return b"/".join(part for part in path.split(b"/") if part not in {b"", b"."})


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
