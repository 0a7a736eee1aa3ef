"""The layout of each record of a format: its `Struct`, with the names and comments beside it."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import dataclass
from importlib import import_module
from struct import Struct, calcsize
from typing import TYPE_CHECKING, Final

from docs.generator.codes import module_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from types import ModuleType

_DISK: Final = "vmport_formats.disk."
_NUMBERS: Final = {"B": "u8", "H": "u16", "I": "u32", "Q": "u64"}
_ORDERS: Final = {"<": "little-endian", ">": "big-endian"}


@dataclass(frozen=True)
class Record:
    """A record, and where in the code its layout is."""

    title: str
    module: str
    struct: str
    fields: str | tuple[str, ...]
    """The class that has the fields, or their names where the code unpacks into variables."""
    at: int = 0
    """What the first offset is: the record's place in the file or in a larger record."""
    notes: str | None = None
    """Another class with comments on fields of the same names."""


RECORDS: Final = {
    "qcow2": (
        Record(
            "Header, versions 2 and 3",
            "qcow2.header",
            "V2",
            (
                "magic", "version", "backing_file_offset", "backing_file_size", "cluster_bits",
                "size", "crypt_method", "l1_size", "l1_table_offset", "refcount_table_offset",
                "refcount_table_clusters", "nb_snapshots", "snapshots_offset",
            ),
            notes="Header",
        ),
        Record(
            "Header, what version 3 adds",
            "qcow2.header",
            "V3",
            ("incompatible", "compatible", "autoclear", "refcount_order", "header_length"),
            at=72,
            notes="Header",
        ),
        Record("Header extension", "qcow2.extensions", "PREFIX", ("type", "length")),
        Record("Bitmaps extension", "qcow2.extensions", "_BITMAPS", (
            "number", "reserved", "directory_size", "directory_offset",
        )),
        Record(
            "LUKS header extension", "qcow2.extensions", "_ENCRYPTION_HEADER", "EncryptionHeader"
        ),
        Record("Entry of the snapshot table", "qcow2.tables", "_SNAPSHOT", (
            "l1_table_offset", "l1_size", "id_size", "name_size", "seconds", "nanoseconds",
            "vm_clock", "vm_state_size", "extra_size",
        )),
        Record("Entry of the bitmap directory", "qcow2.tables", "_BITMAP", (
            "table_offset", "table_size", "flags", "type", "granularity_bits", "name_size",
            "extra_size",
        )),
    ),
    "qcow": (Record("Header", "qcow.info", "_HEADER", "Header"),),
    "vmdk": (
        Record("Header of a hosted sparse extent (KDMV)", "vmdk.sparse", "_HEADER", "SparseHeader"),
        Record("Marker of a stream", "vmdk.sparse", "_MARKER", ("value", "size", "type")),
        Record("Header of a vmfsSparse extent (COWD)", "vmdk.esx", "_COWD", "_Cowd"),
        Record("Constant header of an seSparse extent", "vmdk.esx", "_SESPARSE", "_SeSparse"),
    ),
    "vhd": (
        Record("Footer", "vhd.layout", "_FOOTER", "Footer"),
        Record("Dynamic disk header", "vhd.layout", "_HEADER", "DynamicHeader"),
        Record("Parent locator", "vhd.layout", "_LOCATOR", "ParentLocator"),
    ),
    "vhdx": (
        Record("Header", "vhdx.layout", "HEADER", "Header"),
        Record("Region table header", "vhdx.layout", "TABLE_HEADER", "TableHeader"),
        Record("Region table entry", "vhdx.layout", "REGION_ENTRY", "RegionEntry"),
        Record(
            "Metadata table header", "vhdx.layout", "METADATA_TABLE_HEADER", "MetadataTableHeader"
        ),
        Record("Metadata table entry", "vhdx.layout", "METADATA_ENTRY", "MetadataEntry"),
        Record("Log entry header", "vhdx.layout", "LOG_ENTRY_HEADER", "LogEntryHeader"),
        Record("Log descriptor", "vhdx.layout", "LOG_DESCRIPTOR", "LogDescriptor"),
    ),
    "vdi": (
        Record("Preheader", "vdi.info", "_PREHEADER", ("text", "signature", "version")),
        Record("Header, version 1", "vdi.info", "_HEADER", "Header", at=72),
    ),
    "qed": (Record("Header", "qed.info", "_HEADER", "Header"),),
    "parallels": (Record("Header", "parallels.info", "_HEADER", "Header"),),
    "dmg": (
        Record("Trailer, its beginning", "dmg.info", "_FIRST", "_First"),
        Record(
            "Trailer, the property list", "dmg.info", "_XML", ("xml_offset", "xml_length"), at=0xD8
        ),
        Record("Trailer, the disk", "dmg.info", "_LAST", ("kind", "sectors"), at=0x1E8),
        Record("Header of a block table", "dmg.block_tables", "_TABLE", "_Table"),
    ),
    "cloop": (Record("Sizes", "cloop.info", "_SIZES", ("block_size", "blocks"), at=128),),
    "bochs": (Record("Header", "bochs.info", "_HEADER", "Header"),),
    "luks": (
        Record("Header", "../encryption.luks1", "_HEADER", "_Fields"),
        Record("Key slot", "../encryption.luks1", "_SLOT", "Slot"),
    ),
    "raw": (),
}  # fmt: skip
"""By the first part of a format's codes."""


