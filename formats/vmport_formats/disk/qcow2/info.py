"""From the parts of a qcow2 file to the metadata that every format has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmport_formats.disk.model import Concern, DiskFormat, ImageInfo
from vmport_formats.disk.qcow2.extensions import read_extensions, text
from vmport_formats.disk.qcow2.header import (
    MAGIC,
    Autoclear,
    Compatible,
    Encryption,
    Incompatible,
    check_tables,
    read_header,
)
from vmport_formats.disk.qcow2.tables import check_reach, read_bitmaps, read_snapshots
from vmport_formats.references import Reference, ReferenceKind
from vmport_formats.source import read_exactly
from vmport_formats.units import SECTOR, Bytes

if TYPE_CHECKING:
    from vmport_formats.disk.qcow2.extensions import Extensions
    from vmport_formats.disk.qcow2.header import Header
    from vmport_formats.source import ByteSource


def matches(source: ByteSource) -> bool:
    """Whether the file begins with qcow2's magic number and is not of the older format qcow."""
    head = source.read_at(0, 8)
    return head[:4] == MAGIC and head[4:] != b"\0\0\0\1"


def read_info(source: ByteSource) -> ImageInfo:
    """The metadata of a qcow2 image.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: codes ``qcow2.…``.
    """
    header = read_header(source)
    # The extensions first: the table of names among them tells which unknown feature is needed.
    extensions = read_extensions(source, header)
    check_tables(source, header)
    check_reach(source, header)
    references, concerns = _references(source, header, extensions)
    return ImageInfo(
        DiskFormat.QCOW2,
        variant=f"v{header.version}",
        # A guest sees whole sectors; what is stored of a last part of one cannot be reached.
        virtual_size=Bytes(header.size // SECTOR * SECTOR),
        file_size=Bytes(source.size),
        cluster_size=Bytes(header.cluster_size),
        references=references,
        encrypted=header.encryption is not Encryption.NONE,
        dirty=header.has(Incompatible.DIRTY),
        corrupt=header.has(Incompatible.CORRUPT),
        snapshots=tuple(entry.snapshot for entry in read_snapshots(source, header)),
        concerns=concerns,
        details=_details(source, header, extensions),
    )


def _references(
    source: ByteSource, header: Header, extensions: Extensions
) -> tuple[tuple[Reference, ...], tuple[Concern, ...]]:
    references, concerns = [], []
    if header.backing_file_offset and header.backing_file_size:
        stored = read_exactly(
            source,
            header.backing_file_offset,
            header.backing_file_size,
            what="the backing file's name",
            code="qcow2.backing-file-outside",
        )
        if name := text(stored):
            references.append(
                Reference(ReferenceKind.BACKING, name, extensions.backing_format or None)
            )
    if header.has(Incompatible.DATA_FILE):
        if extensions.data_file:
            references.append(Reference(ReferenceKind.DATA, extensions.data_file, "raw"))
        else:
            concerns.append(
                Concern("qcow2.data-file", "keeps its data in another file, which it does not name")
            )
    return tuple(references), tuple(concerns)


def _details(source: ByteSource, header: Header, extensions: Extensions) -> dict[str, object]:
    details: dict[str, object] = {
        "compat": "1.1" if header.version == 3 else "0.10",
        "compression-type": header.compression.name.lower(),
        "refcount-bits": header.refcount_bits,
    }
    if header.version == 3:
        details["lazy-refcounts"] = header.has(Compatible.LAZY_REFCOUNTS)
        details["corrupt"] = header.has(Incompatible.CORRUPT)
        details["extended-l2"] = header.has(Incompatible.EXTENDED_L2)
    if extensions.data_file:
        details["data-file"] = extensions.data_file
    if header.has(Incompatible.DATA_FILE):
        details["data-file-raw"] = header.has(Autoclear.RAW_DATA_FILE)
    if extensions.bitmaps:
        details["bitmaps"] = read_bitmaps(source, header, extensions.bitmaps)
    if header.encryption is not Encryption.NONE:
        details["encrypt"] = {"format": header.encryption.name.lower()}
    if extensions.unknown:
        details["unknown-extensions"] = [f"{kind:#010x}" for kind in extensions.unknown]
    return details
