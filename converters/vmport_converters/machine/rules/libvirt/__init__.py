"""The rules for libvirt domains."""

from vmport_converters.machine.rules.libvirt.view import RULES, DomainView

__all__ = ["RULES", "DomainView"]
