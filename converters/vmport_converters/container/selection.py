"""Which entries of a root filesystem go into an image, which do not, and by which rule."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from vmport_converters.container.fitting import check_expressible, fit, surprises
from vmport_converters.container.globs import expand, literal_start, translate
from vmport_converters.container.kernel import (
    LINK_TO_KERNEL,
    REQUESTED,
    RULES,
    SOCKET,
    UNREADABLE,
    Action,
    Group,
    Rule,
)
from vmport_converters.container.rootfs import Links, Note, Rootfs
from vmport_formats.errors import UnreadableInput, UsageError
from vmport_formats.filesystem.model import (
    Entry,
    EntryKind,
    MemoryContent,
    parent,
    printed,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

LARGEST_FSTAB: Final = 1 << 20
"""Bytes; a longer one is no fstab, and is emptied unread."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user asks for beyond the rules."""

    keep: tuple[str, ...] = ()
    """Globs; what fits goes in whatever the rules and `drop` say."""
    drop: tuple[str, ...] = ()
    owner: tuple[int, int] | None = None
    """Let all entries belong to this user and group."""
    skip_unreadable: bool = False


@dataclass(frozen=True, slots=True)
class Removal:
    """One path that is not as it was in the source."""

    path: bytes
    rule: Rule
    action: Action
    kind: EntryKind
    size: int
    """Bytes of content that the image does not have for it; a file of several names counts once."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The entries of an image, and what became of the others."""

    entries: Sequence[Entry]
    removals: Sequence[Removal]
    notes: tuple[Note, ...]

    @property
    def content(self) -> int:
        """Bytes of all files; one of several names counts once."""
        alone = sum(entry.size for entry in self.entries if entry.inode is None)
        shared = {entry.inode: entry.size for entry in self.entries if entry.inode is not None}
        return alone + sum(shared.values())


def select(rootfs: Rootfs, wishes: Wishes = Wishes()) -> Selection:
    """Apply the rules and `wishes` to `rootfs`.  Content is read of ``/etc/fstab`` only.

    Raises:
        UnreadableInput: something that is to be kept may not be read.
        UnsupportedFeature: something that is to be kept cannot be in an image.
        UsageError: a glob is malformed.
    """
    links = Links.of(rootfs.entries)
    engine = _Engine(rootfs, links, wishes)
    removals: dict[bytes, Removal] = {}
    kept: list[Entry] = []
    for entry in rootfs.entries:
        removal = engine.judge(entry)
        if removal is not None:
            removals[entry.path] = removal
        if removal is None or removal.action is not Action.DROP:
            kept.append(entry)
    for path in _folders_above(kept):  # a file that --keep names needs its folders
        removals.pop(path, None)
    _drop_kernel_links(kept, removals, links, engine)
    entries = []
    for entry in rootfs.entries:
        removal = removals.get(entry.path)
        if removal is None:
            entries.append(entry)
        elif removal.action is not Action.DROP:
            entries.append(_with_content(entry, removal, engine))
    _check_readable(rootfs, entries)
    check_expressible(rootfs.name, entries)
    finished, notes = fit(entries, owner=wishes.owner)
    return Selection(
        entries=finished,
        removals=list(_counted_once(rootfs.entries, removals)),
        notes=(*rootfs.notes, *engine.notes(), *notes, *surprises(finished)),
    )


