"""
Write an image with several platforms as an OCI image layout, reproducibly.

A builder writes its own times, owners and history into an image. Only the files and the settings of the image are kept.

Rule: the digests of layers, manifests and the index depend on the files, the settings and the commit.
Sources: OCI image specification 1.1 (image-layout.md, manifest.md, config.md, image-index.md).
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from release.archive import Entry, compress, entries, tar

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'

SETTINGS = ("User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "WorkingDir", "StopSignal", "Healthcheck")
"""Fields that are copied from the saved image's configuration. `Healthcheck` is Docker's addition to OCI's fields."""

VARIANTS = {"arm64": "v8"}
"""Variants of architectures, which registries expect beside the architecture."""


@dataclass(frozen=True)
class SavedImage:
    """An image as `docker save` and `podman save` write it."""

    config: Mapping[str, Any]
    layers: Sequence[bytes]


@dataclass(frozen=True)
class Descriptor:
    """A blob with its media type. `document` is a reference to the blob: its type, digest and size."""

    media_type: str
    content: bytes

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}"

    def document(self, **more: object) -> dict[str, object]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.content), **more}


@dataclass(frozen=True)
class PlatformImage:
    """The blobs of an image for one platform."""

    platform: Mapping[str, str]
    manifest: Descriptor
    config: Descriptor
    layers: tuple[Descriptor, ...]


def read_saved(archive: bytes) -> SavedImage:
    """Return the only image in an archive of `docker save`."""
    files = {entry.path: entry for entry in entries(archive)}
    (image,) = json.loads(files["manifest.json"].content)
    config = json.loads(files[image["Config"]].content)
    return SavedImage(config, [files[name].content for name in image["Layers"]])


def platform_image(saved: SavedImage, labels: Mapping[str, str], epoch: int) -> PlatformImage:
    """Return the image with layers, configuration and manifest that do not depend on the builder."""
    plain = [tar(entries(layer), epoch) for layer in saved.layers]
    layers = tuple(Descriptor(LAYER, compress(layer)) for layer in plain)
    platform = _platform(saved.config["architecture"])
    config = Descriptor(CONFIG, encoded(_config(saved, plain, labels, epoch)))
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.document(),
        "layers": [layer.document() for layer in layers],
        "annotations": dict(labels),
    }
    return PlatformImage(platform, Descriptor(MANIFEST, encoded(manifest)), config, layers)


def image_index(images: Iterable[PlatformImage], labels: Mapping[str, str]) -> Descriptor:
    """Return the index that clients pull: one manifest for each platform."""
    manifests = [image.manifest.document(platform=dict(image.platform)) for image in images]
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests, "annotations": dict(labels)}
    return Descriptor(INDEX, encoded(index))


def layout(index: Descriptor, images: Iterable[PlatformImage], tag: str, epoch: int) -> bytes:
    """Return an archive of the image layout, with the index under the tag."""
    blobs = [index, *(blob for image in images for blob in (image.manifest, image.config, *image.layers))]
    named = index.document(annotations={"org.opencontainers.image.ref.name": tag})
    top = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [named]}
    files = {f"blobs/{blob.digest.replace(':', '/')}": blob.content for blob in blobs}
    files |= {"oci-layout": LAYOUT, "index.json": encoded(top)}
    return tar([Entry(path, content) for path, content in files.items()], epoch)


def encoded(document: Mapping[str, Any]) -> bytes:
    """Return the document as JSON with sorted keys and without spaces."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def instant(epoch: int) -> str:
    """Return the time as RFC 3339, in UTC."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _platform(architecture: str) -> dict[str, str]:
    variant = {"variant": VARIANTS[architecture]} if architecture in VARIANTS else {}
    return {"architecture": architecture, "os": "linux", **variant}


def _config(saved: SavedImage, plain: Sequence[bytes], labels: Mapping[str, str], epoch: int) -> dict[str, Any]:
    found = saved.config["config"]
    settings = {name: found[name] for name in SETTINGS if found.get(name)}
    return {
        "created": instant(epoch),
        **_platform(saved.config["architecture"]),
        "config": {**settings, "Labels": dict(labels)},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in plain]},
        "history": [{"created": instant(epoch), "created_by": "irsa-sidecar: release"} for _ in plain],
    }
