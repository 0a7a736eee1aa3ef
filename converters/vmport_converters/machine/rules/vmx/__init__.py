"""The rules for VMX files."""

from vmport_converters.machine.rules.vmx import general, keys, network, platform, storage
from vmport_converters.machine.rules.vmx.view import RULES, VmxView

__all__ = ["RULES", "VmxView", "general", "keys", "network", "platform", "storage"]
