"""The account of a translation: what became of every value of the source, with nothing left out.

A value travels in three steps, and each step is recorded where it happens:

1. A reader takes *leaves* (attributes, texts, empty elements, keys) out of the source and says to
   which *model path* each went: ``/domain/vcpu`` to ``cpu.count``.  The result is a `Reading`.
2. A writer keeps `Books` about the model: for each stated path it says what became of it in the
   target.  The result is a `Writing`.
3. `compose` joins the two into a `Ledger`: one entry for each leaf of the source, and one for each
   value of the target that the source does not state.

It is complete by construction.  A leaf that no reader took is dropped, a stated path that no writer
mentioned is dropped, and so nobody has to remember to report a loss; a table of `Loss`es only makes
the words better.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Generic, NewType, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from vmport_formats.position import Position

Model = TypeVar("Model")

ModelPath = NewType("ModelPath", str)
"""Where a value lies in a model: ``memory.size``, ``disks[0].source.path``."""


class Verdict(StrEnum):
    """What became of a value, from the best to the worst."""

    KEPT = "kept"
    """The target says the same."""
    DEFAULTED = "defaulted"
    """The target needs a value that the source does not state; vmport chose one."""
    ADAPTED = "adapted"
    """The target says something else that serves the same end."""
    DROPPED = "dropped"
    """The target does not say it."""


class Impact(StrEnum):
    """How much a change matters to the guest, from the least to the most."""

    NONE = "none"
    """The guest cannot tell: it concerned the old host, or only how the descriptor is written."""
    MINOR = "minor"
    """The guest runs, but something differs: speed, comfort, a device it can do without."""
    UNKNOWN = "unknown"
    """vmport does not know what the value is for."""
    MAJOR = "major"
    """The guest may not start, or it lacks a device, data, or protection that it had."""


_VERDICT_RANK: Final = {verdict: rank for rank, verdict in enumerate(Verdict)}
_IMPACT_RANK: Final = {impact: rank for rank, impact in enumerate(Impact)}


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value of a source descriptor, as written."""

    path: str
    """Unique in its document: ``/domain/devices/disk[2]/target/@bus``, or a key."""
    value: str
    position: Position
    secret: bool = False
    """A password or key; then `value` does not hold it."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Why a value has no place in the target, and what that means."""

    why: str
    effect: str = ""
    """What it means for the guest."""
    action: str = ""
    """What to do about it."""
    impact: Impact = Impact.MINOR


@dataclass(frozen=True, slots=True)
class Reading(Generic[Model]):
    """A model, and from which leaves of its source each of its values came."""

    model: Model
    name: str
    """Of the file, as the user gave it."""
    dialect: str
    """``libvirt XML``, ``VMX``, ..."""
    leaves: tuple[Leaf, ...]
    """All of the source, in its order."""
    taken: Mapping[str, tuple[ModelPath, ...]]
    """By leaf path: where in the model it went."""
    lost: Mapping[str, Loss]
    """By leaf path: what the reader knows about a leaf that the model has no place for."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a writer did about one model path, or (defaulted) about one value of its own."""

    verdict: Verdict
    path: ModelPath | None = None
    place: str | None = None
    """Where in the target: a key or an element."""
    before: str | None = None
    after: str | None = None
    why: str = ""
    effect: str = ""
    action: str = ""
    impact: Impact = Impact.NONE


@dataclass(frozen=True, slots=True)
class DiskConversion:
    """A disk that the target names in another format than the source: it must be converted."""

    source: str
    source_format: str | None
    target: str
    target_format: str
    backing: tuple[str, ...] = ()
    """Files under the source, as far as the descriptor names them."""
    subformat: str | None = None
    """Which kind of VMDK; None: any will do."""
    local: bool = True
    """Whether `source` is a file or device of the old host; if not, it must be fetched first."""


