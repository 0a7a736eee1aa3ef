"""Where the parents of VHD, VHDX and VMDK are looked for, and what is told when there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.disks import vhd
from fixtures.disks.blocks import Kind
from fixtures.disks.image_file import ImageFile
from fixtures.disks.vhd_blocks import compose
from vmport_formats.disk.image import open_image
from vmport_formats.disk.parents import whereabouts
from vmport_formats.errors import CorruptInput, InputError, UnreadableInput, UnsafeInput
from vmport_formats.references import Confined, Reference, ReferenceKind

BASE = bytes(range(256)) * 32


def places(*names: str, kind: ReferenceKind = ReferenceKind.PARENT) -> list[str]:
    return [found.name for found in whereabouts([Reference(kind, name, "vpc") for name in names])]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["parent.vhd"], ["parent.vhd"]),
        ([".\\parent.vhd"], ["parent.vhd"]),
        (["..\\base\\parent.vhd"], ["../base/parent.vhd", "parent.vhd"]),
        (["C:\\vm\\parent.vhd"], ["parent.vhd"]),
        (["C:parent.vhd"], ["parent.vhd"]),
        (["\\vm\\parent.vhd"], ["parent.vhd"]),
        (["\\\\server\\share\\vm\\parent.vhd"], ["parent.vhd"]),
        (["\\\\?\\Volume{26a21bda-a627-11d7-9931-806e6f6e6963}\\vm\\a.vhdx"], ["a.vhdx"]),
        (["\\\\?\\d:\\vm\\parent.vhdx"], ["parent.vhdx"]),
        (["/vmfs/volumes/a/base.vmdk"], ["/vmfs/volumes/a/base.vmdk", "base.vmdk"]),
        (["file://./parent.vhd"], ["parent.vhd"]),
        (["file:///base%20disks/parent.vhd"], ["/base disks/parent.vhd", "parent.vhd"]),
        (["file://localhost/base/parent.vhd"], ["/base/parent.vhd", "parent.vhd"]),
        # Paths first, in their order; then all that lies beside the child.
        (
            ["..\\a\\x.vhd", "D:\\a\\x.vhd", "b\\y.vhd"],
            ["../a/x.vhd", "b/y.vhd", "x.vhd", "y.vhd"],
        ),
        (["..", "\\\\?\\"], [".."]),
    ],
)
def test_what_the_names_of_a_parent_can_mean(names: list[str], expected: list[str]) -> None:
    assert places(*names) == expected


@pytest.mark.parametrize("name", ["dir\\base.raw", "C:\\base.raw", "/a/base.raw", "file://a/b"])
def test_a_backing_file_is_taken_to_the_letter(name: str) -> None:
    """Nothing tells whether another file of that name is the one that is meant."""
    assert places(name, kind=ReferenceKind.BACKING) == [name]


def test_an_identity_is_no_path() -> None:
    uuid = Reference(ReferenceKind.PARENT, "uuid:1234", "vdi", is_path=False)
    assert list(whereabouts([uuid])) == [uuid]


# --- Opening ------------------------------------------------------------------------------------


def parent(path: Path, data: bytes = BASE, unique_id: bytes = vhd.PARENT_UUID) -> Path:
    path.parent.mkdir(exist_ok=True)
    foot = vhd.footer(len(data), vhd.FIXED, unique_id=unique_id)
    return ImageFile({0: data, len(data): foot}).write(path)


def child(folder: Path, *names: str, where: str = "child.vhd") -> Path:
    """A disk that has nothing of its own; at most three names, the first of them relative."""
    codes = (b"W2ru", b"MacX", b"W2ku")
    encodings = ("utf-16-le", "utf-8", "utf-16-le")
    paths = {c: n.encode(e) for c, n, e in zip(codes, names, encodings, strict=False)}
    disk = compose([Kind.ABSENT] * 2, parent=BASE, parent_name="", parent_paths=paths)
    (folder / where).parent.mkdir(exist_ok=True)
    return disk.file.write(folder / where)


@pytest.mark.parametrize(
    ("place", "names"),
    [
        ("parent.vhd", [".\\parent.vhd"]),
        ("base/parent.vhd", ["..\\base\\parent.vhd"]),
        ("vm/parent.vhd", ["..\\gone\\parent.vhd"]),
        ("vm/parent.vhd", [".\\gone.vhd", "file:///gone", "C:\\vm\\parent.vhd"]),
        ("base/b.vhd", [".\\a.vhd", "file://../base/b.vhd"]),
    ],
)
def test_where_a_parent_is_found(place: str, names: list[str], tmp_path: Path) -> None:
    path = child(tmp_path, *names, where="vm/child.vhd")
    if place == "parent.vhd":
        path = path.rename(tmp_path / "child.vhd")
    parent(tmp_path / place)
    with open_image(path, Confined([tmp_path])) as disk:
        assert disk.read(0, 10_000) == BASE
        assert len(disk.chain) == 2


def test_a_file_that_is_not_the_parent_is_passed_over(tmp_path: Path) -> None:
    """Wrong disks, no disks and folders: the one with the right id is the parent."""
    parent(tmp_path / "a.vhd", unique_id=vhd.UUID)
    (tmp_path / "b.vhd").write_bytes(b"no disk" * 1000)
    parent(tmp_path / "c.vhd")
    path = child(tmp_path, ".\\a.vhd", "file://./b.vhd", "C:\\c.vhd")
    with open_image(path, Confined([tmp_path])) as disk:
        assert disk.read(0, 10_000) == BASE
    (tmp_path / "c.vhd").unlink()
    with pytest.raises(CorruptInput) as caught, open_image(path, Confined([tmp_path])):
        pass
    assert caught.value.code == "vhd.parent-unique-id"


def test_the_resolver_decides_on_each_place(tmp_path: Path) -> None:
    """A parent outside what was granted is not opened, and one beside the child is found."""
    secret = parent(tmp_path / "outside" / "parent.vhd", b"\x55" * len(BASE))
    path = child(tmp_path, "..\\outside\\parent.vhd", where="vm/child.vhd")
    asked = []

    class Asking(Confined):
        def __call__(self, reference: Reference, *, named_by: str) -> Path:
            asked.append(reference.name)
            return super().__call__(reference, named_by=named_by)

    with pytest.raises(UnreadableInput) as missing, open_image(path, Asking([tmp_path / "vm"])):
        pass
    assert asked == ["../outside/parent.vhd", "parent.vhd"]
    assert missing.value.code == "chain.parent"
    assert "'../outside/parent.vhd' (not allowed)" in missing.value.problem
    assert "'parent.vhd' (cannot open: No such file or directory)" in missing.value.problem
    assert missing.value.hint is not None
    assert "--allow" in missing.value.hint
    parent(tmp_path / "vm" / "parent.vhd")
    with open_image(path, Confined([tmp_path / "vm"])) as disk:
        assert disk.read(0, 100) == BASE[:100]
    assert secret.exists()


def test_a_parent_that_is_nowhere(tmp_path: Path) -> None:
    """The message says whose parent it is, and every place where it was looked for."""
    path = child(tmp_path, ".\\parent.vhd")
    with pytest.raises(UnreadableInput) as caught, open_image(path, Confined([tmp_path])):
        pass
    assert caught.value.code == "chain.parent"
    assert caught.value.path == str(path)
    assert "'parent.vhd' (cannot open: No such file or directory)" in caught.value.problem


def test_without_permission_nothing_is_looked_for(tmp_path: Path) -> None:
    parent(tmp_path / "parent.vhd")
    path = child(tmp_path, ".\\parent.vhd", "file:///a/b.vhd", "C:\\parent.vhd")
    with pytest.raises(UnsafeInput) as caught, open_image(path):
        pass
    assert caught.value.code == "reference.denied"


def test_a_parent_without_a_path_is_not_guessed(tmp_path: Path) -> None:
    parent(tmp_path / "parent.vhd")
    with pytest.raises(UnsafeInput) as caught, open_image(child(tmp_path), Confined([tmp_path])):
        pass
    assert caught.value.code == "reference.no-path"


def test_a_disk_that_is_its_own_parent(tmp_path: Path) -> None:
    disk = compose(
        [Kind.ABSENT], parent=BASE, parent_name="child.vhd", parent_paths={}, parent_id=vhd.UUID
    )
    path = disk.file.write(tmp_path / "child.vhd")
    with pytest.raises(UnsafeInput) as caught, open_image(path, Confined([tmp_path])):
        pass
    assert caught.value.code == "chain.loop"


def test_no_file_stays_open_but_those_of_the_chain(tmp_path: Path) -> None:
    parent(tmp_path / "a.vhd", unique_id=vhd.UUID)
    parent(tmp_path / "c.vhd")
    path = child(tmp_path, ".\\a.vhd", "file://./c.vhd")
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    with open_image(path, Confined([tmp_path])):
        assert len(list(descriptors.iterdir())) == before + 2
    assert len(list(descriptors.iterdir())) == before
    with pytest.raises(InputError), open_image(child(tmp_path, "a.vhd"), Confined([tmp_path])):
        pass
    assert len(list(descriptors.iterdir())) == before
