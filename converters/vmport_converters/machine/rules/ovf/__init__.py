"""The rules for OVF envelopes."""

from vmport_converters.machine.rules.ovf import (
    disks,
    guest,
    items,
    machine,
    network,
    references,
    structure,
    targets,
)
from vmport_converters.machine.rules.ovf.view import RULES

__all__ = [
    "RULES",
    "disks",
    "guest",
    "items",
    "machine",
    "network",
    "references",
    "structure",
    "targets",
]