@dataclass(frozen=True, slots=True)
class Writing:
    """A descriptor for a target, and what became of each value of the model."""

    text: str
    dialect: str
    """``VMX``, ``OVF``, ..."""
    outcomes: tuple[Outcome, ...]
    conversions: tuple[DiskConversion, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger: a leaf of the source and what became of it."""

    verdict: Verdict
    source: Leaf | None
    """None for what the source does not state (`Verdict.DEFAULTED`)."""
    model: tuple[ModelPath, ...] = ()
    places: tuple[str, ...] = ()
    before: str | None = None
    after: str | None = None
    why: str = ""
    effect: str = ""
    action: str = ""
    impact: Impact = Impact.NONE


@dataclass(frozen=True, slots=True)
class Ledger:
    """Every leaf of a source descriptor, each once, then what the target adds."""

    source: str
    """Name of the source file."""
    source_dialect: str
    target_dialect: str
    entries: tuple[Entry, ...]

    def count(self, verdict: Verdict) -> int:
        """How many entries there are of one kind."""
        return sum(entry.verdict is verdict for entry in self.entries)

    @property
    def losses(self) -> tuple[Entry, ...]:
        """What was dropped and is, or may be, of consequence to the guest."""
        return tuple(
            entry
            for entry in self.entries
            if entry.verdict is Verdict.DROPPED and entry.impact is not Impact.NONE
        )


# --- Values of a model --------------------------------------------------------------------------


def stated(model: object) -> dict[ModelPath, object]:
    """All values of a dataclass `model` that are stated, by path, in order.

    None and empty tuples are not stated.  A part with nothing stated inside counts as a value
    itself, since that it is there says something: a watchdog of no particular model.
    """
    found: dict[ModelPath, object] = {}
    for field in fields(model):  # type: ignore[arg-type]
        found.update(_stated(getattr(model, field.name), field.name))
    return found


def _stated(value: object, path: str) -> Iterator[tuple[ModelPath, object]]:
    if value is None:
        return
    if isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _stated(item, f"{path}[{index}]")
    elif is_dataclass(value):
        inside = [
            pair
            for field in fields(value)
            for pair in _stated(getattr(value, field.name), f"{path}.{field.name}")
        ]
        yield from inside or [(ModelPath(path), value)]
    else:
        yield ModelPath(path), value


def describe(value: object) -> str:
    """A value of a model for a reader of the ledger."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "present" if is_dataclass(value) else str(value)


def prefixes(path: str) -> Iterator[str]:
    """`path` with its indices blanked, then the parts that it lies in: keys of a loss table.

    ``disks[3].limits.read_bytes`` gives ``disks[*].limits.read_bytes``, ``disks[*].limits``,
    ``disks[*]``.
    """
    blank = "[*]".join(part.split("]", 1)[-1] for part in path.split("["))
    while blank:
        yield blank
        blank = blank.rpartition(".")[0]


# --- What a writer says -------------------------------------------------------------------------


class Books:
    """A writer's record of what it does with each stated value of a model.

    A path that is mentioned may be that of a value or of a part (``nics[10]``); a part stands for
    all values in it that are not settled yet.  Paths that the model does not state are passed over.
    """

    def __init__(self, model: object, *, dialect: str) -> None:
        self._dialect = dialect
        self._values = stated(model)
        self._inside: dict[str, list[ModelPath]] = defaultdict(list)
        for path in self._values:
            for part in _parts(path):
                self._inside[part].append(path)
        self._settled: set[ModelPath] = set()
        self._outcomes: list[Outcome] = []
        self._groups: list[tuple[str, Loss]] = []

    def is_stated(self, path: str) -> bool:
        """Whether the model states this value, or anything in this part."""
        return path in self._inside

    def is_value(self, path: str) -> bool:
        """Whether `path` is one value: no part, or a part with nothing stated inside."""
        return path in self._values

    def kept(self, *paths: str, place: str, after: str | None = None) -> None:
        """Each of `paths` is in the target unchanged, at `place`, where it reads `after`."""
        for path in self._known(paths):
            self._settle(Outcome(Verdict.KEPT, path, place, after=after))

    def adapted(
        self,
        *paths: str,
        place: str | None,
        after: str,
        why: str,
        before: str | None = None,
        effect: str = "",
        action: str = "",
        impact: Impact = Impact.NONE,
    ) -> None:
        """Each of `paths` became `after` at `place`, because of `why`."""
        for path in self._known(paths):
            was = describe(self._values[path]) if before is None else before
            self._settle(
                Outcome(Verdict.ADAPTED, path, place, was, after, why, effect, action, impact)
            )

    def defaulted(
        self,
        *,
        place: str,
        after: str,
        why: str,
        effect: str = "",
        action: str = "",
        impact: Impact = Impact.NONE,
    ) -> None:
        """The target needs a value at `place`; the source states none; `after` was chosen."""
        self._outcomes.append(
            Outcome(Verdict.DEFAULTED, None, place, None, after, why, effect, action, impact)
        )

    def dropped(self, *paths: str, loss: Loss) -> None:
        """Each of `paths` has no place in the target."""
        for path in paths:
            if path in self._values:
                self._settle(_dropped(ModelPath(path), loss))
            else:
                self._groups.append((path, loss))

    def close(
        self,
        text: str,
        *,
        losses: Mapping[str, Loss],
        conversions: Sequence[DiskConversion] = (),
    ) -> Writing:
        """The finished `Writing`: what was not mentioned is dropped.

        `losses` explains, by path with ``[*]`` for any index, what this target has no place for.
        """
        for part, loss in self._groups:
            for path in self._inside.get(part, ()):
                if path not in self._settled:
                    self._settle(_dropped(path, loss))
        for path in self._values:
            if path not in self._settled:
                known = (losses[key] for key in prefixes(path) if key in losses)
                self._settle(_dropped(path, next(known, self._unexplained())))
        return Writing(text, self._dialect, tuple(self._outcomes), tuple(conversions))

    def _known(self, paths: Iterable[str]) -> Iterator[ModelPath]:
        """The values that `paths` name, or that lie in the parts that they name."""
        for path in paths:
            if path in self._values:
                yield ModelPath(path)
            else:
                inside = self._inside.get(path, ())
                yield from [value for value in inside if value not in self._settled]

    def _settle(self, outcome: Outcome) -> None:
        assert outcome.path is not None  # noqa: S101
        self._settled.add(outcome.path)
        self._outcomes.append(outcome)

    def _unexplained(self) -> Loss:
        return Loss(
            why=f"vmport does not write this to {self._dialect}",
            effect="the new hypervisor uses its own default",
            action="check whether the guest depends on it",
            impact=Impact.UNKNOWN,
        )


def _dropped(path: ModelPath, loss: Loss) -> Outcome:
    return Outcome(
        Verdict.DROPPED,
        path,
        why=loss.why,
        effect=loss.effect,
        action=loss.action,
        impact=loss.impact,
    )


def _parts(path: str) -> Iterator[str]:
    """`path` and every part that it lies in: ``a[0].b`` gives ``a[0].b``, ``a[0]`` and ``a``."""
    while path:
        yield path
        cut = max(path.rfind("."), path.rfind("["))
        path = path[:cut] if cut > 0 else ""


# --- The sum ------------------------------------------------------------------------------------


def compose(reading: Reading[Model], writing: Writing) -> Ledger:
    """The ledger of a translation: every leaf of the source once, then what the target adds."""
    by_path: dict[ModelPath, list[Outcome]] = defaultdict(list)
    for outcome in writing.outcomes:
        if outcome.path is not None:
            by_path[outcome.path].append(outcome)
    entries = [_entry(leaf, reading, by_path) for leaf in reading.leaves]
    sourced = {path for paths in reading.taken.values() for path in paths}
    entries.extend(
        _added(outcome)
        for outcome in writing.outcomes
        if (outcome.path is None or outcome.path not in sourced)
        and outcome.verdict is not Verdict.DROPPED
    )
    ledger = Ledger(reading.name, reading.dialect, writing.dialect, tuple(entries))
    _audit(reading, ledger)
    return ledger


def _entry(
    leaf: Leaf,
    reading: Reading[Model],
    by_path: Mapping[ModelPath, Sequence[Outcome]],
) -> Entry:
    paths = reading.taken.get(leaf.path, ())
    outcomes = [outcome for path in paths for outcome in by_path.get(path, ())]
    if not outcomes:
        loss = reading.lost.get(leaf.path) or _unknown(reading.dialect)
        return Entry(
            Verdict.DROPPED,
            leaf,
            model=paths,
            why=loss.why,
            effect=loss.effect,
            action=loss.action,
            impact=loss.impact,
        )
    # A leaf may serve several values; the one that fared worst speaks for it.
    worst = max(outcomes, key=_badness)
    return Entry(
        worst.verdict,
        leaf,
        model=paths,
        places=_places(outcomes),
        before=worst.before,
        after=worst.after,
        why=worst.why,
        effect=worst.effect,
        action=worst.action,
        impact=worst.impact,
    )


def _added(outcome: Outcome) -> Entry:
    return Entry(
        Verdict.DEFAULTED,
        None,
        model=() if outcome.path is None else (outcome.path,),
        places=_places([outcome]),
        after=outcome.after,
        why=outcome.why or "the source implies it without saying so",
        effect=outcome.effect,
        action=outcome.action,
        impact=outcome.impact,
    )


def _places(outcomes: Iterable[Outcome]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(item.place for item in outcomes if item.place is not None))


def _badness(outcome: Outcome) -> tuple[int, int]:
    return _VERDICT_RANK[outcome.verdict], _IMPACT_RANK[outcome.impact]


def _unknown(dialect: str) -> Loss:
    return Loss(
        why=f"vmport does not know this part of {dialect}",
        effect="unknown; the new hypervisor is not told of it",
        action="look up what it does, and set it by hand if the guest needs it",
        impact=Impact.UNKNOWN,
    )


def _audit(reading: Reading[Model], ledger: Ledger) -> None:
    """The sum must come out: each leaf once.  A reader that repeats a path would break it."""
    entered = Counter(entry.source.path for entry in ledger.entries if entry.source is not None)
    expected = Counter(dict.fromkeys((leaf.path for leaf in reading.leaves), 1))
    if entered != expected:
        raise AssertionError(f"the ledger of {reading.name} does not add up")
