"""VMDK metadata: descriptors and extents as the format has them, and as qemu takes them."""

from __future__ import annotations

import json
import struct
import subprocess
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.disks import vmdk
from tests.samples import sample
from vmport_formats.disk.vmdk import matches, read_info
from vmport_formats.disk.vmdk.descriptor import parse_descriptor
from vmport_formats.errors import CorruptInput, TruncatedInput, UnsupportedFeature
from vmport_formats.references import ReferenceKind
from vmport_formats.source import MemorySource, open_source
from vmport_formats.units import KIB, MIB

if TYPE_CHECKING:
    from pathlib import Path

    from fixtures.disks.image_file import ImageFile
    from vmport_formats.disk.model import ImageInfo

FLAT = 'RW 2048 FLAT "flat.raw" 0'


def codes(info: ImageInfo) -> list[str]:
    return [concern.code for concern in info.concerns if concern.code != "vmdk.create-type"]


def names(info: ImageInfo, kind: ReferenceKind = ReferenceKind.EXTENT) -> list[str]:
    return [item.name for item in info.references if item.kind is kind]


def text(content: str | bytes) -> ImageInfo:
    data = content.encode() if isinstance(content, str) else content
    source = MemorySource(data)
    assert matches(source)
    return read_info(source)


def qemu_info(path: Path, content: str | bytes | None = None) -> dict[str, Any]:
    """What qemu-img says of the file, or of a descriptor beside an extent ``flat.raw`` of 4 MiB."""
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        with (path.parent / "flat.raw").open("wb") as extent:
            extent.truncate(4 * MIB)
    done = subprocess.run(
        ["qemu-img", "info", "-f", "vmdk", "--output=json", path],
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


# Descriptors


def test_everything_in_a_descriptor() -> None:
    content = """\
# Disk DescriptorFile
version=3
encoding="UTF-8"
CID=8A2F6C1D
parentCID=1234abcd
isNativeSnapshot="no"
createType="custom"
parentFileNameHint="base/täst.vmdk"
changeTrackPath="disk-ctk.vmdk"

RW 63 FLAT "disk-pt.vmdk" 0
RW 2048 FLAT "flat.raw" 128
RDONLY 4096 SPARSE "disk-s002.vmdk"
NOACCESS 17 ZERO
RW 100 VMFS "disk-flat.vmdk"
RW 8 VMFSSPARSE "disk-delta.vmdk"
RW 8 SESPARSE "disk-sesparse.vmdk"
RW 8 VMFSRDM "disk-rdm.vmdk"
RW 8 VMFSRAW "/vmfs/devices/disks/naa.6"
RW 16 FLAT "\\\\.\\PhysicalDrive0" 63 partitionUUID \\\\?\\Volume{1}

# The Disk Data Base
ddb.uuid = "60 00 C2 9e"
ddb.adapterType = "lsilogic"
ddb.thinProvisioned = 1
ddb.comment = ""
"""
    info = text(content)
    assert info.variant == "custom"
    assert info.virtual_size == 512 * (63 + 2048 + 4096 + 17 + 100 + 8 * 4 + 16)
    assert names(info) == [
        "disk-pt.vmdk",
        "flat.raw",
        "disk-s002.vmdk",
        "disk-flat.vmdk",
        "disk-delta.vmdk",
        "disk-sesparse.vmdk",
        "disk-rdm.vmdk",
        "/vmfs/devices/disks/naa.6",
        "\\\\.\\PhysicalDrive0",
    ]
    assert names(info, ReferenceKind.PARENT) == ["base/täst.vmdk"]
    assert names(info, ReferenceKind.CHANGE_TRACKING) == ["disk-ctk.vmdk"]
    formats = {item.name: item.declared_format for item in info.references}
    assert formats["flat.raw"] == "raw"
    assert formats["disk-s002.vmdk"] == formats["disk-sesparse.vmdk"] == "vmdk"
    assert (info.details["cid"], info.details["parent-cid"]) == (0x8A2F_6C1D, 0x1234_ABCD)
    assert info.details["is-native-snapshot"] == "no"
    assert list(info.details["ddb"].items()) == [  # type: ignore[attr-defined]
        ("ddb.uuid", "60 00 C2 9e"),
        ("ddb.adapterType", "lsilogic"),
        ("ddb.thinProvisioned", "1"),
        ("ddb.comment", ""),
    ]
    extents: Any = info.details["extents"]
    assert extents[1]["offset"] == 128 * 512
    assert extents[-1]["device"] == "partitionUUID \\\\?\\Volume{1}"
    assert codes(info) == ["vmdk.extent-path"]


CREATE_TYPES = [
    "monolithicFlat",
    "twoGbMaxExtentSparse",
    "twoGbMaxExtentFlat",
    "2GbMaxExtentSparse",
    "2GbMaxExtentFlat",
    "vmfs",
    "vmfsSparse",
    "vmfsThin",
    "vmfsEagerZeroedThick",
    "vmfsRaw",
    "vmfsRDM",
    "vmfsRDMP",
    "vmfsRawDeviceMap",
    "vmfsPassthroughRawDeviceMap",
    "seSparse",
    "vsanSparse",
    "fullDevice",
    "partitionedDevice",
    "custom",
    "monolithicSparse",
    "streamOptimized",
]


@pytest.mark.parametrize("create_type", CREATE_TYPES)
def test_every_create_type(create_type: str) -> None:
    info = text(vmdk.descriptor(create_type=create_type))
    assert (info.variant, info.virtual_size) == (create_type, MIB)
    assert [concern.code for concern in info.concerns] == ["vmdk.create-type"]


def test_create_type_that_is_not_known() -> None:
    info = text(vmdk.descriptor(create_type="triskaidekaphobic"))
    assert codes(info) == ["vmdk.create-type-unknown"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "mixed"])
