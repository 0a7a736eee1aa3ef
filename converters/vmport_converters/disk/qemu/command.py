"""How qemu-img is asked, and what its answers mean.  Nothing here starts it.

It is told the format of every file, and every file of a chain, so that it probes nothing and looks
nothing up; and file names in a form in which ``nbd:``, ``json:`` and commas are but letters.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vmport_converters.disk.options import encrypts
from vmport_converters.disk.plan import Compression
from vmport_converters.disk.qemu.supported import is_luks
from vmport_formats.disk.model import DiskFormat
from vmport_formats.errors import (
    CorruptInput,
    OutputError,
    ToolFailed,
    UnreadableInput,
    VmportError,
)
from vmport_formats.units import SECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vmport_converters.disk.plan import Conversion
    from vmport_converters.disk.qemu.chain import Chain
    from vmport_formats.disk.model import ImageInfo

PACKAGE: Final = "qemu-utils"
"""Debian's, which holds qemu-img."""

_KEPT: Final = 200
"""Bytes of unfinished output that are kept."""

_MAX_ARGUMENT: Final = 100_000
"""Linux takes 128 KiB in one argument."""

OLD: Final = "old"
"""The secret that opens the source."""
NEW: Final = "new"
"""The secret that is to open the destination."""
_NONE: Final[Mapping[str, int]] = {}

# Requests in flight; qemu-img's own is 8.
_PARALLEL: Final = "16"


@dataclass(frozen=True, slots=True)
class Node:
    """An image as qemu opens it."""

    driver: str
    path: str
    options: tuple[tuple[str, str], ...] = ()
    data_file: str | None = None
    backing: Node | None = None


def source_node(chain: Chain, rewritten: Mapping[str, str] | None = None) -> Node:
    """The whole chain; `rewritten` says which file stands in for one (a VMDK's descriptor)."""
    node: Node | None = None
    for link in reversed(chain.links):
        path = (rewritten or {}).get(link.path, link.path)
        options = (*size_options(link.info), *_key_options(link.info))
        node = Node(link.info.format, path, options, link.data_file, node)
    assert node is not None  # noqa: S101 - a chain has at least one link
    return node


def size_options(info: ImageInfo) -> tuple[tuple[str, str], ...]:
    """What makes qemu see a disk of the size that we see; its rules for VHD vary by version."""
    if info.format is not DiskFormat.VHD:
        return ()
    exact = info.details.get("current-size")
    by_footer = isinstance(exact, int) and exact // SECTOR * SECTOR == info.virtual_size
    return (("force_size_calc", "current_size" if by_footer else "chs"),)


def _key_options(info: ImageInfo) -> tuple[tuple[str, str], ...]:
    """With which secret the image is opened."""
    if not is_luks(info):
        return ()
    if info.format is DiskFormat.LUKS:
        return (("key-secret", OLD),)
    return (("encrypt.format", "luks"), ("encrypt.key-secret", OLD))


def _objects(secrets: Mapping[str, int]) -> list[str]:
    """The secrets, by their names, in descriptors that they can be read from once."""
    return [
        word
        for name, descriptor in secrets.items()
        for word in ("--object", f"secret,id={name},file=/dev/fd/{descriptor}")
    ]


def _flat(node: Node, prefix: str = "") -> Iterator[tuple[str, str]]:
    yield f"{prefix}driver", node.driver
    yield f"{prefix}file.driver", "file"
    yield f"{prefix}file.filename", node.path
    for key, value in node.options:
        yield f"{prefix}{key}", value
    if node.data_file is not None:
        yield f"{prefix}data-file.driver", "file"
        yield f"{prefix}data-file.filename", node.data_file
    if node.backing is not None:
        yield from _flat(node.backing, f"{prefix}backing.")


def _tree(node: Node) -> dict[str, object]:
    tree: dict[str, object] = {
        "driver": node.driver,
        "file": {"driver": "file", "filename": node.path},
        **dict(node.options),
    }
    if node.data_file is not None:
        tree["data-file"] = {"driver": "file", "filename": node.data_file}
    if node.backing is not None:
        tree["backing"] = _tree(node.backing)
    return tree


def _images(*nodes: Node) -> list[str]:
    """The arguments that name `nodes`, with the option that says how they are to be read."""
    texts = [
        ",".join(f"{key}={value.replace(',', ',,')}" for key, value in _flat(node))
        for node in nodes
    ]
    if max(map(len, texts)) <= _MAX_ARGUMENT:
        return ["--image-opts", "--", *texts]
    # A long chain: nested, its keys do not repeat their parents'.
    return ["--", *("json:" + json.dumps(_tree(node)) for node in nodes)]


