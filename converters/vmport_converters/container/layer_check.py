"""What may be wrong with the members of a layer, though the tar around them is sound."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmport_converters.container.fitting import WHITEOUT
from vmport_converters.container.xattrs import is_carried, travels
from vmport_formats.filesystem.model import MAX_NAME, MAX_PATH, EntryKind, parent, printed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vmport_formats.filesystem.tar.reader import Member


def check_members(members: Iterable[Member]) -> Iterator[tuple[str, str]]:
    """A code and a problem for each thing in `members` that some engine stumbles over."""
    kinds: dict[bytes, EntryKind] = {}
    for member in members:
        path = printed(member.path)
        for code, problem in _check(member, kinds):
            yield code, f"{path} {problem}"
        kind = member.kind
        if kind is None:
            kind = kinds.get(member.link, EntryKind.FILE)
        kinds[member.path] = kind


def _check(member: Member, kinds: dict[bytes, EntryKind]) -> Iterator[tuple[str, str]]:
    if member.path in kinds:
        yield "layer.duplicate", "comes twice; Docker and Podman refuse that"
    above = parent(member.path)
    if above and above not in kinds:
        yield "layer.no-folder", "comes before the folder that holds it"
    elif above and kinds[above] is not EntryKind.FOLDER:
        yield "layer.below-link", f"lies below a {kinds[above]}"
    name = member.path.rpartition(b"/")[2]
    if name.startswith(WHITEOUT):
        yield "layer.whiteout", "has a name that engines take for a removed file"
    if len(member.path) > MAX_PATH or len(name) > MAX_NAME or len(member.link) > MAX_PATH:
        yield "layer.long-path", "has a name or a target that no system takes"
    if member.pieces is not None:
        yield "layer.sparse", "is a sparse member, which Docker cannot save again"
    if member.kind is None and kinds.get(member.link) in {None, EntryKind.FOLDER}:
        yield "layer.link-target", "is a hard link to something that does not come before it"
    if member.kind is EntryKind.CHARACTER_DEVICE and member.device == (0, 0):
        yield "layer.whiteout", "is a device 0:0, by which overlays mark a removed file"
    for key, value in member.xattrs:
        if not travels(key):
            yield "layer.attribute", f"has an attribute {key}, which belongs to one machine"
        elif not is_carried(member.kind or EntryKind.FILE, key, value):
            yield "layer.attribute", f"has an attribute {key} that no kernel would set there"
