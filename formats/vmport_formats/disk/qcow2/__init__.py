"""QEMU's qcow2, versions 2 and 3.  Specification: qemu ``docs/interop/qcow2``."""

from vmport_formats.disk.qcow2.info import matches, read_info

__all__ = ["matches", "read_info"]
