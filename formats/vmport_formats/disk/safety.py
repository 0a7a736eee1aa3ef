"""Whether an image may be handed to a program that trusts what it reads: one verdict, with reasons.

The metadata alone decides; nothing is opened.  `safe` means that the disk's content lies in this
one file, and that no reader can take it for something else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vmport_formats.disk.model import Concern
from vmport_formats.references import ReferenceKind

if TYPE_CHECKING:
    from vmport_formats.disk.model import DiskFormat, ImageInfo
    from vmport_formats.references import Reference


class Verdict(NamedTuple):
    """The outcome of `assess`."""

    reasons: tuple[Concern, ...]
    """Each with a stable code; none for a safe image."""

    @property
    def safe(self) -> bool:
        """Whether there is nothing against it."""
        return not self.reasons

    def __str__(self) -> str:
        return "safe" if self.safe else "unsafe"


def assess(info: ImageInfo) -> Verdict:
    """The verdict on `info`: one reason for each file that it names, then the format's own."""
    reasons = [_reference_reason(info.format, item) for item in info.references]
    reasons += info.concerns
    if info.corrupt:
        reasons.append(
            Concern(f"{info.format.code}.corrupt", "the image is marked as corrupt in its header")
        )
    return Verdict(tuple(reasons))


def _reference_reason(disk_format: DiskFormat, reference: Reference) -> Concern:
    text = f"names another file ({reference.kind}): {reference.name}"
    if reference.kind is ReferenceKind.BACKING and reference.declared_format is None:
        text += "; it does not say of which format, so that would be guessed"
    return Concern(f"{disk_format.code}.{reference.kind.code}", text)
