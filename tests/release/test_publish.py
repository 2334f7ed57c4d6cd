"""Test that clients verify a release in a registry, and reject an image without a signature of the release's key."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from release import artefacts
from release.check import Release
from release.go_programs import COSIGN, CRANE, HELM_3, HELM_4, GoProgram, built
from release.keys import cosign_key, cosign_public_key
from release.oci import SavedImage, image_index, layout, platform_image
from release.publish import Registry, publish, push_image
from release.signing import Signer, create_keys
from release.use import registry
from tests.release.conftest import KEYS


@pytest.fixture(scope="module")
def local() -> Iterator[Registry]:
    with registry(built(CRANE)) as address:
        yield Registry(address, built(CRANE), built(HELM_4), plain_http=True)


@pytest.fixture(scope="module")
def published(local: Registry, release: Release, signer: Signer) -> list[str]:
    """Publish the release in the local registry, and return the names of both images and the chart with digests."""
    return publish(release.folder, release.version, local, signer)


def cosign(command: str, *arguments: str, keys: Path = KEYS) -> subprocess.CompletedProcess[str]:
    """Run cosign, and trust the key in the folder."""
    trust = [f"--key={cosign_public_key(keys)}", "--insecure-ignore-tlog=true", "--allow-http-registry"]
    return subprocess.run([built(COSIGN), command, *trust, *arguments], capture_output=True, text=True, check=False)


def test_images_and_chart_are_verified_by_digest(published: list[str], local: Registry) -> None:
    names = [reference.partition("@")[0] for reference in published]
    assert names == [local.repository, local.repository, f"{local.address}/charts/irsa-sidecar"]
    for reference in published:
        done = cosign("verify", reference)
        assert done.returncode == 0, done.stderr


def test_each_platform_has_its_list_of_packages(published: list[str], local: Registry, release: Release) -> None:
    index = subprocess.run([local.crane, "manifest", published[0]], capture_output=True, text=True, check=True).stdout
    manifests = json.loads(index)["manifests"]
    assert len(manifests) == len(release.architectures)
    for manifest in manifests:
        done = cosign("verify-attestation", "--type=spdxjson", f"{local.repository}@{manifest['digest']}")
        assert done.returncode == 0, done.stderr


def push_other_image(local: Registry, folder: Path, tag: str) -> str:
    """Push an image that is not part of the release, and return its name with the digest."""
    image = platform_image(SavedImage({"architecture": "amd64", "config": {"User": tag}}, []), {}, 1)
    (folder / "other.tar").write_bytes(layout(image_index([image], {}), [image], tag, 1))
    reference, _ = push_image(local.crane, folder / "other.tar", local.repository)
    return reference


def test_unsigned_image_is_rejected(local: Registry, tmp_path: Path) -> None:
    done = cosign("verify", push_other_image(local, tmp_path, "unsigned"))
    assert done.returncode != 0
    assert "no signatures found" in done.stderr


def test_image_that_somebody_else_signed_is_rejected(local: Registry, tmp_path: Path) -> None:
    reference = push_other_image(local, tmp_path, "other")
    create_keys(built(COSIGN), tmp_path)
    Signer(built(COSIGN), cosign_key(tmp_path)).run("sign", *local.cosign_flags, reference)
    assert cosign("verify", reference, keys=tmp_path).returncode == 0
    done = cosign("verify", reference)
    assert done.returncode != 0
    assert "failed to verify signature" in done.stderr


@pytest.mark.parametrize("program", [HELM_3, HELM_4], ids=["helm3", "helm4"])
def test_helm_pulls_and_verifies_the_chart(
    published: list[str], local: Registry, release: Release, tmp_path: Path, program: GoProgram
) -> None:
    assert published
    chart = ["pull", f"oci://{local.address}/charts/irsa-sidecar", f"--version={release.version}", "--plain-http"]
    trust = ["--verify", f"--keyring={release.chart_key}", f"--destination={tmp_path}"]
    done = subprocess.run([built(program), *chart, *trust], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pulled = tmp_path / artefacts.chart(release.version)
    assert pulled.read_bytes() == release.path(artefacts.chart(release.version)).read_bytes()
