"""
Read an archive with an OCI image layout, and verify that it is consistent.

Rule: the index leads to every file of the archive, and every digest matches the content of its file.
"""

import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from release.archive import entries
from release.oci import CONFIG, INDEX, LAYER, LAYOUT, MANIFEST, Descriptor, PlatformImage

FIXED_FILES = {"oci-layout", "index.json"}


class InvalidLayoutError(Exception):
    """An error for an image layout that is not consistent."""


@dataclass(frozen=True)
class ReadImage:
    """An image for several platforms, as its archive contains it."""

    tag: str
    index: Descriptor
    platforms: tuple[PlatformImage, ...]


def read_layout(archive: bytes) -> ReadImage:
    """
    Return the only image in the archive.

    Raises InvalidLayoutError if the layout is not consistent.
    """
    files = {entry.path: entry.content for entry in entries(archive) if entry.path not in {"blobs", "blobs/sha256"}}
    if files.get("oci-layout") != LAYOUT:
        raise InvalidLayoutError("the archive is not an OCI image layout of version 1.0.0")
    (top,) = _json(files["index.json"])["manifests"]
    index = _blob(files, top, INDEX)
    images = tuple(_platform(files, reference) for reference in _json(index.content)["manifests"])
    _verify_all_used(files, index, images)
    return ReadImage(top["annotations"]["org.opencontainers.image.ref.name"], index, images)


def config(image: PlatformImage) -> Mapping[str, Any]:
    """Return the configuration of the image."""
    return _json(image.config.content)


def layers(image: PlatformImage) -> Iterator[bytes]:
    """Return an iterator of the uncompressed archives of the layers."""
    return (gzip.decompress(layer.content) for layer in image.layers)


def _platform(files: Mapping[str, bytes], reference: Mapping[str, Any]) -> PlatformImage:
    manifest = _blob(files, reference, MANIFEST)
    named = _json(manifest.content)
    found = tuple(_blob(files, layer, LAYER) for layer in named["layers"])
    image = PlatformImage(reference["platform"], manifest, _blob(files, named["config"], CONFIG), found)
    _verify_config(image)
    return image


def _verify_config(image: PlatformImage) -> None:
    named = config(image)
    digests = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers(image)]
    if named["rootfs"]["diff_ids"] != digests:
        raise InvalidLayoutError(f"{image.config.digest} lists other layers than its manifest")
    if any(named.get(key) != value for key, value in image.platform.items()):
        raise InvalidLayoutError(f"{image.config.digest} is for another platform than in the index")


def _blob(files: Mapping[str, bytes], reference: Mapping[str, Any], media_type: str) -> Descriptor:
    content = files.get(f"blobs/{reference['digest'].replace(':', '/')}")
    if content is None:
        raise InvalidLayoutError(f"blob {reference['digest']} is missing")
    blob = Descriptor(media_type, content)
    for name, value in blob.document().items():
        if reference[name] != value:
            raise InvalidLayoutError(f"blob {reference['digest']} has {name} {value}, not {reference[name]}")
    return blob


def _verify_all_used(files: Mapping[str, bytes], index: Descriptor, images: tuple[PlatformImage, ...]) -> None:
    used = [index, *(blob for image in images for blob in (image.manifest, image.config, *image.layers))]
    expected = FIXED_FILES | {f"blobs/{blob.digest.replace(':', '/')}" for blob in used}
    if unknown := sorted(files.keys() - expected):
        raise InvalidLayoutError(f"nothing refers to {', '.join(unknown)}")


def _json(content: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(content)
    return found
