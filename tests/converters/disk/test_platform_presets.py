"""Presets by the name of a platform: what goes with them, and what contradicts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vmport_converters.disk.options import SUFFIXES
from vmport_converters.disk.presets import PRESETS, Platform, preset_options, preset_target
from vmport_formats.disk.model import DiskFormat
from vmport_formats.errors import UsageError

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "convert.md"


def test_each_platform_has_a_preset_that_its_format_knows() -> None:
    assert set(PRESETS) == set(Platform)
    for platform, preset in PRESETS.items():
        assert preset_options(platform, []).items() >= preset.options.items()
        assert SUFFIXES[preset.suffix] is preset.target
        assert f"| `{platform}` | {preset.label} |" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("platform", "destination", "named", "expected"),
    [
        (Platform.ESXI, "x.vmdk", None, DiskFormat.VMDK),
        (Platform.AZURE, "x", None, DiskFormat.VHD),
        (Platform.AZURE, "x.fixed", None, DiskFormat.VHD),
        (Platform.AZURE, "x.img", "vpc", DiskFormat.VHD),
        (Platform.GCP, "x.img", None, DiskFormat.RAW),
    ],
)
def test_a_name_that_does_not_contradict(
    platform: Platform, destination: str, named: str | None, expected: DiskFormat
) -> None:
    assert preset_target(platform, destination, named) is expected


@pytest.mark.parametrize(
    ("platform", "destination", "named", "problem"),
    [
        (Platform.ESXI, "x.vhd", None, "ESXi takes VMDK, but the name says VHD"),
        (Platform.AZURE, "x.vhd", "vhdx", "--for azure --to vhdx: Azure takes VHD"),
        (Platform.AZURE, "x.VHDX", None, "Azure takes VHD, but the name says VHDX"),
        (Platform.GCP, "image.tar.gz", None, ".gz is the name of a package"),
        (Platform.ESXI, "x.ova", None, ".ova is the name of a package"),
        (Platform.AWS, "x.vmdk", "nothing", "there is no such format"),
    ],
)
def test_a_name_that_contradicts(
    platform: Platform, destination: str, named: str | None, problem: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(problem)):
        preset_target(platform, destination, named)


@pytest.mark.parametrize(
    ("platform", "given", "problem"),
    [
        (Platform.ESXI, "subformat=monolithicFlat", "ESXi wants subformat=streamOptimized"),
        (Platform.ESXI, "hwversion=13,adapter_type=ide", "ESXi wants adapter_type=lsilogic"),
        (Platform.AZURE, "subformat=dynamic", "Azure wants subformat=fixed"),
        (Platform.AZURE, "force_size=off", "Azure wants force_size=on"),
        (Platform.OPENSTACK, "compat=0.10", "OpenStack wants compat=1.1"),
        (Platform.OPENSTACK, "compat=v2", "OpenStack wants compat=1.1"),
        (Platform.PROXMOX, "subformat=fixed", "qcow2 has no such option"),
    ],
)
def test_an_option_that_contradicts(platform: Platform, given: str, problem: str) -> None:
    with pytest.raises(UsageError, match=re.escape(problem)):
        preset_options(platform, [given])


def test_options_that_go_with_it() -> None:
    assert preset_options(Platform.OPENSTACK, ["compat=v3", "cluster_size=1M"]) == {
        "compat": "1.1",
        "cluster_size": "1048576",
    }
    assert preset_options(Platform.ESXI, ["subformat=streamoptimized,hwversion=13"]) == {
        "subformat": "streamOptimized",
        "adapter_type": "lsilogic",
        "hwversion": "13",
    }
