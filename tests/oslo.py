"""OpenStack's own judgement of an image, by oslo.utils: our policy must never be laxer."""

from __future__ import annotations

import logging
from typing import IO, TYPE_CHECKING

from oslo_utils.imageutils.format_inspector import InspectWrapper

from vmport_formats.disk.policy import Policy, judge
from vmport_formats.disk.probe import probe
from vmport_formats.source import open_source

if TYPE_CHECKING:
    from pathlib import Path

_CHUNK = 4096  # as its own `detect_file_format` reads


def refusal(file: IO[bytes]) -> str | None:
    """Why oslo.utils refuses an image; None when it takes it."""
    logging.getLogger("oslo_utils").setLevel(logging.CRITICAL)
    try:
        wrapper = InspectWrapper(file)
        while wrapper.read(_CHUNK) and wrapper.format is None:
            pass
        wrapper.close()
        found = wrapper.format
        if found is None:
            return "no format"
        found.safety_check()
    except Exception as error:  # noqa: BLE001 - a crash of the inspector lets no image in either
        return f"{type(error).__name__}: {error}"
    return None


_OURS = {"openstack.fixed-vhd", "openstack.format"}
"""What we know better: formats that oslo.utils takes for raw."""


def check_policy(image: Path) -> None:
    """The policy ``openstack`` refuses what oslo.utils does, and by its view nothing else."""
    with image.open("rb") as file:
        refused = refusal(file)
    with open_source(image) as source:
        ruling = judge(Policy.OPENSTACK, source, probe(source))
    if refused is not None:
        assert not ruling.accepted, refused
    else:
        seen = {reason.code for reason in ruling.reasons if reason.code.startswith("openstack.")}
        assert seen <= _OURS