class _Engine:
    """The rules and wishes, compiled for one root filesystem."""

    def __init__(self, rootfs: Rootfs, links: Links, wishes: Wishes) -> None:
        self._links = links
        self._skip_unreadable = wishes.skip_unreadable
        self.fstab = _read_fstab(rootfs)
        rules = [*RULES, Rule("swap", Group.STATE, "swap files", self._swap_files())]
        self._rules: list[Rule] = []
        for_files, for_others = [], []
        for rule in rules:
            for pattern in rule.paths:
                follow = rule.group is Group.KERNEL
                for place in self._places(pattern, follow_last=follow, usr_too=True):
                    expression = translate(place, subtree=not rule.files_only)
                    expression = f"(?P<r{len(self._rules)}>{expression})"
                    self._rules.append(rule)
                    for_files.append(expression)
                    if not rule.files_only:
                        for_others.append(expression)
        self._for_files = _compile(for_files)
        self._for_others = _compile(for_others)
        self._keep = [(text, self._wish("--keep", text)) for text in wishes.keep]
        self._drop = [(text, self._wish("--drop", text)) for text in wishes.drop]
        self._used: set[tuple[str, str]] = set()

    def judge(self, entry: Entry) -> Removal | None:
        """What is to become of `entry`; None: it goes in as it is."""
        if not entry.path:
            return None
        path = _text(entry.path)
        rule: Rule | None = None
        if not self._fits("--keep", self._keep, path):
            rule = REQUESTED if self._fits("--drop", self._drop, path) else self._find(entry, path)
        if rule is None and entry.kind is EntryKind.SOCKET:
            rule = SOCKET
        if rule is None and not entry.readable and self._skip_unreadable:
            rule = UNREADABLE
        if rule is None or (rule.action is Action.EMPTY and not entry.size):
            return None
        if rule.rewrite is None:
            return Removal(entry.path, rule, rule.action, entry.kind, entry.size)
        if entry.size > LARGEST_FSTAB:
            return Removal(entry.path, rule, Action.EMPTY, entry.kind, entry.size)
        if rule.rewrite(self.fstab) == self.fstab:
            return None
        return Removal(entry.path, rule, rule.action, entry.kind, 0)

    def keeps(self, path: bytes) -> bool:
        """Whether the user asked for `path`."""
        return self._fits("--keep", self._keep, _text(path))

    def notes(self) -> Iterator[Note]:
        """Wishes that fitted nothing: a slip of the pen, most likely."""
        for option, wishes in (("--keep", self._keep), ("--drop", self._drop)):
            for text, _ in wishes:
                if (option, text) not in self._used:
                    yield Note("export.no-match", f"{option} {text} fits nothing in the source")

    def _find(self, entry: Entry, path: str) -> Rule | None:
        expression = self._for_files if entry.kind is EntryKind.FILE else self._for_others
        found = expression.fullmatch(path)
        if found is None or found.lastgroup is None:
            return None
        return self._rules[int(found.lastgroup[1:])]

    def _fits(self, option: str, wishes: list[tuple[str, re.Pattern[str]]], path: str) -> bool:
        fits = False
        for text, expression in wishes:
            if expression.fullmatch(path):
                self._used.add((option, text))
                fits = True
        return fits

    def _wish(self, option: str, text: str) -> re.Pattern[str]:
        """A glob of the user's: below the root if it has a slash, else a name anywhere."""
        pattern = text.strip("/")
        if not pattern:
            raise UsageError(
                None, code="export.glob", problem=f"{option} {text!r} names the whole root"
            )
        try:
            if "/" not in text.rstrip("/"):
                places = [f"**/{one}" for one in expand(pattern)]
            else:
                places = self._places(pattern, follow_last=True, usr_too=False)
            return _compile([f"(?:{translate(place, subtree=True)})" for place in places])
        except ValueError as error:
            raise UsageError(
                None, code="export.glob", problem=f"{option} {text!r} is no glob: {error}"
            ) from error

    def _places(self, pattern: str, *, follow_last: bool, usr_too: bool) -> list[str]:
        """Where `pattern` lies in this guest: as written, and through the guest's links.

        ``lib/modules/*`` is ``usr/lib/modules/*`` where ``/lib`` is a link to ``usr/lib``, and
        with `usr_too` there as well where it is none.  A link that changes the last name
        (``/boot`` to ``/``) is not followed: too much could go with it.
        """
        places = []
        for one in expand(pattern):
            start, rest = literal_start(one)
            spellings = [start]
            if usr_too and start.startswith("lib/"):
                spellings.append(f"usr/{start}")
            for spelling in spellings:
                places.append(_joined(spelling, rest))
                real = self._links.resolve(
                    spelling.encode("utf-8", "surrogateescape"),
                    follow_last=follow_last and bool(rest),
                )
                if real and _text(real).rpartition("/")[2] == spelling.rpartition("/")[2]:
                    places.append(_joined(_escaped(_text(real)), rest))
        return list(dict.fromkeys(places))

    def _swap_files(self) -> tuple[str, ...]:
        """The files that the guest's fstab swaps to."""
        found = []
        for line in self.fstab.splitlines():
            fields = line.split()
            if len(fields) >= 3 and fields[2] == b"swap" and fields[0].startswith(b"/"):
                path = fields[0].strip(b"/")
                if path and not path.startswith(b"dev/"):
                    found.append(_escaped(_text(path)))
        return tuple(found)


