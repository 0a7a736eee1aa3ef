"""VMDKs as whole disks: of one file or many, as qemu makes them or pieced together, and chains."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.disks import vmdk
from fixtures.disks.image_file import ImageFile
from fixtures.disks.vmdk_grains import (
    SECTOR,
    Composed,
    Kind,
    compose_cowd,
    compose_sesparse,
    compose_sparse,
    compose_stream,
)
from tests.content import (
    check_against_qemu_map,
    check_content,
    converted,
    qemu_img,
    qemu_io,
)
from tests.qemu_variants import disk as disk_with_data
from tests.samples import sample
from vmport_formats.disk.extents import ExtentKind
from vmport_formats.disk.image import open_image
from vmport_formats.errors import (
    CorruptInput,
    TruncatedInput,
    UnreadableInput,
    UnsafeInput,
    UnsupportedFeature,
    VmportError,
)
from vmport_formats.references import Confined
from vmport_formats.source import open_source
from vmport_formats.units import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

CID, PARENT_CID = "8a2f6c1d", "deadbeef"


def described(
    folder: Path,
    lines: str | Iterable[str],
    *,
    name: str = "disk.vmdk",
    more: str = "",
    **text: str,
) -> Path:
    """A descriptor with these extents; `text` are the create type, and the CIDs."""
    content = vmdk.descriptor(
        lines if isinstance(lines, str) else "\n".join(lines),
        create_type=text.get("create_type", "custom"),
        more=more,
    )
    content = content.replace(f"CID={CID}", f"CID={text.get('cid', CID)}")
    content = content.replace("parentCID=ffffffff", f"parentCID={text.get('parent', 'ffffffff')}")
    path = folder / name
    path.write_text(content)
    return path


def refusal(path: Path) -> VmportError:
    """The error with which a disk is refused, at once."""
    with pytest.raises(VmportError) as caught, open_image(path, Confined([path.parent])):
        pass
    return caught.value


# --- Disks that qemu makes ----------------------------------------------------------------------

SUBFORMATS = {
    "monolithicSparse": ExtentKind.DATA,
    "monolithicSparse,zeroed_grain=on": ExtentKind.DATA,
    "streamOptimized": ExtentKind.COMPRESSED,
    "monolithicFlat": ExtentKind.DATA,
    "twoGbMaxExtentSparse": ExtentKind.DATA,
    "twoGbMaxExtentSparse,zeroed_grain=on": ExtentKind.DATA,
    "twoGbMaxExtentFlat": ExtentKind.DATA,
}


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize("options", SUBFORMATS)
@pytest.mark.parametrize("size", [2 * MIB, 1 * MIB + 37 * SECTOR])
def test_every_subformat_of_qemu(options: str, size: int, tmp_path: Path) -> None:
    raw = tmp_path / "disk.raw"
    raw.write_bytes(disk_with_data(size))
    path = tmp_path / "disk.vmdk"
    qemu_img("convert", "-O", "vmdk", "-o", f"subformat={options}", raw, path)
    assert converted(path, "vmdk") == raw.read_bytes()
    with open_image(path, Confined([tmp_path])) as disk:
        extents = check_content(disk, raw.read_bytes())
    assert SUBFORMATS[options] in {extent.kind for extent in extents}
    check_against_qemu_map(extents, path, "vmdk")


@pytest.mark.needs("qemu-img", "qemu-io")
def test_written_in_any_order(tmp_path: Path) -> None:
    """As a guest does it, with grains of zeros amid."""
    path = tmp_path / "disk.vmdk"
    options = "subformat=monolithicSparse,zeroed_grain=on"
    qemu_img("create", "-f", "vmdk", "-o", options, path, "3M")
    chance = Random(4)
    order = chance.sample(range(48), 30)
    writes = [f"write -P {number + 1} {number * 64 + number % 3}k 21k" for number in order]
    qemu_io(path, *writes, "write -z 640k 128k", "write -z 1M 64k", options=["-f", "vmdk"])
    truth = converted(path, "vmdk")
    with open_image(path) as disk:
        check_against_qemu_map(check_content(disk, truth), path, "vmdk")


@pytest.mark.needs("qemu-img", "qemu-io")
def test_extents_of_two_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    qemu_img("create", "-f", "vmdk", "-o", "subformat=twoGbMaxExtentSparse", path, "5G")
    boundary = 2 << 30
    writes = [f"write -P 7 {boundary - 64 * KIB} 192k", f"write -P 9 {2 * boundary} 64k"]
    qemu_io(path, *writes, options=["-f", "vmdk"])
    with open_image(path, Confined([tmp_path])) as disk:
        extents = list(disk.extents())
        check_against_qemu_map(extents, path, "vmdk")
        found = disk.read(boundary - 65 * KIB, 194 * KIB)
        assert found == bytes(KIB) + b"\7" * (192 * KIB) + bytes(KIB)
        assert disk.read(2 * boundary, 64 * KIB) == b"\x09" * (64 * KIB)
    files = [extent.host_file for extent in extents if extent.kind is ExtentKind.DATA]
    assert [name and name[-8:-5] for name in files] == ["001", "002", "003"]


@pytest.mark.needs("qemu-img")
@pytest.mark.qemu_samples
def test_a_stream_of_version_3_by_vmware(tmp_path: Path) -> None:
    """Of 16 GiB, almost all of them empty."""
    path, raw = sample("iotest-version3.vmdk"), tmp_path / "disk.raw"
    qemu_img("convert", "-f", "vmdk", "-O", "raw", path, raw)
    with open_image(path) as disk, open_source(raw) as truth:
        assert disk.info.variant == "streamOptimized"
        extents = list(disk.extents())
        check_against_qemu_map(extents, path, "vmdk")
        for offset, piece in disk.stream():
            assert piece == truth.read_at(offset, len(piece))
        for start, end in truth.data_ranges(0, truth.size):
            for offset in range(start - start % (64 * KIB), end, 64 * KIB):
                assert disk.read(offset, 64 * KIB) == truth.read_at(offset, 64 * KIB)
    assert sum(extent.kind is ExtentKind.COMPRESSED for extent in extents) > 100


# --- Disks pieced together ----------------------------------------------------------------------


@st.composite
def pieces(draw: st.DrawFn) -> list[tuple[str, Composed | int]]:
    """Types of extents, with what they hold, or else how many sectors they have."""
    found: list[tuple[str, Composed | int]] = []
    for kind in draw(
        st.lists(
            st.sampled_from(["FLAT", "VMFS", "ZERO", "SPARSE", "VMFSSPARSE", "SESPARSE"]),
            min_size=1,
            max_size=7,
        )
    ):
        if kind in {"FLAT", "VMFS", "ZERO"}:
            found.append((kind, draw(st.integers(0, 200))))
            continue
        kinds = draw(st.lists(st.sampled_from((Kind.ABSENT, Kind.DATA)), min_size=1, max_size=9))
        seed = draw(st.integers(0, 99))
        compose: Any = {
            "VMFSSPARSE": compose_cowd,
            "SESPARSE": compose_sesparse,
            "SPARSE": draw(st.sampled_from((compose_sparse, compose_stream))),
        }[kind]
        options = {"most_grains": 20} if kind == "SESPARSE" else {"grain": 16 * SECTOR}
        found.append((kind, compose(kinds, seed=seed, **options)))
    return found


@given(parts=pieces())
@settings(max_examples=25, deadline=None)
def test_any_extents_in_one_disk(
    parts: list[tuple[str, Composed | int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """FLAT ones share a file, each from its own offset, as they may."""
    folder = tmp_path_factory.mktemp("pieces")
    chance = Random(1)
    flat, truth = b"", b""
    lines = []
    for number, (kind, content) in enumerate(parts):
        name = f"{number}.vmdk"
        if isinstance(content, Composed):
            content.file.write(folder / name)
            data = content.truth
        elif kind == "ZERO":
            data = bytes(content * SECTOR)
        else:
            data = chance.randbytes(content * SECTOR)
        truth += data
        access = chance.choice(("RW", "RDONLY"))
        line = f"{access} {len(data) // SECTOR} {kind}"
        if kind == "FLAT":
            flat += bytes(chance.randrange(3) * SECTOR)
            line += f' "all-flat.vmdk" {len(flat) // SECTOR}'
            flat += data
        elif kind != "ZERO":
            line += f' "{name}"'
        if kind == "VMFS":
            (folder / name).write_bytes(data)
        lines.append(line)
    (folder / "all-flat.vmdk").write_bytes(flat)
    with open_image(described(folder, lines), Confined([folder])) as disk:
        check_content(disk, truth)


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize(
    "create_type",
    ["monolithicFlat", "vmfs", "vmfsThin", "vmfsPreallocated", "twoGbMaxExtentFlat", "custom"],
)
def test_flat_disks_of_every_type(create_type: str, tmp_path: Path) -> None:
    """With holes, which are zeros on the map."""
    kind = "VMFS" if create_type.startswith("vmfs") else "FLAT"
    with (tmp_path / "disk-flat.vmdk").open("wb") as file:
        file.truncate(MIB)
        file.seek(512 * KIB)
        file.write(b"\x11" * (64 * KIB))
    line = f'RW 2048 {kind} "disk-flat.vmdk"' + " 0" * (kind == "FLAT")
    path = described(tmp_path, line, create_type=create_type)
    with open_image(path, Confined([tmp_path])) as disk:
        extents = check_content(disk, (tmp_path / "disk-flat.vmdk").read_bytes())
    assert [extent.kind.reads_zero for extent in extents] == [True, False, True]
    if create_type in {"monolithicFlat", "vmfs", "twoGbMaxExtentFlat"}:  # all that qemu knows
        check_against_qemu_map(extents, path, "vmdk")


def test_a_sparse_file_that_holds_but_a_descriptor(tmp_path: Path) -> None:
    data = Random(2).randbytes(MIB)
    (tmp_path / "flat.raw").write_bytes(data)
    image = vmdk.sparse(vmdk.descriptor('RW 2048 FLAT "flat.raw" 0'), capacity=0)
    with open_image(image.write(tmp_path / "disk.vmdk"), Confined([tmp_path])) as disk:
        check_content(disk, data)


def test_extents_are_opened_only_when_they_are_granted(tmp_path: Path) -> None:
    path = described(tmp_path, 'RW 2048 FLAT "flat.raw" 0')
    with pytest.raises(UnsafeInput), open_image(path):
        pass
    assert isinstance(refusal(path), UnreadableInput)  # there is none
    path = described(tmp_path, 'RW 8 FLAT "/etc/hostname" 0')
    assert refusal(path).code == "reference.outside"


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ('NOACCESS 8 FLAT "secret.raw" 0', "vmdk.extent-access", "secret.raw"),
        ('RW 8 VMFSRDM "disk-rdm.vmdk"', "vmdk.extent-device", "disk-rdm.vmdk"),
        ('RW 8 VMFSRAW "/vmfs/devices/disks/naa.6"', "vmdk.extent-device", "naa.6"),
        ('RW 8 VSANSPARSE "vsan://1"', "vmdk.extent-content", "VSANSPARSE"),
    ],
)
def test_extents_whose_content_cannot_be_had(
    line: str, code: str, words: str, tmp_path: Path
) -> None:
    """They are refused, before anything of them is opened, by their names."""
    found = refusal(described(tmp_path, ["RW 8 ZERO", line]))
    assert isinstance(found, UnsupportedFeature)
    assert (found.code, found.at) == (code, "line 9")
    assert words in found.problem


def test_what_nobody_may_read_of_zeros_is_zeros(tmp_path: Path) -> None:
    with open_image(described(tmp_path, ["RW 8 ZERO", "NOACCESS 100 ZERO"])) as disk:
        check_content(disk, bytes(108 * SECTOR))


@pytest.mark.parametrize(
    ("file", "line", "error", "code"),
    [
        (ImageFile(size=4095), 'RW 9 FLAT "x" 0', TruncatedInput, "vmdk.extent-outside"),
        (ImageFile(size=4096), 'RW 8 FLAT "x" 1', TruncatedInput, "vmdk.extent-outside"),
        (ImageFile(size=4096), 'RW 8 SPARSE "x"', CorruptInput, "vmdk.extent-magic"),
        (vmdk.cowd(), 'RW 2048 SESPARSE "x"', CorruptInput, "vmdk.extent-magic"),
        (vmdk.sesparse(), 'RW 2048 VMFSSPARSE "x"', CorruptInput, "vmdk.extent-magic"),
        (vmdk.cowd(), 'RW 2047 VMFSSPARSE "x"', CorruptInput, "vmdk.extent-capacity"),
        (vmdk.sesparse(), 'RW 2049 SESPARSE "x"', CorruptInput, "vmdk.extent-capacity"),
        (vmdk.sparse(), 'RW 4096 SPARSE "x"', CorruptInput, "vmdk.extent-capacity"),
        (vmdk.sparse(capacity=0), 'RW 4096 SPARSE "x"', CorruptInput, "vmdk.extent-capacity"),
        (vmdk.sparse(version=9), 'RW 2048 SPARSE "x"', UnsupportedFeature, "vmdk.version"),
    ],
)
def test_extents_that_do_not_fit_their_lines(
    file: ImageFile, line: str, error: type[VmportError], code: str, tmp_path: Path
) -> None:
    file.write(tmp_path / "x")
    found = refusal(described(tmp_path, line))
    assert type(found) is error
    assert found.code == code
    assert found.path == str(tmp_path / "x")


def test_a_sparse_extent_has_one_place_on_the_disk(tmp_path: Path) -> None:
    """16,384 places for one file would cost a lot, and mean nothing."""
    compose_cowd([Kind.DATA] * 9).file.write(tmp_path / "x")
    found = refusal(described(tmp_path, ['RW 9 VMFSSPARSE "x"'] * 3000))
    assert (found.code, found.at) == ("vmdk.extent-twice", "line 9")


def test_an_encrypted_disk_is_refused(tmp_path: Path) -> None:
    more = 'encryption.keySafe = "vmware:key/list/x"'
    assert refusal(described(tmp_path, "RW 8 ZERO", more=more)).code == "vmdk.encrypted"


# --- Chains -------------------------------------------------------------------------------------


@pytest.mark.needs("qemu-img", "qemu-io")
def test_a_chain_by_qemu(tmp_path: Path) -> None:
    """Each child larger than its parent, whose end is in the midst of a grain."""
    sizes = [MIB + 5 * SECTOR, MIB + 77 * SECTOR, 2 * MIB, 2 * MIB + 9 * SECTOR]
    paths = [tmp_path / f"{number}.vmdk" for number in range(4)]
    qemu_img("create", "-f", "vmdk", paths[0], str(sizes[0]))
    for depth, path in enumerate(paths):
        if depth:
            parent = paths[depth - 1].name
            qemu_img("create", "-f", "vmdk", "-b", parent, "-F", "vmdk", path, str(sizes[depth]))
        chance = Random(depth)
        writes = [
            f"write -P {16 * depth + number} {chance.randrange(sizes[depth] - 9000)} 9000"
            for number in range(1, 9)
        ]
        writes.append(f"write -P {16 * depth + 15} {sizes[depth] - 700} 700")
        qemu_io(path, *writes, options=["-f", "vmdk"])
    truth = converted(paths[3], "vmdk")
    with open_image(paths[3], Confined([tmp_path])) as disk:
        assert len(disk.chain) == 4
        extents = check_content(disk, truth)
    assert {extent.depth for extent in extents if not extent.kind.reads_zero} == {0, 1, 2, 3}
    check_against_qemu_map(extents, paths[3], "vmdk")


def chain(folder: Path, *, parent: str = PARENT_CID, **base: str) -> tuple[Path, bytes]:
    """A vmfsSparse disk over an seSparse one over a flat one, which is the smallest."""
    flat = Random(9).randbytes(3 * MIB // 4)
    (folder / "base-flat.vmdk").write_bytes(flat)
    line = f'RW {len(flat) // SECTOR} VMFS "base-flat.vmdk"'
    described(folder, line, name="base.vmdk", create_type="vmfs", **{"cid": PARENT_CID} | base)
    kinds = [list(Kind)[n % 4] for n in range(MIB // 4096)]
    middle = compose_sesparse(kinds, seed=5, parent=flat, most_grains=500)
    middle.file.write(folder / "middle-sesparse.vmdk")
    line = f'RW {MIB // SECTOR} SESPARSE "middle-sesparse.vmdk"'
    hint = 'parentFileNameHint="{}"'
    options: dict[str, Any] = {"create_type": "seSparse", "parent": parent, "cid": "12345678"}
    described(folder, line, name="middle.vmdk", more=hint.format("base.vmdk"), **options)
    kinds = [(Kind.ABSENT, Kind.DATA, Kind.ABSENT)[n % 3] for n in range(MIB // 1536)]
    top = compose_cowd(kinds, grain=3 * SECTOR, seed=6, parent=middle.truth)
    top.file.write(folder / "top-delta.vmdk")
    line = f'RW {len(top.truth) // SECTOR} VMFSSPARSE "top-delta.vmdk"'
    options = {"create_type": "vmfsSparse", "parent": "12345678"}
    path = described(folder, line, name="top.vmdk", more=hint.format("middle.vmdk"), **options)
    return path, top.truth


@pytest.mark.needs("qemu-img")
def test_a_chain_of_esxi(tmp_path: Path) -> None:
    path, truth = chain(tmp_path)
    with open_image(path, Confined([tmp_path])) as disk:
        assert [info.variant for info in disk.chain] == ["vmfsSparse", "seSparse", "vmfs"]
        extents = check_content(disk, truth)
    assert {extent.depth for extent in extents if not extent.kind.reads_zero} == {0, 1, 2}
    assert converted(path, "vmdk") == truth


@pytest.mark.parametrize("states", ["0badc0de", None])
def test_a_parent_that_is_not_the_one_the_child_was_made_from(
    states: str | None, tmp_path: Path
) -> None:
    path, _ = chain(tmp_path, cid=states or CID)
    if states is None:
        base = tmp_path / "base.vmdk"
        base.write_text(base.read_text().replace(f"CID={CID}\n", "", 1))
    found = refusal(path)
    assert isinstance(found, CorruptInput)
    assert found.code == "vmdk.parent-cid"
    assert found.path == str(tmp_path / "middle.vmdk")
    assert "deadbeef" in found.problem
    assert f"base.vmdk {f'has CID {states}' if states else 'states no CID'}" in found.problem


def test_a_child_that_does_not_tell_its_parent(tmp_path: Path) -> None:
    (tmp_path / "base.vmdk").write_text(vmdk.descriptor("RW 8 ZERO"))
    hint = 'parentFileNameHint="base.vmdk"'
    found = refusal(described(tmp_path, "RW 8 ZERO", parent=CID))
    assert (found.code, CID in found.problem) == ("vmdk.parent-unnamed", True)
    found = refusal(described(tmp_path, "RW 8 ZERO", more=hint))
    assert (found.code, "base.vmdk" in found.problem) == ("vmdk.parent-ambiguous", True)


def test_a_cowd_of_old_names_its_parent_itself(tmp_path: Path) -> None:
    (tmp_path / "base.raw").write_bytes(b"\x33" * MIB)
    described(tmp_path, 'RW 2048 VMFS "base.raw"', name="base.vmdk", create_type="vmfs")
    vmdk.cowd(flags=2, parent=b"base.vmdk").write(tmp_path / "child.vmdk")
    with open_image(tmp_path / "child.vmdk", Confined([tmp_path])) as disk:
        check_content(disk, b"\x33" * MIB)


def test_a_chain_that_bites_its_tail(tmp_path: Path) -> None:
    path = described(tmp_path, "RW 8 ZERO", parent=CID, more='parentFileNameHint="disk.vmdk"')
    assert refusal(path).code == "chain.loop"


# --- Wrong reads in the peers -------------------------------------------------------------------


def test_dissect_drops_zero_extents_and_the_offset_of_flat_ones(tmp_path: Path) -> None:
    data = Random(3).randbytes(64 * KIB)
    (tmp_path / "flat.raw").write_bytes(data)
    lines = ["RW 16 ZERO", 'RW 16 FLAT "flat.raw" 32', "RW 16 ZERO", 'RW 16 FLAT "flat.raw" 0']
    with open_image(described(tmp_path, lines), Confined([tmp_path])) as disk:
        assert disk.virtual_size == 64 * SECTOR
        zeros = bytes(8 * KIB)
        check_content(disk, zeros + data[16 * KIB : 24 * KIB] + zeros + data[: 8 * KIB])


@pytest.mark.needs("qemu-img")
def test_qemu_reads_an_extent_after_a_blank_line_twice(tmp_path: Path) -> None:
    data = Random(4).randbytes(MIB)
    (tmp_path / "flat.raw").write_bytes(data)
    path = described(tmp_path, '\nRW 2048 FLAT "flat.raw" 0', create_type="monolithicFlat")
    assert converted(path, "vmdk") == data * 2
    with open_image(path, Confined([tmp_path])) as disk:
        check_content(disk, data)


@pytest.mark.needs("qemu-img")
def test_qemu_takes_a_comment_for_a_parent(tmp_path: Path) -> None:
    (tmp_path / "other.raw").write_bytes(b"\x77" * MIB)
    line = 'RW 2048 FLAT "other.raw" 0'
    described(tmp_path, line, name="other.vmdk", create_type="vmfs", cid="ffffffff")
    compose_cowd([Kind.ABSENT] * 2048).file.write(tmp_path / "delta.vmdk")
    line = 'RW 2048 VMFSSPARSE "delta.vmdk"'
    more = '# not a parentFileNameHint="other.vmdk"'
    path = described(tmp_path, line, more=more, create_type="vmfsSparse")
    assert any(converted(path, "vmdk"))
    with open_image(path, Confined([tmp_path])) as disk:
        assert len(disk.chain) == 1
        check_content(disk, bytes(MIB))
