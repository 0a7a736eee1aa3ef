"""Writes what a plan says, in the way that suits it, without another program."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from vmport_converters.disk.native.engine import write_image
from vmport_converters.disk.native.output import OutputFile
from vmport_converters.disk.native.raw import can_be_shared, copy_raw
from vmport_formats.disk.model import DiskFormat

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vmport_converters.disk.native.flush import Flush
    from vmport_converters.disk.plan import Conversion
    from vmport_converters.disk.source import Source
    from vmport_formats.disk.composer import Composer, OverlayComposer


def write_natively(
    plan: Conversion,
    source: Source,
    composer: Composer,
    path: Path,
    *,
    verify: bool,
    on_progress: Callable[[float], object],
) -> tuple[str | None, Flush]:
    """Write the new file `path`, as `composer` lays it out.

    Returns:
        the digest of what was read, if it is known and wanted to `verify`, and the flush that has
        begun.

    Raises:
        InputError: the disk, or its base, cannot be read.
        OSError: the file cannot be written.
    """
    disk, base = source.disk, source.base
    preallocation = dict(plan.options).get("preallocation", "off")
    shared = plan.target is DiskFormat.RAW and preallocation == "off" and can_be_shared(disk, path)
    with OutputFile(path) as output:
        if preallocation == "falloc":  # before any work: there may be no space
            output.reserve(plan.virtual_size)
        if base is not None:
            from vmport_converters.disk.native.overlay import write_overlay

            overlay = cast("OverlayComposer", composer)  # no other format has a backing_file
            hashed = verify and not base.shared
            digest = write_overlay(
                disk, base.disk, overlay, output, hashed=hashed, on_progress=on_progress
            )
            return digest if hashed else None, output.flush()
        if shared:
            copy_raw(disk, composer, output, on_progress=on_progress)
            return None, output.flush()
        digest = write_image(disk, composer, output, hashed=verify, on_progress=on_progress)
        if preallocation == "falloc":
            output.reserve(composer.length)
        return digest if verify else None, output.flush()
