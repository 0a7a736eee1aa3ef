"""The name and tag of an image, as engines write it.

Source: the grammar of github.com/distribution/reference, which Docker, containerd and Podman share.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from vmport_formats.errors import UsageError

_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_DOMAIN: Final = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)(?:\.[A-Za-z0-9][A-Za-z0-9-]*)*"
_REFERENCE: Final = re.compile(
    rf"(?:(?P<domain>{_DOMAIN}(?::[0-9]+)?)/)?"
    rf"(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}))?"
)
_LONGEST: Final = 255
DEFAULT_TAG: Final = "latest"


@dataclass(frozen=True, slots=True)
class ImageName:
    """A name that an engine can give an image."""

    name: str
    """As the user wrote it, without the tag."""
    canonical: str
    """With the registry that is meant when none is written."""
    tag: str

    def __str__(self) -> str:
        return f"{self.name}:{self.tag}"

    @property
    def title(self) -> str:
        """Its last component."""
        return self.name.rpartition("/")[2]


def parse_image_name(text: str) -> ImageName:
    """The name that `text` writes as ``[REGISTRY/]NAME[:TAG]``.

    Raises:
        UsageError: no engine would take it.
    """
    found = _REFERENCE.fullmatch(text)
    if found is None or len(text) > _LONGEST:
        hint = "write NAME, NAME:TAG or REGISTRY/NAME:TAG; NAME in lower-case letters and digits"
        raise UsageError(
            None,
            code="export.tag",
            problem=f"--tag {text!r} is not the name of an image",
            hint=hint,
        )
    domain, path, tag = found["domain"], found["path"], found["tag"] or DEFAULT_TAG
    if domain is not None and not (set(domain) & {".", ":"} or domain == "localhost"):
        if domain.lower() != domain:
            raise UsageError(
                None, code="export.tag", problem=f"--tag {text!r} has an upper-case letter"
            )
        domain, path = None, f"{domain}/{path}"  # a first component, not a registry
    name = f"{domain}/{path}" if domain else path
    if domain is None:
        canonical = f"docker.io/{path}" if "/" in path else f"docker.io/library/{path}"
    else:
        canonical = name
    return ImageName(name=name, canonical=canonical, tag=tag)
