"""Parses a file as the kind of descriptor that it is; when it is none, says what it is instead."""

from __future__ import annotations

import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vmport_formats.errors import UnknownFormat, UnsupportedFeature, VmportError
from vmport_formats.machine.dialect import Dialect
from vmport_formats.machine.ovf.envelope import NAMESPACES, OVIRT, split
from vmport_formats.machine.vmx.syntax import looks_like_vmx, parse_vmx
from vmport_formats.xml import parse_xml

if TYPE_CHECKING:
    from vmport_formats.machine.vmx.syntax import VmxDocument
    from vmport_formats.source import ByteSource
    from vmport_formats.xml import XmlDocument

_HEAD: Final = 4096
_TAR_AT: Final = 257

# What a file that is no text begins with, disk images left out: those are asked of the formats.
_BEGINNINGS: Final = {
    b"\x1f\x8b": "compressed with gzip",
    b"\xfd7zXZ\0": "compressed with xz",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"PK\x03\x04": "a ZIP archive",
    b"\x7fELF": "a program",
    b"MZ": "a Windows program",
    b"%PDF": "a PDF document",
}

# Root elements of other XML that people have beside a machine, and what to do about it.
_OTHER_ROOTS: Final = {
    "domainsnapshot": "a snapshot of a libvirt domain; its <domain> element is what can be checked",
    "domstatus": "the state of a running libvirt domain; take the output of virsh dumpxml",
    "domainbackup": "a libvirt backup job, not a domain",
    "domainCapabilities": "what a libvirt host can do, not a domain",
    "capabilities": "what a libvirt host can do, not a domain",
    "network": "a libvirt network, not a domain",
    "pool": "a libvirt storage pool, not a domain",
    "volume": "a libvirt storage volume, not a domain",
    "nwfilter": "a libvirt network filter, not a domain",
    "secret": "a libvirt secret, not a domain",
    "device": "a libvirt node device, not a domain",
    "interface": "a libvirt interface, not a domain",
    "disk": "a libvirt device, not a whole domain",
    "VirtualBox": "a VirtualBox machine (.vbox); export it to OVF to have it checked",
    "configuration": "a Hyper-V machine; such files cannot be checked yet",
    "Foundry": "the VMXF companion of a VMX file; check the VMX file itself",
    "Environment": "an OVF environment, which a guest reads; check the OVF envelope itself",
    "html": "a web page; a download went wrong",
    "HTML": "a web page; a download went wrong",
}
_READ: Final = "descriptors that can be checked: libvirt domain XML, VMX, OVF"


@dataclass(frozen=True, slots=True)
class LibvirtText:
    """A libvirt domain."""

    document: XmlDocument


@dataclass(frozen=True, slots=True)
class OvfText:
    """An OVF envelope."""

    document: XmlDocument


@dataclass(frozen=True, slots=True)
class VmxText:
    """A VMX file."""

    document: VmxDocument


Descriptor = LibvirtText | OvfText | VmxText
"""A parsed file, and by its class the dialect that it is in."""


def parse_descriptor(data: bytes, *, name: str) -> Descriptor:
    """Parse `data`, the content of the file called `name`, as what it is.

    Raises:
        UnknownFormat: no descriptor that can be checked; the message says what it is instead.
        UnsupportedFeature: OVF in a version or dialect that is not read.
        UnsafeInput: XML with a document type.
        CorruptInput: XML that is not well-formed, or text beyond the limits.
    """
    text = data.removeprefix(BOM_UTF8)
    if text.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) or re.match(rb"[ \t\r\n]*<", text):
        return _xml(parse_xml(data, name=name))
    if looks_like_vmx(data):
        return VmxText(parse_vmx(data, name=name))
    what = "is empty" if not text.strip() else "is no descriptor of a virtual machine"
    raise UnknownFormat(name, code="validate.unknown", problem=what, hint=_READ)


def refuse_other_files(source: ByteSource) -> None:
    """Nothing, if `source` may be a descriptor by its first bytes: text, and not that of a disk.

    Raises:
        UnknownFormat: it is not; the message says what it is.
    """
    head = source.read_at(0, _HEAD)
    if head.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        return
    if b"\0" not in head and not head.startswith((b"# Disk DescriptorFile", *_BEGINNINGS)):
        return
    what, hint = _what(source, head), _READ
    if head[_TAR_AT : _TAR_AT + 5] == b"ustar":
        what, hint = "a tar archive, such as an OVA", "unpack the .ovf file and check that"
    elif what.endswith("disk image"):
        hint = "vmport inspect shows what is in it"
    raise UnknownFormat(
        source.name,
        code="validate.not-a-descriptor",
        problem=f"is {what}, not a descriptor",
        hint=hint,
    )


def _what(source: ByteSource, head: bytes) -> str:
    """What a file is that is no text."""
    from vmport_formats.disk.model import DiskFormat
    from vmport_formats.disk.probe import detect

    try:
        found = detect(source)
    except VmportError:
        found = DiskFormat.RAW
    if found is not DiskFormat.RAW:
        return f"a {found.label} disk image"
    return next((what for mark, what in _BEGINNINGS.items() if head.startswith(mark)), "no text")


def dialect_of(descriptor: Descriptor) -> Dialect:
    """The dialect that a descriptor is in."""
    if isinstance(descriptor, VmxText):
        return Dialect.VMX
    return Dialect.OVF if isinstance(descriptor, OvfText) else Dialect.LIBVIRT


def _xml(document: XmlDocument) -> Descriptor:
    namespace, root = split(document.root)
    if root == "domain" and not namespace:
        return LibvirtText(document)
    at = str(document.position(document.root))
    if root == "Envelope":
        if namespace in NAMESPACES:
            return OvfText(document)
        if namespace == OVIRT:
            problem = "is an OVF of oVirt or RHV, a dialect of its own that is not read"
        elif not namespace:
            problem = "is an OVF envelope without a namespace, so its version cannot be known"
        else:
            problem = f"is an OVF envelope in {namespace!r}, a namespace that is not read"
        raise UnsupportedFeature(
            document.name,
            at=at,
            code="ovf.namespace",
            problem=problem,
            hint=f"one of {', '.join(list(NAMESPACES)[2:])}",
        )
    what = _OTHER_ROOTS.get(root)
    problem = f"is {what}" if what else f"has the root element <{root[:60]}>, no descriptor's"
    raise UnknownFormat(document.name, at=at, code="validate.unknown", problem=problem, hint=_READ)
