"""The small images that are damaged, with where their headers and tables are.

All are composed in memory, so no program is needed and each is the same everywhere.  They are as
small as their format allows: the time of a case is that of reading the whole disk.
"""

from __future__ import annotations

import struct
from functools import cache
from itertools import cycle, islice
from random import Random
from typing import TYPE_CHECKING, Final

from fixtures.disks import (
    blocks,
    bochs,
    cloop,
    dmg,
    luks,
    parallels,
    qcow,
    qcow2,
    qed,
    vdi,
    vhd,
    vhdx,
    vmdk,
    vmdk_grains,
)
from tests.fuzz import chains, seals
from tests.fuzz.parts import SECTOR, Region, Subject, in_bytes, number_at, table_of
from vmport_formats.disk.model import DiskFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fixtures.disks.image_file import ImageFile

# --- Families of formats ------------------------------------------------------------------------


def _qcow() -> tuple[Subject, ...]:
    kind = blocks.Kind
    kinds = list(islice(cycle([kind.DATA, kind.ABSENT, kind.PACKED, kind.DATA]), 70))
    image = qcow.compose(kinds, cluster_bits=9, l2_bits=6, seed=1)
    data = in_bytes(image.file)
    regions = (
        Region(0, 48, 4, "big"),
        Region(number_at(data, 40, 8, "big"), 16, 8, "big", table=True),
        *table_of(image.entries.values(), 8, "big"),
    )
    return (Subject("qcow", DiskFormat.QCOW, data, regions),)


def _qcow2() -> tuple[Subject, ...]:
    kind, cluster = qcow2.Kind, qcow2.Cluster
    plain = [kind.DATA, kind.ABSENT, kind.ZERO, kind.PACKED, kind.ZERO_ALLOCATED, kind.DATA]
    mixed = (kind.DATA, kind.ABSENT, kind.ZERO, kind.DATA) * 8
    small = [cluster(each) for each in islice(cycle(plain), 80)]
    parts = [cluster(kind.DATA, mixed), cluster(kind.PACKED), cluster(kind.ABSENT)]
    old = [each for each in small if each.kind in (kind.DATA, kind.ABSENT, kind.PACKED)]
    made = {
        "qcow2": qcow2.compose(small, cluster_bits=9, seed=2),
        "qcow2-v2": qcow2.compose(old, cluster_bits=9, version=2, seed=3),
        "qcow2-zstd": qcow2.compose(small[:12], cluster_bits=12, zstd=True, seed=4),
        "qcow2-extended": qcow2.compose(parts, cluster_bits=14, extended=True, seed=5),
    }
    found = []
    for name, image in made.items():
        data = in_bytes(image.file)
        regions = (
            Region(0, 112, 4, "big"),
            Region(number_at(data, 40, 8, "big"), 16, 8, "big", table=True),
            Region(number_at(data, 48, 8, "big"), 16, 8, "big", table=True),
            *table_of(image.places.values(), 16 if name == "qcow2-extended" else 8, "big"),
        )
        found.append(Subject(name, DiskFormat.QCOW2, data, regions))
    return tuple(found)