def _drop_kernel_links(
    kept: list[Entry], removals: dict[bytes, Removal], links: Links, engine: _Engine
) -> None:
    """Add to `removals` the links that a kernel rule has left without their target."""
    for entry in kept:
        if entry.kind is not EntryKind.SYMLINK:
            continue
        target = links.resolve(entry.path)
        gone = removals.get(target) if target else None
        if (
            gone is not None
            and gone.rule.group is Group.KERNEL
            and gone.action is Action.DROP
            and not engine.keeps(entry.path)
        ):
            removals[entry.path] = Removal(entry.path, LINK_TO_KERNEL, Action.DROP, entry.kind, 0)


def _folders_above(entries: Iterable[Entry]) -> set[bytes]:
    found: set[bytes] = set()
    for entry in entries:
        above = parent(entry.path)
        while above and above not in found:
            found.add(above)
            above = parent(above)
    return found


def _with_content(entry: Entry, removal: Removal, engine: _Engine) -> Entry:
    """`entry` with the content that `removal` leaves it, and so a file of its own."""
    rewrite = removal.rule.rewrite if removal.action is Action.REWRITE else None
    data = b"" if rewrite is None else rewrite(engine.fstab)
    return replace(entry, size=len(data), content=MemoryContent(data), inode=None, readable=True)


def _counted_once(entries: Sequence[Entry], removals: dict[bytes, Removal]) -> Iterator[Removal]:
    """`removals` in path order; what has another name that is kept, or was counted, is 0 bytes."""
    counted = {
        entry.inode for entry in entries if entry.inode is not None and entry.path not in removals
    }
    for entry in entries:
        removal = removals.get(entry.path)
        if removal is None:
            continue
        if entry.inode is not None:
            if entry.inode in counted:
                removal = replace(removal, size=0)
            counted.add(entry.inode)
        yield removal


def _check_readable(rootfs: Rootfs, entries: Iterable[Entry]) -> None:
    closed = [entry for entry in entries if not entry.readable]
    if closed:
        more = f" (and {len(closed) - 1} more)" if len(closed) > 1 else ""
        raise UnreadableInput(
            rootfs.name,
            code="export.unreadable",
            problem=f"{printed(closed[0].path)}{more} may not be read by this user",
            hint="run as root, or leave them out with --skip-unreadable, which lists them",
        )


def _read_fstab(rootfs: Rootfs) -> bytes:
    for entry in rootfs.entries:
        if entry.path == b"etc/fstab":
            if entry.content is None or not entry.readable or entry.size > LARGEST_FSTAB:
                return b""
            return b"".join(entry.content.chunks())
    return b""


def _compile(alternatives: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(alternatives) or "(?!)", re.DOTALL)


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def _joined(start: str, rest: str) -> str:
    return "/".join(part for part in (start, rest) if part)


def _escaped(path: str) -> str:
    """`path` as a glob that fits nothing else."""
    return re.sub(r"([*?\[{\\])", r"\\\1", path)
