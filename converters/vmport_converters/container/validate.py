"""A strict check of a finished image: stricter than any engine, for each lets something through.

Podman takes a wrong diffID, only umoci minds a wrong layer size, only Docker an extra line of
history, and nobody a missing architecture.  An image that passes here loads in all of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vmport_converters.container.digest import BackgroundDigest
from vmport_converters.container.image import (
    CONFIG_TYPE,
    CONTAINERD_NAME,
    INDEX_TYPE,
    MANIFEST_TYPE,
    REF_NAME,
)
from vmport_converters.container.image_files import ImageFiles, LayerStream, opening_image
from vmport_converters.container.layer_check import check_members
from vmport_converters.container.reference import parse_image_name
from vmport_converters.container.store import LAYOUT_FILE, blob_path
from vmport_formats.errors import InputError, UnsafeInput, UsageError
from vmport_formats.filesystem.tar.reader import read_members

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_LARGEST_DOCUMENT: Final = 4 << 20
_MOST_LAYERS: Final = 125
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_CREATED: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_PORT: Final = re.compile(r"[0-9]{1,5}(/(tcp|udp|sctp))?")
_LAYER_TYPES: Final = {
    "application/vnd.oci.image.layer.v1.tar": None,
    "application/vnd.oci.image.layer.v1.tar+gzip": "gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd": "zstd",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with an image."""

    code: str
    place: str
    """The file or document in the image, and what in it."""
    problem: str

    def __str__(self) -> str:
        return f"{self.place}: {self.problem} [{self.code}]"


def validate_image(
    path: Path, *, on_bytes: Callable[[int], None] = lambda _length: None
) -> list[Finding]:
    """All that is wrong with the OCI layout, OCI archive or Docker archive at `path`.

    `on_bytes` hears the length of each piece of a layer that was read.

    Raises:
        UnreadableInput: it cannot be read at all.
    """
    with opening_image(path) as files:
        return list(_Check(files, on_bytes).findings())