def layout(record: Record) -> str:
    """The record as a section of a page, in Markdown."""
    module = _module(record.module)
    struct: Struct = getattr(module, record.struct)
    order = _ORDERS.get(struct.format[:1])
    named = isinstance(record.fields, str)
    source = inspect.getsource(module)
    comments = _comments(source, record.notes) if record.notes else {}
    names = record.fields
    about = ""
    if isinstance(names, str):
        fields = getattr(module, names)
        comments |= _comments(source, names)
        names = tuple(fields._fields)
        about = plain(inspect.getdoc(fields) or "")
    size = f"{struct.size} bytes" + (f", {order}" if order else "")
    lines = [f"### {record.title}\n", f"{about} {size}.\n".lstrip() if named else f"{size}.\n"]
    lines += ["| offset | type | field | |", "|---:|---|---|---|"]
    items = list(_items(struct.format))
    if len(items) != len(names):
        raise ValueError(f"{record.title}: {len(items)} items for {len(names)} names")
    for (offset, kind), name in zip(items, names, strict=True):
        note = comments.get(name, "")
        lines.append(f"| {record.at + offset} | {kind} | `{name}` | {cell(note)} |")
    return "\n".join(lines) + "\n"


def limits(files: Iterable[Path]) -> str:
    """A table of the constants that bound what a file may say, or what is looked at."""
    rows = []
    for file in files:
        for name, note in _comments(file.read_text(encoding="utf-8"), None).items():
            value = getattr(module_of(file), name)
            if isinstance(value, range):
                value = f"{value.start} to {value.stop - 1}"
            words = name.strip("_").lower().replace("_", " ")
            rows.append(f"| `{name.strip('_')}` | {value} | {cell(note) or words} |")
    if not rows:
        return ""
    return "\n".join(["## Limits\n", "| constant | value | |", "|---|---:|---|", *rows]) + "\n"


def plain(text: str) -> str:
    """A docstring on one line, its markup as Markdown's."""
    return re.sub(r"`+", "`", " ".join(text.split()))


def cell(text: str) -> str:
    """Text as a table's cell."""
    return plain(text).replace("|", r"\|")


def _module(name: str) -> ModuleType:
    full = "vmport_formats." + name[3:] if name.startswith("../") else _DISK + name
    return import_module(full)


def _items(text: str) -> Iterator[tuple[int, str]]:
    """Offset and type of each field of a struct's format."""
    order = text[0] if text[0] in _ORDERS else "="
    offset = 0
    for count, kind in re.findall(r"(\d*)([a-zA-Z])", text):
        times = int(count or 1)
        size = calcsize(f"{order}{count}{kind}")
        if kind == "s":
            yield offset, f"{times} bytes"
        elif kind != "x":
            for number in range(times):
                yield offset + number * (size // times), _NUMBERS[kind]
        offset += size


def _comments(source: str, of: str | None) -> dict[str, str]:
    """What stands beside or below each field of the class `of`, or each limit of a module."""
    lines = source.splitlines()
    tree: ast.Module | ast.ClassDef = ast.parse(source)
    if of is not None:
        tree = next(
            node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == of
        )
    found = {}
    for node, below in zip(tree.body, [*tree.body[1:], None], strict=True):
        for name in _targets(node, limits_only=of is None):
            comment = lines[(node.end_lineno or 1) - 1].partition("  # ")[2]
            above = lines[node.lineno - 2].strip()
            match below:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    comment = text
                case _ if not comment and of is None and above.startswith("# "):
                    comment = above[2:]
            found[name] = comment
    return found


_LIMIT: Final = re.compile(r"_?(MAX|MIN)_\w+|_?SCANNED|_?CLUSTER_BITS|_SECTOR_SIZES")


def _targets(node: ast.stmt, *, limits_only: bool) -> list[str]:
    match node:
        case ast.AnnAssign(target=ast.Name(id=name)):
            names = [name]
        case ast.Assign(targets=[ast.Tuple(elts=parts)]):
            names = [part.id for part in parts if isinstance(part, ast.Name)]
        case _:
            names = []
    return [name for name in names if not limits_only or _LIMIT.fullmatch(name)]
