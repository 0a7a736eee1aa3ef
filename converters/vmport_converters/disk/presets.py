"""What platforms want of a disk that is brought to them, by name: format, options, size, the rest.

Sources: the manuals of the platforms on importing disks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from vmport_converters.disk.options import SUFFIXES, read_options, split_options, target_format
from vmport_formats.disk.model import DiskFormat
from vmport_formats.errors import UsageError
from vmport_formats.units import GIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Platform(StrEnum):
    """Where a disk is meant to go."""

    ESXI = "esxi"
    AZURE = "azure"
    GCP = "gcp"
    AWS = "aws"
    OPENSTACK = "openstack"
    PROXMOX = "proxmox"


@dataclass(frozen=True, slots=True)
class Preset:
    """What one of them wants."""

    label: str
    target: DiskFormat
    options: Mapping[str, str]
    """By qemu-img's names."""
    suffix: str
    """Of files for it."""
    size_multiple: int
    """Bytes; the disk is a whole number of these."""
    note: str
    """What it wants besides."""


_STREAM: Final = {"subformat": "streamOptimized"}

PRESETS: Final[Mapping[Platform, Preset]] = {
    Platform.ESXI: Preset(
        "ESXi", DiskFormat.VMDK, {**_STREAM, "adapter_type": "lsilogic"}, ".vmdk", MIB,
        "ESXi runs no machine from a streamOptimized disk: deploy it with an OVF, or turn it into "
        "a disk of a datastore there with `vmkfstools -i`",
    ),
    Platform.AZURE: Preset(
        "Azure", DiskFormat.VHD, {"subformat": "fixed", "force_size": "on"}, ".vhd", MIB,
        "Azure takes it as a page blob: `azcopy copy --blob-type PageBlob`",
    ),
    Platform.GCP: Preset(
        "Google Cloud", DiskFormat.RAW, {}, ".raw", GIB,
        "Google Cloud takes it as disk.raw, in a tar of the old GNU format, by gzip: "
        "`tar --format=oldgnu -Sczf image.tar.gz disk.raw`",
    ),
    Platform.AWS: Preset(
        "AWS", DiskFormat.VMDK, _STREAM, ".vmdk", 1,
        "AWS takes it from a bucket: `aws ec2 import-image` or `import-snapshot`, as VMDK",
    ),
    Platform.OPENSTACK: Preset(
        "OpenStack", DiskFormat.QCOW2, {"compat": "1.1"}, ".qcow2", 1,
        "OpenStack has to be told the format: `openstack image create --disk-format qcow2`",
    ),
    Platform.PROXMOX: Preset(
        "Proxmox VE", DiskFormat.QCOW2, {}, ".qcow2", 1,
        "Proxmox VE takes it into a storage with `qm importdisk`",
    ),
}  # fmt: skip

_SAME: Final = {"v2": "0.10", "v3": "1.1"}
"""Values that are two words for one thing."""
_PACKAGE: Final = re.compile(r"\.(gz|tgz|tar|zip|xz|bz2|zst|ova|ovf)$", re.IGNORECASE)


def preset_target(platform: Platform, destination: str, named: str | None) -> DiskFormat:
    """The format of a disk for `platform`, where neither name nor suffix says another.

    Raises:
        UsageError: one does; or as `target_format`.
    """
    preset = PRESETS[platform]
    wants = f"{preset.label} takes {preset.target.label}"
    if named is not None and target_format(destination, named) is not preset.target:
        raise UsageError(
            None,
            code="usage.for",
            problem=f"--for {platform} --to {named}: {wants}",
            hint="leave --to out",
        )
    if named is None and (package := _PACKAGE.search(destination)):
        raise UsageError(
            destination,
            code="usage.for",
            problem=f"{package[0]} is the name of a package, and a disk alone is written",
            hint=f"name it {preset.suffix}; {preset.note}",
        )
    suffix = re.search(r"\.[^./]*$", destination)
    said = SUFFIXES.get(suffix[0].lower()) if suffix and named is None else None
    if said is not None and said is not preset.target:
        raise UsageError(
            destination,
            code="usage.for",
            problem=f"--for {platform}: {wants}, but the name says {said.label}",
            hint=f"name it {preset.suffix}, or pass --to {preset.target.code} as well",
        )
    return preset.target


def preset_options(platform: Platform, given: Iterable[str]) -> dict[str, str]:
    """The options of a disk for `platform`, with those that are `given` besides.

    Raises:
        UsageError: one that is given contradicts; or as `read_options`.
    """
    preset = PRESETS[platform]
    # Only what is given can be read twice; so both are read by themselves.
    wanted = [f"{key}={value}" for key, value in preset.options.items()]
    told = [part for text in given for part in split_options(text)]
    free = []
    for part in told:
        key, equals, value = part.partition("=")
        fixed = preset.options.get(key)
        if fixed is None:
            free.append(part.replace(",", ",,"))
        elif not equals or _SAME.get(value, value).lower() != fixed.lower():
            raise UsageError(
                None,
                code="usage.for",
                problem=f"-o {part}: {preset.label} wants {key}={fixed}",
                hint=f"leave it out, or leave --for {platform} out",
            )
    return read_options(preset.target, [*wanted, *free])
