"""Every defect that some engine lets through is found before an image appears."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from vmport_converters.container.config import RunConfig
from vmport_converters.container.export import ImageForm, Request, export_image
from vmport_converters.container.reference import parse_image_name
from vmport_converters.container.validate import validate_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Document = dict[str, Any]


class Layout:
    """An OCI layout to spoil; what is not to be wrong stays right."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.index: Document = json.loads((path / "index.json").read_text())
        self.manifest: Document = json.loads(self._blob(self.index["manifests"][0]["digest"]))
        self.config: Document = json.loads(self._blob(self.manifest["config"]["digest"]))
        self.layer = gzip.decompress(self._blob(self.manifest["layers"][0]["digest"]))

    def _path(self, digest: str) -> Path:
        return self.path / "blobs" / digest.replace(":", "/")

    def _blob(self, digest: str) -> bytes:
        return self._path(digest).read_bytes()

    def _put(self, descriptor: Document, data: bytes) -> None:
        self._path(descriptor["digest"]).unlink(missing_ok=True)
        descriptor["digest"] = f"sha256:{hashlib.sha256(data).hexdigest()}"
        descriptor["size"] = len(data)
        self._path(descriptor["digest"]).write_bytes(data)

    def store_layer(self) -> None:
        """Let a changed layer be what all documents say it is."""
        self._put(self.manifest["layers"][0], gzip.compress(self.layer, mtime=0))
        self.config["rootfs"]["diff_ids"] = [f"sha256:{hashlib.sha256(self.layer).hexdigest()}"]
        self.store()

    def store(self) -> None:
        """Let changed documents be what those above say they are."""
        self._put(self.manifest["config"], json.dumps(self.config).encode())
        self._put(self.index["manifests"][0], json.dumps(self.manifest).encode())
        (self.path / "index.json").write_text(json.dumps(self.index))

    def codes(self) -> set[str]:
        return {finding.code for finding in validate_image(self.path)}


def _source(folder: Path) -> Path:
    path = folder / "source.tar"
    with tarfile.open(path, "w") as tar:
        for name in (".", "./bin", "./etc"):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
        for name, content in (("./bin/sh", b"#!"), ("./etc/hosts", b"127.0.0.1 localhost\n")):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            tar.addfile(info, io.BytesIO(content))
    return path


def _export(folder: Path, form: ImageForm) -> Path:
    destination = folder / f"image-{form}"
    run = RunConfig(ports=("80/tcp",), labels=(("a", "b"),), entrypoint=("/bin/sh",))
    name = parse_image_name("reg.example:5000/team/web:1.0")
    export_image(Request(str(_source(folder)), destination, form=form, name=name, run=run))
    return destination


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(_export(tmp_path, ImageForm.OCI))


@pytest.mark.parametrize("form", ImageForm)
def test_what_we_make_is_sound(tmp_path: Path, form: ImageForm) -> None:
    assert validate_image(_export(tmp_path, form)) == []


def _spoil(code: str, name: str, spoil: Callable[[Layout], object]) -> object:
    return pytest.param(code, spoil, id=name)


def _set(document: str, *keys: str | int, value: object) -> Callable[[Layout], object]:
    def spoil(layout: Layout) -> None:
        place: Any = getattr(layout, document)
        for key in keys[:-1]:
            place = place[key]
        if value is None:
            del place[keys[-1]]
        else:
            place[keys[-1]] = value
        layout.store()

    return spoil


