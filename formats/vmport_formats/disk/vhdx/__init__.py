"""VHDX, the disk format of Hyper-V since 2012."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmport_formats.disk.vhdx.info import matches, read_info

if TYPE_CHECKING:
    from vmport_formats.disk.layer import Layer, Opener
    from vmport_formats.source import ByteSource

__all__ = ["matches", "open_layer", "read_info"]


def open_layer(source: ByteSource, opener: Opener) -> Layer:
    """See `layer.open_layer`, which is imported only when content is read."""
    from vmport_formats.disk.vhdx import layer

    return layer.open_layer(source, opener)
