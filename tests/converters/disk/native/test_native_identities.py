"""The same conversion gives the same bytes; two disks never get the same identity."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from tests.composing import patchwork
from vmport_converters.disk.convert import Request, convert
from vmport_converters.disk.plan import Compression, Engine
from vmport_formats.disk.image import open_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KIB, MIB = 1 << 10, 1 << 20


def cid(path: Path) -> int:
    """As qemu-img reads it."""
    told = subprocess.run(
        ["qemu-img", "info", "-f", "vmdk", "--output=json", path],
        capture_output=True,
        check=True,
    ).stdout
    found = json.loads(told)["format-specific"]["data"]["cid"]
    assert isinstance(found, int)
    assert found != 0xFFFF_FFFF  # which would mean: no content yet
    return found


def vhd_id(path: Path) -> UUID:
    """Of its footer: VHD 1.0 specification, "Unique Id"."""
    return UUID(bytes=path.read_bytes()[-512:][68:84])


def vhdx_id(path: Path) -> UUID:
    """Of its metadata, the last item there ([MS-VHDX] 2.6.2.3), in the order that Windows has."""
    return UUID(bytes_le=path.read_bytes()[0x210018:0x210028])


def vdi_id(path: Path) -> UUID:
    """Of its header, in the order of bytes that VirtualBox has."""
    return UUID(bytes_le=path.read_bytes()[0x188:0x198])


@dataclass(frozen=True)
class Target:
    name: str
    suffix: str
    options: tuple[str, ...] = ()
    compression: Compression | None = None
    identity: Callable[[Path], object] | None = None


TARGETS = [
    Target("raw", "raw"),
    Target("qcow2", "qcow2"),
    Target("qcow2 fast", "qcow2", compression=Compression.FAST),
    Target("qcow2 small", "qcow2", compression=Compression.SMALL),
    Target("qcow2 zstd", "qcow2", compression=Compression.ZSTD),
    Target("VMDK sparse", "vmdk", ("subformat=monolithicSparse",), identity=cid),
    Target("VMDK stream fast", "vmdk", ("subformat=streamOptimized",), identity=cid),
    Target(
        "VMDK stream small", "vmdk", ("subformat=streamOptimized",), Compression.SMALL, identity=cid
    ),
    Target("VHD dynamic", "vhd", ("subformat=dynamic",), identity=vhd_id),
    Target("VHD fixed", "vhd", ("subformat=fixed",), identity=vhd_id),
    Target("VHDX dynamic", "vhdx", identity=vhdx_id),
    Target("VHDX fixed", "vhdx", ("subformat=fixed",), identity=vhdx_id),
    Target("VDI dynamic", "vdi", identity=vdi_id),
    Target("VDI static", "vdi", ("static=on",), identity=vdi_id),
]
CONTENT = patchwork(5 * MIB, 4096, seed=12)


def made(target: Target, source: Path, destination: Path) -> bytes:
    request = Request(
        str(source),
        str(destination),
        options=target.options,
        compression=target.compression,
        engine=Engine.NATIVE,
    )
    convert(request)
    if not target.name.endswith(" fast"):
        return destination.read_bytes()
    with open_image(destination) as disk:  # see `packing` on the bytes that isal makes
        return disk.read(0, disk.virtual_size)


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_same_bytes_and_other_identities(target: Target, tmp_path: Path) -> None:
    source = tmp_path / "source.raw"
    source.write_bytes(CONTENT)
    first, again, other = (tmp_path / name for name in ("first", "again", "other"))
    for folder in (first, again, other):
        folder.mkdir()
    name = f"disk.{target.suffix}"
    wanted = made(target, source, first / name)
    assert made(target, source, again / name) == wanted
    # The same content out of another format, in another folder.
    qcow2 = tmp_path / "source.qcow2"
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", "-f", "raw", source, qcow2], check=True)
    (again / name).unlink()
    if target.name != "raw":  # where blocks are shared, zeros are kept as the source keeps them
        assert made(target, qcow2, again / name) == wanted
    made(target, source, other / f"renamed.{target.suffix}")
    label = tmp_path / "label.raw"
    label.write_bytes(CONTENT[:440] + b"\x01\x02\x03\x04" + CONTENT[444:])  # an MBR's disk id
    made(target, label, other / name)
    longer = tmp_path / "longer.raw"
    longer.write_bytes(CONTENT + bytes(MIB))
    (other / "longer").mkdir()
    made(target, longer, other / "longer" / name)
    if target.identity is None:  # then nothing in the file follows its name
        if not target.name.endswith(" fast"):
            assert (other / f"renamed.{target.suffix}").read_bytes() == wanted
        return
    files = [first / name, other / f"renamed.{target.suffix}", other / name]
    identities = [target.identity(path) for path in (*files, other / "longer" / name)]
    assert len(set(identities)) == len(identities)
    for identity in identities:
        if isinstance(identity, UUID):  # random ones, as far as anybody can tell
            assert (identity.version, identity.variant) == (4, "specified in RFC 4122")


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize("disk_format", ["vdi", "vpc", "vhdx", "vmdk"])
def test_empty_disks_of_one_name_have_the_ids_of_their_sources(
    disk_format: str, tmp_path: Path
) -> None:
    """These formats tell two disks apart although nothing is in them."""
    made_ids = set()
    for folder in ("first", "second"):
        source = tmp_path / folder / "empty.image"
        source.parent.mkdir()
        subprocess.run(["qemu-img", "create", "-q", "-f", disk_format, source, "8M"], check=True)
        for target in (TARGETS[-2], TARGETS[-6], TARGETS[-4]):  # VDI, VHD and VHDX
            path = source.with_name(f"disk.{target.suffix}")
            assert target.identity is not None
            made(target, source, path)
            made_ids.add(target.identity(path))
    assert len(made_ids) == 2 * 3


@pytest.mark.needs("sfdisk")
@pytest.mark.parametrize("label", ["dos", "gpt"])
def test_clones_of_a_machine_that_have_run_differ(label: str, tmp_path: Path) -> None:
    """By the time in the superblock of the third partition: ext4's `s_mtime`, 44 bytes into it."""
    target = TARGETS[-2]
    assert target.identity is not None
    found = set()
    for number in range(2):
        source = tmp_path / str(number) / "machine.raw"
        source.parent.mkdir()
        with source.open("xb") as file:
            file.truncate(32 * MIB)
        table = f"label: {label}\n" + (
            "label-id: 0x12345678\n"
            if label == "dos"
            else "label-id: 11111111-2222-4333-8444-555555555555\n"
        )
        for place in (2, 8, 16):
            uuid = f", uuid=11111111-2222-4333-8444-5555555555{place:02}" if label == "gpt" else ""
            table += f"start={place * MIB // 512}, size=8192{uuid}\n"
        subprocess.run(["sfdisk", "-q", source], input=table, text=True, check=True)
        with source.open("r+b") as file:
            file.seek(16 * MIB + 1024 + 44)
            file.write(bytes((1, 2, 3, number)))
        path = source.with_suffix(".vdi")
        made(target, source, path)
        found.add(target.identity(path))
    assert len(found) == 2
