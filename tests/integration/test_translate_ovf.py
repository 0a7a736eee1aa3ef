"""An OVF that translate wrote, read by virt-v2v: the same machine."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

import pytest

if TYPE_CHECKING:
    from tests.conftest import Vmport

FIXTURES: Final = Path(__file__).parents[2] / "fixtures" / "machine"
GUEST: Final = """
<domain type="kvm">
  <name>guest</name>
  <memory unit="MiB">512</memory>
  <vcpu>2</vcpu>
  <os><type arch="x86_64" machine="pc-q35-7.2">hvm</type></os>
  <devices>
    <disk type="file" device="disk">
      <driver name="qemu" type="qcow2"/>
      <source file="/var/lib/libvirt/images/guest.qcow2"/>
      <target dev="vda" bus="virtio"/>
    </disk>
  </devices>
</domain>
"""
OVF: Final = "{http://schemas.dmtf.org/ovf/envelope/1}"

pytestmark = pytest.mark.needs("virt-v2v", "qemu-img")


@dataclass(frozen=True)
class Seen:
    """What virt-v2v says of a package."""

    name: str
    memory: int
    cpus: int
    firmware: str
    disks: tuple[str, ...]
    drives: tuple[str, ...]
    nics: tuple[str, ...]


def as_virt_v2v_reads_it(folder: Path) -> Seen:
    done = subprocess.run(
        ["virt-v2v", "-i", "ova", folder, "--print-source"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr

    def value(key: str) -> str:
        found = re.search(rf"^ *{key}: (.*)$", done.stdout, re.MULTILINE)
        assert found is not None, done.stdout
        return found[1].strip()

    return Seen(
        name=value("source name"),
        memory=int(value("memory").split()[0]),
        cpus=int(value("nr vCPUs")),
        firmware=value("firmware"),
        disks=tuple(re.findall(r"^\t\d+ \[(.*)\]$", done.stdout, re.MULTILINE)),
        drives=tuple(re.findall(r"^\t(CD-ROM \[.*?\]|Floppy)", done.stdout, re.MULTILINE)),
        nics=tuple(re.findall(r"^\tBridge (.*)$", done.stdout, re.MULTILINE)),
    )


def make_disks(ovf: Path, size: str = "4M") -> None:
    """The disks that the OVF names, beside it."""
    for file in ET.parse(ovf).getroot().iter(f"{OVF}File"):
        name = ovf.parent / (file.get(f"{OVF}href") or "")
        argv = ["qemu-img", "create", "-q", "-f", "vmdk", "-o", "subformat=streamOptimized"]
        subprocess.run([*argv, name, size], check=True)


@pytest.mark.parametrize(
    ("case", "disks", "seen"),
    [
        (
            "ovf-linux-uefi",
            ("sda", "sdb", "vda"),
            Seen(
                name="db-07",
                memory=16384 << 20,  # 16382 MiB is no multiple of 4
                cpus=4,
                firmware="uefi",
                disks=("scsi", "scsi", "scsi"),
                drives=(),
                nics=(
                    '"br-front" mac: 52:54:00:07:00:01 [vmxnet3]',
                    '"br-back" mac: 52:54:00:07:00:02 [e1000e]',
                ),
            ),
        ),
        (
            "ovf-windows",
            ("vda", "sda"),
            Seen(
                name="desk 12 (Büro)",
                memory=8 << 30,
                cpus=4,
                firmware="uefi",
                disks=("sata", "sata"),
                drives=("CD-ROM [sata]",),
                nics=('"default" mac: 52:54:00:12:12:12 [e1000e]',),
            ),
        ),
        (
            "ovf-old-bios",
            ("hda", "sdc", "sdh", "sdl"),
            Seen(
                name="till",
                memory=256 << 20,
                cpus=1,
                firmware="bios",
                disks=("ide", "sata", "sata", "sata"),
                drives=("CD-ROM [ide]", "Floppy"),
                nics=(
                    '"shop" mac: 00:0c:29:aa:bb:cc [pcnet32]',
                    '"NAT" mac: 52:54:00:00:00:09 [e1000]',
                ),
            ),
        ),
    ],
)
def test_virt_v2v_reads_the_same_machine(
    vmport: Vmport, tmp_path: Path, case: str, disks: tuple[str, ...], seen: Seen
) -> None:
    ovf = tmp_path / "machine.ovf"
    sizes = [option for name in disks for option in ("--disk-size", f"{name}=4M")]
    vmport("translate", FIXTURES / case / "machine.xml", ovf, *sizes)
    make_disks(ovf)
    assert as_virt_v2v_reads_it(tmp_path) == seen


def test_the_whole_way_beside_the_disk(vmport: Vmport, tmp_path: Path) -> None:
    """A guest and its disk in one folder: sizes are read where it is allowed, and the conversion
    that translate asks for makes the file that the OVF names."""
    machine = tmp_path / "guest.xml"
    machine.write_text(GUEST, encoding="utf-8")
    disk = tmp_path / "guest.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "68157440"], check=True)
    package = tmp_path / "package"
    package.mkdir()
    ovf = package / "guest.ovf"

    refused = vmport("translate", machine, ovf, check=False)
    assert refused.returncode == 2
    assert "--allow /var/lib/libvirt/images" in refused.stderr
    assert "--disk-size vda=SIZE" in refused.stderr
    assert not list(package.iterdir())

    done = vmport("translate", machine, ovf, "--allow", tmp_path)
    (found,) = ET.parse(ovf).getroot().iter(f"{OVF}Disk")
    assert found.get(f"{OVF}capacity") == "68157440"
    (command,) = re.findall(r"^ *(vmport convert .*)$", done.stdout, re.MULTILINE)
    assert "subformat=streamOptimized" in command
    vmport("convert", disk, package / "guest.vmdk", "-o", "subformat=streamOptimized")
    assert as_virt_v2v_reads_it(package).disks == ("sata",)
