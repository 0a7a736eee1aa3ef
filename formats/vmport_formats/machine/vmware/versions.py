"""The versions of VMware's virtual hardware: what runs them, and how large a machine can be.

Sources: Broadcom KB 312100 (hardware versions by product) and 315655 (invalid and hosted-only
ones), and "Hardware Features Available with Virtual Machine Compatibility Settings" of vSphere's
documentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Hardware:
    """One version of the virtual hardware."""

    since: str
    """The first products that run it."""
    max_cpus: int
    max_memory: int
    """In MB."""
    hosted_only: bool = False
    """Workstation and Fusion have it, ESXi does not."""


HARDWARE: Final = {
    3: Hardware("ESX 2 and GSX 3", 2, 3_600),
    4: Hardware("ESX 3 and Workstation 5", 4, 65_532),
    6: Hardware("Workstation 6", 4, 65_532, hosted_only=True),
    7: Hardware("ESX 4 and Workstation 6.5", 8, 261_120),
    8: Hardware("ESXi 5.0 and Workstation 8", 32, 1_035_264),
    9: Hardware("ESXi 5.1 and Workstation 9", 64, 1_035_264),
    10: Hardware("ESXi 5.5 and Workstation 10", 64, 1_035_264),
    11: Hardware("ESXi 6.0 and Workstation 11", 128, 4_177_920),
    12: Hardware("Workstation 12", 128, 4_177_920, hosted_only=True),
    13: Hardware("ESXi 6.5", 128, 6_275_072),
    14: Hardware("ESXi 6.7 and Workstation 14", 128, 6_275_072),
    15: Hardware("ESXi 6.7 U2", 256, 6_275_072),
    16: Hardware("Workstation 15", 256, 6_275_072, hosted_only=True),
    17: Hardware("ESXi 7.0", 256, 6_275_072),
    18: Hardware("ESXi 7.0 U1 and Workstation 16", 768, 25_149_440),
    19: Hardware("ESXi 7.0 U2 and Workstation 16.2", 768, 25_149_440),
    20: Hardware("ESXi 8.0 and Workstation 17", 768, 25_149_440),
    21: Hardware("ESXi 8.0 U2 and Workstation 17.5", 768, 25_149_440),
    22: Hardware("ESX 9.0 and Workstation 25H2", 960, 25_149_440),
}
"""All versions that were ever released.  There is no 5."""

NEWEST_HARDWARE: Final = max(HARDWARE)

HOSTED_HARDWARE: Final = frozenset(number for number, row in HARDWARE.items() if row.hosted_only)

DEFAULT_HARDWARE: Final = 19
"""For a machine that states none: ESXi 7.0 U2 and later, Workstation 16.2 and later."""


def limits(hardware: int) -> Hardware:
    """The row of a version; of the nearest older one, when it was never released."""
    return HARDWARE[max((number for number in HARDWARE if number <= hardware), default=3)]