def size_argv(tool: str, node: Node, secrets: Mapping[str, int] = _NONE) -> list[str]:
    """Ask how large a disk is (``required`` of a raw file); unlike ``info``, over a whole chain.

    `secrets`: descriptors from which `OLD` and `NEW`, which are passphrases, can be read once.
    """
    return [tool, "measure", *_objects(secrets), "--output=json", "-O", "raw", *_images(node)]


def convert_argv(
    tool: str, conversion: Conversion, source: Node, name: str, secrets: Mapping[str, int] = _NONE
) -> list[str]:
    """Convert `source` to the file `name`, without any folder, in the current folder.

    `secrets`: as in `size_argv`.

    Nothing is flushed (``-t unsafe``): publishing does that once, at the end, and its flush is the
    first, so that it hears of every error of the device.  Writes overtake each other (``-W``) only
    where that does not show in the result: the same input must yield the same output.
    """
    told = dict(conversion.options)
    if encrypts(conversion.target, told):
        told["key-secret" if conversion.target is DiskFormat.LUKS else "encrypt.key-secret"] = NEW
    # A stream is compressed by itself, and there -c is refused.
    packs = conversion.target is DiskFormat.QCOW2 and conversion.compression is not Compression.NONE
    options = ",".join(f"{key}={value}" for key, value in told.items())
    return [
        tool, "convert", "-p",
        *_objects(secrets),
        *(["-c"] if packs else []),
        "-O", conversion.target.value,
        *(["-o", options] if options else []),
        "-t", "unsafe",
        "-m", _PARALLEL,
        *([] if conversion.ordered else ["-W"]),
        *_images(source),
        f"./{name}",
    ]  # fmt: skip


class ProgressReader:
    """Makes sense of the pieces in which ``-p`` says how far it is: ``(12.34/100%)``."""

    _SAID = re.compile(rb"\((\d{1,3}\.\d{2})/100%\)")

    def __init__(self) -> None:
        self.rest = b""
        """The end of what was said besides."""

    def feed(self, piece: bytes) -> float | None:
        """The last share, 0 to 1, that was said in `piece`; None if none was."""
        text = self.rest + piece
        said = list(self._SAID.finditer(text))
        self.rest = text[said[-1].end() if said else 0 :][-_KEPT:]
        return min(float(said[-1][1]) / 100, 1.0) if said else None


_FULL: Final = re.compile(
    "No space left on device|Disk quota exceeded|File too large|Read-only file system"
)
_LOCKED: Final = re.compile("Failed to get .*lock")


def explain_opening(chain: Chain, stderr: str) -> VmportError:
    """Why qemu-img could not open the source, which our own parsing found sound."""
    said = _last_word(stderr)
    if _LOCKED.search(stderr):
        return UnreadableInput(
            chain.name,
            code="source.locked",
            problem="is in use by another program, such as a running virtual machine",
            hint="shut the machine down first, or convert a snapshot of its disk",
        )
    if re.search("Unknown driver|Driver .* is not whitelisted", stderr):
        return ToolFailed(
            chain.name,
            code="tool.qemu-img",
            problem=f"this qemu-img cannot read {chain.top.info.format.label}: {said}",
        )
    return CorruptInput(chain.name, code="convert.open", problem=f"qemu-img cannot open it: {said}")


def explain_failure(
    chain: Chain, destination: str, stderr: str, *, full: bool = False
) -> VmportError | None:
    """Whose fault it was that qemu-img failed while it worked; None when it does not say.

    `full`: no space is left, which qemu-img reports of a streamOptimized VMDK as something else.
    """
    said = _FULL.search(stderr)
    if said is not None:
        return _unwritable(destination, said[0])
    if reading := re.search(r"[Ee]rror while reading.*", stderr):
        return CorruptInput(
            chain.name, code="convert.read", problem=f"cannot be read: {reading[0].strip()}"
        )
    if writing := re.search(r"[Ee]rror while writing.*", stderr):
        return _unwritable(destination, "No space left on device" if full else writing[0].strip())
    if creating := re.search(r"error while converting \w+: (.*)", stderr):
        return OutputError(
            destination, code="output.create", problem=f"cannot be created: {creating[1].strip()}"
        )
    return None


def _unwritable(destination: str, reason: str) -> OutputError:
    return OutputError(destination, code="output.write", problem=f"cannot be written: {reason}")


def _last_word(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    said = lines[-1] if lines else "it did not say why"
    return re.sub(r"^(qemu-img: )?(Could not open '.*': )?", "", said)