def _qcow2_more() -> tuple[Subject, ...]:
    """With a snapshot, and with a backing file and a table of feature names."""
    kind, cluster, size = qcow2.Kind, qcow2.Cluster, 4096
    plain = [kind.DATA, kind.ABSENT, kind.ZERO, kind.DATA, kind.PACKED, kind.DATA]
    image = qcow2.compose([cluster(each) for each in plain], cluster_bits=12, seed=24)
    data = in_bytes(image.file)
    end = -(-len(data) // size) * size
    l1 = number_at(data, 40, 8, "big")
    snapshot = struct.pack(">QIHHIIQIIQQ", end, 1, 1, 4, 0, 0, 0, 0, 16, 0, 6 * size) + b"1name"
    table = snapshot.ljust(-(-len(snapshot) // 8) * 8, b"\0") * 2
    image.file.put(end, data[l1 : l1 + size])
    image.file.put(end + size, table.ljust(size, b"\0"))
    image.file.put(60, struct.pack(">IQ", 2, end + size))
    made = {"qcow2-snapshot": image}
    made["qcow2-backing"] = qcow2.compose(
        [cluster(each) for each in plain], cluster_bits=12, seed=25, backing=("base.raw", "raw")
    )
    found = []
    for name, composed in made.items():
        data = in_bytes(composed.file)
        regions = [Region(0, 160, 4, "big"), *table_of(composed.places.values(), 8, "big")]
        if name == "qcow2-snapshot":
            regions += [Region(end, 8, 8, "big", table=True)]
            regions += [Region(end + size, len(table), 4, "big")] * 3
        chosen = "1" if name == "qcow2-snapshot" else None
        found.append(Subject(name, DiskFormat.QCOW2, data, tuple(regions), snapshot=chosen))
    return tuple(found)


def _qcow2_bitmaps() -> tuple[Subject, ...]:
    """With two persistent bitmaps, one of them with its bits in a cluster."""
    kind, cluster, size = qcow2.Kind, qcow2.Cluster, 4096
    plain = [kind.DATA, kind.ABSENT, kind.ZERO, kind.DATA, kind.PACKED]
    image = qcow2.compose([cluster(each) for each in plain], cluster_bits=12, seed=26)
    data = in_bytes(image.file)
    end = -(-len(data) // size) * size
    rows = b""
    for number, name in enumerate((b"dirty", b"other")):
        row = struct.pack(">QIIBBHI", end + (1 + number) * size, 1, 0, 1, 9, len(name), 0) + name
        rows += row.ljust(-(-len(row) // 8) * 8, b"\0")
    image.file.put(end, rows.ljust(size, b"\0"))
    image.file.put(end + size, struct.pack(">Q", end + 3 * size).ljust(size, b"\0"))
    image.file.put(end + 2 * size, struct.pack(">Q", 1).ljust(size, b"\0"))
    image.file.put(end + 3 * size, b"\x05".ljust(size, b"\0"))
    image.file.put(112, struct.pack(">IIIIQQQ", 0x23852875, 24, 2, 0, len(rows), end, 0))
    image.file.put(88, struct.pack(">Q", 1))
    _count(image.file, end // size, 4)
    regions = (
        Region(0, 160, 4, "big"),
        *table_of(image.places.values(), 8, "big"),
        *(Region(end, len(rows), 4, "big"),) * 3,
        Region(end + size, 8, 8, "big", table=True),
        Region(end + 2 * size, 8, 8, "big", table=True),
    )
    return (Subject("qcow2-bitmaps", DiskFormat.QCOW2, in_bytes(image.file), regions),)


def _qcow2_locked() -> tuple[Subject, ...]:
    """With LUKS inside: its header in clusters of its own, and its data encrypted in place."""
    kind, size, mode = qcow2.Kind, 4096, "xts-plain64"
    plain = [kind.DATA, kind.ABSENT, kind.ZERO, kind.DATA, kind.DATA]
    image = qcow2.compose([qcow2.Cluster(each) for each in plain], cluster_bits=12, seed=27)
    locked = luks.disk(b"", mode=mode, key_length=64, iterations=8, stripes=20, slot=1)
    header = in_bytes(locked)
    end = -(-image.file.size // size) * size
    image.file.put(end, header.ljust(-(-len(header) // size) * size, b"\0"))
    image.file.put(32, struct.pack(">I", 2))
    image.file.put(112, struct.pack(">IIQQQ", 0x0537BE77, 16, end, len(header), 0))
    _count(image.file, end // size, -(-len(header) // size))
    key = Random(mode).randbytes(64)  # as `luks.disk` has it
    for at in image.hosts.values():
        data = image.file.read_at(at, size)
        image.file.put(at, luks.encrypted(data, key, mode, at // SECTOR))
    regions = (
        Region(0, 160, 4, "big"),
        *table_of(image.places.values(), 8, "big"),
        Region(end + 104, 8, 4, "big"),
        Region(end + 164, 4, 4, "big"),
        Region(end + 208, 384, 4, "big"),
    )
    data = in_bytes(image.file)
    return (Subject("qcow2-locked", DiskFormat.QCOW2, data, regions, locked=True),)


def _count(file: ImageFile, first: int, count: int) -> None:
    """Give so many clusters of a qcow2 image, from `first` on, a reference count of 1."""
    table = number_at(file.read_at(48, 8), 0, 8, "big")
    block = number_at(file.read_at(table, 8), 0, 8, "big")
    file.put(block + 2 * first, struct.pack(">H", 1) * count)


def _vmdk_text() -> tuple[Subject, ...]:
    lines = [
        'RW 16 FLAT "flat.raw" 0',
        "RW 8 ZERO",
        'RDONLY 24 SPARSE "sparse.vmdk"',
        'RW 8 FLAT "flat.raw" 16',
        'NOACCESS 4 ZERO "unused.raw" 7',
    ]
    kind = vmdk_grains.Kind
    sparse = vmdk_grains.compose_sparse([kind.DATA, kind.ABSENT, kind.DATA], seed=6)
    files = {"flat.raw": bytes(range(256)) * 48, "sparse.vmdk": in_bytes(sparse.file)}
    text = vmdk.descriptor("\n".join(lines[:4]), create_type="custom")
    odd = vmdk.descriptor(
        "\n".join(lines),
        create_type="twoGbMaxExtentFlat",
        more='parentFileNameHint="parent.vmdk"\nencoding="UTF-8"\nchangeTrackPath="disk-ctk.vmdk"',
    )
    return tuple(
        Subject(name, DiskFormat.VMDK, data, (), text=(0, len(data)), files=files)
        for name, data in (("vmdk-text", text.encode()), ("vmdk-text-odd", odd.encode()))
    )


def _vmdk_sparse() -> tuple[Subject, ...]:
    kind = vmdk_grains.Kind
    kinds = list(islice(cycle([kind.DATA, kind.ABSENT, kind.ZERO, kind.DATA]), 16))
    text = vmdk.descriptor('RW 128 SPARSE "disk.vmdk"', create_type="monolithicSparse")
    image = vmdk_grains.compose_sparse(kinds, seed=7, text=text)
    second = number_at(in_bytes(image.file), 48, 8, "little") * SECTOR
    return (
        _of_grains("vmdk-sparse", image, 4, (512, 512 + len(text)), (second,)),
        _of_grains("vmdk-extent", vmdk_grains.compose_sparse(kinds, redundant=False, seed=8), 4),
    )


def _vmdk_stream() -> tuple[Subject, ...]:
    kind = vmdk_grains.Kind
    kinds = list(islice(cycle([kind.DATA, kind.DATA, kind.ABSENT]), 12))
    made = {
        "vmdk-stream": vmdk_grains.compose_stream(kinds, grain=4096, seed=9),
        "vmdk-stream-plain": vmdk_grains.compose_stream(
            kinds, grain=4096, seed=10, marked=False, footer=False, ordered=False
        ),
    }
    return tuple(
        _of_grains(name, image, 4, (512, 900), tuple(image.hosts.values()))
        for name, image in made.items()
    )


def _vmdk_esx() -> tuple[Subject, ...]:
    kind = vmdk_grains.Kind
    kinds = list(islice(cycle([kind.DATA, kind.ABSENT, kind.DATA]), 24))
    cowd = vmdk_grains.compose_cowd(kinds, seed=11)
    kinds += [kind.ZERO, kind.UNMAPPED]
    sesparse = vmdk_grains.compose_sesparse(kinds, seed=12, most_grains=30)
    return (_of_grains("vmdk-cowd", cowd, 4), _of_grains("vmdk-sesparse", sesparse, 8))


def _of_grains(
    name: str,
    image: vmdk_grains.Composed,
    width: int,
    text: tuple[int, int] | None = None,
    more: Iterable[int] = (),
) -> Subject:
    regions = (
        Region(0, 208 if width == 8 else 80, 4, "little"),
        Region(image.directory, 2 * width, width, "little", table=True),
        *table_of(image.places.values(), width, "little"),
        *(Region(at, 16, 4, "little") for at in more),
    )
    return Subject(name, DiskFormat.VMDK, in_bytes(image.file), regions, text=text)


def _vhd() -> tuple[Subject, ...]:
    random = Random(13)
    full = b"\xff" * 512
    stored = {0: 13, 2: 4, 5: 22, 6: 31}
    content = {n: (at, full + random.randbytes(4096)) for n, at in stored.items()}
    size = 9 * 4096 - 512
    dynamic = in_bytes(vhd.dynamic(size, block_size=4096, blocks=content, creator=b"qem2"))
    child = in_bytes(vhd.differencing(size))
    fixed = vhd.fixed(16384)
    fixed.put(0, random.randbytes(16384))
    front = (Region(0, 88, 4, "big"), Region(512, 64, 4, "big"), Region(1088, 48, 4, "big"))
    table = Region(vhd.TABLE_AT, 36, 4, "big", table=True)
    ends = Region(len(dynamic) - 512, 88, 4, "big")
    seal = seals.vhd
    return (
        Subject("vhd-dynamic", DiskFormat.VHD, dynamic, (*front, table, table, ends), seal),
        Subject("vhd-fixed", DiskFormat.VHD, in_bytes(fixed), (Region(16384, 88, 4, "big"),), seal),
        Subject("vhd-differencing", DiskFormat.VHD, child, (*front, table), seal),
    )


def _vhdx() -> tuple[Subject, ...]:
    random = Random(14)
    block, full, zero = vhdx.MIB, 6, 2
    table = {0: vhdx.PAYLOAD_AT + block | full, 1: zero, 2: vhdx.PAYLOAD_AT | full}
    payload = {vhdx.PAYLOAD_AT + n * block: random.randbytes(block) for n in range(2)}
    plain = in_bytes(vhdx.image(3 * block, block_table=table, payload=payload))
    entries = b"".join(struct.pack("<Q", value) for value in table.values())
    entry = vhdx.LogEntry(
        5,
        data={vhdx.BAT_AT: entries.ljust(4096, b"\0")},
        zeros={vhdx.PAYLOAD_AT + 8192: 4096},
        flushed=len(plain),
        last=len(plain),
    ).build()
    dirty = in_bytes(
        vhdx.image(3 * block, log={0: entry}, block_table={0: 0, 2: table[2]}, payload=payload)
    )
    child = in_bytes(vhdx.differencing(3 * block))
    regions = (
        *(Region(at, 80, 4, "little") for at in vhdx.HEADERS),
        *(Region(at, 80, 4, "little") for at in vhdx.REGION_TABLES),
        Region(vhdx.METADATA_AT, 32 + 6 * 32, 4, "little"),
        Region(vhdx.METADATA_AT + 65536, 64, 4, "little"),
        *(Region(vhdx.BAT_AT, 24, 8, "little", table=True),) * 2,
    )
    log = (Region(vhdx.LOG_AT, 64, 4, "little"), Region(vhdx.LOG_AT + 64, 64, 8, "little"))
    locator = Region(vhdx.METADATA_AT + 65536 + 40, 68, 2, "little")
    return (
        Subject("vhdx", DiskFormat.VHDX, plain, regions, seals.vhdx),
        Subject("vhdx-log", DiskFormat.VHDX, dirty, (*regions, *log), seals.vhdx),
        Subject("vhdx-differencing", DiskFormat.VHDX, child, (*regions, locator), seals.vhdx),
    )


def _vdi() -> tuple[Subject, ...]:
    kind = blocks.Kind
    kinds = list(islice(cycle([kind.DATA, kind.ABSENT, kind.ZERO, kind.DATA]), 14))
    made = {
        "vdi": vdi.compose(kinds, block_size=4096, seed=15),
        "vdi-extra": vdi.compose(kinds, block_size=4096, block_extra=512, seed=16),
    }
    regions = (Region(0, 512, 4, "little"), Region(340, 64, 4, "little"))
    return tuple(
        Subject(
            name,
            DiskFormat.VDI,
            in_bytes(image.file),
            (*regions, *table_of(image.entries.values(), 4, "little")),
        )
        for name, image in made.items()
    )


def _qed() -> tuple[Subject, ...]:
    kind = blocks.Kind
    kinds = list(islice(cycle([kind.DATA, kind.ABSENT, kind.ZERO]), 12))
    image = qed.compose(kinds, table_size=1, seed=17)
    data = in_bytes(image.file)
    regions = (
        Region(0, 72, 4, "little"),
        Region(number_at(data, 40, 8, "little"), 16, 8, "little", table=True),
        Region(min(image.entries.values()), 8 * len(kinds), 8, "little", table=True),
    )
    return (Subject("qed", DiskFormat.QED, data, regions),)


def _parallels() -> tuple[Subject, ...]:
    kind = blocks.Kind
    kinds = list(islice(cycle([kind.DATA, kind.ABSENT]), 12))
    made = {
        "parallels": parallels.compose(kinds, seed=18),
        "parallels-old": parallels.compose(kinds, old=True, sectors=7, seed=19),
    }
    return tuple(
        Subject(
            name,
            DiskFormat.PARALLELS,
            in_bytes(image.file),
            (Region(0, 64, 4, "little"), *table_of(image.entries.values(), 4, "little")),
        )
        for name, image in made.items()
    )


def _dmg() -> tuple[Subject, ...]:
    method = dmg.Method
    tables = [
        [(method.RAW, 3), (method.ZLIB, 8), (method.COMMENT, 0), (method.ZERO, 4)],
        [(method.ADC, 2), (method.BZIP2, 4), (method.IGNORE, 5), (method.LZMA, 4)],
    ]
    found = []
    for name, fork in (("dmg", False), ("dmg-fork", True)):
        data = in_bytes(dmg.compose(tables, resource_fork=fork, seed=20).file)
        regions = [Region(len(data) - 512, 512, 4, "big"), Region(len(data) - 512, 64, 8, "big")]
        at = data.find(b"mish")
        while at >= 0:
            regions += [Region(at, 72, 4, "big"), Region(at + 200, 204, 4, "big")]
            at = data.find(b"mish", at + 1)
        text = data.find(b"<?xml")
        if fork:
            at = number_at(data, len(data) - 512 + 40, 8, "big")
            regions.append(Region(at, 16, 4, "big"))
            where = at + number_at(data, at + 4, 4, "big")
            regions.append(Region(where, len(data) - 512 - where, 2, "big"))
        found.append(
            Subject(
                name,
                DiskFormat.DMG,
                data,
                tuple(regions),
                text=None if text < 0 else (text, len(data) - 512),
            )
        )
    return tuple(found)


def _cloop() -> tuple[Subject, ...]:
    image = cloop.compose(12, seed=21)
    regions = (
        Region(0, 136, 4, "big"),
        Region(128, 8, 4, "big"),
        *table_of(image.entries.values(), 8, "big"),
    )
    return (Subject("cloop", DiskFormat.CLOOP, in_bytes(image.file), regions),)


def _bochs() -> tuple[Subject, ...]:
    kind = blocks.Kind
    kinds = list(islice(cycle([kind.DATA, kind.ABSENT]), 12))
    found = []
    for version in (1, 2):
        image = bochs.compose(kinds, version=version, seed=22)
        regions = (
            Region(0, 100, 4, "little"),
            Region(64, 36, 4, "little"),
            *table_of(image.entries.values(), 4, "little"),
        )
        found.append(Subject(f"bochs-{version}", DiskFormat.BOCHS, in_bytes(image.file), regions))
    return tuple(found)


def _luks() -> tuple[Subject, ...]:
    content = Random(23).randbytes(8 * SECTOR)
    found = []
    for mode, length in (("xts-plain64", 64), ("cbc-essiv:sha256", 32)):
        disk = luks.disk(content, mode=mode, key_length=length, iterations=8, stripes=20, slot=1)
        regions = (Region(104, 8, 4, "big"), Region(164, 4, 4, "big"), Region(208, 384, 4, "big"))
        text = (8, 104)
        name = f"luks-{mode.partition('-')[0]}"
        found.append(
            Subject(name, DiskFormat.LUKS, in_bytes(disk), regions, text=text, locked=True)
        )
    return tuple(found)


_MAKERS: Final[dict[str, Callable[[], tuple[Subject, ...]]]] = {
    "qcow": _qcow,
    "qcow2": _qcow2,
    "qcow2-more": _qcow2_more,
    "qcow2-bitmaps": _qcow2_bitmaps,
    "qcow2-locked": _qcow2_locked,
    "vmdk-text": _vmdk_text,
    "vmdk-sparse": _vmdk_sparse,
    "vmdk-stream": _vmdk_stream,
    "vmdk-esx": _vmdk_esx,
    "vmdk-inside": chains.inside_vmdk,
    "vhd": _vhd,
    "vhdx": _vhdx,
    "vdi": _vdi,
    "qed": _qed,
    "parallels": _parallels,
    "dmg": _dmg,
    "cloop": _cloop,
    "bochs": _bochs,
    "luks": _luks,
    "chains": chains.chains,
}

CHECK: Final = "-check"
"""Ends the name of a family whose images are checked, and not read."""
CHECKED: Final = (
    *("qcow2", "qcow2-more", "qcow2-bitmaps", "vmdk-sparse", "vmdk-stream", "vmdk-esx"),
    *("vmdk-inside", "vhd", "vhdx", "vdi", "qed", "parallels", "dmg", "chains"),
)
FAMILIES: Final = (*_MAKERS, *(f"{family}{CHECK}" for family in CHECKED))


@cache
def subjects(family: str) -> tuple[Subject, ...]:
    """The images of one of `FAMILIES`."""
    return _MAKERS[family.removesuffix(CHECK)]()


def subject(name: str) -> Subject:
    """The image of that name, of whatever family."""
    return next(each for family in _MAKERS for each in subjects(family) if each.name == name)
