"""The composer for each format that we write ourselves, from options by qemu-img's names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from vmport_converters.disk.plan import Compression
from vmport_formats.disk.model import DiskFormat
from vmport_formats.errors import UsageError
from vmport_formats.units import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vmport_converters.disk.plan import Conversion
    from vmport_formats.disk.composer import Composer
    from vmport_formats.disk.image import DiskImage

_RAW_GRAIN: Final = 4 * KIB
"""The block of most file systems: zeros are holes as finely as these can tell."""
_WITHOUT_IDS: Final = frozenset({DiskFormat.RAW, DiskFormat.QCOW2})


def composer_for(plan: Conversion, name: str, disk: DiskImage) -> Composer:
    """The composer of what `plan` says; the file will be called `name` and hold `disk`.

    Raises:
        UsageError: the format, with these options, has no place for all that.
        InputError: the disk cannot be read.
    """
    identity = b"" if plan.target in _WITHOUT_IDS else _identity(plan, name, disk)
    try:
        return _COMPOSERS[plan.target](plan, dict(plan.options), name, identity)
    except ValueError as error:
        raise UsageError(None, code="usage.option-limit", problem=f"-o: {error}") from error


def _identity(plan: Conversion, name: str, disk: DiskImage) -> bytes:
    from vmport_converters.disk.native.identity import identity_of

    return identity_of(plan, name, disk)


def _raw(plan: Conversion, options: Mapping[str, str], _name: str, _identity: bytes) -> Composer:
    from vmport_formats.disk.raw_composer import RawComposer

    size = plan.virtual_size if plan.length is None else plan.length
    return RawComposer(size, grain=_RAW_GRAIN, full=options.get("preallocation") == "full")


def _qcow2(plan: Conversion, options: Mapping[str, str], _name: str, _identity: bytes) -> Composer:
    from vmport_formats.disk.packing import Effort
    from vmport_formats.disk.qcow2.composer import Qcow2Composer
    from vmport_formats.disk.qcow2.header import Compression as Type
    from vmport_formats.disk.qcow2.options import Preallocation, Qcow2Options

    reserved = options.get("preallocation", "off")
    packs = plan.compression is not Compression.NONE
    small = plan.compression is Compression.SMALL
    return Qcow2Composer(
        plan.virtual_size,
        Qcow2Options(
            version=2 if options.get("compat") in {"0.10", "v2"} else 3,
            cluster_size=int(options.get("cluster_size", 64 * KIB)),
            refcount_bits=int(options.get("refcount_bits", 16)),
            lazy_refcounts=options.get("lazy_refcounts") == "on",
            extended_l2=options.get("extended_l2") == "on",
            compression_type=Type.ZSTD if options.get("compression_type") == "zstd" else Type.ZLIB,
            compress=(Effort.SMALL if small else Effort.FAST) if packs else None,
            # What is set aside by the file system needs its place, too.
            preallocation=Preallocation("metadata" if reserved == "falloc" else reserved),
            backing_file=options.get("backing_file"),
            backing_format=options.get("backing_fmt"),
        ),
    )


def _vmdk(plan: Conversion, options: Mapping[str, str], name: str, identity: bytes) -> Composer:
    from vmport_formats.disk.vmdk.description import plain_name
    from vmport_formats.disk.vmdk.sparse_composer import SparseComposer, SparseOptions
    from vmport_formats.disk.vmdk.stream_composer import StreamComposer, StreamOptions

    streams = options["subformat"] == "streamOptimized"
    said: dict[str, Any] = {
        "name": plain_name(name),
        "cid": int.from_bytes(identity[:4]) & 0x7FFF_FFFF,
        "compat6": options.get("compat6") == "on",
        "zeroed_grain": options.get("zeroed_grain") == "on",
    }
    if "adapter_type" in options:
        said["adapter_type"] = options["adapter_type"]
    for key in ("hwversion", "toolsversion"):
        if key in options:
            said[key] = int(options[key])
    if not streams:
        return SparseComposer(plan.virtual_size, SparseOptions(**said))
    small = plan.compression is Compression.SMALL
    said |= {"whole_grains": False, "compression": "small" if small else "fast"}
    return StreamComposer(plan.virtual_size, StreamOptions(**said))


def _vhd(plan: Conversion, options: Mapping[str, str], _name: str, identity: bytes) -> Composer:
    from vmport_formats.disk.vhd.composer import Subformat, VhdOptions, vhd_composer

    return vhd_composer(
        plan.virtual_size,
        VhdOptions(
            subformat=Subformat(options["subformat"]),
            force_size=options["force_size"] == "on",
            unique_id=UUID(bytes=identity, version=4),
        ),
    )


def _vhdx(plan: Conversion, options: Mapping[str, str], _name: str, identity: bytes) -> Composer:
    from vmport_formats.disk.vhdx.composer import Subformat, VhdxComposer, VhdxOptions

    # Blocks of zeros are always marked: `block_state_zero` is off only where it means nothing.
    return VhdxComposer(
        plan.virtual_size,
        VhdxOptions(
            subformat=Subformat(options["subformat"]),
            block_size=int(options.get("block_size", 0)),
            log_size=int(options.get("log_size", MIB)),
            disk_id=UUID(bytes=identity, version=4),
        ),
    )


def _vdi(plan: Conversion, options: Mapping[str, str], _name: str, identity: bytes) -> Composer:
    from vmport_formats.disk.vdi.composer import VdiComposer, VdiOptions

    return VdiComposer(
        plan.virtual_size,
        VdiOptions(static=options.get("static") == "on", uuid=UUID(bytes=identity, version=4)),
    )


_COMPOSERS: Final[
    Mapping[DiskFormat, Callable[[Conversion, Mapping[str, str], str, bytes], Composer]]
] = {
    DiskFormat.RAW: _raw,
    DiskFormat.QCOW2: _qcow2,
    DiskFormat.VMDK: _vmdk,
    DiskFormat.VHD: _vhd,
    DiskFormat.VHDX: _vhdx,
    DiskFormat.VDI: _vdi,
}
