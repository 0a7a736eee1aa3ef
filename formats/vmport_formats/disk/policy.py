"""Which images a service may take: policies, as tables of what each refuses and why.

A policy never allows more than the one before it: ``none`` refuses nothing, ``openstack`` whatever
OpenStack would refuse or misread, ``strict`` all but the plainest images.  Beyond its own rows,
every policy but ``none`` refuses an image that `safety.assess` has anything against.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from vmport_formats.disk.model import Concern, DiskFormat
from vmport_formats.disk.openstack_view import second_opinion
from vmport_formats.disk.probe import detect
from vmport_formats.disk.safety import assess
from vmport_formats.errors import UnreadableInput, VmportError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from vmport_formats.disk.model import ImageInfo
    from vmport_formats.source import ByteSource


class Policy(StrEnum):
    """A policy, by its name; each refuses whatever those before it do."""

    NONE = "none"
    OPENSTACK = "openstack"
    STRICT = "strict"


class Rule(NamedTuple):
    """Something that a policy refuses."""

    code: str
    reason: str
    applies: Callable[[ImageInfo], bool]


FORMATS: Final[Mapping[Policy, Mapping[DiskFormat, str]]] = {
    Policy.OPENSTACK: {
        DiskFormat.QCOW: "OpenStack takes a qcow of version 1 for a qcow2 of an unknown version",
        DiskFormat.QED: "OpenStack bans QED",
        DiskFormat.PARALLELS: "OpenStack does not know Parallels images and takes them for raw",
        DiskFormat.DMG: "OpenStack does not know DMG and takes it for raw",
        DiskFormat.CLOOP: "OpenStack does not know cloop and takes it for raw",
        DiskFormat.BOCHS: "OpenStack does not know Bochs images and takes them for raw",
    },
    Policy.STRICT: {
        DiskFormat.VHD: "a VHD states its size twice, and programs differ in which one counts",
        DiskFormat.VHDX: "a VHDX has a log, which some programs replay and others do not",
        DiskFormat.VDI: "a VDI can rest on a parent that it does not name",
        DiskFormat.LUKS: "what is inside cannot be looked at",
    },
}
"""The formats that a policy refuses, and why."""

RULES: Final[Mapping[Policy, tuple[Rule, ...]]] = {
    Policy.OPENSTACK: (
        Rule(
            "openstack.fixed-vhd",
            "OpenStack and qemu look for no mark at the end, and take a fixed VHD for raw",
            lambda info: info.format is DiskFormat.VHD and info.variant == "fixed",
        ),
        Rule(
            "openstack.extended-l2",
            "OpenStack counts extended L2 entries among the features that it does not know",
            lambda info: info.details.get("extended-l2") is True,
        ),
    ),
    Policy.STRICT: (
        Rule(
            "strict.encrypted",
            "the content is encrypted, so it cannot be looked at",
            lambda info: info.encrypted,
        ),
        Rule(
            "strict.dirty",
            "it was not closed cleanly, so programs will repair it before they read it",
            lambda info: info.dirty,
        ),
        Rule(
            "strict.snapshots",
            "it has internal snapshots: content that the disk itself does not show",
            lambda info: bool(info.snapshots),
        ),
    ),
}
"""What else a policy refuses."""


class Ruling(NamedTuple):
    """What a policy says to an image."""

    policy: Policy
    reasons: tuple[Concern, ...]
    """Each with a stable code; none for an image that is accepted."""

    @property
    def accepted(self) -> bool:
        """Whether there is nothing against it."""
        return not self.reasons

    def __str__(self) -> str:
        return "accepted" if self.accepted else "refused"


def judge(policy: Policy, source: ByteSource, info: ImageInfo) -> Ruling:
    """What `policy` says to the image in `source`, which was read as `info`.

    It looks at a few places of the file and opens nothing else.

    Raises:
        UnreadableInput: the system cannot read the file.
    """
    if policy is Policy.NONE:
        return Ruling(policy, ())
    reasons = [*assess(info).reasons, *_disagreement(source, info), *second_opinion(source, info)]
    policies = list(Policy)
    for item in policies[: policies.index(policy) + 1]:
        reasons += _own_reasons(item, info)
    return Ruling(policy, tuple(reasons))


def _own_reasons(policy: Policy, info: ImageInfo) -> Iterator[Concern]:
    if reason := FORMATS.get(policy, {}).get(info.format):
        yield Concern(f"{policy}.format", reason)
    for rule in RULES.get(policy, ()):
        if rule.applies(info):
            yield Concern(rule.code, rule.reason)


def _disagreement(source: ByteSource, info: ImageInfo) -> Iterator[Concern]:
    """Whether the content says something else than the format that was declared for it."""
    try:
        found = detect(source)
    except UnreadableInput:
        raise
    except VmportError as error:  # nothing that it could be, or too much
        yield Concern(error.code, error.problem)
        return
    if found is not info.format:
        yield Concern(
            "policy.declared-format",
            f"was declared to be {info.format.label}, but has the mark of {found.label}",
        )
