"""VDI content: blocks anywhere and of any size, and chains of parents known by UUID only."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.disks import vdi
from fixtures.disks.blocks import Composed, Kind
from tests.content import check_against_qemu_map, check_content, converted
from vmport_formats.disk.extents import ExtentKind
from vmport_formats.disk.image import open_image
from vmport_formats.disk.vdi.parents import FoundByUuid
from vmport_formats.errors import (
    CorruptInput,
    InputError,
    TruncatedInput,
    UnsafeInput,
    VmportError,
)
from vmport_formats.references import Confined, Reference, ReferenceKind

if TYPE_CHECKING:
    from pathlib import Path

    from vmport_formats.references import Resolver

KINDS = st.sampled_from((Kind.ABSENT, Kind.ZERO, Kind.DATA, Kind.DATA))
MIB = 1 << 20
SECTOR = 512
A, Z, D = Kind.ABSENT, Kind.ZERO, Kind.DATA


@st.composite
def images(draw: st.DrawFn) -> Composed:
    block = draw(st.sampled_from((512, 2048, 16384)))
    kinds = draw(st.lists(KINDS, min_size=1, max_size=max(6, (1 << 16) // block)))
    size = len(kinds) * block - draw(st.integers(0, block // SECTOR - 1)) * SECTOR
    extra = draw(st.sampled_from((0, 0, 512)))
    fixed = extra == 0 and draw(st.booleans())
    return vdi.compose(
        kinds,
        block_size=block,
        size=size,
        seed=draw(st.integers(0, 1 << 32)),
        block_extra=extra,
        image_type=vdi.FIXED if fixed else vdi.DYNAMIC,
    )


@given(image=images(), seed=st.integers(0, 1 << 32))
@settings(max_examples=25, deadline=None)
def test_blocks_in_any_order_and_of_any_size(image: Composed, seed: int) -> None:
    with open_image(image.file) as disk:
        check_content(disk, image.truth, seed=seed)


@pytest.mark.needs("qemu-img")
@pytest.mark.parametrize("seed", range(3))
def test_the_composer_and_qemu_agree(seed: int, tmp_path: Path) -> None:
    """With blocks of 1 MiB, for qemu knows no others."""
    image = vdi.compose([D, A, D, Z, D, D], seed=seed, size=6 * MIB - 3 * SECTOR)
    path = image.file.write(tmp_path / "image.vdi")
    assert converted(path, "vdi") == image.truth
    with open_image(path) as disk:
        check_against_qemu_map(check_content(disk, image.truth), path, "vdi")


def test_dissect_reads_scattered_blocks_as_if_they_followed_each_other() -> None:
    """VDI, scattered block map, one read over several blocks."""
    image = vdi.compose([D] * 9, block_size=4096, seed=2)
    order = [image.hosts[number] for number in range(9)]
    assert order != sorted(order)
    with open_image(image.file) as disk:
        assert disk.read(0, 9 * 4096) == image.truth
        assert disk.read(4095, 4098) == image.truth[4095:8193]
        assert len(list(disk.extents())) > 6


# --- Parents ------------------------------------------------------------------------------------

UUIDS = [UUID(int=(0xABC << 96) + number) for number in range(8)]
LATER = [UUID(int=(0xDEF << 96) + number) for number in range(8)]


def chain(
    folder: Path, depth: int, *, seed: int = 0, block: int = 4096, image_type: int | None = None
) -> tuple[Path, bytes]:
    """A base and images that rest on it, placed as VirtualBox does; the last one, and its truth."""
    below = b""
    path = folder
    for level in range(depth):
        kinds = [(A, Z, D)[(seed + level * 7 + n * (n + level)) % 3] for n in range(12)]
        image = vdi.compose(
            kinds,
            block_size=block,
            seed=seed + level,
            below=below,
            image_type=(image_type or vdi.DIFFERENCING) if level else vdi.DYNAMIC,
            created=UUIDS[level],
            modified=LATER[level],
            parent=UUIDS[level - 1] if level else vdi.NIL,
            parent_modified=LATER[level - 1] if level else vdi.NIL,
        )
        below = image.truth
        path = folder / "Snapshots" / f"{{{UUIDS[level]}}}.vdi" if level else folder / "vm.vdi"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.file.write(path)
    return path, below


@pytest.mark.parametrize("image_type", [vdi.DIFFERENCING, vdi.UNDO], ids=["differencing", "undo"])
@pytest.mark.parametrize("depth", [2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_a_chain_reads_through(depth: int, seed: int, image_type: int, tmp_path: Path) -> None:
    path, truth = chain(tmp_path, depth, seed=seed, image_type=image_type)
    with open_image(path, FoundByUuid([tmp_path])) as disk:
        assert len(disk.chain) == depth
        check_content(disk, truth, seed=seed)


def test_free_falls_through_and_zero_does_not(tmp_path: Path) -> None:
    """VirtualBox ticket 850: zero blocks that were read from the parent."""
    base = vdi.compose([D, D, D], block_size=4096, seed=1)
    child = vdi.compose(
        [A, Z, D],
        block_size=4096,
        seed=2,
        below=base.truth,
        image_type=vdi.DIFFERENCING,
        parent=vdi.CREATED,
        created=UUIDS[1],
    )
    base.file.write(tmp_path / "base.vdi")
    path = child.file.write(tmp_path / "child.vdi")
    assert child.truth[:4096] == base.truth[:4096]
    assert child.truth[4096:8192] == bytes(4096)
    with open_image(path, FoundByUuid([tmp_path])) as disk:
        extents = check_content(disk, child.truth)
    found = [(extent.kind, extent.depth) for extent in extents]
    assert found == [(ExtentKind.DATA, 1), (ExtentKind.ZERO, 0), (ExtentKind.DATA, 0)]


def test_a_parent_of_another_block_size(tmp_path: Path) -> None:
    base = vdi.compose([D, Z, D, A], block_size=16384, seed=1)
    kinds = [(A, Z, A, D)[n % 4] for n in range(64)]
    child = vdi.compose(
        kinds,
        block_size=1024,
        seed=2,
        below=base.truth,
        image_type=vdi.DIFFERENCING,
        parent=vdi.CREATED,
        created=UUIDS[1],
    )
    base.file.write(tmp_path / "base.vdi")
    with open_image(child.file.write(tmp_path / "child.vdi"), FoundByUuid([tmp_path])) as disk:
        check_content(disk, child.truth)


@pytest.mark.parametrize(
    ("resolver", "code", "words"),
    [
        (None, "reference.denied", "names another file (parent): 'uuid:"),
        (Confined([]), "reference.denied", "names another file (parent): 'uuid:"),
        ("confined", "reference.no-path", "says what another file is (parent), but not where"),
        (FoundByUuid([]), "reference.denied", "names another file (parent): 'uuid:"),
    ],
)
def test_without_a_way_to_the_parent_it_is_refused(
    resolver: Resolver | str | None, code: str, words: str, tmp_path: Path
) -> None:
    path, _ = chain(tmp_path, 2)
    if isinstance(resolver, str):
        resolver = Confined([tmp_path])
    arguments = (resolver,) if resolver else ()
    with pytest.raises(UnsafeInput) as caught, open_image(path, *arguments):
        pass
    assert caught.value.code == code
    assert words in str(caught.value)


def test_a_resolver_of_ones_own_is_asked_by_uuid(tmp_path: Path) -> None:
    path, truth = chain(tmp_path, 2)
    asked: list[Reference] = []

    def resolver(reference: Reference, *, named_by: str) -> Path:
        asked.append(reference)
        return tmp_path / "vm.vdi"

    with open_image(path, resolver) as disk:
        assert disk.read(0, len(truth)) == truth
    expected = Reference(ReferenceKind.PARENT, f"uuid:{UUIDS[0]}", "vdi", is_path=False)
    assert asked == [expected]


def refusal(path: Path, folder: Path) -> VmportError:
    with (
        pytest.raises((InputError, UnsafeInput)) as caught,
        open_image(path, FoundByUuid([folder])) as disk,
    ):
        disk.read(0, 1)
    return caught.value


def test_a_parent_that_is_nowhere(tmp_path: Path) -> None:
    path, _ = chain(tmp_path, 2)
    (tmp_path / "vm.vdi").unlink()
    error = refusal(path, tmp_path)
    assert (error.code, error.exit_code) == ("vdi.parent-not-found", 4)
    assert str(UUIDS[0]) in error.problem


def test_a_parent_outside_the_folders(tmp_path: Path) -> None:
    """Neither beside them, nor behind a link in them."""
    path, _ = chain(tmp_path / "granted", 2)
    outside = tmp_path / "outside.vdi"
    (tmp_path / "granted" / "vm.vdi").rename(outside)
    (tmp_path / "granted" / "vm.vdi").symlink_to(outside)
    (tmp_path / "granted" / "folder").symlink_to(tmp_path)
    assert refusal(path, tmp_path / "granted").code == "vdi.parent-not-found"


def test_a_parent_that_two_files_claim_to_be(tmp_path: Path) -> None:
    path, truth = chain(tmp_path, 2)
    os.link(tmp_path / "vm.vdi", tmp_path / "same.vdi")  # one file of two names is one
    with open_image(path, FoundByUuid([tmp_path, tmp_path])) as disk:
        assert disk.read(0, len(truth)) == truth
    (tmp_path / "copy.vdi").write_bytes((tmp_path / "vm.vdi").read_bytes())
    error = refusal(path, tmp_path)
    assert error.code == "vdi.parent-ambiguous"
    assert "copy.vdi" in error.problem


def test_what_else_is_in_the_folders_is_passed_over(tmp_path: Path) -> None:
    path, truth = chain(tmp_path, 3)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "broken.vdi").write_bytes((tmp_path / "vm.vdi").read_bytes()[:100])
    (tmp_path / "empty.vdi").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    with open_image(path, FoundByUuid([tmp_path])) as disk:
        assert disk.read(0, len(truth)) == truth


def test_a_parent_that_may_have_changed_since(tmp_path: Path) -> None:
    """It is read as VirtualBox would, but not without a word."""
    path, truth = chain(tmp_path, 3)
    with open_image(path, FoundByUuid([tmp_path])) as disk:
        assert disk.concerns == ()
    with (tmp_path / "vm.vdi").open("r+b") as file:
        file.seek(408)
        file.write(LATER[7].bytes_le)
    with open_image(path, FoundByUuid([tmp_path])) as disk:
        assert disk.read(0, len(truth)) == truth
        (concern,) = disk.concerns
    assert concern.code == "vdi.parent-changed"
    assert str(LATER[0]) in concern.text
    assert str(LATER[7]) in concern.text


def test_a_parent_that_is_another_disk(tmp_path: Path) -> None:
    path, _ = chain(tmp_path, 2)
    other = vdi.compose([D], created=UUIDS[5]).file.write(tmp_path / "other.vdi")

    def resolver(reference: Reference, *, named_by: str) -> Path:
        return other

    with pytest.raises(CorruptInput) as caught, open_image(path, resolver):
        pass
    assert caught.value.code == "vdi.parent-uuid"


def test_a_chain_that_bites_its_tail(tmp_path: Path) -> None:
    image = vdi.compose(
        [A], image_type=vdi.DIFFERENCING, parent=UUIDS[1], created=UUIDS[1], block_size=512
    )
    assert refusal(image.file.write(tmp_path / "a.vdi"), tmp_path).code == "chain.loop"


# --- Faults -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "error"),
    [(2, CorruptInput), (6, CorruptInput), (0xFFFF_FFFD, CorruptInput), (5, TruncatedInput)],
)
def test_a_fault_in_the_map_is_told_at_its_place(value: int, error: type[CorruptInput]) -> None:
    """A block that another entry claims, and ones that the file cannot have, or has not."""
    image = vdi.compose([D, D, D, D, A, A], block_size=4096, seed=4)
    entries = [int.from_bytes(image.file.read_at(512 + 4 * n, 4), "little") for n in range(4)]
    where = next(n for n in range(4) if entries[n] != 2)
    broken = image.file.patched({512 + 4 * where: value.to_bytes(4, "little")})
    with pytest.raises(error) as caught, open_image(broken) as disk:
        list(disk.extents())
    second = max(where, entries.index(2)) if value == 2 else where
    assert (caught.value.code, caught.value.at) == ("vdi.block-map-entry", 512 + 4 * second)