class _Check:
    """One pass over a layout, from the top down."""

    def __init__(self, files: ImageFiles, on_bytes: Callable[[int], None]) -> None:
        self._files = files
        self._on_bytes = on_bytes
        self._sizes = files.sizes()
        self._seen: set[str] = set()

    def findings(self) -> Iterator[Finding]:
        layout = self._document(LAYOUT_FILE)
        if layout.get("imageLayoutVersion") != "1.0.0":
            yield Finding("image.layout", LAYOUT_FILE, "imageLayoutVersion is not 1.0.0")
        index = self._document("index.json")
        if index.get("schemaVersion") != 2:
            yield Finding("image.schema", "index.json", "schemaVersion is not 2")
        if index.get("mediaType", INDEX_TYPE) != INDEX_TYPE:
            yield Finding("image.media-type", "index.json", f"mediaType is not {INDEX_TYPE}")
        manifests = _list(index.get("manifests"))
        if not manifests:
            yield Finding("image.empty", "index.json", "it names no manifest")
        for descriptor in manifests:
            yield from self._names(_object(descriptor))
            yield from self._manifest(_object(descriptor))
        yield from self._docker_list()
        for name in sorted(set(self._sizes) - self._seen):
            yield Finding("image.orphan", name, "nothing in the image refers to this file")

    def _names(self, descriptor: Mapping[str, object]) -> Iterator[Finding]:
        annotations = _object(descriptor.get("annotations"))
        for key in (CONTAINERD_NAME, REF_NAME):
            value = annotations.get(key)
            if value is None:
                continue
            text = f"x:{value}" if key == REF_NAME and "/" not in str(value) else str(value)
            try:
                parse_image_name(text)
            except UsageError:
                yield Finding("image.name", "index.json", f"{key} {value!r} is no name of an image")

    def _manifest(self, descriptor: Mapping[str, object]) -> Iterator[Finding]:
        found = list(self._blob("index.json", descriptor, MANIFEST_TYPE))
        yield from found
        manifest = self._document(_blob_name(descriptor))
        place = "manifest"
        if manifest.get("schemaVersion") != 2:
            yield Finding("image.schema", place, "schemaVersion is not 2")
        if manifest.get("mediaType", MANIFEST_TYPE) != MANIFEST_TYPE:
            yield Finding("image.media-type", place, f"mediaType is not {MANIFEST_TYPE}")
        described = _object(manifest.get("config"))
        yield from self._blob(place, described, CONFIG_TYPE)
        config = self._document(_blob_name(described))
        layers = [_object(layer) for layer in _list(manifest.get("layers"))]
        yield from _check_config(config, len(layers))
        platform = _object(descriptor.get("platform"))
        for key in ("architecture", "os"):
            if key in platform and platform[key] != config.get(key):
                yield Finding(
                    "image.platform", "index.json", f"{key} is not what the configuration says"
                )
        if not 1 <= len(layers) <= _MOST_LAYERS:
            yield Finding(
                "image.layers", place, f"{len(layers)} layers; must be 1 to {_MOST_LAYERS}"
            )
        diff_ids = _list(_object(config.get("rootfs")).get("diff_ids"))
        for number, layer in enumerate(layers):
            stated = diff_ids[number] if number < len(diff_ids) else None
            yield from self._layer(f"layer {number + 1}", layer, stated)

    def _layer(
        self, place: str, descriptor: Mapping[str, object], diff_id: object
    ) -> Iterator[Finding]:
        media_type = descriptor.get("mediaType")
        name = _blob_name(descriptor)
        self._seen.add(name)
        if media_type not in _LAYER_TYPES:
            yield Finding("image.media-type", place, f"{media_type!r} is not the type of a layer")
            return
        if name not in self._sizes:
            yield Finding("image.missing", place, f"there is no blob {name}")
            return
        if descriptor.get("size") != self._sizes[name]:
            yield Finding(
                "image.size",
                place,
                f"its blob has {self._sizes[name]} bytes, not {descriptor.get('size')}",
            )
        with closing(BackgroundDigest()) as whole, closing(BackgroundDigest()) as unpacked:
            try:
                stream = LayerStream(self._compressed(name, whole), unpacked, place)
                compression = _LAYER_TYPES[str(media_type)]
                if stream.compression != compression:
                    yield Finding(
                        "image.media-type",
                        place,
                        f"is compressed by {stream.compression}, not {compression}",
                    )
                for code, problem in check_members(read_members(stream, look_past_end=False)):
                    yield Finding(code, place, problem)
                if not stream.drain():
                    yield Finding("layer.trailing", place, "something follows the archive's end")
            except (InputError, UnsafeInput) as error:
                yield Finding(error.code, place, error.problem)
                return
            if whole.finish() != descriptor.get("digest"):
                yield Finding("image.digest", place, "its blob does not have the digest it states")
            if unpacked.finish() != diff_id:
                yield Finding(
                    "image.diff-id", place, "unpacked, it does not have the diffID that is stated"
                )

    def _compressed(self, name: str, digest: BackgroundDigest) -> Iterator[bytes]:
        for piece in self._files.pieces(name):
            digest.update(piece)
            self._on_bytes(len(piece))
            yield piece

    def _blob(
        self, place: str, descriptor: Mapping[str, object], media_type: str
    ) -> Iterator[Finding]:
        """Check that a small blob is what its descriptor says."""
        name = _blob_name(descriptor)
        self._seen.add(name)
        if descriptor.get("mediaType") != media_type:
            yield Finding("image.media-type", place, f"a descriptor is not of type {media_type}")
        if name not in self._sizes:
            yield Finding("image.missing", place, f"there is no blob {descriptor.get('digest')!r}")
            return
        if descriptor.get("size") != self._sizes[name]:
            yield Finding(
                "image.size",
                place,
                f"{name} has {self._sizes[name]} bytes, not {descriptor.get('size')}",
            )
        with closing(BackgroundDigest()) as digest:
            for piece in self._files.pieces(name):
                digest.update(piece)
            if digest.finish() != descriptor.get("digest"):
                yield Finding("image.digest", place, f"{name} does not have the digest in its name")

    def _docker_list(self) -> Iterator[Finding]:
        """``manifest.json``, when there is one, must tell of the same image."""
        if "manifest.json" not in self._sizes:
            return
        place = "manifest.json"
        self._seen.add(place)
        entries = _list(self._any_document(place))
        if not entries:
            yield Finding("image.docker", place, "it lists no image")
        for entry in map(_object, entries):
            for name in (entry.get("Config"), *_list(entry.get("Layers"))):
                if name not in self._seen:
                    yield Finding("image.docker", place, f"{name!r} is not part of the image")
            for tag in _list(entry.get("RepoTags")):
                try:
                    parse_image_name(str(tag))
                except UsageError:
                    yield Finding("image.name", place, f"{tag!r} is no name of an image")

    def _document(self, name: str) -> Mapping[str, object]:
        return _object(self._any_document(name))

    def _any_document(self, name: str) -> object:
        """The JSON in `name`; None, of which everything is then missing, if there is none."""
        self._seen.add(name)
        if not 0 < self._sizes.get(name, 0) <= _LARGEST_DOCUMENT:
            return None
        try:
            found: object = json.loads(b"".join(self._files.pieces(name)))
        except (ValueError, RecursionError):
            return None
        return found