@pytest.mark.parametrize("padding", [0, 1, 5000])
@pytest.mark.needs("qemu-img")
def test_line_ends_and_padding(end: str, padding: int, tmp_path: Path) -> None:
    lines = vmdk.descriptor().split("\n")
    if end == "mixed":
        content = "".join(line + ("\n", "\r\n")[n % 2] for n, line in enumerate(lines))
    else:
        content = end.join(lines)
    data = content.encode() + bytes(padding)
    info = text(data)
    assert info.virtual_size == MIB == qemu_info(tmp_path / "a.vmdk", data)["virtual-size"]
    assert codes(info) == []


def test_what_hides_behind_the_padding() -> None:
    data = vmdk.descriptor().encode() + bytes(100)
    assert codes(text(data + b"x")) == ["vmdk.descriptor-tail"]
    assert codes(text(data + bytes(2 * MIB))) == ["vmdk.descriptor-tail"]


# Where qemu reads another disk


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize(
    ("extents", "size", "qemu_size"),
    [
        (f"\n{FLAT}", 2048, 4096),
        (f"\n \t\r\n{FLAT}", 2048, 6144),
        (f"{FLAT}\n\n{FLAT}", 4096, 6144),
        (f"{FLAT}\nRW 2048 ZERO", 4096, 2048),
        (f'{FLAT}\nRDONLY 2048 FLAT "flat.raw" 2048', 4096, 2048),
        (f'{FLAT}\nNOACCESS 2048 FLAT "flat.raw" 2048', 4096, 2048),
        (f'{FLAT}\nRW 2048 VMFSRAW "/dev/sda"', 4096, 2048),
        (f'RW 0 FLAT "flat.raw" 0\n{FLAT}', 2048, 2048),
    ],
    ids=["blank", "blanks", "between", "zero", "rdonly", "noaccess", "raw device", "empty"],
)
def test_extents_that_qemu_counts_otherwise(
    extents: str, size: int, qemu_size: int, tmp_path: Path
) -> None:
    content = vmdk.descriptor(extents)
    info = text(content)
    assert info.virtual_size == 512 * size
    assert qemu_info(tmp_path / "a.vmdk", content)["virtual-size"] == 512 * qemu_size
    assert "vmdk.extents-ambiguous" in codes(info)
    if size != qemu_size:
        concern = next(item for item in info.concerns if item.code == "vmdk.extents-ambiguous")
        assert str(512 * size) in concern.text
        assert str(512 * qemu_size) in concern.text


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize(
    "hidden",
    [
        '# parentFileNameHint="flat.raw"',
        '# not a parentFileNameHint="flat.raw", is it?',
        'ddb.note = "x parentFileNameHint="\nflat.raw"',
    ],
    ids=["comment", "in a comment", "value"],
)
def test_parent_that_only_qemu_finds(hidden: str, tmp_path: Path) -> None:
    content = vmdk.descriptor(more=hidden)
    qemu_finds = qemu_info(tmp_path / "a.vmdk", content).get("backing-filename")
    assert qemu_finds is not None
    info = text(content)
    assert names(info, ReferenceKind.PARENT) == [qemu_finds]
    assert "vmdk.parent-ambiguous" in codes(info)


