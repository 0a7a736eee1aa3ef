"""OpenStack's own judgement of an image, by oslo.utils: our policy must never be laxer."""

from __future__ import annotations

import logging
from typing import IO

from oslo_utils.imageutils.format_inspector import InspectWrapper

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
