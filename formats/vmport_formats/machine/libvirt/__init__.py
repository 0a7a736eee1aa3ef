"""libvirt's domain XML: https://libvirt.org/formatdomain.html."""

from vmport_formats.machine.libvirt.reader import read_libvirt

__all__ = ["read_libvirt"]