@pytest.mark.needs("qemu-img")
def test_extent_that_only_qemu_finds(tmp_path: Path) -> None:
    """Its scan runs over line ends."""
    hidden = 'RW = 1\n# Below, qemu sees an extent\n  RW\t\n2048FLAT\n"/etc/hosts" 0\nx = "'
    content = vmdk.descriptor().replace("version=1\n", "version=1\n" + hidden + '"\n')
    with pytest.raises(CorruptInput) as caught:
        text(content)
    assert caught.value.code == "vmdk.extent-line"


def test_keys_with_blanks_are_not_what_qemu_expects() -> None:
    """VMware reads them; qemu takes the blank before the quote for the value."""
    info = text(vmdk.descriptor(more='parentFileNameHint = "base.vmdk"').replace("ffffffff", "1"))
    assert names(info, ReferenceKind.PARENT) == ["base.vmdk", " "]
    assert codes(info) == ["vmdk.parent-ambiguous"]


# Parents


@pytest.mark.needs("qemu-img")
def test_child_names_its_parent(tmp_path: Path) -> None:
    for name, more in (("base.vmdk", []), ("child.vmdk", ["-b", "base.vmdk", "-F", "vmdk"])):
        command = ["qemu-img", "create", "-q", "-f", "vmdk", *more, name, "1M"]
        subprocess.run(command, check=True, cwd=tmp_path)
    with open_source(tmp_path / "child.vmdk") as source:
        info = read_info(source)
    assert info.backing is not None
    assert info.backing.name == qemu_info(tmp_path / "child.vmdk")["backing-filename"]
    assert info.backing.declared_format == "vmdk"
    assert codes(info) == []


def test_parent_and_its_cid_must_go_together() -> None:
    hint = 'parentFileNameHint="base.vmdk"'
    with_cid = vmdk.descriptor().replace("parentCID=ffffffff", "parentCID=1")
    assert codes(text(with_cid)) == ["vmdk.parent-unnamed"]
    assert codes(text(vmdk.descriptor(more=hint))) == ["vmdk.parent-ambiguous"]


# What a descriptor may not hold, and what is told


@pytest.mark.parametrize(
    ("content", "error", "code"),
    [
        (vmdk.descriptor().replace("createType", "createtipe"), CorruptInput, "vmdk.create-type"),
        (vmdk.descriptor(create_type="x\x9b31m"), CorruptInput, "vmdk.create-type"),
        (vmdk.descriptor(create_type="x" * 128), CorruptInput, "vmdk.create-type"),
        (vmdk.descriptor(""), CorruptInput, "vmdk.extents"),
        (vmdk.descriptor("RW 2048 FLAT flat.raw 0"), CorruptInput, "vmdk.extent-line"),
        (vmdk.descriptor("RW -1 ZERO"), CorruptInput, "vmdk.extent-line"),
        (vmdk.descriptor("RW 2048"), CorruptInput, "vmdk.extent-line"),
        (vmdk.descriptor("RW 2048 SPARSE"), CorruptInput, "vmdk.extent-line"),
        (vmdk.descriptor(f"RW {'9' * 5000} ZERO"), CorruptInput, "vmdk.extent-line"),
        (vmdk.descriptor(f"RW {1 << 54} ZERO"), CorruptInput, "vmdk.extent-size"),
        (vmdk.descriptor(f'RW 1 FLAT "x" {1 << 54}'), CorruptInput, "vmdk.extent-size"),
        (vmdk.descriptor(f"RW {(1 << 54) - 1} ZERO\n{FLAT}"), CorruptInput, "vmdk.virtual-size"),
        (vmdk.descriptor('RW 2048 HOLOGRAM "x"'), UnsupportedFeature, "vmdk.extent-type"),
        (vmdk.descriptor("RW 1 ZERO\n" * 16385), CorruptInput, "vmdk.extent-count"),
        (vmdk.descriptor(more="a=b\n" * 40_001), CorruptInput, "vmdk.descriptor-lines"),
        (vmdk.descriptor(more="#" * (2 * MIB)), CorruptInput, "vmdk.descriptor-size"),
        (vmdk.descriptor().replace("8a2f6c1d", "xyz"), CorruptInput, "vmdk.cid"),
        (vmdk.descriptor().replace("8a2f6c1d", "123456789"), CorruptInput, "vmdk.cid"),
        (vmdk.descriptor().replace("=ffffffff", "="), CorruptInput, "vmdk.parentcid"),
        ("something else\n", CorruptInput, "vmdk.magic"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("vmdk.") else "",
)
def test_limits_of_descriptors(content: str, error: type[Exception], code: str) -> None:
    with pytest.raises(error) as caught:
        read_info(MemorySource(content.encode()))
    assert getattr(caught.value, "code", None) == code


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (vmdk.descriptor(more="some text"), "vmdk.unknown-line"),
        (vmdk.descriptor(more='colour="blue"'), "vmdk.unknown-line"),
        (vmdk.descriptor(more='encoding="UTF-8" x'), "vmdk.unknown-line"),
        (vmdk.descriptor(more='ddb.x="a\x07b"'), "vmdk.unknown-line"),
        (vmdk.descriptor(more="cid=1"), "vmdk.duplicate-line"),
        (vmdk.descriptor('RW 2048 FLAT "sub/flat.raw" 0'), "vmdk.extent-path"),
        (vmdk.descriptor('RW 2048 FLAT "sub\\flat.raw" 0'), "vmdk.extent-path"),
        (vmdk.descriptor('RW 2048 FLAT "json:{}" 0'), "vmdk.extent-path"),
        (vmdk.descriptor(more='encoding="EBCDIC"'), "vmdk.encoding"),
        (
            vmdk.descriptor('RW 2048 FLAT "é.raw" 0', more='encoding="windows-1252"'),
            "vmdk.file-name-encoding",
        ),
    ],
    ids=lambda value: value if value.startswith("vmdk.") else "",
)
def test_what_is_told_of_descriptors(content: str, expected: str) -> None:
    assert codes(text(content)) == [expected]


