"""Which descriptor format a file is, told by its content alone."""

from __future__ import annotations

from enum import StrEnum
from typing import Final
from xml.parsers import expat

from vmport_formats.errors import UnknownFormat
from vmport_formats.machine.vmx.syntax import looks_like_vmx

SNIFFED: Final = 1 << 16
"""Bytes from the start of a file that tell its dialect."""

_ROOTS: Final = {
    "Envelope": "ovf",
    "VirtualBox": "vbox",
}


class Dialect(StrEnum):
    """A descriptor format; the value is what ``--from`` and ``--to`` call it."""

    LIBVIRT = "libvirt"
    VMX = "vmx"
    OVF = "ovf"
    OVA = "ova"
    VIRTUALBOX = "vbox"

    @property
    def label(self) -> str:
        """For a person."""
        return _LABELS[self]


_LABELS: Final = {
    Dialect.LIBVIRT: "libvirt domain XML",
    Dialect.VMX: "VMX",
    Dialect.OVF: "OVF",
    Dialect.OVA: "OVA",
    Dialect.VIRTUALBOX: "VirtualBox machine",
}


class _Root(Exception):
    """The name of the root element, on its way out of the parser."""


def detect_dialect(start: bytes, name: str) -> Dialect:
    """The dialect of a file called `name` that begins with `start`.

    XML whose root is not known counts as libvirt's, whose reader can say more about it.

    Raises:
        UnknownFormat: it is none that vmport knows.
    """
    if start[257:262] == b"ustar":
        return Dialect.OVA
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"<") or start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return Dialect(_ROOTS.get(_root_name(start), "libvirt"))
    if looks_like_vmx(start):
        return Dialect.VMX
    raise UnknownFormat(
        name,
        code="machine.unknown-dialect",
        problem="is no machine descriptor that vmport knows",
        hint="libvirt XML, VMX and OVF are told by their content",
    )


def _root_name(start: bytes) -> str:
    def started(tag: str, _attributes: object) -> None:
        raise _Root(tag.rpartition(":")[2])

    parser = expat.ParserCreate()
    parser.StartElementHandler = started
    try:
        parser.Parse(start, False)
    except _Root as found:
        return str(found)
    except (expat.ExpatError, LookupError, ValueError):
        return ""  # the reader finds out where it is broken
    return ""