def _check_config(config: Mapping[str, object], layers: int) -> Iterator[Finding]:
    place = "configuration"
    for key in ("architecture", "os"):
        if not isinstance(config.get(key), str) or not config[key]:
            yield Finding("image.config", place, f"{key} is missing")
    created = config.get("created")
    if created is not None and not (isinstance(created, str) and _CREATED.fullmatch(created)):
        yield Finding("image.config", place, "created is no time as RFC 3339 writes it")
    rootfs = _object(config.get("rootfs"))
    if rootfs.get("type") != "layers":
        yield Finding("image.config", place, 'rootfs.type is not "layers"')
    diff_ids = _list(rootfs.get("diff_ids"))
    if len(diff_ids) != layers:
        yield Finding("image.config", place, f"{len(diff_ids)} diff_ids for {layers} layers")
    if not all(isinstance(one, str) and _DIGEST.fullmatch(one) for one in diff_ids):
        yield Finding("image.config", place, "a diffID is no digest")
    history = [_object(line) for line in _list(config.get("history"))]
    filled = [line for line in history if not line.get("empty_layer")]
    if history and len(filled) != layers:
        yield Finding("image.history", place, f"{len(filled)} lines of history for {layers} layers")
    run = _object(config.get("config"))
    for key in ("Env", "Cmd", "Entrypoint"):
        value = run.get(key)
        if value is not None and not all(isinstance(word, str) for word in _list(value, [None])):
            yield Finding("image.config", place, f"{key} is not a list of strings")
    if not all(isinstance(one, str) and "=" in one[1:] for one in _list(run.get("Env"))):
        yield Finding("image.config", place, "an item of Env is not NAME=VALUE")
    for key in ("ExposedPorts", "Volumes", "Labels"):
        value = run.get(key)
        if value is not None and not isinstance(value, dict):
            yield Finding("image.config", place, f"{key} is not an object")
    if not all(_PORT.fullmatch(port) for port in _object(run.get("ExposedPorts"))):
        yield Finding("image.config", place, "an exposed port is not PORT or PORT/PROTOCOL")


def _blob_name(descriptor: Mapping[str, object]) -> str:
    digest = descriptor.get("digest")
    return blob_path(digest) if isinstance(digest, str) and _DIGEST.fullmatch(digest) else ""


def _object(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object, otherwise: list[object] | None = None) -> list[object]:
    return value if isinstance(value, list) else otherwise or []