@pytest.mark.parametrize(
    ("encoding", "codec"),
    [("UTF-8", "utf-8"), ("windows-1252", "cp1252"), ("GBK", "gbk"), ("Shift_JIS", "cp932")],
)
def test_file_names_in_their_encoding(encoding: str, codec: str) -> None:
    name = {"windows-1252": "größe.raw"}.get(encoding, "仮想.raw")
    content = vmdk.descriptor(f'RW 1 FLAT "{name}" 0', more=f'encoding="{encoding}"')
    info = text(content.encode(codec))
    assert names(info) == [name]
    extents: Any = info.details["extents"]
    assert extents[0]["filename"] == name


def test_file_names_that_cannot_be_decoded_can_be_printed() -> None:
    info = text(vmdk.descriptor().replace("flat.raw", "\udcff").encode(errors="surrogateescape"))
    assert names(info) == ["\\xff"]
    assert codes(info) == ["vmdk.file-name-encoding"]


@pytest.mark.parametrize(
    "more",
    ['encryption.keySafe = "vmware:key/list/x"', 'ddb.iofilters = "vmwarevmcrypt"'],
    ids=["Workstation", "ESXi"],
)
def test_encrypted_disks(more: str) -> None:
    assert text(vmdk.descriptor(more=more)).encrypted


@given(st.binary(max_size=300))
def test_any_text_is_read_or_refused(data: bytes) -> None:
    """Whatever the lines are, they end as keys, extents or unknown lines."""
    try:
        found = parse_descriptor(b'createType="custom"\n' + data, path="x")
    except (CorruptInput, UnsupportedFeature):
        return
    assert found.create_type == "custom"
    assert found.virtual_size == 512 * sum(extent.sectors for extent in found.extents)


@pytest.mark.parametrize(
    "filling",
    [
        b"\n" * (2 * MIB - 300),
        b"a\n" * 39_000,
        b"RW\n" + b" " * MIB,
        b"#" * (2 * MIB - 300),
        b"RW 1 ZERO\n" * 16_000,
        b'\n\nRW 1 FLAT "x" 0\n' * 16_000,
        b"x" * 1000 + b" " * MIB + b"= 1\n",
        b'ddb.a="' + b'""' * (MIB - 200),
    ],
    ids=["blank", "short", "spaces", "comment", "extents", "doubled", "wide", "quotes"],
)
def test_hostile_descriptors_cost_little(filling: bytes) -> None:
    head, tail = vmdk.descriptor().encode().split(b"# Extent", 1)
    source = MemorySource(head + filling + b"\n#" + tail)
    begin = time.process_time()
    outcome(source)
    assert time.process_time() - begin < 1.5


