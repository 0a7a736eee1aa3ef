"""The documents of an image: configuration, manifest, index, and Docker's own list.

Source: OCI image specification 1.1; Docker image specification 1.2 for ``manifest.json``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from vmport_converters.container.config import describe
from vmport_converters.container.reference import DEFAULT_TAG
from vmport_converters.container.store import LAYOUT, LAYOUT_FILE, blob_path

if TYPE_CHECKING:
    from vmport_converters.container.config import Defaults, RunConfig
    from vmport_converters.container.layer import Layer
    from vmport_converters.container.reference import ImageName
    from vmport_converters.container.store import Store

INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar+gzip"

CREATED: Final = "org.opencontainers.image.created"
TITLE: Final = "org.opencontainers.image.title"
REF_NAME: Final = "org.opencontainers.image.ref.name"
CONTAINERD_NAME: Final = "io.containerd.image.name"
"""Where containerd, Docker and Podman look for the full name of an image in an OCI archive."""

LATEST_TIME: Final = 253_402_300_799
"""The last second of the year 9999, the last that RFC 3339 can write."""


@dataclass(frozen=True, slots=True)
class Image:
    """A finished image of one layer."""

    manifest: str
    """Its digest, by which registries know it."""
    config: str
    """Its digest, by which Docker and Podman know the image."""
    layer: Layer
    created: str
    document: dict[str, object]
    """The configuration."""


def write_documents(
    store: Store,
    layer: Layer,
    *,
    run: RunConfig,
    defaults: Defaults,
    created: int,
    name: ImageName | None,
    for_docker: bool,
    always_tagged: bool,
) -> Image:
    """Add to `store` all that makes an image of `layer`.

    `created` is in seconds since 1970.  `for_docker` adds the list by which ``docker load`` finds
    the image.  `always_tagged` calls it ``latest`` inside a layout even without a name.
    """
    time = format_created(created)
    document = describe(run, defaults, created=time, diff_id=layer.diff_id)
    config = _json(document)
    config_digest = store.add_blob(config)
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": config_digest, "size": len(config)},
            "layers": [{"mediaType": LAYER_TYPE, "digest": layer.digest, "size": layer.size}],
            # No name here: one content is one manifest, whatever it is called.
            "annotations": {CREATED: time},
        }
    )
    manifest_digest = store.add_blob(manifest)
    platform = {"architecture": defaults.architecture.name, "os": "linux"}
    if defaults.architecture.variant:
        platform["variant"] = defaults.architecture.variant
    descriptor: dict[str, object] = {
        "mediaType": MANIFEST_TYPE,
        "digest": manifest_digest,
        "size": len(manifest),
        "platform": platform,
    }
    if name is not None:
        descriptor["annotations"] = {
            CONTAINERD_NAME: f"{name.canonical}:{name.tag}",
            REF_NAME: name.tag,
            TITLE: name.title,
        }
    elif always_tagged:
        descriptor["annotations"] = {REF_NAME: DEFAULT_TAG}
    index = _json({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [descriptor]})
    if for_docker:
        entry = {
            "Config": blob_path(config_digest),
            "RepoTags": None if name is None else [str(name)],
            "Layers": [blob_path(layer.digest)],
        }
        store.add_file("manifest.json", _json([entry]))
    store.add_file("index.json", index)
    store.add_file(LAYOUT_FILE, LAYOUT)
    return Image(manifest_digest, config_digest, layer, time, document)


def format_created(seconds: int) -> str:
    """A time as RFC 3339 has it, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _json(document: object) -> bytes:
    """Always the same bytes for the same document."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
