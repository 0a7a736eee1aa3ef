"""LUKS version 1 as a disk format: a raw disk that is encrypted as a whole, as qemu makes it.

qemu takes version 2 for raw, and so does this; `raw` says that such a disk is encrypted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmport_formats.disk.model import DiskFormat, ImageInfo
from vmport_formats.encryption.luks1 import matches, read_header
from vmport_formats.units import SECTOR, Bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_formats.disk.layer import Cipher, Opener, Run
    from vmport_formats.encryption.luks1 import Header
    from vmport_formats.source import ByteSource

__all__ = ["matches", "open_layer", "read_info"]


def read_info(source: ByteSource) -> ImageInfo:
    """The metadata of a LUKS disk; what it holds cannot be seen without its key.

    Raises:
        CorruptInput, TruncatedInput, UnsupportedFeature: codes ``luks.FIELD``.
    """
    header = read_header(source)
    return ImageInfo(
        DiskFormat.LUKS,
        variant="v1",
        virtual_size=Bytes(-(-(source.size - header.payload_offset) // SECTOR) * SECTOR),
        file_size=Bytes(source.size),
        encrypted=True,
        details=_details(header),
    )


def _details(header: Header) -> dict[str, object]:
    """By qemu-img's names, which split ``xts-plain64`` and count the bits of one key."""
    mode, _, generator = header.mode.partition("-")
    # XTS takes two keys, one of them for the tweak.
    bits = header.key_length * 8 // (2 if mode == "xts" else 1)
    return {
        "cipher-alg": f"{header.cipher}-{bits}",
        "cipher-mode": mode,
        "ivgen-alg": generator.partition(":")[0],
        "hash-alg": header.hash,
        "uuid": header.uuid,
        "payload-offset": header.payload_offset,
        "master-key-iters": header.digest_iterations,
        "active-slots": len(header.slots),
    }


class LuksLayer:
    """The sectors behind the header, all of them stored and encrypted."""

    def __init__(self, source: ByteSource, payload: int, cipher: Cipher) -> None:
        """`payload` is their offset in the file."""
        self.info = read_info(source)
        self.size = int(self.info.virtual_size)
        self._source = source
        self._payload = payload
        self._cipher = cipher

    def runs(self, offset: int, length: int) -> Iterator[Run]:
        """See `layer.Layer.runs`."""
        from vmport_formats.disk.layer import Found, Run

        at = self._payload + offset
        yield Run(length, Found.STORED, self._source, at, cipher=self._cipher)


def open_layer(source: ByteSource, opener: Opener, *, passphrase: bytes | None = None) -> LuksLayer:
    """The content of a LUKS disk.

    Raises:
        LockedInput: the passphrase is missing or wrong.
        CorruptInput, TruncatedInput, UnsupportedFeature: codes ``luks.FIELD``.
    """
    from vmport_formats.encryption.keyslots import unlock
    from vmport_formats.encryption.sectors import GuestNumbered

    header = read_header(source)
    cipher = GuestNumbered(unlock(source, header, passphrase))
    return LuksLayer(source, header.payload_offset, cipher)