def test_hostile_descriptors_take_little_memory() -> None:
    extents = "\n\n".join(f'RW 1 FLAT "{number}" 0' for number in range(4000))
    source = MemorySource(vmdk.descriptor(extents).encode())
    tracemalloc.start()
    outcome(source)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * MIB, "four times as many extents are possible"


def outcome(source: MemorySource) -> str | None:
    """The code of the error with which it is refused, if it is."""
    try:
        read_info(source)
    except CorruptInput as error:
        return error.code
    return None


# Sparse extents


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize(
    "image",
    [vmdk.sparse(), vmdk.stream(), vmdk.sparse(grain_size=8), vmdk.sparse(entries=1, overhead=0)],
    ids=["sparse", "stream", "small grains", "small tables"],
)
def test_disks_in_one_file(image: ImageFile, tmp_path: Path) -> None:
    info = read_info(image)
    expected = qemu_info(image.write(tmp_path / "a.vmdk"))
    assert info.virtual_size == expected["virtual-size"]
    assert info.cluster_size == expected["cluster-size"]
    assert info.variant == expected["format-specific"]["data"]["create-type"]
    assert info.details["cid"] == expected["format-specific"]["data"]["cid"]
    assert info.references == ()
    assert info.concerns == ()


HEADER_ONLY = vmdk.sparse()


