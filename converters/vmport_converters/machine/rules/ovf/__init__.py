"""The rules for OVF envelopes."""

from vmport_converters.machine.rules.ovf import (
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
    "guest",
    "items",
    "machine",
    "network",
    "references",
    "structure",
    "targets",
]
