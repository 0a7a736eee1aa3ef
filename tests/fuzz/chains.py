"""Images that rest on others or are in several files: the one of them, or the other, is damaged."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle, islice
from typing import Final
from uuid import UUID

from fixtures.disks import blocks, qcow2, vdi, vhd, vhd_blocks, vhdx, vhdx_blocks, vmdk, vmdk_grains
from tests.fuzz import seals
from tests.fuzz.parts import Region, Subject, in_bytes, table_of
from vmport_formats.disk.model import DiskFormat

_BASE: Final = bytes(range(1, 256)) * 150
_CHILD: Final = UUID(int=7)


def inside_vmdk() -> tuple[Subject, ...]:
    """Extents of a descriptor that is sound itself."""
    kind = vmdk_grains.Kind
    kinds = list(islice(cycle([kind.DATA, kind.ABSENT, kind.DATA]), 24))
    made = {
        "SPARSE": (vmdk_grains.compose_sparse(kinds, seed=28), 4, "custom"),
        "VMFSSPARSE": (vmdk_grains.compose_cowd(kinds, seed=29), 4, "vmfsSparse"),
        "SESPARSE": (
            vmdk_grains.compose_sesparse([*kinds, kind.ZERO], seed=30, most_grains=30),
            8,
            "seSparse",
        ),
    }
    found = []
    for name, (image, width, create_type) in made.items():
        sectors = len(image.truth) // 512
        text = vmdk.descriptor(f'RW {sectors} {name} "inner.vmdk"', create_type=create_type)
        data = in_bytes(image.file)
        regions = (
            Region(0, 208 if width == 8 else 80, 4, "little"),
            Region(image.directory, 2 * width, width, "little", table=True),
            *table_of(image.places.values(), width, "little"),
        )
        subject = Subject(
            f"vmdk-inside-{name.lower()}",
            DiskFormat.VMDK,
            data,
            regions,
            files={},
            front=text.encode(),
            inner="inner.vmdk",
        )
        found.append(subject)
    lines = 'RW 16 FLAT "inner.vmdk" 0\nRW 8 ZERO\nRW 8 FLAT "inner.vmdk" 16'
    flat = replace(
        found[0],
        name="vmdk-inside-flat",
        data=_BASE[: 24 * 512],
        regions=(),
        front=vmdk.descriptor(lines, create_type="custom").encode(),
    )
    return (*found, flat)


def chains() -> tuple[Subject, ...]:
    """Children over parents that are granted, and parents under children."""
    return (*_vhd(), *_vhdx(), *_vdi(), *_vmdk(), *_qcow2())


def _pair(child: Subject, parent: Subject, name: str) -> tuple[Subject, Subject]:
    """The child damaged over its parent, which it calls `name`, and the other way round."""
    return (
        replace(child, files={name: parent.data}, parents=True),
        replace(parent, front=child.data, inner=name, files={}, parents=True),
    )


def _vhd() -> tuple[Subject, Subject]:
    kinds = list(islice(cycle([blocks.Kind.ABSENT, vhd_blocks.PARTLY, blocks.Kind.DATA]), 8))
    child = vhd_blocks.compose(kinds, parent=_BASE, seed=31)
    base = vhd_blocks.compose([blocks.Kind.DATA] * 8, seed=32, unique_id=vhd.PARENT_UUID)
    front = (Region(0, 88, 4, "big"), Region(512, 64, 4, "big"), Region(1088, 48, 4, "big"))
    one, other = (
        Subject(
            name,
            DiskFormat.VHD,
            in_bytes(image.file),
            (*front, *table_of(image.entries.values(), 4, "big") * 2),
            seals.vhd,
        )
        for name, image in (("vhd-child", child), ("vhd-parent", base))
    )
    return _pair(one, other, "parent.vhd")


def _vhdx() -> tuple[Subject, Subject]:
    state = vhdx_blocks.State
    states = [state.NOT_PRESENT, state.PARTIALLY_PRESENT]
    # With large sectors, for the block that is there in part is in as many pieces.
    child = vhdx_blocks.compose(states, sector=4096, parent=_BASE, seed=33)
    linkage = UUID(vhdx.PARENT_LINKAGE)
    base = vhdx_blocks.compose([state.FULLY_PRESENT], sector=4096, data_guid=linkage, seed=34)
    regions = (
        *(Region(at, 80, 4, "little") for at in vhdx.HEADERS),
        Region(vhdx.METADATA_AT, 32 + 6 * 32, 4, "little"),
        Region(vhdx.METADATA_AT + 65536, 128, 4, "little"),
        *(Region(vhdx.BAT_AT, 16, 8, "little", table=True),) * 2,
    )
    one, other = (
        Subject(name, DiskFormat.VHDX, in_bytes(image.file), regions, seals.vhdx)
        for name, image in (("vhdx-child", child), ("vhdx-parent", base))
    )
    bitmap = Region(child.entries[vhdx_blocks.BITMAP], 8, 8, "little", table=True)
    return _pair(replace(one, regions=(*regions, bitmap)), other, "parent.vhdx")


def _vdi() -> tuple[Subject, Subject]:
    kind = blocks.Kind
    kinds = list(islice(cycle([kind.ABSENT, kind.ZERO, kind.DATA]), 9))
    child = vdi.compose(
        kinds,
        block_size=4096,
        seed=35,
        below=_BASE,
        image_type=vdi.DIFFERENCING,
        parent=vdi.CREATED,
        parent_modified=vdi.MODIFIED,
        created=_CHILD,
    )
    base = vdi.compose([kind.DATA] * 9, block_size=4096, seed=36)
    regions = (Region(0, 512, 4, "little"), Region(340, 128, 4, "little"))
    one, other = (
        Subject(
            name,
            DiskFormat.VDI,
            in_bytes(image.file),
            (*regions, *table_of(image.entries.values(), 4, "little")),
        )
        for name, image in (("vdi-child", child), ("vdi-parent", base))
    )
    return _pair(one, other, f"uuid:{vdi.CREATED}")


def _vmdk() -> tuple[Subject, Subject]:
    kind = vmdk_grains.Kind
    kinds = list(islice(cycle([kind.ABSENT, kind.DATA, kind.ZERO]), 16))
    own = 'RW 128 SPARSE "a.vmdk"'
    above = 'parentFileNameHint="parent.vmdk"'
    text = vmdk.descriptor(own, create_type="monolithicSparse", more=above)
    text = text.replace("parentCID=ffffffff", "parentCID=8a2f6c1d")
    below = vmdk.descriptor(own, create_type="monolithicSparse")
    child = vmdk_grains.compose_sparse(kinds, seed=37, text=text)
    base = vmdk_grains.compose_sparse([kind.DATA] * 16, seed=38, text=below)
    one, other = (
        Subject(
            name,
            DiskFormat.VMDK,
            in_bytes(image.file),
            (Region(0, 80, 4, "little"), *table_of(image.places.values(), 4, "little")),
            text=(512, 512 + len(words)),
        )
        for name, image, words in (("vmdk-child", child, text), ("vmdk-parent", base, below))
    )
    return _pair(one, other, "parent.vmdk")


def _qcow2() -> tuple[Subject, Subject]:
    kind = qcow2.Kind
    kinds = [kind.ABSENT, kind.DATA, kind.ZERO, kind.PACKED, kind.ABSENT]
    child = qcow2.compose(
        [qcow2.Cluster(each) for each in kinds],
        cluster_bits=12,
        seed=39,
        parent=_BASE,
        backing=("parent.vdi", "vdi"),
    )
    base = vdi.compose([blocks.Kind.DATA] * 4, block_size=4096, seed=40)
    regions = (Region(0, 160, 4, "big"), *table_of(child.places.values(), 8, "big"))
    one = Subject("qcow2-child", DiskFormat.QCOW2, in_bytes(child.file), regions)
    below = (Region(0, 512, 4, "little"), *table_of(base.entries.values(), 4, "little"))
    other = Subject("qcow2-parent", DiskFormat.VDI, in_bytes(base.file), below)
    return _pair(one, replace(other, format=DiskFormat.QCOW2), "parent.vdi")