@pytest.mark.parametrize(
    ("image", "error", "code"),
    [
        (vmdk.sparse(version=0), UnsupportedFeature, "vmdk.version"),
        (vmdk.sparse(version=4), UnsupportedFeature, "vmdk.version"),
        (vmdk.sparse(flags=3 | 1 << 18), UnsupportedFeature, "vmdk.flags"),
        (vmdk.sparse(algorithm=2), UnsupportedFeature, "vmdk.compress-algorithm"),
        (vmdk.sparse(newlines=b"\n \n "), CorruptInput, "vmdk.newline"),
        (vmdk.sparse(capacity=1 << 54), CorruptInput, "vmdk.capacity"),
        (vmdk.sparse(capacity=(1 << 64) - 1), CorruptInput, "vmdk.capacity"),
        (vmdk.sparse(grain_size=4), CorruptInput, "vmdk.grain-size"),
        (vmdk.sparse(grain_size=0), CorruptInput, "vmdk.grain-size"),
        (vmdk.sparse(grain_size=129), CorruptInput, "vmdk.grain-size"),
        (vmdk.sparse(grain_size=1 << 22), CorruptInput, "vmdk.grain-size"),
        (vmdk.sparse(grain_size=1 << 63), CorruptInput, "vmdk.grain-size"),
        (vmdk.sparse(entries=0), CorruptInput, "vmdk.num-gtes-per-gt"),
        (vmdk.sparse(entries=513), CorruptInput, "vmdk.num-gtes-per-gt"),
        (vmdk.sparse(descriptor_size=0), CorruptInput, "vmdk.descriptor-size"),
        (vmdk.sparse(descriptor_size=4097), CorruptInput, "vmdk.descriptor-size"),
        (vmdk.sparse(descriptor_size=4096), TruncatedInput, "vmdk.descriptor-offset"),
        (vmdk.sparse(descriptor_offset=(1 << 64) - 1), TruncatedInput, "vmdk.descriptor-offset"),
        (vmdk.sparse(gd_offset=0), CorruptInput, "vmdk.gd-offset"),
        (vmdk.sparse(gd_offset=128), TruncatedInput, "vmdk.gd-offset"),
        (vmdk.sparse(gd_offset=(1 << 64) - 2), TruncatedInput, "vmdk.gd-offset"),
        (vmdk.sparse(capacity=(1 << 54) - 1), TruncatedInput, "vmdk.gd-offset"),
        (vmdk.sparse(rgd_offset=0), CorruptInput, "vmdk.rgd-offset"),
        (vmdk.sparse(rgd_offset=128), TruncatedInput, "vmdk.rgd-offset"),
        (vmdk.sparse(overhead=129), TruncatedInput, "vmdk.overhead"),
        (vmdk.sparse(gd_offset=vmdk.GD_AT_END), TruncatedInput, "vmdk.footer"),
        (vmdk.stream(footer={"gd_offset": vmdk.GD_AT_END}), CorruptInput, "vmdk.gd-offset"),
        (vmdk.stream(footer={"version": 4}), UnsupportedFeature, "vmdk.version"),
        (
            vmdk.sparse('createType="monolithicFlat"\n', capacity=0),
            CorruptInput,
            "vmdk.extents",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_limits_of_sparse_extents(image: ImageFile, error: type[Exception], code: str) -> None:
    with pytest.raises(error) as caught:
        read_info(image)
    assert getattr(caught.value, "code", None) == code


def embedded(extents: str, create_type: str = "monolithicSparse", more: str = "") -> str:
    return vmdk.descriptor(extents, create_type=create_type, more=more)


SELF = 'RW 2048 SPARSE "disk.vmdk"'


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (vmdk.sparse(embedded(FLAT)), ["vmdk.extents-ambiguous"]),
        (
            vmdk.sparse(embedded(SELF + "\n" + FLAT)),
            ["vmdk.extents-ambiguous", "vmdk.capacity-mismatch"],
        ),
        (vmdk.sparse(embedded('RW 1 SPARSE "disk.vmdk"')), ["vmdk.capacity-mismatch"]),
        (vmdk.sparse(embedded('RW 2048 SPARSE "/etc/disk"')), ["vmdk.extent-path"]),
        (vmdk.sparse(embedded(SELF, more="Mary had a little lamb")), ["vmdk.unknown-line"]),
        (vmdk.sparse(descriptor_offset=0), ["vmdk.lone-extent"]),
        (vmdk.sparse(flags=3 | 1 << 16), ["vmdk.compression-ambiguous"]),
        (
            vmdk.stream(footer={"capacity": 4096}),
            ["vmdk.footer-mismatch", "vmdk.capacity-mismatch"],
        ),
        (vmdk.sparse(newlines=bytes(4)), []),
        (vmdk.sparse(flags=2, newlines=b"abcd"), []),
    ],
    ids=["flat", "two", "size", "path", "line", "lone", "compression", "footer", "unset", "unused"],
)
def test_what_is_told_of_sparse_extents(image: ImageFile, expected: list[str]) -> None:
    assert codes(read_info(image)) == expected


def test_extents_that_a_sparse_disk_names_are_references() -> None:
    """Its own, under whatever name, is not."""
    assert names(read_info(vmdk.sparse(embedded(FLAT)))) == ["flat.raw"]
    assert read_info(vmdk.sparse(embedded('RW 2048 SPARSE "renamed.vmdk"'))).references == ()


def test_create_type_of_several_files_in_one() -> None:
    info = read_info(vmdk.sparse(embedded(SELF, "twoGbMaxExtentSparse")))
    assert [concern.code for concern in info.concerns] == ["vmdk.create-type"]


@pytest.mark.needs("qemu-img")
def test_parent_that_only_qemu_finds_in_a_sparse_disk(tmp_path: Path) -> None:
    """qemu looks behind the header, wherever the header says that the descriptor is."""
    content = embedded(SELF).encode()
    decoy = content.replace(b"ddb.adapter", b'parentFileNameHint="flat.raw"\nddb.adapter')
    image = vmdk.sparse(descriptor_offset=64).patched({512: decoy, 64 * 512: content})
    assert names(read_info(image), ReferenceKind.PARENT) == ["flat.raw"]
    assert codes(read_info(image)) == ["vmdk.parent-ambiguous"]
    (tmp_path / "flat.raw").touch()
    found = qemu_info(image.write(tmp_path / "a.vmdk"))
    assert found["backing-filename"] == "flat.raw"


@pytest.mark.needs("qemu-img")
def test_sparse_file_that_holds_but_a_descriptor(tmp_path: Path) -> None:
    """With a capacity of 0, the descriptor in it is the disk's: CVE-2022-47951 went that way."""
    image = vmdk.sparse(vmdk.descriptor('RW 2048 FLAT "/etc/hostname" 0'), capacity=0)
    info = read_info(image)
    assert (info.variant, info.virtual_size) == ("monolithicFlat", MIB)
    assert names(info) == ["/etc/hostname"]
    assert codes(info) == ["vmdk.extent-path"]
    local = vmdk.sparse(vmdk.descriptor(FLAT), capacity=0).write(tmp_path / "a.vmdk")
    (tmp_path / "flat.raw").write_bytes(bytes(MIB))
    assert qemu_info(local)["virtual-size"] == MIB


def test_unclean_shutdown() -> None:
    assert read_info(vmdk.sparse(unclean=1)).dirty


@pytest.mark.parametrize("image", [vmdk.sparse(), vmdk.stream()], ids=["sparse", "stream"])
def test_a_cut_disk_is_refused_wherever_it_is_cut(image: ImageFile) -> None:
    for size in (4, 100, 511, 512, 512 * 20, 512 * 21, image.size - 512, image.size - 513):
        with pytest.raises(CorruptInput):
            read_info(image.cut(size))


def with_grains(grains: list[int], *, tables: int = 1, size: int = 0, **fields: Any) -> ImageFile:
    """A disk of `tables` grain tables, at sector 256, that place the same grains each."""
    entries = fields.setdefault("entries", 512)
    fields.setdefault("capacity", 128 * entries * tables)
    fields.setdefault("overhead", 0)
    table = struct.pack(f"<{entries}I", *grains, *[0] * (entries - len(grains)))
    stride = -(-len(table) // 512)
    after = 256 + stride * tables
    directory = struct.pack(f"<{tables}I", *range(256, after, stride))
    header = {"flags": 1, "gd_offset": after, "descriptor_offset": 0} | fields
    content = table.ljust(stride * 512, b"\0") * tables + directory
    image = vmdk.sparse("", **header).patched({256 * 512: content})
    return image.cut(max(image.size, size))


def test_a_grain_that_was_cut_off() -> None:
    """qemu reads zeros there, and says nothing."""
    whole = with_grains([0, 1, 2000], size=(2000 + 128) * 512)
    read_info(whole)
    with pytest.raises(TruncatedInput) as caught:
        read_info(whole.cut(whole.size - 1))
    assert caught.value.code == "vmdk.grain-outside"
    # Of the last grain, only what belongs to the disk must be there.
    read_info(with_grains([0, 0, 2000], size=2001 * 512, capacity=257))


def test_a_compressed_grain_that_was_cut_off() -> None:
    grain = {2000 * 512: struct.pack("<QI", 0, 700)}
    stream = {"flags": 0x3_0001, "algorithm": 1}
    whole = with_grains([2000], size=2000 * 512 + 712, **stream).patched(grain)
    read_info(whole)
    with pytest.raises(TruncatedInput) as caught:
        read_info(whole.cut(whole.size - 1))
    assert caught.value.code == "vmdk.grain-outside"


def test_a_grain_table_that_was_cut_off() -> None:
    image = with_grains([])
    outside = image.patched({image.size - 4: struct.pack("<I", 1 << 20)})
    with pytest.raises(TruncatedInput) as caught:
        read_info(outside)
    assert caught.value.code == "vmdk.table-outside"


@pytest.mark.parametrize(
    "image",
    [
        with_grains([40_000] * 512, tables=1 << 13, size=40_100 * 512, flags=0x3_0001, algorithm=1),
        with_grains([1] * 512, tables=1 << 13),
        vmdk.sparse(
            "", flags=1, descriptor_offset=0, overhead=0, grain_size=8, entries=1, capacity=1 << 45
        ).cut(1 << 46),
    ],
    ids=["last grains", "tables", "directory"],
)
def test_hostile_tables_cost_little(image: ImageFile) -> None:
    begin = time.process_time()
    read_info(image)
    assert time.process_time() - begin < 1.5


# Extents of ESX


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize(
    ("extent", "kind", "variant"),
    [
        (vmdk.cowd(), "VMFSSPARSE", "COWD extent"),
        (vmdk.cowd(sectors=1 << 21, grain_size=16), "VMFSSPARSE", "COWD extent"),
        (vmdk.sesparse(capacity=1 << 18), "SESPARSE", "seSparse extent"),
    ],
    ids=["COWD", "large COWD", "seSparse"],
)
def test_esx_extents_as_qemu_sees_them(
    extent: ImageFile, kind: str, variant: str, tmp_path: Path
) -> None:
    """qemu reads them through a descriptor only."""
    info = read_info(extent)
    assert matches(extent)
    extent.write(tmp_path / "extent.vmdk")
    line = f'RW {info.virtual_size // 512} {kind} "extent.vmdk"'
    kinds = {"VMFSSPARSE": "vmfsSparse", "SESPARSE": "seSparse"}
    content = vmdk.descriptor(line, create_type=kinds[kind])
    (expected,) = qemu_info(tmp_path / "a.vmdk", content)["format-specific"]["data"]["extents"]
    assert info.virtual_size == expected["virtual-size"]
    assert info.cluster_size == expected["cluster-size"]
    assert info.variant == variant
    assert codes(info) == ["vmdk.lone-extent"]
    assert text(content).virtual_size == info.virtual_size


def test_cowd_of_old_names_its_parent() -> None:
    info = read_info(vmdk.cowd(flags=2, parent=b"/vmfs/base.vmdk"))
    assert names(info, ReferenceKind.PARENT) == ["/vmfs/base.vmdk"]


def test_dirty_esx_extents() -> None:
    assert read_info(vmdk.cowd(unclean=1)).dirty
    info = read_info(vmdk.sesparse(replay=1))
    assert info.dirty
    assert codes(info) == ["vmdk.lone-extent", "vmdk.dirty-journal"]


@pytest.mark.parametrize(
    ("image", "error", "code"),
    [
        (vmdk.cowd(version=2), UnsupportedFeature, "vmdk.cowd-version"),
        (vmdk.cowd(grain_size=(1 << 21) + 1), CorruptInput, "vmdk.cowd-grain-size"),
        (vmdk.cowd(sectors=4097, entries=1), CorruptInput, "vmdk.cowd-directory"),
        (vmdk.cowd(entries=0xFFFF_FFFF), TruncatedInput, "vmdk.cowd-directory"),
        (vmdk.cowd(gd_offset=128), TruncatedInput, "vmdk.cowd-directory"),
        (vmdk.cowd().cut(2047), TruncatedInput, "vmdk.header-outside"),
        (vmdk.sesparse(version=1), UnsupportedFeature, "vmdk.sesparse-version"),
        (vmdk.sesparse(grain_size=16), UnsupportedFeature, "vmdk.sesparse-grain-size"),
        (vmdk.sesparse(table_size=32), UnsupportedFeature, "vmdk.sesparse-grain-table-size"),
        (vmdk.sesparse(flags=1), UnsupportedFeature, "vmdk.sesparse-flags"),
        (vmdk.sesparse(reserved=1), UnsupportedFeature, "vmdk.sesparse-reserved-bits"),
        (vmdk.sesparse(capacity=1 << 54), CorruptInput, "vmdk.sesparse-capacity"),
        (vmdk.sesparse(capacity=1 << 30), CorruptInput, "vmdk.sesparse-directory"),
        (vmdk.sesparse(directory_size=1 << 60), TruncatedInput, "vmdk.sesparse-directory"),
        (vmdk.sesparse(volatile_magic=0), CorruptInput, "vmdk.sesparse-volatile-header"),
        (vmdk.sesparse().cut(511), TruncatedInput, "vmdk.header-outside"),
        (vmdk.sesparse(directory_size=0, capacity=0).cut(2048), None, ""),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_limits_of_esx_extents(image: ImageFile, error: type[Exception] | None, code: str) -> None:
    if error is None:
        assert read_info(image).virtual_size == 0
        return
    with pytest.raises(error) as caught:
        read_info(image)
    assert getattr(caught.value, "code", None) == code


# Images of others


@pytest.mark.qemu_samples
@pytest.mark.needs("qemu-img")
def test_stream_of_version_3() -> None:
    with open_source(sample("iotest-version3.vmdk")) as source:
        info = read_info(source)
    expected = qemu_info(sample("iotest-version3.vmdk"))
    assert (info.virtual_size, info.cluster_size) == (
        expected["virtual-size"],
        expected["cluster-size"],
    )
    assert (info.variant, info.concerns) == ("streamOptimized", ())


@pytest.mark.qemu_samples
def test_what_a_fuzzer_found_in_qemu() -> None:
    with open_source(sample("afl9.vmdk")) as source, pytest.raises(CorruptInput):
        read_info(source)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"# Disk DescriptorFile\n", True),
        (b"\n  # disk descriptor file\r\nversion=1\n", True),
        (b"# some comment\n\nversion=3\r\n", True),
        (b"KDMV", True),
        (b"COWD", True),
        (b"\xbe\xba\xfe\xca\0\0\0\0", True),
        (b"\xca\xfe\xba\xbe\0\0\0\x34", False),  # a Java class
        (b"# some comment\nname=1\n", False),
        (b"version=\n", False),
        (b"", False),
        (b"\0" * 4096, False),
        (b"#" * 4096, False),
        (b"KDM", False),
    ],
)
def test_what_begins_a_vmdk(head: bytes, expected: bool) -> None:
    assert matches(MemorySource(head)) is expected


def test_size_of_64_kib_holds_all_fixtures() -> None:
    assert {vmdk.sparse().size, vmdk.cowd().size, vmdk.sesparse().size} == {64 * KIB}
