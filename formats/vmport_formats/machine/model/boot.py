"""Where a machine starts from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class BootDevice(StrEnum):
    """A class of devices to boot from."""

    DISK = "disk"
    CDROM = "cdrom"
    FLOPPY = "floppy"
    NETWORK = "network"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Boot:
    """How the firmware picks what to boot.

    `order` ranks classes of devices; single devices carry a `boot_order` of their own instead.
    """

    order: tuple[BootDevice, ...] = ()
    menu: bool | None = None
    delay_ms: int | None = None
    """How long the menu or the prompt waits, in milliseconds."""
    serial_console: bool | None = None
    """Whether the firmware talks on the serial port too."""
