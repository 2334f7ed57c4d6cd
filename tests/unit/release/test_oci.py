"""Test that images depend only on their files and settings, and that their archives are verified."""

import io
import json
import tarfile
from collections.abc import Callable
from typing import Any

import pytest

from release.archive import Entry, entries, tar
from release.oci import (
    CONFIG,
    LAYER,
    MANIFEST,
    PlatformImage,
    SavedImage,
    encoded,
    image_index,
    instant,
    layout,
    platform_image,
    read_saved,
)
from release.oci_layout import InvalidLayoutError, config, layers, read_layout

EPOCH = 1_700_000_000
LABELS = {"org.opencontainers.image.revision": "abc"}
SETTINGS = {
    "User": "65532:65532",
    "Env": ["PATH=/bin"],
    "Labels": {"io.buildah.version": "1.28.2"},
    "Healthcheck": {"Test": ["CMD", "x"]},
}


def saved(architecture: str = "amd64", **builder: object) -> SavedImage:
    layer = tar([Entry("etc", mode=0o755, kind=tarfile.DIRTYPE), Entry("etc/passwd", b"root")], epoch=1)
    return SavedImage({"architecture": architecture, "config": SETTINGS, **builder}, [layer])


def both() -> tuple[PlatformImage, ...]:
    return tuple(platform_image(saved(name), LABELS, EPOCH) for name in ("amd64", "arm64"))


def archive() -> bytes:
    return layout(image_index(both(), LABELS), both(), "1.0.0", EPOCH)


def test_image_does_not_depend_on_its_builder() -> None:
    one = platform_image(saved(created="2026-01-01T00:00:00Z", history=[{"created_by": "buildah"}]), LABELS, EPOCH)
    two = platform_image(saved(created="2027-01-01T00:00:00Z", docker_version="29"), LABELS, EPOCH)
    assert one == two


def test_image_keeps_settings_and_gets_labels() -> None:
    found = json.loads(platform_image(saved(), LABELS, EPOCH).config.content)
    assert found["config"] == {**SETTINGS, "Labels": LABELS}
    assert found["created"] == instant(EPOCH) == "2023-11-14T22:13:20Z"


def test_platforms_have_architecture_and_variant() -> None:
    index = json.loads(image_index(both(), LABELS).content)
    assert [manifest["platform"] for manifest in index["manifests"]] == [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm64", "os": "linux", "variant": "v8"},
    ]


def test_saved_archive_with_a_link_to_a_layer_is_read() -> None:
    """Use a link, because Podman's archives have the layer once, and a link to the layer under an older name."""
    files = [
        Entry("manifest.json", encoded_list([{"Config": "c.json", "Layers": ["l.tar"]}])),
        Entry("c.json", b'{"architecture": "amd64"}'),
        Entry("l.tar", b"layer"),
        Entry("old/layer.tar", kind=tarfile.SYMTYPE, target="../l.tar"),
    ]
    assert read_saved(tar(files, EPOCH)) == SavedImage({"architecture": "amd64"}, [b"layer"])


def encoded_list(documents: list[dict[str, Any]]) -> bytes:
    return json.dumps(documents).encode()


def test_layout_that_is_read_equals_the_written_layout() -> None:
    found = read_layout(archive())
    assert (found.tag, found.platforms) == ("1.0.0", both())
    assert config(found.platforms[1])["architecture"] == "arm64"
    assert [entry.path for layer in layers(found.platforms[0]) for entry in entries(layer)] == ["etc", "etc/passwd"]


def test_layout_has_one_index_under_its_tag() -> None:
    with tarfile.open(fileobj=io.BytesIO(archive())) as opened:
        content = opened.extractfile("index.json")
        assert content is not None
        (named,) = json.load(content)["manifests"]
    assert named["digest"] == image_index(both(), LABELS).digest


Files = dict[str, bytes]


def path_of(media_type: str) -> str:
    """Return the path of the first blob of a type."""
    image = both()[0]
    wanted = {MANIFEST: image.manifest, CONFIG: image.config, LAYER: image.layers[0]}[media_type]
    return f"blobs/{wanted.digest.replace(':', '/')}"


def change(media_type: str) -> Callable[[Files], None]:
    def changed(files: Files) -> None:
        content = files[path_of(media_type)]
        files[path_of(media_type)] = content[:-1] + bytes([content[-1] ^ 1])

    return changed


def remove(media_type: str) -> Callable[[Files], None]:
    def removed(files: Files) -> None:
        del files[path_of(media_type)]

    return removed


def add(files: Files) -> None:
    files["blobs/sha256/extra"] = b"x"


def another_version(files: Files) -> None:
    files["oci-layout"] = b'{"imageLayoutVersion":"2.0.0"}'


@pytest.mark.parametrize(
    "edit",
    [
        change(MANIFEST),
        change(CONFIG),
        change(LAYER),
        remove(LAYER),
        remove(CONFIG),
        add,
        another_version,
    ],
    ids=["manifest", "config", "layer", "no-layer", "no-config", "extra-blob", "version"],
)
def test_inconsistent_layout_is_rejected(edit: Callable[[Files], None]) -> None:
    files = {entry.path: entry.content for entry in entries(archive())}
    edit(files)
    with pytest.raises(InvalidLayoutError):
        read_layout(tar([Entry(path, content) for path, content in files.items()], EPOCH))


def test_layer_that_the_configuration_does_not_list_is_rejected() -> None:
    """Use a consistent manifest whose configuration belongs to another layer."""
    image = platform_image(saved(), LABELS, EPOCH)
    other = platform_image(SavedImage({"architecture": "amd64", "config": {}}, [tar([], EPOCH)]), LABELS, EPOCH)
    manifest = {**json.loads(image.manifest.content), "config": other.config.document()}
    mixed = PlatformImage(image.platform, type(image.manifest)(MANIFEST, encoded(manifest)), other.config, image.layers)
    with pytest.raises(InvalidLayoutError, match="other layers"):
        read_layout(layout(image_index([mixed], LABELS), [mixed], "1.0.0", EPOCH))
