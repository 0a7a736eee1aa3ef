"""Ids of images that are written: the same for the same facts, so that output can be repeated."""

from __future__ import annotations

from typing import Final
from uuid import UUID, uuid5

_NAMESPACE: Final = UUID("f0a7a3c6-6f0e-5d57-9d0c-1d6c5e2b8b11")
"""Vmport's own; never to be changed, or the ids of all images would."""


def derived_uuid(*facts: object) -> UUID:
    """A UUID that follows from `facts`, as they are written out, in their order."""
    return uuid5(_NAMESPACE, "\0".join(map(str, facts)))
