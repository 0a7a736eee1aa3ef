"""The files in which we find nothing are good by the judgement of virt-v2v too."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

FIXTURES: Final = Path(__file__).parents[3] / "fixtures" / "validate"


def _disk(path: Path, *options: str) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", "vmdk", *options, path, "10M"], check=True)


def _read_by_virt_v2v(kind: str, path: Path) -> str:
    done = subprocess.run(
        ["virt-v2v", "-i", kind, str(path), "--print-source"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stdout + done.stderr
    return done.stdout


@pytest.mark.needs("virt-v2v", "qemu-img")
def test_the_good_vmx(tmp_path: Path) -> None:
    path = Path(shutil.copy(FIXTURES / "good.vmx", tmp_path))
    for name in ("web.vmdk", "data.vmdk"):
        _disk(tmp_path / name)
    seen = _read_by_virt_v2v("vmx", path)
    assert "memory: 2147483648 " in seen
    assert "sockets: 2 cores/socket: 2" in seen
    assert "firmware: uefi" in seen
    assert len(re.findall(r"\[scsi\]", seen)) == 2
    assert "mac: 00:0c:29:2b:f3:37 [e1000e]" in seen


@pytest.mark.needs("virt-v2v", "qemu-img")
def test_the_good_ovf(tmp_path: Path) -> None:
    """Without its blank disk, which OVF allows and virt-v2v does not."""
    text = (FIXTURES / "good.ovf").read_text(encoding="utf-8")
    text = re.sub(r' *<Disk ovf:diskId="data".*\n', "", text)
    text = re.sub(r" *<Item>\n *<rasd:AddressOnParent>1(?s:.*?)</Item>\n", "", text, count=1)
    (tmp_path / "good.ovf").write_text(text, encoding="utf-8")
    _disk(tmp_path / "system.vmdk", "-o", "subformat=streamOptimized")
    (tmp_path / "install.iso").write_bytes(bytes(4194304))
    seen = _read_by_virt_v2v("ova", tmp_path)
    assert "memory: 2147483648 " in seen
    assert "firmware: uefi" in seen
