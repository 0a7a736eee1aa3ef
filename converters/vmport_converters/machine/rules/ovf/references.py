"""Rules for the files of an OVF envelope, and for what refers to files and disks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from vmport_converters.machine.rules.model import Found, Severity
from vmport_converters.machine.rules.ovf.view import ALL, RULES, at, at_text, items, number
from vmport_formats.machine.ovf.envelope import attribute

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lxml import etree

    from vmport_formats.machine.ovf.envelope import Envelope

_HOST_RESOURCE: Final = re.compile(r"(?:ovf:)?/{1,2}(disk|file)/(.+)", re.DOTALL)
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_DRIVE: Final = re.compile(r"[A-Za-z]:[\\/]")


@RULES.rule("file-reference", Severity.ERROR, affects=ALL)
def file_reference(ovf: Envelope) -> Iterator[Found]:
    """A disk's ``fileRef`` names no file.

    The disk has no content to import; the import fails.
    """
    known = {file.id for file in ovf.files}
    for disk in ovf.disks:
        if disk.file_ref and disk.file_ref not in known:
            yield at(
                ovf,
                disk.element,
                f"there is no file {disk.file_ref!r} in References",
                _near("write the ovf:id of a File", known),
                attribute="fileRef",
                expected=some(known),
            )


@RULES.rule("disk-reference", Severity.ERROR, affects=ALL)
def disk_reference(ovf: Envelope) -> Iterator[Found]:
    """The ``HostResource`` of an item names no disk or file.

    The drive has nothing in it; the import fails.
    """
    known = {
        "disk": {disk.id for disk in ovf.disks},
        "file": {file.id for file in ovf.files},
    }
    sections = {"disk": "DiskSection", "file": "References"}
    for element in _host_resources(ovf):
        found = _HOST_RESOURCE.fullmatch((element.text or "").strip())
        if found is not None and found[2] not in known[found[1]]:
            yield at_text(
                ovf,
                element,
                f"there is no {found[1]} {found[2]!r} in {sections[found[1]]}",
                _near(f"write the id of a {found[1]}", known[found[1]]),
                expected=some(known[found[1]]),
            )


@RULES.rule("host-resource", Severity.WARNING, affects=ALL)
def host_resource(ovf: Envelope) -> Iterator[Found]:
    """A ``HostResource`` is neither ``ovf:/disk/ID`` nor ``ovf:/file/ID``.

    Importers do not know what it means, and the drive stays empty or the import fails.
    """
    for element in _host_resources(ovf):
        text = (element.text or "").strip()
        if text and _HOST_RESOURCE.fullmatch(text) is None:
            yield at_text(
                ovf,
                element,
                f"{text!r} refers to nothing in this package",
                "write ovf:/disk/ and the ovf:diskId, or ovf:/file/ and the ovf:id",
                expected="ovf:/disk/ID or ovf:/file/ID",
            )


@RULES.rule("disk-unused", Severity.WARNING, affects=ALL)
def disk_unused(ovf: Envelope) -> Iterator[Found]:
    """A disk is declared, but no item of any machine refers to it.

    No importer creates it, and its content is lost.
    """
    used = _used(ovf, "disk") | {disk.parent_ref for disk in ovf.disks}
    for disk in ovf.disks:
        if disk.id is not None and disk.id not in used:
            yield at(
                ovf,
                disk.element,
                f"no item refers to disk {disk.id!r}",
                f"add an Item with HostResource ovf:/disk/{disk.id}, or remove the disk",
            )


@RULES.rule("file-unused", Severity.NOTE, affects=ALL)
def file_unused(ovf: Envelope) -> Iterator[Found]:
    """A file is part of the package, but nothing refers to it.

    Importers leave it out.
    """
    used = _used(ovf, "file") | {disk.file_ref for disk in ovf.disks}
    for element in ovf.element.iter("{*}Icon", "{*}Strings"):
        used.add(attribute(element, "fileRef", ovf.namespace))
    for file in ovf.files:
        if file.id is not None and file.id not in used:
            yield at(
                ovf,
                file.element,
                f"nothing refers to file {file.id!r}",
                "refer to it from a Disk or an Item, or remove it",
            )


@RULES.rule("href-unsafe", Severity.ERROR, affects=ALL)
def href_unsafe(ovf: Envelope) -> Iterator[Found]:
    """A file's ``href`` leads out of the package: an absolute path, ``..``, or a URL.

    An importer that follows it reads files of the host that the sender of the package chose.
    For ``http`` and ``https`` it is a warning: the importer contacts a server of that choice.
    """
    for file in ovf.files:
        verdict = _leads_out(file.href or "")
        if verdict is not None:
            remote = verdict.startswith("an http")
            yield at(
                ovf,
                file.element,
                f"{file.href!r} is {verdict}",
                "put the file beside this one and write its name alone",
                attribute="href",
                expected="a name, or a path below this folder",
                severity=Severity.WARNING if remote else None,
            )


def _leads_out(href: str) -> str | None:
    """Why a reference leads out of the package; None when it does not."""
    text = unquote(href).strip()
    if _DRIVE.match(text) or text.startswith(("/", "\\")):
        return "an absolute path"
    if re.match(r"https?:", text, re.IGNORECASE):
        return "an http address"
    if _SCHEME.match(text):
        return "a URL"
    if ".." in re.split(r"[/\\]", text):
        return "a path that leads out of the package"
    return "a name with a NUL in it" if "\0" in text else None


@RULES.rule("href-duplicate", Severity.WARNING, affects=ALL)
def href_duplicate(ovf: Envelope) -> Iterator[Found]:
    """Two entries of ``References`` name the same file.

    Strict importers refuse the envelope; others import the content twice.
    """
    seen: dict[str, etree._Element] = {}
    for file in ovf.files:
        if not file.href:
            continue
        first = seen.setdefault(file.href, file.element)
        if first is not file.element:
            yield at(
                ovf,
                file.element,
                f"the file of line {ovf.place(first).line} again",
                "keep one entry and refer to it from both places",
                attribute="href",
            )


@RULES.rule("file-size", Severity.ERROR, affects=ALL)
def file_size(ovf: Envelope) -> Iterator[Found]:
    """The ``size`` or ``chunkSize`` of a file is no number of bytes.

    Importers that check or join the parts by it refuse the envelope.
    """
    for file in ovf.files:
        for name, value, least in (("size", file.size, 0), ("chunkSize", file.chunk_size, 1)):
            size = number(value)
            if value is not None and (size is None or size < least):
                yield at(
                    ovf,
                    file.element,
                    f"ovf:{name} is {value!r}, not a number of bytes",
                    f"write the number of bytes, or leave ovf:{name} out",
                    attribute=name,
                    expected="a number of bytes",
                )


@RULES.rule("chunked-file", Severity.NOTE, affects="VirtualBox, virt-v2v, Proxmox and others")
def chunked_file(ovf: Envelope) -> Iterator[Found]:
    """A file is split into parts (``chunkSize``).

    Only few importers join the parts, named ``.000000000`` and so on; the others do not find the
    file.
    """
    for file in ovf.files:
        if number(file.chunk_size):
            yield at(
                ovf,
                file.element,
                f"{file.href!r} is split into parts of {file.chunk_size} bytes",
                "join the parts and remove ovf:chunkSize",
                attribute="chunkSize",
            )


@RULES.rule("compression", Severity.ERROR, affects=ALL)
def compression(ovf: Envelope) -> Iterator[Found]:
    """The ``compression`` of a file is neither ``gzip`` nor ``identity``.

    Importers know no other, and the import fails.
    """
    for file in ovf.files:
        if file.compression is not None and file.compression not in ("gzip", "identity", ""):
            yield at(
                ovf,
                file.element,
                f"OVF has no compression {file.compression!r}",
                "compress the file with gzip, or not at all",
                attribute="compression",
                expected="gzip or identity",
            )


@RULES.rule("compressed-file", Severity.NOTE, affects="VirtualBox, Proxmox and others")
def compressed_file(ovf: Envelope) -> Iterator[Found]:
    """A file is compressed with gzip as a whole.

    Not all importers unpack it; streamOptimized VMDK is compressed inside and needs no more.
    """
    for file in ovf.files:
        if file.compression == "gzip":
            yield at(
                ovf,
                file.element,
                f"{file.href!r} is compressed as a whole",
                "unpack it and remove ovf:compression",
                attribute="compression",
            )


def _host_resources(ovf: Envelope) -> Iterator[etree._Element]:
    for item in items(ovf):
        yield from item.fields.get("HostResource", ())


def _used(ovf: Envelope, kind: str) -> set[str | None]:
    """The ids that items refer to."""
    texts = ((element.text or "").strip() for element in _host_resources(ovf))
    found = (_HOST_RESOURCE.fullmatch(text) for text in texts)
    return {hit[2] for hit in found if hit is not None and hit[1] == kind}


def some(names: set[str | None]) -> str | None:
    """A few of `names`, for a message."""
    known = sorted(name for name in names if name)
    shown = ", ".join(known[:5]) + (", ..." if len(known) > 5 else "")
    return shown[:200] or None


def _near(mend: str, names: set[str | None]) -> str:
    known = some(names)
    return f"{mend}: {known}" if known else mend
