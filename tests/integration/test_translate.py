"""``vmport translate`` as a user runs it, and what other people's tools read in what it wrote."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from vmport.cli import run
from vmport_formats.machine.libvirt import read_libvirt
from vmport_formats.machine.model import DiskBus, DiskDevice, FirmwareKind

if TYPE_CHECKING:
    from tests.conftest import Golden, Vmport
    from vmport_formats.machine.model import Machine

MACHINES = sorted((Path(__file__).parents[2] / "fixtures/machine/libvirt").iterdir())
BY_NAME = {folder.name: folder / "machine.xml" for folder in MACHINES}

SIMPLE = """<domain type='kvm'>
  <name>simple</name>
  <memory unit='MiB'>512</memory>
  <vcpu>2</vcpu>
  <os><type arch='x86_64'>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <driver type='qcow2'/>
      <source file='{disk}'/>
      <target dev='sda' bus='sata'/>
      <address type='drive' controller='0' bus='0' target='0' unit='0'/>
    </disk>
    <interface type='bridge'>
      <mac address='52:54:00:00:00:01'/>
      <source bridge='br0'/>
      <model type='e1000e'/>
    </interface>
  </devices>
</domain>
"""
LOSSY = "<domain type='kvm'>\n <devices>\n  <filesystem type='mount'/>\n </devices>\n</domain>"


@pytest.fixture
def simple(tmp_path: Path) -> Path:
    """A machine that loses nothing, and its disk of 64 MiB beside it."""
    disk = tmp_path / "disks" / "simple.qcow2"
    disk.parent.mkdir()
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "64M"], check=True)
    path = tmp_path / "simple.xml"
    path.write_text(SIMPLE.format(disk=disk))
    return path


# --- What other tools read ----------------------------------------------------------------------


@pytest.mark.needs("virt-xml-validate")
@pytest.mark.parametrize("name", BY_NAME)
def test_the_machines_that_we_read_are_valid(name: str) -> None:
    argv = ["virt-xml-validate", str(BY_NAME[name]), "domain"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


READ_BY_VIRT_V2V = {
    "debian-virtio": {
        "source name": "web-01",
        "VM genid": "09512cc5-940a-8987-b950-f54f631015e8",
        "memory": "4294967296 (bytes)",
        "nr vCPUs": "4",
        "CPU topology": "sockets: 1 cores/socket: 4 threads/core: 1",
        "firmware": "bios",
        "disks": ["0 [scsi]", "1 [scsi]"],
        "NICs": ['Bridge "default" [vmxnet3]', 'Bridge "br0" [vmxnet3]'],
    },
    "windows-secure-boot": {
        "source name": "win11-büro",
        "memory": "8589934592 (bytes)",
        "nr vCPUs": "2",
        "firmware": "uefi",
        "sound": "ich6",
        "disks": ["0 [sata]", "1 [sata]"],
        "NICs": ['Bridge "VM Network" [e1000e]'],
    },
    "legacy-ide": {
        "memory": f"{1004 << 20} (bytes)",
        "nr vCPUs": "1",
        "firmware": "bios",
        "sound": "es1370",
        "disks": ["0 [sata]", "1 [ide]", "2 [ide]"],
        "removable media": ["CD-ROM [ide] in slot 1"],
        "NICs": ['Network "VM Network" [e1000]', 'Bridge "accounts" [vlance]'],
    },
    "big-server": {
        "memory": f"{256 << 30} (bytes)",
        "nr vCPUs": "32",
        "CPU topology": "sockets: 2 cores/socket: 16 threads/core: 1",
        "firmware": "uefi",
        "disks": ["0 [scsi]", "1 [scsi]", "2 [scsi]"],
        "NICs": ['Bridge "VM Network" [vmxnet3]', 'Bridge "br-db" [vmxnet3]'],
    },
}


@pytest.mark.needs("virt-v2v", "qemu-img")
@pytest.mark.parametrize("name", READ_BY_VIRT_V2V)
def test_virt_v2v_reads_the_same_machine(vmport: Vmport, tmp_path: Path, name: str) -> None:
    target = tmp_path / "machine.vmx"
    vmport("-q", "translate", BY_NAME[name], target)
    for disk in set(re.findall(r'"([^"]+\.vmdk)"', target.read_text())):
        argv = ["qemu-img", "create", "-q", "-f", "vmdk", tmp_path / disk, "1M"]
        subprocess.run(argv, check=True)
    argv = ["virt-v2v", "-i", "vmx", target, "--print-source"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert "warning" not in done.stdout + done.stderr
    read = source_of(done.stdout)
    expected = READ_BY_VIRT_V2V[name]
    assert {key: read.get(key) for key in expected} == expected


def source_of(text: str) -> dict[str, str | list[str]]:
    """What ``virt-v2v --print-source`` shows: values by label, lists by heading."""
    found: dict[str, str | list[str]] = {}
    heading = ""
    for line in text.splitlines():
        label, colon, value = line.partition(":")
        if line.startswith("\t"):
            listed = found.setdefault(heading, [])
            assert isinstance(listed, list)
            listed.append(line.strip())
        elif colon and not line.startswith("["):
            heading = label.strip()
            if value.strip():
                found[heading] = value.strip()
    return found


@pytest.mark.needs("virsh")
@pytest.mark.parametrize("folder", MACHINES, ids=lambda folder: folder.name)
def test_libvirt_reads_the_same_machine(tmp_path: Path, folder: Path) -> None:
    # libvirt's driver for Workstation needs no daemon.  It asks the program for its version, and
    # then reads the file by itself.
    for program in ("vmware", "vmrun"):
        (tmp_path / program).write_text("#!/bin/sh\necho VMware Workstation 17.0.0 build-1\n")
        (tmp_path / program).chmod(0o755)
    argv = ["virsh", "-c", "vmwarews:///session", "domxml-from-native", "vmware-vmx"]
    done = subprocess.run(
        [*argv, str(folder / "machine.vmx")],
        capture_output=True,
        check=False,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    if b"no connection driver available" in done.stderr:
        return  # this libvirt was built without; virt-v2v has read the file above
    assert done.returncode == 0, done.stderr
    source = read_libvirt((folder / "machine.xml").read_bytes(), "source").model
    # It calls the first SATA drive sda, even where there is a SCSI disk of that name.
    written = re.sub(rb"dev='sd(\w+)' bus='sata'", rb"dev='sata\1' bus='sata'", done.stdout)
    target = read_libvirt(written, "target").model
    assert target.name == source.name
    assert target.uuid in (source.uuid, UUID(int=0))
    assert target.memory is not None
    assert source.memory is not None
    assert source.memory.size is not None
    assert target.memory.size == -(-source.memory.size // (4 << 20)) * (4 << 20)
    assert target.cpu is not None
    assert target.cpu.count == (1 if source.cpu is None else source.cpu.online or source.cpu.count)
    assert is_uefi(target) == is_uefi(source)
    macs = [nic.mac for nic in source.nics]
    assert [
        nic.mac if known else None for nic, known in zip(target.nics, macs, strict=True)
    ] == macs
    disks = [disk for disk in source.disks if disk.device is not DiskDevice.LUN]
    assert len(target.disks) == len(disks)
    for bus in (DiskBus.IDE, DiskBus.SATA):
        kept = {(disk.channel, disk.unit) for disk in disks if disk.bus is bus}
        assert kept <= {(disk.channel, disk.unit) for disk in target.disks if disk.bus is bus}


def is_uefi(machine: Machine) -> bool:
    return machine.firmware is not None and machine.firmware.kind is FirmwareKind.UEFI


# --- What the user sees -------------------------------------------------------------------------


@pytest.mark.parametrize("name", BY_NAME)
def test_golden_ledger(vmport: Vmport, tmp_path: Path, golden: Golden, name: str) -> None:
    source, target, ledger = BY_NAME[name], tmp_path / "machine.vmx", tmp_path / "ledger.txt"
    shown = vmport("translate", source, target, "--ledger", ledger, COLUMNS="90").stdout
    text = ledger.read_text().replace(str(source.parent), "").replace(str(tmp_path), "")
    golden(source.parent / "ledger.txt", text)
    assert set(shown.splitlines()[:1]) == {f"{source} → {target}"}
    prose = [line for line in shown.splitlines()[1:] if "vmport convert" not in line]
    assert max(map(len, prose)) <= 90
    fields = json.loads(vmport("translate", "--json", "--force", source, target).stdout)
    assert sum(fields["counts"].values()) == len(fields["entries"])


@pytest.mark.needs("qemu-img")
def test_the_ledger_can_be_strict(vmport: Vmport, tmp_path: Path, simple: Path) -> None:
    lossy = tmp_path / "lossy.xml"
    lossy.write_text(LOSSY)
    target, ledger = tmp_path / "x.vmx", tmp_path / "ledger.json"
    done = vmport("translate", "--strict", lossy, target, "--ledger", ledger, check=False)
    assert done.returncode == 1
    assert "was not written: 1 value of consequence would be lost" in done.stderr
    assert "3:15" in done.stdout
    assert not target.exists()
    assert json.loads(ledger.read_text())["losses"] == 1
    assert vmport("translate", "--strict", simple, target).returncode == 0
    assert target.exists()


@pytest.mark.needs("qemu-img")
def test_an_existing_file_is_replaced_only_by_force(
    vmport: Vmport, tmp_path: Path, simple: Path
) -> None:
    target, ledger = tmp_path / "x.vmx", tmp_path / "ledger.json"
    target.write_text("mine")
    done = vmport("translate", simple, target, "--ledger", ledger, check=False)
    assert (done.returncode, target.read_text()) == (6, "mine")
    assert not ledger.exists()
    vmport("translate", "--force", simple, target, "--ledger", ledger)
    assert "config.version" in target.read_text()
    assert json.loads(ledger.read_text())["disks-to-convert"] == [
        {
            "source": str(tmp_path / "disks" / "simple.qcow2"),
            "source-format": "qcow2",
            "target": "simple.vmdk",
            "target-format": "vmdk",
            "subformat": None,
            "backing": [],
            "local": True,
        }
    ]


@pytest.mark.needs("qemu-img")
def test_the_command_that_is_shown_converts_the_disk(
    vmport: Vmport, tmp_path: Path, simple: Path
) -> None:
    target = tmp_path / "x.vmx"
    shown = vmport("translate", simple, target).stdout
    (command,) = [line.split() for line in shown.splitlines() if "vmport convert" in line]
    vmport(*command[1:])
    argv = ["qemu-img", "compare", f"{tmp_path}/disks/simple.qcow2", f"{tmp_path}/simple.vmdk"]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.needs("qemu-img")
def test_an_ovf_needs_the_sizes_of_disks(vmport: Vmport, tmp_path: Path, simple: Path) -> None:
    target = tmp_path / "x.ovf"
    done = vmport("translate", simple, target, check=False)
    assert done.returncode == 2
    assert f"--allow {tmp_path / 'disks'}" in done.stderr
    assert "--disk-size sda=SIZE" in done.stderr
    vmport("translate", simple, target, "--allow", tmp_path / "disks")
    assert f'ovf:capacity="{64 << 20}"' in target.read_text()
    vmport("translate", simple, target, "--disk-size", "sda=3G", "--force")
    assert f'ovf:capacity="{3 << 30}"' in target.read_text()
    other = tmp_path / "elsewhere"
    other.mkdir()
    done = vmport("translate", simple, target, "--allow", other, "--force", check=False)
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("content", "arguments", "code", "says"),
    [
        ("", ("x.vmx",), 3, "no machine descriptor"),
        ("hello", ("x.vmx",), 3, "no machine descriptor"),
        ('config.version = "8"\n', ("x.vmx",), 3, "does not translate from yet"),
        ("<VirtualBox/>", ("x.vmx",), 3, "VirtualBox machine, which vmport does not"),
        ("<network/>", ("x.vmx",), 3, "a network, not a machine"),
        ("<domain>", ("x.vmx",), 3, "not well-formed"),
        ("<!DOCTYPE x [<!ENTITY a SYSTEM '/etc/passwd'>]><domain/>", ("x.vmx",), 4, "DOCTYPE"),
        (LOSSY, ("x.doc",), 2, "it writes vmx (.vmx), ovf (.ovf)"),
        (LOSSY, ("x.vmx", "--to", "qcow2"), 2, "does not translate to 'qcow2'"),
        (LOSSY, ("x.vmx", "--from", "vmx"), 2, "does not translate from that"),
        (LOSSY, ("x.vmx", "--ledger", "x.csv"), 2, ".json or .txt"),
        (LOSSY, ("x.vmx", "--disk-size", "sda"), 2, "--disk-size vda=20G"),
        (LOSSY, ("x.vmx", "--disk-size", "sda=1G"), 2, "has no disk called 'sda'"),
        (LOSSY, ("no/x.vmx",), 6, "does not exist"),
    ],
)
def test_one_clear_line_for_what_cannot_be_done(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    content: str,
    arguments: tuple[str, ...],
    code: int,
    says: str,
) -> None:
    source = tmp_path / "source.xml"
    source.write_text(content)
    target, *options = arguments
    status = run(["translate", str(source), str(tmp_path / target), *options])
    said = capsys.readouterr()
    assert status == code, said.err
    assert says in said.err
    assert said.err.count("vmport: error:") == 1
    assert said.out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.xml"]
