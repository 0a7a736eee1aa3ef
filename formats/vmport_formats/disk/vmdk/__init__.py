"""VMDK, the disk formats of VMware: a text that names extents, or one file that holds both."""

from vmport_formats.disk.vmdk.info import matches, read_info

__all__ = ["matches", "read_info"]
