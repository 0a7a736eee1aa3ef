"""Which disk format a file is, told by its content alone; a name or suffix is never looked at.

Each format is a module with two functions, described by `FormatReader`.  Modules are imported when
they are first asked, through the one table here; only those are asked whose file it might be
(`marks`).
"""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Final, Protocol, cast

from vmport_formats.disk.marks import candidates
from vmport_formats.disk.model import DiskFormat
from vmport_formats.errors import InputError, UnknownFormat, UnsafeInput

if TYPE_CHECKING:
    from vmport_formats.disk.model import ImageInfo
    from vmport_formats.source import ByteSource


class FormatReader(Protocol):
    """What every format module offers."""

    def matches(self, source: ByteSource) -> bool:
        """Whether the content carries this format's mark: a magic number, a footer.

        A cheap look (a few KiB at most) at fixed places.  It answers for any content whatever and
        raises nothing, but what reading the file itself raises (`UnreadableInput`).  It is about
        the mark only: a file with the mark and a broken header matches, and `read_info` says what
        is wrong with it.
        """
        ...

    def read_info(self, source: ByteSource) -> ImageInfo:
        """The metadata, every field checked against its limits before it is used.

        It opens nothing, and allocates and reads what the file really holds, never what a field
        promises.  It is called for a declared format without a `matches` before, so a missing mark
        is a `CorruptInput` with code ``FORMAT.magic``.  It fills `references` (as written, opening
        none), `details`, and `concerns` with what the format's own safety check finds.

        Raises:
            CorruptInput: a field breaks a rule; `at` is its offset, `code` is ``FORMAT.field``,
                such as ``vhd.footer-checksum``, and the problem names the value and the limit.
            TruncatedInput: the file ends before something that it promises.
            UnsupportedFeature: sound as far as one can tell, but of a version or with a feature
                that is not known here, named in the message.
        """
        ...


_MODULES: Final[dict[DiskFormat, str]] = {
    DiskFormat.RAW: "raw",
    DiskFormat.QCOW: "qcow",
    DiskFormat.QCOW2: "qcow2",
    DiskFormat.VMDK: "vmdk",
    DiskFormat.VHD: "vhd",
    DiskFormat.VHDX: "vhdx",
    DiskFormat.VDI: "vdi",
    DiskFormat.QED: "qed",
    DiskFormat.PARALLELS: "parallels",
    DiskFormat.DMG: "dmg",
    DiskFormat.CLOOP: "cloop",
    DiskFormat.BOCHS: "bochs",
    DiskFormat.LUKS: "luks",
}


@cache
def reader(disk_format: DiskFormat) -> FormatReader:
    """The module that reads `disk_format`, imported on first use."""
    return cast("FormatReader", import_module(f"vmport_formats.disk.{_MODULES[disk_format]}"))


def detect(source: ByteSource) -> DiskFormat:
    """The one format whose mark the content carries; raw when it carries none.

    Raises:
        UnsafeInput: it carries the marks of several (``probe.polyglot``).
        InputError: it is empty (``probe.empty``).
        UnknownFormat: it is a machine descriptor or an archive, not a disk (``probe.not-a-disk``).
    """
    if source.size == 0:
        raise InputError(
            source.name,
            code="probe.empty",
            problem="the file is empty",
            hint=f"{_AS_RAW} if a disk of size 0 is meant",
        )
    found = [item for item in candidates(source) if reader(item).matches(source)]
    if len(found) > 1:
        names = " and ".join(item.label for item in found)
        raise UnsafeInput(
            source.name,
            code="probe.polyglot",
            problem=f"carries the marks of {len(found)} formats at once: {names}",
            hint="programs will disagree on what it holds; if you know what it is, pass --format "
            "(convert: --from)",
        )
    if found:
        return found[0]
    if found_else := _not_a_disk(source):
        what, advice = found_else
        raise UnknownFormat(
            source.name,
            code="probe.not-a-disk",
            problem=f"is {what}, not a disk image",
            hint=f"{advice}; {_AS_RAW} if these bytes really are a disk's",
        )
    return DiskFormat.RAW


def probe(source: ByteSource, *, declared: DiskFormat | None = None) -> ImageInfo:
    """The metadata of the image in `source`, of the `declared` format or else of the detected one.

    A declared format is never probed again: the file is read as that, and `DiskFormat.RAW` reads
    any content, even none, as the bytes of a disk.

    Raises:
        UnsafeInput, InputError, UnknownFormat: as `detect`, without a declared format.
        CorruptInput, TruncatedInput, UnsupportedFeature: as `FormatReader.read_info`.
        UnreadableInput: the file itself cannot be read.
    """
    return reader(detect(source) if declared is None else declared).read_info(source)


_AS_RAW: Final = "pass --format raw (convert: --from raw)"
_VALIDATE: Final = "`vmport validate` reads descriptors"
_DISKS: Final = "pass the disks that it names"
_HEAD: Final = 4096
_NOT_DISKS: Final[tuple[tuple[bytes, str, str], ...]] = (
    (rb"<(\w+:)?Envelope\b", "an OVF descriptor", _VALIDATE),
    (rb"<domain(snapshot|backup|checkpoint)?\b", "a libvirt descriptor", _VALIDATE),
    (
        rb'(?im)^\s*(\.encoding|config\.version|virtualHW\.version)\s*=\s*"',
        "a VMware machine descriptor (VMX)",
        _VALIDATE,
    ),
    (rb"<VirtualBox\b", "a VirtualBox machine descriptor", _DISKS),
    (rb"^\s*<", "an XML document", _DISKS),
)
"""What the first bytes of a text tell, in words and what to do.  Few files are asked: the patterns
are compiled then."""


def _not_a_disk(source: ByteSource) -> tuple[str, str] | None:
    """What a file that is no image is, where that is plain from its first bytes, and advice."""
    head = source.read_at(0, _HEAD)
    if head[257:262] == b"ustar" and re.match(rb"[^\0/]+\.ovf\0", head):
        return "an OVA archive", "unpack it with tar and pass the disks in it"
    if b"\0" in head:
        return None
    return next(
        ((what, advice) for mark, what, advice in _NOT_DISKS if re.search(mark, head)), None
    )