@pytest.mark.parametrize(
    ("code", "spoil"),
    [
        _spoil("image.config", "no architecture", _set("config", "architecture", value=None)),
        _spoil("image.config", "no os", _set("config", "os", value="")),
        _spoil("image.config", "rootfs type", _set("config", "rootfs", "type", value="layer")),
        _spoil("image.config", "diff ids missing", _set("config", "rootfs", "diff_ids", value=[])),
        _spoil("image.config", "created", _set("config", "created", value="yesterday")),
        _spoil("image.config", "ports as list", _set("config", "config", "ExposedPorts", value=[80])),  # noqa: E501
        _spoil("image.config", "port name", _set("config", "config", "ExposedPorts", value={"x": {}})),  # noqa: E501
        _spoil("image.config", "env", _set("config", "config", "Env", value=["PATH"])),
        _spoil("image.config", "cmd as text", _set("config", "config", "Cmd", value="/bin/sh")),
        _spoil("image.history", "extra history", _set("config", "history", value=[{}, {}])),
        _spoil("image.diff-id", "diff id", _set("config", "rootfs", "diff_ids", value=[f"sha256:{'0' * 64}"])),  # noqa: E501
        _spoil("image.size", "layer size", _set("manifest", "layers", 0, "size", value=7)),
        _spoil("image.missing", "layer digest", _set("manifest", "layers", 0, "digest", value=f"sha256:{'0' * 64}")),  # noqa: E501
        _spoil("image.missing", "traversal", _set("manifest", "layers", 0, "digest", value="sha256:../../index.json")),  # noqa: E501
        _spoil("image.media-type", "layer type", _set("manifest", "layers", 0, "mediaType", value="text/plain")),  # noqa: E501
        _spoil("image.media-type", "claims zstd", _set("manifest", "layers", 0, "mediaType", value="application/vnd.oci.image.layer.v1.tar+zstd")),  # noqa: E501
        _spoil("image.layers", "no layer", _set("manifest", "layers", value=[])),
        _spoil("image.schema", "schema", _set("manifest", "schemaVersion", value=1)),
        _spoil("image.platform", "platform", _set("index", "manifests", 0, "platform", "architecture", value="vax")),  # noqa: E501
        _spoil("image.name", "ref name", _set("index", "manifests", 0, "annotations", "org.opencontainers.image.ref.name", value="no name")),  # noqa: E501
        _spoil("image.empty", "no manifest", lambda layout: (layout.path / "index.json").write_text('{"schemaVersion": 2}')),  # noqa: E501
        _spoil("image.layout", "layout version", lambda layout: (layout.path / "oci-layout").write_text("{}")),  # noqa: E501
        _spoil("image.orphan", "extra file", lambda layout: (layout.path / "extra").touch()),
    ],
)  # fmt: skip
def test_defects_of_documents(layout: Layout, code: str, spoil: Callable[[Layout], object]) -> None:
    assert layout.codes() == set()
    spoil(layout)
    assert code in layout.codes()


def test_one_changed_byte_in_any_blob_is_found(layout: Layout) -> None:
    for path in sorted((layout.path / "blobs/sha256").iterdir()):
        whole = path.read_bytes()
        for place in (0, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            assert layout.codes(), (path.name, place)
        path.write_bytes(whole[:-1])
        assert layout.codes()
        path.write_bytes(whole)
    assert layout.codes() == set()


def _member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", pax: dict[str, str] | None = None
) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.pax_headers = kind, link, pax or {}
    return info.tobuf(tarfile.PAX_FORMAT)


def _with(attribute: str, kind: bytes = tarfile.REGTYPE) -> bytes:
    return _member("a", kind, pax={f"SCHILY.xattr.{attribute}": "x"})


@pytest.mark.parametrize(
    ("code", "members"),
    [
        ("layer.duplicate", _member("etc/hosts")),
        ("tar.escape", _member("../escape")),
        ("tar.escape", _member("/absolute")),
        ("layer.whiteout", _member("etc/.wh.hosts")),
        ("layer.whiteout", _member("dev0", tarfile.CHRTYPE)),
        ("layer.no-folder", _member("new/file")),
        ("layer.below-link", _member("bin/sh/x")),
        ("layer.link-target", _member("a", tarfile.LNKTYPE, "b") + _member("b")),
        ("layer.link-target", _member("a", tarfile.LNKTYPE, "etc")),
        ("layer.long-path", _member("n" * 256)),
        ("layer.attribute", _with("security.selinux")),
        ("layer.attribute", _with("trusted.overlay.opaque")),
        ("layer.attribute", _with("security.capability")),
        ("layer.attribute", _with("user.overlay.opaque", tarfile.DIRTYPE)),
        ("layer.attribute", _with("user.mime", tarfile.FIFOTYPE)),
        ("layer.sparse", _member("a", pax={"GNU.sparse.size": "9", "GNU.sparse.map": "9,0"})),
        ("tar.type", _member("a", b"Z")),
    ],
)
def test_defects_of_layers(layout: Layout, code: str, members: bytes) -> None:
    end = layout.layer.rindex(b"localhost\n") + 512
    end -= end % 512
    layout.layer = layout.layer[:end] + members + bytes(1024)
    layout.store_layer()
    assert layout.codes() == {code}


def test_a_layer_without_its_end_and_with_too_much_after_it(layout: Layout) -> None:
    whole = layout.layer
    layout.layer = whole.rstrip(b"\0") + bytes(1)
    layout.store_layer()
    assert "tar.truncated" in layout.codes()
    layout.layer = whole + b"more" + bytes(508)
    layout.store_layer()
    assert layout.codes() == {"layer.trailing"}


def test_a_docker_archive_whose_list_is_wrong(tmp_path: Path) -> None:
    path = _export(tmp_path, ImageForm.DOCKER_ARCHIVE)
    data = path.read_bytes()
    start = data.index(b'[{"Config":"blobs/sha256/')
    path.write_bytes(data[:start] + data[start:].replace(b'"Config":"b', b'"Config":"c', 1))
    assert {finding.code for finding in validate_image(path)} == {"image.docker"}
