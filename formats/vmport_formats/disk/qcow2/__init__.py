"""QEMU's qcow2, versions 2 and 3.  Specification: qemu ``docs/interop/qcow2``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmport_formats.disk.qcow2.info import matches, read_info

if TYPE_CHECKING:
    from vmport_formats.disk.layer import Layer, Opener
    from vmport_formats.source import ByteSource

__all__ = ["matches", "open_layer", "read_info"]


def open_layer(
    source: ByteSource,
    opener: Opener,
    *,
    snapshot: str | None = None,
    passphrase: bytes | None = None,
) -> Layer:
    """See `layer.open_layer`, which is imported only when content is read."""
    from vmport_formats.disk.qcow2 import layer

    return layer.open_layer(source, opener, snapshot=snapshot, passphrase=passphrase)
