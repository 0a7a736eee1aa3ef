"""VHDX, the disk format of Hyper-V since 2012."""

from vmport_formats.disk.vhdx.info import matches, read_info

__all__ = ["matches", "read_info"]
