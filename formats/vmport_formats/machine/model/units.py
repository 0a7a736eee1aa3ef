"""Names and units that only machines have."""

from __future__ import annotations

from typing import NewType

MacAddress = NewType("MacAddress", str)
"""Six octets in lower case with colons: ``52:54:00:12:34:56``."""

CpuList = NewType("CpuList", str)
"""Numbers of virtual CPUs in order, as ranges: ``0-3,8``."""

PciAddress = NewType("PciAddress", str)
"""Domain, bus, slot and function in hexadecimal: ``0000:00:1f.2``."""

Kilobytes = NewType("Kilobytes", int)
"""1000 bytes, the unit of network rates in libvirt (kilobytes a second)."""
