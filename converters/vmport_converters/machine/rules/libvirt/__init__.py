"""The rules for libvirt domains."""

from vmport_converters.machine.rules.libvirt import (
    buses,
    devices,
    disks,
    domain,
    firmware,
    network,
    schema,
)
from vmport_converters.machine.rules.libvirt.view import RULES, DomainView

__all__ = [
    "RULES",
    "DomainView",
    "buses",
    "devices",
    "disks",
    "domain",
    "firmware",
    "network",
    "schema",
]
