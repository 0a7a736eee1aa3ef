"""VHD, the disk format of Virtual PC and older Hyper-V; qemu calls it vpc."""

from vmport_formats.disk.vhd.info import matches, read_info

__all__ = ["matches", "read_info"]
